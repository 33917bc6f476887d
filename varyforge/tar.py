"""Positions of a tar's members by their headers. Contents are skipped, nothing is unpacked."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
_MAX_EXTENSION = 1 << 20  # bytes of a header that holds a long name
_ZEROS = 64 << 10  # bytes read at a time behind an end marker
_OCTAL = re.compile(rb"[0-7]+").fullmatch
_SPACES = 8 * ord(" ")
_KINDS = {
    **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), "a file"),
    **dict.fromkeys((tarfile.LNKTYPE, tarfile.SYMTYPE), "a link"),
    **dict.fromkeys((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE), "a device"),
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
Kind = Literal["a file", "a folder", "a link", "a device", "a sparse file", "of an unknown kind"]


class Member(NamedTuple):
    """An entry of a tar. Its name is as in the tar and may hold "..": a label, never a path to write to."""

    name: str
    kind: Kind
    offset: int  # bytes from the start of the tar to the content
    size: int  # bytes of content


class TarError(ValueError):
    """A tar that cannot be read further. The message says where and why; `name` is the member that is cut, or ""."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


_NAME = re.compile(r"(?:\./)*((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
"""Endings of the names of image members."""


def key_and_ending(name: str) -> tuple[str, str] | None:
    """Cut a member's name as WebDataset does, at the first dot of its last part; the ending in lower case.

    None for a name that WebDataset skips: a folder, a hidden file, a name without a dot.
    """
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def members(file: BinaryIO, *, whole: bool = True) -> Iterator[Member]:
    """Yield the entries of a tar in the ustar, GNU or PAX format, in order, also of a tar behind another in the file.

    Args:
        file: a seekable binary file. Only headers are read.
        whole: whether an end marker must follow. False: `file` is a run of whole members, the last block filled up.

    Raises:
        TarError: the file is cut (between two members, the end marker is missing), or a header is damaged.
    """
    end = file.seek(0, 2)
    position, ended = 0, False
    extended: dict[str, str] = {}  # fields of the next entry that PAX and GNU headers replace
    while position < end:
        file.seek(position)
        block = file.read(_BLOCK)
        if whole and not any(block):
            position, ended = _behind_zeros(file, position), True
            continue
        ended = False
        info = parse_header(block, position)
        start = position + _BLOCK
        if info.type == tarfile.GNUTYPE_SPARSE:
            start = _behind_sparse_map(file, block, start)
        size = _size(info, extended, position)
        following = start + -(-size // _BLOCK) * _BLOCK
        if (start + size if whole else following) > end:
            name = extended.get("path", info.name)
            raise TarError(f"{name} at byte {position} is cut: {end - start} of {size} bytes", name)
        position = following
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, *tarfile.GNU_TYPES[:2]):
            extended |= _extension(file, info, start, size)
            continue
        sparse = any(name.startswith("GNU.sparse.") for name in extended)
        kind: Kind = "a sparse file" if sparse else _KINDS.get(info.type, "of an unknown kind")  # type: ignore[assignment]
        yield Member(extended.get("path", info.name), kind, start, size)
        extended = {}
    if whole and not ended:
        raise TarError(f"the tar ends at byte {end} without an end marker")


class Header(NamedTuple):
    """A header block of a tar: the fields that locate its content."""

    name: str
    type: bytes
    size: int


def parse_header(block: bytes, position: int) -> Header:
    """Parse a block of 512 bytes as a tar header.

    Raises:
        TarError: the block is no header; the message names `position`, its byte in the tar.
    """
    plain = _plain_header(block)  # a fifth of the time, and nearly all are
    if plain:
        return plain
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError) as error:
        raise TarError(f"no header at byte {position}: {error}") from error
    return Header(info.name, info.type, info.size)


def _plain_header(block: bytes) -> Header | None:
    """Parse the header of a file whose size and checksum are octal digits, as tarfile does; None for all others."""
    size, checksum, kind = block[124:136].rstrip(b" \0"), block[148:156].rstrip(b" \0"), block[156:157]
    if len(block) < _BLOCK or kind != tarfile.REGTYPE or not (_OCTAL(size) and _OCTAL(checksum)):
        return None
    if int(checksum, 8) != _SPACES + sum(block) - sum(block[148:156]):  # the checksum itself counts as spaces
        return None
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    full = prefix + b"/" + name if prefix else name
    return Header(full.decode(errors="surrogateescape"), kind, int(size, 8))


def _size(info: Header, extended: dict[str, str], position: int) -> int:
    """Return the bytes of content that follow a header; none for a link or a device, whatever its size field."""
    if _KINDS.get(info.type) in ("a link", "a device", "a folder"):
        return 0
    size = extended.get("size", info.size)
    try:
        if int(size) >= 0:
            return int(size)
    except ValueError:
        pass
    raise TarError(f"a size of {str(size)[:20]} at byte {position}")


def _behind_zeros(file: BinaryIO, position: int) -> int:
    """Return the position of the next block that is not zeros, or of the file's end."""
    file.seek(position)
    while chunk := file.read(_ZEROS):
        filled = len(chunk) - len(chunk.lstrip(b"\0"))
        if filled < len(chunk):
            return position + filled // _BLOCK * _BLOCK
        position += len(chunk)
    return position


def _behind_sparse_map(file: BinaryIO, header: bytes, start: int) -> int:
    """Skip the further header blocks of GNU's old sparse files: a flag in each announces the next."""
    more = header[482:483]
    while more and more != b"\0":
        file.seek(start)
        more = file.read(_BLOCK)[504:505]
        start += _BLOCK
    return start


def _extension(file: BinaryIO, info: Header, start: int, size: int) -> dict[str, str]:
    """Read the fields that an extension header replaces in the next entry, but for links' targets and global fields.

    Raises:
        TarError: the header is too large or malformed.
    """
    if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
        return {}
    if size > _MAX_EXTENSION:
        raise TarError(f"a header of {size} bytes at byte {start}")
    file.seek(start)
    data = file.read(size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode(errors="surrogateescape")}
    fields = {}
    position = 0
    while position < size and data[position]:  # records "LENGTH KEY=VALUE\n"
        digits, blank, _ = data[position : position + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[position + len(digits) + 1 : position + length - 1].partition(b"=")
        if not (blank and equals and len(digits) < length <= size - position):
            raise TarError(f"a PAX header that is none at byte {start + position}")
        fields[key.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
        position += length
    return fields
