"""A folder on this machine for data that can be made or fetched again: indexes, and pieces of files behind URLs."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainer.settings import DataSettings
from varyforge.console import warn
from varyforge.files import TEMP_SUFFIX

_PIECES = "pieces"
_SUM_BYTES = 4
_FILL = 0.9  # share of the limit that stays filled when the oldest pieces are removed
_SCAN_EVERY = 1 / 32  # share of the limit that a process may write before it looks at the folder's size again
_LEFTOVER_S = 3600.0  # a temporary file of this age belongs to a process that was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The cache folder of a run. Small and picklable: it travels to the loader's workers.

    Any number of processes may share a folder. Pieces take up to `limit_bytes`; the oldest are removed first. A piece
    is whole or absent: it is renamed into place and carries a checksum. Where pieces cannot be written (the disk is
    full), one warning says so and they are fetched each time.
    """

    folder: Path
    limit_bytes: int  # of pieces; 0: neither read nor write them

    def get(self, name: str) -> bytes | None:
        """Return the piece that `put` stored under `name`; None where it is missing or damaged."""
        try:
            data = self._path(name).read_bytes()
        except OSError:
            return None
        piece, checksum = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
        return piece if len(data) > _SUM_BYTES and checksum == _checksum(piece) else None

    def put(self, name: str, piece: bytes) -> None:
        """Store a piece under `name`, which may be any text."""
        if len(piece) > self.limit_bytes:
            return
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=TEMP_SUFFIX, delete=False) as file:
                try:  # without fsync, which takes longer than fetching again; the checksum finds torn pieces
                    file.write(piece)
                    file.write(_checksum(piece))
                    file.close()
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            _warn_once(f"{self.folder}: cannot store pieces ({error.strerror}); they are fetched again each time")
            return
        _bytes_written[self.folder] = _bytes_written.get(self.folder, math.inf) + len(piece)
        if _bytes_written[self.folder] > self.limit_bytes * _SCAN_EVERY:
            _bytes_written[self.folder] = 0.0
            self._make_room()

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / _PIECES / digest[:2] / digest[2:40]

    def _make_room(self) -> None:
        """Remove the oldest pieces until the rest fill `_FILL` of the limit. Another process may do so too."""
        pieces = sorted(self._pieces())
        total = sum(size for _, size, _ in pieces)
        enough = total if total <= self.limit_bytes else self.limit_bytes * _FILL
        for _, size, path in pieces:
            if total <= enough:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size

    def _pieces(self) -> Iterator[tuple[float, int, str]]:
        """Yield time, bytes and path of each piece. Remove temporary files of killed processes on the way."""
        for folder in (self.folder / _PIECES).iterdir():
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        about = entry.stat()
                        if not entry.name.endswith(TEMP_SUFFIX):
                            yield about.st_mtime, about.st_size, entry.path
                        elif time.time() - about.st_mtime > _LEFTOVER_S:
                            os.unlink(entry.path)


def open_cache(data: DataSettings) -> Cache:
    """Open the folder `data.cache`; by default varyforge below XDG_CACHE_HOME or ~/.cache.

    Where that folder cannot be written, a warning names a folder of this user's below the temporary folder instead.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(data.cache).expanduser() if data.cache else Path(home) / "varyforge"
    try:
        _try(folder)
    except OSError as error:
        instead = Path(tempfile.gettempdir()) / f"varyforge-{os.getuid()}"
        _warn_once(
            f"{folder}: cannot write there ({error.strerror}); caching in {instead}. Set data.cache to another folder"
        )
        _try(instead)
        if instead.stat().st_uid != os.getuid():
            raise PermissionError(13, "belongs to another user; set data.cache", str(instead)) from error
        folder = instead
    return Cache(folder=folder, limit_bytes=int(data.cache_gb * 1e9))


def _try(folder: Path) -> None:
    """Raise OSError where the folder cannot be written."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Context manager: processes of this machine that want to make the file `path` take turns.

    The second process finds the file and need not make it. The lock only saves work: on a file system without locks
    each process writes the whole file, and the last one stays. Temporary files of killed processes beside it are
    removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".*{TEMP_SUFFIX}"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                leftover.unlink()
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _checksum(piece: bytes) -> bytes:
    return zlib.crc32(piece).to_bytes(_SUM_BYTES)


_warn_once = cache(warn)
_bytes_written: dict[Path, float] = {}
"""Bytes that this process wrote to a folder since it last looked at the folder's size; infinite before the first look.

Threads may lose a few bytes of the sum to each other.
"""
