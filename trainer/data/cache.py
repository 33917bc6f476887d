"""A folder on this machine for what can be made or fetched again: indexes, and pieces of files behind URLs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from varyforge.console import warn
from varyforge.files import TEMP_SUFFIX

_PIECES = "pieces"
_SUM_BYTES = 4
_ROOM = 0.9  # of the limit is left filled when the oldest pieces go
_SCAN_EVERY = 1 / 32  # of the limit: so much may be written before the folder is looked at again
_LEFTOVER_S = 3600.0  # a temporary file so old is of a process that was killed


def cache_folder(wanted: str | None = None) -> Path:
    """The folder to keep things in: `wanted`, else varyforge below XDG_CACHE_HOME or ~/.cache.

    Where that cannot be written, a folder of this user's below the folder for temporary files, which is said.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(wanted).expanduser() if wanted else Path(home) / "varyforge"
    try:
        _try(folder)
    except OSError as error:
        instead = Path(tempfile.gettempdir()) / f"varyforge-{os.getuid()}"
        _say_once(
            f"{folder}: cannot write there ({error.strerror}); {instead} serves as the cache (data.cache names another)"
        )
        _try(instead)
        if instead.stat().st_uid != os.getuid():
            raise PermissionError(13, "belongs to another user; set data.cache", str(instead)) from error
        return instead
    return folder


def _try(folder: Path) -> None:
    """Raises OSError where nothing can be written."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Processes of this machine that want to make the same file wait for each other; the second finds it made.

    Only saves work: on a file system without locks all make it, and as it is written whole, the last one stays. What
    killed processes left half-written beside it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*{TEMP_SUFFIX}"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFTOVER_S:
                left.unlink()
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Pieces of files behind URLs, kept below `folder` up to `limit_bytes`; the oldest go first. Small, picklable.

    Any number of processes may share a folder. A piece is whole or absent: it is renamed into place and carries a
    checksum. Where it cannot be kept (the disk is full) that is said once, and it is read from afar each time.
    """

    folder: str
    limit_bytes: int

    def get(self, name: str) -> bytes | None:
        """The piece kept under `name`, whatever that is; None where there is none, or what there is is damaged."""
        try:
            data = self._path(name).read_bytes()
        except OSError:
            return None
        piece, checksum = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
        return piece if len(data) > _SUM_BYTES and checksum == _checksum(piece) else None

    def put(self, name: str, piece: bytes) -> None:
        """Keeps a piece under `name`."""
        if len(piece) > self.limit_bytes:
            return
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=TEMP_SUFFIX, delete=False) as file:
                try:  # without fsync, which costs more than fetching it again: the checksum tells what a crash tore
                    file.write(piece)
                    file.write(_checksum(piece))
                    file.close()
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            _say_once(f"{self.folder}: pieces cannot be kept ({error.strerror}); they are read from afar each time")
            return
        if _written(self.folder, len(piece)) > self.limit_bytes * _SCAN_EVERY:
            self._make_room()

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return Path(self.folder) / _PIECES / digest[:2] / digest[2:40]

    def _make_room(self) -> None:
        """Removes the oldest pieces until the rest fill a part of the limit. Another process may do the same."""
        _written(self.folder, None)
        found = sorted(self._found())
        total = sum(size for _, size, _ in found)
        enough = total if total <= self.limit_bytes else self.limit_bytes * _ROOM
        for _, size, path in found:
            if total <= enough:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size

    def _found(self) -> Iterator[tuple[float, int, str]]:
        """Time, bytes and path of what is kept. What killed processes left half-written is removed."""
        for below in Path(self.folder, _PIECES).iterdir():
            with suppress(OSError), os.scandir(below) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        about = entry.stat()
                        if not entry.name.endswith(TEMP_SUFFIX):
                            yield about.st_mtime, about.st_size, entry.path
                        elif time.time() - about.st_mtime > _LEFTOVER_S:
                            os.unlink(entry.path)


def _checksum(piece: bytes) -> bytes:
    return zlib.crc32(piece).to_bytes(_SUM_BYTES)


_said: set[str] = set()
_bytes_written: dict[str, float] = {}
_counting = threading.Lock()


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warn(message)


def _written(folder: str, more: int | None) -> float:
    """Bytes that this process wrote to `folder` since it was last looked at; at first as if they were very many."""
    with _counting:
        _bytes_written[folder] = 0.0 if more is None else _bytes_written.get(folder, float("inf")) + more
        return _bytes_written[folder]
