"""Images that are stored inside records: their way through the plan of a job, and their bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from typing_extensions import override

from datagen.inputs.parquet_records import BUFFER
from datagen.inputs.record import EmbeddedImage, ImageRef, Span, of_data_url, place
from datagen.source import Unit
from varyforge.errors import WrongFormat
from varyforge.storage import piece_of, read_piece

_ROWS = 8  # in memory at a time


class Located(NamedTuple):
    """The files of a unit's images: `Unit.files`, and what its payload says of images inside records."""

    files: tuple[str, ...]  # an item per image, then the footer of a Parquet file
    payload: Mapping[str, Any]  # empty, or "embedded": per image its address, None for an image file


def locate(path: str, images: Sequence[ImageRef], location_of: Mapping[str, str]) -> Located:
    """Return the files of images, of which those inside the records of the file `path` are parts of that file.

    `location_of` has the location of each image file by its name.
    """
    files: list[str] = []
    addresses: list[dict[str, Any] | None] = []
    footer: Span | None = None
    for image in images:
        if isinstance(image, str):
            files.append(location_of[image])
            addresses.append(None)
            continue
        home = image.home
        column = str(image.path[0]) if home.footer else ""
        start, size = home.spans[column]
        files.append(piece_of(path, start, size))
        address: dict[str, Any] = {"path": image.path, "sha256": image.sha256}
        if home.footer:
            footer = home.footer
            address |= {"group": home.group, "row": home.row, "starts": (start, footer[0])}
        addresses.append(address)
    if footer:
        files.append(piece_of(path, *footer))
    return Located(tuple(files), {"embedded": addresses} if any(addresses) else {})


def block_of(name: str, images: Sequence[ImageRef]) -> str:
    """Return the `Unit.block` of a record of the file `name`: its row group, or "" where no image is in the record."""
    groups = [image.home.group for image in images if isinstance(image, EmbeddedImage) and image.home.footer]
    return f"{name}#row group {groups[0]}" if groups else ""


def images_in(unit: Unit) -> int:
    """Return the number of a unit's images, of which each is an item of `Unit.files`."""
    return len(unit.payload.get("embedded", unit.files))


def read_embedded(address: Mapping[str, Any], file: str, footer: str) -> bytes:
    """Return the bytes of an image inside a record.

    Args:
        address: from the unit's payload.
        file: local copy of the part of the file that holds the image.
        footer: local copy of a Parquet file's footer; any file for JSON.

    Raises:
        WrongFormat: the image is not that of the plan: the file was replaced.
        OSError: the file cannot be read.
    """
    for _ in range(2):
        try:
            data = _image_at(address, file, footer)
        except Exception:
            _Cells.opened.cache_clear()  # its place in the file is not known any more
            raise
        if hashlib.sha256(data).hexdigest() == address["sha256"]:
            return data
        _Cells.opened.cache_clear()  # another file may have had this name
    raise WrongFormat(f"{place(tuple(address['path']))} is not the image that was there when the job was planned")


def _image_at(address: Mapping[str, Any], file: str, footer: str) -> bytes:
    path = tuple(address["path"])
    if "row" in address:
        cells = _Cells.opened(file, footer, tuple(address["starts"]), address["group"], path[0])
        value, keys = cells.value(address["row"]), path[1:]
    else:
        value, keys = json.loads(read_piece(file).decode("utf-8-sig")), path
    for key in keys:
        value = value[key]
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, str):
        value = of_data_url(value, path)
    return value if isinstance(value, bytes) else b""


class _Cells:
    """The values of one column in one row group, read from front to back.

    Units of a row group come one after the other, so that its pages are decompressed about once per shard.
    """

    def __init__(self, file: str, footer: str, starts: tuple[int, int], group: int, column: str) -> None:
        import pyarrow as pa  # noqa: PLC0415  # half a second, and most images are files
        import pyarrow.parquet as pq  # noqa: PLC0415

        parts = _Parts([(starts[0], file), (starts[1], footer)])
        self._file = pq.ParquetFile(parts, pre_buffer=False, buffer_size=BUFFER)
        self._group, self._column = group, column
        self._first, self._batch = 0, pa.array([])
        self._batches = self._from_the_start()

    @staticmethod
    @lru_cache(maxsize=4)
    def opened(file: str, footer: str, starts: tuple[int, int], group: int, column: str) -> _Cells:
        """Return the cells of a column, which stay open for the next unit."""
        return _Cells(file, footer, starts, group, column)

    def value(self, row: int) -> Any:
        """Return the value in a row."""
        if row < self._first:
            self._first, self._batch, self._batches = 0, self._batch[:0], self._from_the_start()
        while row >= self._first + len(self._batch):
            self._first += len(self._batch)
            batch = next(self._batches, None)
            if batch is None:
                raise WrongFormat(f"row group {self._group} has no row {row}")
            self._batch = batch.column(0)
        return self._batch[row - self._first].as_py()

    def _from_the_start(self) -> Iterator[Any]:
        return iter(self._file.iter_batches(_ROWS, row_groups=[self._group], columns=[self._column], use_threads=False))


class _Parts(io.RawIOBase):
    """A file of which only some parts are at hand; zeros stand for the rest."""

    def __init__(self, parts: Sequence[tuple[int, str]]) -> None:
        """Take the offset of each part, and its file. The last part ends the file."""
        super().__init__()
        self._parts = parts
        self._at = 0
        self._size = parts[-1][0] + len(read_piece(parts[-1][1]))

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    @override
    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        at, self._at = self._at, max(end, self._at)
        stretches = []
        for start, file in self._parts:
            if at < start < end:
                stretches.append(bytes(start - at))
                at = start
            if start <= at < end:
                stretches.append(read_piece(file, at - start, end - at))
                at += len(stretches[-1])
        stretches.append(bytes(max(0, end - at)))
        whole = [stretch for stretch in stretches if stretch]
        return whole[0] if len(whole) == 1 else b"".join(whole)  # a page may have hundreds of megabytes: no copy
