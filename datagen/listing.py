"""Finding input files, and naming them the same wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datagen.errors import UserError


def list_files(paths: Sequence[str], suffix: str) -> Iterator[str]:
    """Absolute paths of the files given, and of those ending in `suffix` in the folders given, at any depth.

    Links are followed, each folder once. In a stable order.

    Raises:
        UserError: a path does not exist, or a folder holds no such file.
    """
    for given in map(Path, paths):
        if given.is_file():
            yield str(given.absolute())
            continue
        if not given.is_dir():
            raise UserError(f"{given}: no such file or folder")
        found = sorted(_walk(given.absolute(), suffix))
        if not found:
            raise UserError(f"{given}: no *{suffix} in this folder")
        yield from found


def name_of(path: str, paths: Sequence[str]) -> str:
    """How ledger and samples call the file `path`: relative to the folder that was given, or its bare name."""
    for given in map(Path, paths):
        if given.is_dir() and Path(path).is_relative_to(given.absolute()):
            return str(Path(path).relative_to(given.absolute()))
    return Path(path).name


def _walk(folder: Path, suffix: str) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for here, below, names in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link back up
            below.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        yield from (os.path.join(here, name) for name in names if name.lower().endswith(suffix))
