"""The reader of tables with a column of images and a column of captions: Parquet, CSV, TSV, JSON Lines.

CSV and TSV have a header and quotes as in RFC 4180. In Parquet and JSON Lines a field may hold a list of captions, and
the image itself in place of its file name.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from datagen.caption.record import CaptionRecord, captions_in, wrong_format
from datagen.inputs.parquet_records import column_names
from datagen.inputs.record import Record, document_of
from datagen.inputs.record_files import records
from varyforge.errors import WrongFormat, kind_of
from varyforge.external.text_encoding import not_utf8

CAPTIONS = ("caption", "text")
"""Usual names of the column of captions; the first that a table has is read."""

Row = tuple[Any, Any] | str  # image and caption, or the fault of the row


class Columns(NamedTuple):
    """Names of the columns to read."""

    image: str
    caption: str  # "": the first of `CAPTIONS` that is there

    def among(self, header: Sequence[str]) -> Columns:
        """Return the names of the columns in a table with this header.

        Raises:
            WrongFormat: one of them is not there, or there twice.
        """
        columns = self._replace(
            caption=self.caption or next((name for name in CAPTIONS if name in header), CAPTIONS[0])
        )
        for name in columns:
            if header.count(name) != 1:
                names = ", ".join(map(repr, header[:20]))
                settings = "settings image_column and caption_column"
                raise WrongFormat(f"not one column {name!r}; there are {names} ({settings})")
        return columns


def read_table(file: str, columns: Columns) -> Iterator[CaptionRecord]:
    """Yield the rows of a table, named by their line or (parquet) row number, counted from 1.

    Raises:
        ValueError: the file is no known kind of table, or lacks one of the columns.
    """
    ending = Path(file).suffix.lower()
    if ending not in _READERS:
        raise ValueError(f"no table; known are {', '.join(_READERS)}")
    rows = _READERS[ending](file, columns)
    return (_captioned(f"{number:08d}", row, columns) for number, row in rows)


def _captioned(name: str, row: Row, columns: Columns) -> CaptionRecord:
    if isinstance(row, str):
        return wrong_format(name, row)
    image, captions = row[0], captions_in(row[1])
    if not image:
        return wrong_format(name, f"{columns.image!r} is empty")
    if captions is None:
        return wrong_format(name, f"the caption is {kind_of(row[1])}, expected text")
    return CaptionRecord(name=name, image=image, captions=captions, document=document_of(image))


def _parquet(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
    columns = columns.among(column_names(Path(file)))
    return _records(file, lambda record: columns)


def _json_lines(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
    return _records(file, lambda record: columns.among(list(record.fields)))


def _records(file: str, columns_of: Callable[[Record], Columns]) -> Iterator[tuple[int, Row]]:
    for record in records(Path(file)):
        try:
            columns = columns_of(record)
            image, caption = (record.fields.get(name) for name in columns)
            yield record.number + 1, (image and record.image(image, (columns.image,)), caption)
        except WrongFormat as error:
            yield record.number + 1, str(error)


def _separated(separator: str) -> Callable[[str, Columns], Iterator[tuple[int, Row]]]:
    def read(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
        with _open(file, newline="") as lines:
            try:
                header = next(csv.reader(lines, delimiter=separator, strict=True), [])
            except csv.Error as error:
                raise ValueError(f"no header: {error}") from error
        columns = columns.among(header)
        return rows(file, [header.index(name) for name in columns], len(header))

    def rows(file: str, positions: Sequence[int], width: int) -> Iterator[tuple[int, Row]]:
        with _open(file, newline="") as lines:
            reader = csv.reader(lines, delimiter=separator, strict=True)
            next(reader)
            while True:
                line = reader.line_num + 1
                try:
                    fields = next(reader, None)
                except csv.Error as error:  # drops the lines that the reader took for one row
                    yield line, f"lines {line} to {reader.line_num}: {error}"
                    continue
                if fields is None:
                    return
                if not_text := next(filter(None, map(_encoding_fault, fields)), ""):
                    yield line, not_text
                elif len(fields) == width:
                    yield line, (fields[positions[0]], fields[positions[1]])
                elif fields:
                    yield line, f"{len(fields)} fields, the header has {width}"

    return read


def _encoding_fault(field: str) -> str:
    """Return the reason why a field that `_open` read was no UTF-8; "" if it was."""
    try:
        field.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    return ""


def _open(file: str, newline: str | None = None) -> TextIO:
    return open(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


_READERS = {".parquet": _parquet, ".csv": _separated(","), ".tsv": _separated("\t"), ".jsonl": _json_lines}
ENDINGS = tuple(_READERS)
