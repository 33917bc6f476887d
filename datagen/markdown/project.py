"""The files of a LaTeX project, in a folder or in arXiv's archive. Nothing outside the project is ever read."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from datagen.inputs.listing import is_outside

TEXT = (".tex", ".ltx", ".bbl", ".bib", ".sty")
"""Endings of the files that are read. Pictures and other members of an archive stay packed."""

_FILE_BYTES = 16 << 20  # nobody writes a longer text
_ARCHIVE_BYTES = 512 << 20  # unpacked; arXiv accepts 50 MB, which unpack to a few times that
_MEMBERS = 20_000
_LISTED = 1000  # the most files and folders of one project
_ACCENT = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")


class DocumentError(ValueError):
    """A document that cannot become pages. `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ProjectError(DocumentError):
    """An unreadable project."""


class Project(Protocol):
    """A project: text files by their names relative to it, with "/"."""

    def read(self, name: str) -> str | None:
        """Return the text of a file; None for a missing file.

        Raises:
            ProjectError: `outside` for a name that leads out of the project, `too_large`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Folder(Project):
    """A project in a folder."""

    path: Path

    def texts(self) -> list[str]:
        """Return the sorted paths of the text files; none for a folder with too many entries to be one project."""
        paths: list[str] = []
        folders, seen = [str(self.path)], 0
        while folders:
            with suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _LISTED:
                        return []
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.name.lower().endswith(TEXT):
                        paths.append(entry.path)
        return sorted(paths)

    @override
    def read(self, name: str) -> str | None:
        """Return the text of a file. A link that leads out of the folder is `outside` too."""
        path = self.path / _inside(name)
        if is_outside(str(path), str(self.path)):
            raise ProjectError("outside", f"{name} is a link that leads out of the project")
        if not path.is_file():
            return None
        return read_file(path)


@dataclass(frozen=True, slots=True)
class Archive(Project):
    """A packed project. A name is looked up in `folder`, the main file's, and then at the top."""

    files: Mapping[str, bytes]
    folder: str = ""

    def names(self) -> list[str]:
        """Return the sorted names of all text files."""
        return sorted(self.files)

    @override
    def read(self, name: str) -> str | None:
        for path in (posixpath.join(self.folder, name), name):
            data = self.files.get(_inside(path))
            if data is not None:
                return _decoded(name, data)
        return None


def open_archive(path: Path) -> Archive:
    """Open a .tar.gz, a .tgz, or a single gzipped file, which is arXiv's form of a paper of one file.

    Raises:
        ProjectError: `unreadable`; `too_large` for more than 512 MiB or 20,000 members after unpacking;
            `unsafe_archive` for links, devices and names that lead out of the archive.
    """
    try:
        with gzip.open(path) as packed:
            data = packed.read(_ARCHIVE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ProjectError("unreadable", f"not gzip: {error}") from error
    if len(data) > _ARCHIVE_BYTES:
        raise ProjectError("too_large", f"unpacks to more than {_ARCHIVE_BYTES >> 20} MiB")
    try:
        tar = tarfile.open(fileobj=io.BytesIO(data), mode="r:")  # without compression: a second layer may be a bomb
    except tarfile.ReadError:
        return Archive({f"{path.name.removesuffix('.gz').removesuffix('.tex')}.tex": data})
    try:
        with tar:
            return Archive(_members(tar))
    except (tarfile.TarError, EOFError) as error:
        raise ProjectError("unreadable", f"a broken tar file: {error}") from error


def _members(tar: tarfile.TarFile) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number, member in enumerate(tar):
        if number == _MEMBERS:
            raise ProjectError("too_large", f"more than {_MEMBERS} members")
        name = posixpath.normpath(member.name)
        if name.startswith(("/", "..")) or not (member.isfile() or member.isdir()):
            kind = "a name that leads out of it" if member.isfile() or member.isdir() else "a link or device"
            raise ProjectError("unsafe_archive", f"member {member.name[:100]!r}: {kind}")
        if member.isfile() and name.lower().endswith(TEXT):
            opened = tar.extractfile(member)
            assert opened is not None  # a regular file
            files[name] = opened.read(_FILE_BYTES + 1)
    return files


def _inside(name: str) -> str:
    inside = posixpath.normpath(name)
    if inside.startswith(("/", "..")):
        raise ProjectError("outside", f"{name!r} leads out of the project")
    return inside


def read_file(path: Path) -> str:
    """Return the text of a file that belongs to no project.

    Raises:
        ProjectError: `too_large`.
    """
    with open(path, "rb") as file:
        return _decoded(path.name, file.read(_FILE_BYTES + 1))


def _decoded(name: str, data: bytes) -> str:
    """Decode UTF-8, GB 18030 (old Chinese files) or Windows' Latin-1."""
    if len(data) > _FILE_BYTES:
        raise ProjectError("too_large", f"{name} has more than {_FILE_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        accents = len(_ACCENT.findall(data))  # in GB 18030 such bytes come in pairs
        high = len(data.translate(None, bytes(range(128))))
        text = data.decode("cp1252" if accents > high / 4 else "gb18030", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
