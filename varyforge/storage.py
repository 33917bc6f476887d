"""Folders on this machine or under any fsspec URL (s3://, gs://, memory:// …), with one interface.

A file written here is whole or absent. On this machine it is a temporary file, then fsync and a rename. Elsewhere it is
a local temporary file, then one upload: object stores show only whole objects.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from typing_extensions import override

from varyforge.errors import UserError
from varyforge.files import atomic_file, remove_temporaries

if TYPE_CHECKING:
    import fsspec

_SUBFOLDERS = ("index", "ledger", "plan", "done")  # of a shard set


class Folder(Protocol):
    """A folder of files named by relative paths with "/". Small, picklable."""

    def __str__(self) -> str:
        """Return the path or URL, for messages."""

    def exists(self) -> bool:
        """Return whether the folder exists. Object stores have no empty folders."""

    def names(self, suffix: str = "", below: str = "") -> list[str]:
        """List the files directly in the folder (or its subfolder `below`) whose names end in `suffix`, sorted."""

    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        """Return the files of `names` and their sizes in bytes, by one listing for all."""

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if it is missing."""

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or `size` bytes of it from `offset` (fewer at its end).

        Raises:
            OSError: the file is missing or cannot be read.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file for random access.

        Raises:
            OSError: the file is missing or cannot be read.
        """

    def writer(self, name: str) -> Any:
        """Return a context manager with a binary file, which appears as `name` when the block ends well."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def tidy(self) -> None:
        """Remove temporary files of killed processes."""


def folder_at(location: str | Path) -> Folder:
    """Return the folder at a local path or URL.

    Raises:
        UserError: fsspec does not know this kind of URL, or its package is missing.
    """
    if not is_url(location):
        return LocalFolder(Path(on_disk(str(location))).absolute())  # Ray's workers have their own working folder
    kind, _, path = str(location).rstrip("/").partition("://")
    if kind == "file":
        return LocalFolder(Path("/" + path.lstrip("/")))
    if not path:
        raise UserError(f"{location}: a URL without a path; add the folder's")
    folder = RemoteFolder(f"{kind}://{path}")
    folder.filesystem()
    return folder


def write(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file, whole or not at all."""
    with folder.writer(name) as file:
        file.write(data)


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL and not a path on this machine."""
    return "://" in str(location)


def filesystem_of(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return fsspec's file system for a URL (fsspec caches it), and the name of the URL's file in it.

    Raises:
        ImportError, ValueError: fsspec does not know this kind of URL, or its package is missing.
    """
    import fsspec  # noqa: PLC0415  # takes a while, and most files are on this machine

    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, str(path)


_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_PIECE = re.compile(r"(.*)#(\d+)\+(\d+)", re.DOTALL)


def piece_of(path: str, offset: int, size: int) -> str:
    """Name a part of a file for `Unit.files`, such as a member of a tar. Only these bytes are fetched."""
    return f"{path}#{offset}+{size}"


def read_piece(file: str, start: int = 0, size: int | None = None) -> bytes:
    """Read a local file, or the part of one that `piece_of` names: all, or up to `size` bytes from `start`.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    piece = None if os.path.exists(file) else _PIECE.fullmatch(file)
    if piece is not None:
        file, left = piece[1], max(0, int(piece[3]) - start)
        size, start = left if size is None else min(size, left), start + int(piece[2])
    with open(file, "rb", buffering=0) as opened:
        if size is not None:
            return os.pread(opened.fileno(), size, start)
        opened.seek(start)
        return opened.read()


class Fetcher:
    """A context manager that copies files behind URLs to this machine. Local files are used where they are.

    A copy, of the file or of a piece that `piece_of` names, stays until `local_paths` is called without it: the pages
    of a document are units one after the other, and share a copy.
    """

    def __init__(self) -> None:
        self._copies: dict[str, tuple[str, tempfile.TemporaryDirectory[str]]] = {}

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.local_paths(())

    def local_paths(self, paths: Sequence[str]) -> list[str]:
        """Return local paths for paths and URLs, in order. Copies of other URLs are removed.

        Raises:
            OSError: a file behind a URL cannot be read.
        """
        for url in self._copies.keys() - set(paths):
            self._copies.pop(url)[1].cleanup()
        return [self._copy(path) if is_url(path) else on_disk(path) for path in paths]

    def _copy(self, url: str) -> str:
        if url not in self._copies:
            folder = tempfile.TemporaryDirectory(prefix="varyforge-")
            copy = os.path.join(folder.name, os.path.basename(url) or "file")
            piece = _PIECE.fullmatch(url)
            filesystem, remote = filesystem_of(piece[1] if piece else url)
            if piece:
                start, size = int(piece[2]), int(piece[3])
                Path(copy).write_bytes(filesystem.cat_file(remote, start=start, end=start + size))
            else:
                filesystem.get_file(remote, copy)
            self._copies[url] = (copy, folder)
        return self._copies[url][0]


def absolute(location: str) -> str:
    """Make a path absolute and `legible`, for processes in other working folders. URLs and "" stay."""
    return location if is_url(location) or not location else legible(str(Path(location).absolute()))


def legible(path: str) -> str:
    r"""Return a path that JSON and parquet can hold: bytes that are not UTF-8 become escapes, as in "a\xba.jpg"."""
    return path if path.isascii() else path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def on_disk(path: str) -> str:
    """Return the path that a `legible` one stands for, or the same path where there is no such file."""
    if "\\x" not in path or os.path.exists(path):
        return path
    name = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), os.fsencode(path))
    return os.fsdecode(name) if os.path.exists(name) else path


def signature(path: str) -> str:
    """Return a version string of a file: its size and modification time, or the object store's ETag and the like.

    Raises:
        OSError: the file is missing.
    """
    if is_url(path):
        filesystem, remote = filesystem_of(path)
        if path.startswith(("http://", "https://")):  # fsspec assumes that files there never change
            about = filesystem.info(remote)
            return "-".join(str(about.get(what, "")) for what in ("size", "ETag", "Last-Modified"))
        return str(filesystem.ukey(remote))
    about = os.stat(on_disk(path))
    return f"{about.st_size}-{about.st_mtime_ns}"


class LocalFolder(Folder):
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def __str__(self) -> str:
        return str(self.path)

    @override
    def exists(self) -> bool:
        return self.path.is_dir()

    @override
    def names(self, suffix: str = "", below: str = "") -> list[str]:
        folder = self.path / below
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            files = [e.name for e in entries if e.name.endswith(suffix) and not e.name.startswith(".") and e.is_file()]
        return sorted(f"{below}/{name}" if below else name for name in files)

    @override
    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        return {name: size for name in self.names(suffix, below) if (size := self.size(name)) is not None}

    @override
    def size(self, name: str) -> int | None:
        try:
            return os.stat(on_disk(str(self.path / name))).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    @override
    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        with open(self.path / name, "rb", buffering=0) as file:  # in microseconds; open files use up descriptors
            if size is None:
                file.seek(offset)
                return file.read()
            return os.pread(file.fileno(), size, offset)

    @override
    def open(self, name: str) -> BinaryIO:
        return open(on_disk(str(self.path / name)), "rb")

    @override
    def writer(self, name: str) -> Any:
        return atomic_file(self.path / name)

    @override
    def remove(self, name: str) -> None:
        """Remove the file, and its subfolder with the last file, as behind a URL."""
        file = self.path / name
        file.unlink(missing_ok=True)
        if file.parent != self.path:
            with suppress(OSError):  # not empty
                file.parent.rmdir()

    @override
    def tidy(self) -> None:
        for below in ("", *_SUBFOLDERS):  # other subfolders are not ours
            remove_temporaries(self.path / below)


class RemoteFolder(Folder):
    """A folder behind a URL that fsspec knows."""

    def __init__(self, url: str) -> None:
        self.url = url

    @override
    def __str__(self) -> str:
        return self.url

    def filesystem(self) -> fsspec.AbstractFileSystem:
        """Return fsspec's file system for the URL (fsspec caches it).

        Raises:
            UserError: fsspec does not know this kind of URL, or its package is missing.
        """
        try:
            return filesystem_of(self.url)[0]
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.url}: {error}") from error

    def _at(self, name: str) -> str:
        root = filesystem_of(self.url)[1].rstrip("/")
        return f"{root}/{name}" if name else root

    @override
    def exists(self) -> bool:
        filesystem = self.filesystem()
        filesystem.invalidate_cache()
        return bool(filesystem.exists(self._at("")))

    @override
    def names(self, suffix: str = "", below: str = "") -> list[str]:
        return list(self.sizes(suffix, below))

    @override
    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        filesystem = self.filesystem()
        filesystem.invalidate_cache()  # other processes write there too
        try:
            entries = filesystem.ls(self._at(below), detail=True)
        except FileNotFoundError:
            return {}
        sizes = {str(e["name"]): e["size"] for e in entries if e["type"] == "file" and str(e["name"]).endswith(suffix)}
        missing = [path for path, size in sizes.items() if size is None]  # a web server lists names only
        sizes |= dict(zip(missing, filesystem.sizes(missing), strict=True)) if missing else {}
        by_name = {path.rstrip("/").rsplit("/", 1)[-1]: int(size) for path, size in sizes.items()}
        return {f"{below}/{name}" if below else name: by_name[name] for name in sorted(by_name)}

    @override
    def size(self, name: str) -> int | None:
        try:
            return int(self.filesystem().size(self._at(name)))
        except FileNotFoundError:
            return None

    @override
    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        try:
            data = bytes(self.filesystem().cat_file(self._at(name), start=offset, end=end))
        except (OSError, UserError):
            raise
        except Exception as error:  # each kind of storage has its own for a connection that fails
            raise OSError(f"{self}/{name}: {type(error).__name__}: {error}") from error
        if size is not None and len(data) > size:
            raise OSError(f"{self}/{name}: asked for {size} bytes, its server sends the whole file: it has no ranges")
        return data

    @override
    def open(self, name: str) -> BinaryIO:
        file: BinaryIO = self.filesystem().open(self._at(name), "rb")
        return file

    @override
    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        with tempfile.NamedTemporaryFile(prefix="varyforge-") as file:
            yield file  # type: ignore[misc]  # a wrapper that is a binary file in all but its declared type
            file.flush()
            filesystem, target = self.filesystem(), self._at(name)
            filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            filesystem.put_file(file.name, target)

    @override
    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem().rm_file(self._at(name))

    @override
    def tidy(self) -> None:
        """Do nothing: uploads leave nothing half-written."""
