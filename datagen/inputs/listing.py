"""Finding input files, on this machine or behind URLs, and naming them the same wherever they lie."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from varyforge.errors import UserError
from varyforge.shards import JOB
from varyforge.storage import filesystem_of, folder_at, is_url


def list_files(paths: Sequence[str], *suffixes: str) -> Iterator[str]:
    """Absolute paths (or URLs) of the files given, and of those ending in a suffix in the folders, at any depth.

    Folders are searched at any depth. Links are followed, each folder once. In a stable order.

    Raises:
        UserError: a path does not exist, or a folder holds no such file.
    """
    for given in paths:
        if is_url(given):
            found = _find(given.rstrip("/"), suffixes)
        elif Path(given).is_file():
            found = [str(Path(given).absolute())]
        elif Path(given).is_dir():
            found = sorted(_walk(Path(given).absolute(), suffixes))
        else:
            raise UserError(f"{given.rstrip('/')}: no such file or folder")
        if not found:
            raise UserError(f"{given}: no {' or '.join(f'*{suffix}' for suffix in suffixes)} in this folder")
        yield from found


def name_of(path: str, paths: Sequence[str]) -> str:
    """How ledger and samples call the file `path`: relative to the folder that was given, or its bare name."""
    for given in paths:
        folder = given.rstrip("/") if is_url(given) else str(Path(given).absolute())
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return posixpath.basename(path)


def within(folder: str, name: str) -> str:
    """The path or URL of the file `name` of a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder).absolute() / name)


def is_outside(path: str, folder: str) -> bool:
    """Whether a path made by `within` leads out of its folder: by "..", an absolute name, or a link."""
    if is_url(folder):
        return posixpath.normpath(path.removeprefix(folder.rstrip("/") + "/")).startswith("..")
    here, name = os.path.split(path)
    real = os.path.realpath(path) if os.path.islink(path) or name in ("", ".", "..") else f"{_real(here)}/{name}"
    root = _real(folder).rstrip("/")
    return real != root and not real.startswith(f"{root}/")


@lru_cache(maxsize=1024)  # a data set has few folders and many files
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _find(url: str, suffixes: tuple[str, ...]) -> list[str]:
    """The file at a URL, or those below it."""
    folder_at(url)  # says what is wrong with the URL
    filesystem, root = filesystem_of(url)
    if filesystem.isfile(root):
        return [url]
    names = filesystem.find(root)
    if not names:
        raise UserError(f"{url}: no such file or folder")
    return sorted(url + name[len(root.rstrip("/")) :] for name in names if name.lower().endswith(suffixes))


def _walk(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for here, below, names in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link back up
            below.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        if here != str(folder) and JOB in names and "plan" in below:  # a shard set, perhaps this job's own
            below.clear()
            continue
        below.sort()  # of links to one folder the first in order is followed, on every machine
        yield from (os.path.join(here, name) for name in names if name.lower().endswith(suffixes))
