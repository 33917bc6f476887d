"""Where files lie: a folder on this machine or under any fsspec URL (s3://, gs://, memory:// …), with one interface.

A file written here is either whole or absent. On this machine: temp file, fsync, rename. Elsewhere: a local temp file,
then one upload (object stores show an object when it is whole).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from varyforge.errors import UserError
from varyforge.files import atomic_file, remove_temporaries

if TYPE_CHECKING:
    import fsspec


SUBFOLDERS = ("index", "ledger", "plan", "done")
"""Of a shard set."""


class Folder(Protocol):
    """A folder of files named by relative paths with "/". Small, picklable."""

    def __str__(self) -> str:
        """Path or URL, for messages."""
        ...

    def exists(self) -> bool:
        """Whether the folder is there. Object stores have no empty folders."""
        ...

    def names(self, suffix: str = "", below: str = "") -> list[str]:
        """Names of the files directly in the folder (or in its subfolder `below`) that end in `suffix`, sorted."""
        ...

    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        """Bytes of the files that `names` names. One listing, where `size` asks once for each file."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """A file's bytes, or `size` of them from `offset` (fewer where it ends before).

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """A file for reading here and there.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        ...

    def writer(self, name: str) -> Any:
        """A context manager that gives a binary file, which appears as `name` when the block ends well."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file; nothing happens where there is none."""
        ...

    def tidy(self) -> None:
        """Removes what killed processes left half-written."""
        ...


def folder_at(place: str | Path) -> Folder:
    """The folder at a local path or URL.

    Raises:
        UserError: no such kind of URL, or its package is missing.
    """
    if not is_url(place):
        return LocalFolder(Path(place).absolute())  # Ray's workers have their own working folder
    kind, _, path = str(place).rstrip("/").partition("://")
    if kind == "file":
        return LocalFolder(Path("/" + path.lstrip("/")))
    if not path:
        raise UserError(f"{place}: a URL without a path")
    folder = RemoteFolder(f"{kind}://{path}")
    folder.filesystem()
    return folder


def write(folder: Folder, name: str, data: bytes) -> None:
    """Writes a small file, whole or not at all."""
    with folder.writer(name) as file:
        file.write(data)


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL and not a path on this machine."""
    return "://" in str(place)


def filesystem_of(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """What fsspec has for a URL (cached there), and what the URL's file is called in it.

    Raises:
        ImportError, ValueError: no such kind of URL, or its package is missing.
    """
    import fsspec  # noqa: PLC0415  # takes a while, and most files are on this machine

    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, str(path)


_PIECE = re.compile(r"(.*)#(\d+)\+(\d+)", re.DOTALL)


def piece_of(path: str, offset: int, size: int) -> str:
    """What stands in `Unit.files` for a part of a file, such as a member of a tar: only these bytes are fetched."""
    return f"{path}#{offset}+{size}"


def read_piece(file: str) -> bytes:
    """The bytes of a local file, or of the part of it that `piece_of` names.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    piece = None if os.path.exists(file) else _PIECE.fullmatch(file)
    if piece is None:
        with open(file, "rb", buffering=0) as opened:
            return opened.read()
    with open(piece[1], "rb", buffering=0) as opened:
        return os.pread(opened.fileno(), int(piece[3]), int(piece[2]))


class Copies:
    """Files on this machine for paths and URLs: the path itself, or a copy that is kept until others are asked for.

    Of a file behind a URL of which only a piece is asked for, the copy is that piece.

    A context manager; one unit after the other asks, and the pages of a document ask for the same file.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, tempfile.TemporaryDirectory[str]]] = {}

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *_: object) -> None:
        self.of(())

    def of(self, paths: Sequence[str]) -> list[str]:
        """Local paths of `paths`, in order.

        Raises:
            OSError: a file behind a URL cannot be read.
        """
        for gone in self._kept.keys() - set(paths):
            self._kept.pop(gone)[1].cleanup()
        return [self._copy(path) if is_url(path) else path for path in paths]

    def _copy(self, url: str) -> str:
        if url not in self._kept:
            folder = tempfile.TemporaryDirectory(prefix="varyforge-")
            copy = os.path.join(folder.name, os.path.basename(url) or "file")
            piece = _PIECE.fullmatch(url)
            filesystem, remote = filesystem_of(piece[1] if piece else url)
            if piece:
                start, size = int(piece[2]), int(piece[3])
                Path(copy).write_bytes(filesystem.cat_file(remote, start=start, end=start + size))
            else:
                filesystem.get_file(remote, copy)
            self._kept[url] = (copy, folder)
        return self._kept[url][0]


def absolute(place: str) -> str:
    """A path or URL that holds wherever a process works; "" stays."""
    return place if is_url(place) or not place else str(Path(place).absolute())


def signature(path: str) -> str:
    """Changes when the file at `path` changes: size and time, or what the object store says. Reads no content.

    Raises:
        OSError: there is no such file.
    """
    if is_url(path):
        filesystem, remote = filesystem_of(path)
        if path.startswith(("http://", "https://")):  # fsspec takes files there for unchanging, and tells by the name
            about = filesystem.info(remote)
            return "-".join(str(about.get(what, "")) for what in ("size", "ETag", "Last-Modified"))
        return str(filesystem.ukey(remote))
    about = os.stat(path)
    return f"{about.st_size}-{about.st_mtime_ns}"


class LocalFolder:
    """See `Folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """See `Folder`."""
        return self.path.is_dir()

    def names(self, suffix: str = "", below: str = "") -> list[str]:
        """See `Folder`."""
        folder = self.path / below
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.name.endswith(suffix) and not e.name.startswith(".") and e.is_file()]
        return sorted(f"{below}/{name}" if below else name for name in found)

    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        """See `Folder`."""
        return {name: size for name in self.names(suffix, below) if (size := self.size(name)) is not None}

    def size(self, name: str) -> int | None:
        """See `Folder`."""
        try:
            return os.stat(self.path / name).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """See `Folder`."""
        with open(self.path / name, "rb", buffering=0) as file:  # microseconds; kept open, they use up descriptors
            if size is None:
                file.seek(offset)
                return file.read()
            return os.pread(file.fileno(), size, offset)

    def open(self, name: str) -> BinaryIO:
        """See `Folder`."""
        return open(self.path / name, "rb")

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """See `Folder`."""
        with atomic_file(self.path / name) as file:
            yield file

    def remove(self, name: str) -> None:
        """See `Folder`. A subfolder goes with its last file, as behind a URL."""
        file = self.path / name
        file.unlink(missing_ok=True)
        if file.parent != self.path:
            with suppress(OSError):  # not empty
                file.parent.rmdir()

    def tidy(self) -> None:
        """See `Folder`."""
        for below in ("", *SUBFOLDERS):  # others' files below are none of our business
            remove_temporaries(self.path / below)


class RemoteFolder:
    """See `Folder`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    def filesystem(self) -> fsspec.AbstractFileSystem:
        """What fsspec has for the URL (cached there).

        Raises:
            UserError: no such kind of URL, or its package is missing.
        """
        try:
            return filesystem_of(self.url)[0]
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.url}: {error}") from error

    def _at(self, name: str) -> str:
        root = filesystem_of(self.url)[1].rstrip("/")
        return f"{root}/{name}" if name else root

    def exists(self) -> bool:
        """See `Folder`."""
        filesystem = self.filesystem()
        filesystem.invalidate_cache()
        return bool(filesystem.exists(self._at("")))

    def names(self, suffix: str = "", below: str = "") -> list[str]:
        """See `Folder`."""
        return list(self.sizes(suffix, below))

    def sizes(self, suffix: str = "", below: str = "") -> dict[str, int]:
        """See `Folder`."""
        filesystem = self.filesystem()
        filesystem.invalidate_cache()  # other processes write there too
        try:
            entries = filesystem.ls(self._at(below), detail=True)
        except FileNotFoundError:
            return {}
        found = {str(e["name"]): e["size"] for e in entries if e["type"] == "file" and str(e["name"]).endswith(suffix)}
        unsaid = [path for path, size in found.items() if size is None]  # a web server lists names only
        found |= dict(zip(unsaid, filesystem.sizes(unsaid), strict=True)) if unsaid else {}
        named = {path.rstrip("/").rsplit("/", 1)[-1]: int(size) for path, size in found.items()}
        return {f"{below}/{name}" if below else name: named[name] for name in sorted(named)}

    def size(self, name: str) -> int | None:
        """See `Folder`."""
        try:
            return int(self.filesystem().size(self._at(name)))
        except FileNotFoundError:
            return None

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """See `Folder`."""
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

    def open(self, name: str) -> BinaryIO:
        """See `Folder`."""
        file: BinaryIO = self.filesystem().open(self._at(name), "rb")
        return file

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """See `Folder`."""
        with tempfile.NamedTemporaryFile(prefix="varyforge-") as file:
            yield file  # type: ignore[misc]  # a wrapper that is a binary file in all but its declared type
            file.flush()
            filesystem, target = self.filesystem(), self._at(name)
            filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            filesystem.put_file(file.name, target)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        try:
            self.filesystem().rm_file(self._at(name))
        except FileNotFoundError:
            pass

    def tidy(self) -> None:
        """See `Folder`. Uploads leave nothing half-written."""
