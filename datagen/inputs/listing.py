"""Lists input files, local or behind URLs, and names them independently of their location."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from varyforge.errors import UserError
from varyforge.storage import filesystem_of, folder_at, is_url, legible, on_disk

_real = lru_cache(maxsize=1024)(os.path.realpath)  # a data set has few folders and many files


def list_files(paths: Sequence[str], *suffixes: str) -> Iterator[str]:
    """Yield absolute paths or URLs: each file of `paths`, and the files with a suffix in each folder of `paths`.

    Folders are searched at any depth and links followed, each folder once. The order is stable. Paths are `legible`.

    Raises:
        UserError: a path does not exist, or a folder holds no file with a suffix.
    """
    for path in paths:
        if is_url(path):
            files = _find(path.rstrip("/"), suffixes)
        elif (local := Path(on_disk(path)).absolute()).is_file():
            files = [legible(str(local))]
        elif local.is_dir():
            files = sorted(map(legible, _walk(local, suffixes)))
        else:
            raise UserError(f"{path.rstrip('/')}: no such file or folder")
        if not files:
            raise UserError(f"{path}: no {' or '.join(f'*{suffix}' for suffix in suffixes)} in this folder")
        yield from files


def name_of(path: str, paths: Sequence[str]) -> str:
    """Return the name of a file for ledger and samples: relative to its folder in `paths`, else its bare name."""
    for root in paths:
        folder = root.rstrip("/") if is_url(root) else str(Path(root).absolute())
        if path.startswith(folder + "/"):
            return path[len(folder) + 1 :]
    return posixpath.basename(path)


def within(folder: str, name: str) -> str:
    """Return the path or URL of the file `name` in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder).absolute() / name)


def is_outside(path: str, folder: str) -> bool:
    """Whether a path from `within` leads out of its folder: by "..", an absolute name, or a link."""
    if is_url(folder):
        return posixpath.normpath(path.removeprefix(folder.rstrip("/") + "/")).startswith("..")
    here, name = os.path.split(path)
    real = os.path.realpath(path) if os.path.islink(path) or name in ("", ".", "..") else f"{_real(here)}/{name}"
    root = _real(folder).rstrip("/")
    return real != root and not real.startswith(f"{root}/")


def _find(url: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the file at a URL, or the files below it."""
    folder_at(url)  # raises UserError for a bad URL
    filesystem, root = filesystem_of(url)
    if filesystem.isfile(root):
        return [url]
    names = filesystem.find(root)
    if not names:
        raise UserError(f"{url}: no such file or folder")
    return sorted(url + name[len(root.rstrip("/")) :] for name in names if name.lower().endswith(suffixes))


def _walk(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    from varyforge.shards import JOB  # noqa: PLC0415  # brings pyarrow, and child processes only name files

    seen: set[tuple[int, int]] = set()
    for here, below, names in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link back up
            below.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        if here != str(folder) and JOB in names and "plan" in below:  # a shard set, perhaps the output of this job
            below.clear()
            continue
        below.sort()  # so that of several links to a folder the same one is followed on every machine
        yield from (os.path.join(here, name) for name in names if name.lower().endswith(suffixes))
