"""Streams the records of a Parquet file: memory holds a few rows, and no image after it was hashed.

This is the form of most data sets on the Hugging Face hub. Their images are structs of `bytes` and `path`, and the
file's metadata names the classes of a column of class numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.inputs.record import EmbeddedImage, Home, Keys, Record, Span, UnknownClass
from varyforge.errors import WrongFormat
from varyforge.external.text_encoding import not_utf8

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MAGIC = b"PAR1"
"""First four bytes of a Parquet file."""

BUFFER = 1 << 20
"""Bytes of a column that are read at a time."""

_IMAGE_START = re.compile(  # JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM
    rb"\xff\xd8\xff|\x89PNG\r\n|RIFF.{4}WEBP|GIF8|BM.{4}\0{4}|II\*\0|MM\0\*|P[1-6]\s", re.DOTALL
)
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 1024
_FOOTER_END = 8  # length of the footer and `MAGIC`


def parquet_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file as records, with a null as if its key were missing.

    A row group that breaks off is a faulty record for each of its other rows.

    Raises:
        WrongFormat: the file is no Parquet file, is cut, or has two columns of one name.
        OSError: the file cannot be read.
    """
    with _opened(path) as file:
        footer, features, start = _footer(path), features_of(file), 0
        for group in range(file.num_row_groups):
            spans = _spans(file, group)
            for row, (values, wrong) in enumerate(_rows(file, group)):
                home = Home(spans=spans, footer=footer, group=group, row=row)
                fields = _Row(home).plain(values, features, ())
                nulls = tuple(name for name, value in values.items() if value is None)
                yield Record(number=start + row, value=fields, wrong=wrong, nulls=nulls, home=home)
            start += file.metadata.row_group(group).num_rows


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a file.

    Raises:
        WrongFormat: as for `parquet_records`.
    """
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa  # noqa: PLC0415  # half a second, and most inputs are JSON
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
    except (pa.ArrowException, ValueError) as error:
        raise WrongFormat(f"not Parquet, or cut: {_one_line(error)}") from error
    names = file.schema_arrow.names
    if twice := [name for name in names if names.count(name) > 1]:
        file.close()
        raise WrongFormat(f"two columns are called {twice[0]!r}")
    return file


def _rows(file: pq.ParquetFile, group: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the values of each row by column, and the fault of the row or ""."""
    import pyarrow as pa  # noqa: PLC0415

    about = file.metadata.row_group(group)
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
    left = about.num_rows
    try:
        for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
            for index in range(batch.num_rows):
                left -= 1
                yield _values(batch, index)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield from [({}, f"row group {group} cannot be read: {_one_line(error)}")] * left


def _values(batch: Any, index: int) -> tuple[dict[str, Any], str]:
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[index].as_py()
        except UnicodeDecodeError as error:
            return {}, f"column {name!r} is {not_utf8(error)}"
        except (ValueError, OverflowError, ArithmeticError) as error:  # a date beyond Python's
            return {}, f"column {name!r}: {_one_line(error)}"
    return values, ""


class _Row:
    """The conversion of a row's values to JSON types and addresses of images."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def plain(self, value: Any, feature: Any, path: Keys) -> Any:
        """Convert a value of the type `feature`. Class numbers become names, nulls of structs are left out."""
        if isinstance(value, bytes):
            return self._image(value, "", path)
        if isinstance(value, dict):
            data, name = value.get("bytes"), value.get("path")
            if path and isinstance(data, bytes):
                return self._image(data, name if isinstance(name, str) else "", path)
            fields = {key: self.plain(one, _type_of_field(feature, key), (*path, key)) for key, one in value.items()}
            return {key: one for key, one in fields.items() if one is not None}
        if isinstance(value, list | tuple):
            item = _type_of_item(feature)
            return [self.plain(one, item, (*path, number)) for number, one in enumerate(value)]
        names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and type(value) is int:
            return str(names[value]) if 0 <= value < len(names) else UnknownClass(value)
        return value if value is None or isinstance(value, str | int | float | bool) else str(value)

    def _image(self, data: bytes, name: str, path: Keys) -> EmbeddedImage:
        digest, is_image = hashlib.sha256(data).hexdigest(), _IMAGE_START.match(data) is not None
        return EmbeddedImage(sha256=digest, name=name, home=self._home, path=path, is_image=is_image)


def _type_of_item(feature: Any) -> Any:
    """Return the type of a list's items: `datasets` writes a list as [type], or under "feature"."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def _type_of_field(feature: Any, key: str) -> Any:
    """Return the type of a struct's field. The struct may be stored in place of a list of structs, as one of lists."""
    item = (
        _type_of_item(feature)
        if isinstance(feature, list) or (isinstance(feature, dict) and "_type" in feature)
        else None
    )
    if isinstance(item, dict):
        return [item.get(key)]
    return feature.get(key) if isinstance(feature, dict) else None


def features_of(file: pq.ParquetFile) -> Mapping[str, Any]:
    """Return the types of the columns as the library `datasets` wrote them into a file; empty where it did not."""
    try:
        about = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _footer(path: Path) -> Span:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(end - _FOOTER_END)
        size = int.from_bytes(file.read(4), "little") + _FOOTER_END
    return end - size, size


def _spans(file: pq.ParquetFile, group: int) -> dict[str, Span]:
    """Return the bytes that hold each column of a row group: one stretch for the parts of a nested column."""
    about = file.metadata.row_group(group)
    roots = _roots(file)
    ends: dict[str, tuple[int, int]] = {}
    for number in range(about.num_columns):
        part = about.column(number)
        start = min(part.data_page_offset, part.dictionary_page_offset or part.data_page_offset)
        first, last = ends.get(roots[number], (start, 0))
        ends[roots[number]] = min(first, start), max(last, start + part.total_compressed_size)
    return {name: (start, end - start) for name, (start, end) in ends.items()}


def _roots(file: pq.ParquetFile) -> Sequence[str]:
    """Return the column of each leaf. A name may contain dots."""
    names = set(file.schema_arrow.names)
    roots = []
    for number in range(len(file.schema)):
        path = file.schema.column(number).path.split(".")
        heads = (".".join(path[:length]) for length in range(len(path), 0, -1))
        roots.append(next(head for head in heads if head in names))
    return roots


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
