"""The reader of tables with a column of image files and a column of captions: parquet, CSV, TSV, JSON Lines.

CSV and TSV have a header and quotes as in RFC 4180. In parquet and JSON Lines a field may hold a list of captions.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from datagen.caption.record import CaptionRecord, captions_in, wrong_format
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import records
from varyforge.errors import WrongFormat
from varyforge.external.text_encoding import not_utf8

_ROWS = 1024  # parquet rows in memory at a time

Row = dict[str, Any] | str  # image and caption by column name, or the fault of the row


class Columns(NamedTuple):
    """Names of the columns to read."""

    image: str
    caption: str


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
    image, captions = row[columns.image], captions_in(row[columns.caption])
    if not isinstance(image, str) or not image:
        return wrong_format(
            name,
            f"{columns.image!r} is a {type(image).__name__}, expected a file name"
            if image
            else f"{columns.image!r} is empty",
        )
    if captions is None:
        return wrong_format(name, f"{columns.caption!r} is a {type(row[columns.caption]).__name__}, expected text")
    return CaptionRecord(name=name, image=image, captions=captions, document=document_of_image(image))


def _parquet(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
    import pyarrow.parquet as pq  # noqa: PLC0415  # half a second, and few captions are in parquet

    table = pq.ParquetFile(file)
    _check(table.schema_arrow.names, columns)

    def rows() -> Iterator[tuple[int, Row]]:
        number = count(1)
        for batch in table.iter_batches(_ROWS, columns=list(columns)):
            for index in range(batch.num_rows):
                try:
                    yield next(number), {name: batch.column(name)[index].as_py() for name in columns}
                except UnicodeDecodeError as error:
                    yield next(number), not_utf8(error)

    return rows()


def _separated(separator: str) -> Callable[[str, Columns], Iterator[tuple[int, Row]]]:
    def read(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
        with _open(file, newline="") as lines:
            try:
                header = next(csv.reader(lines, delimiter=separator, strict=True), [])
            except csv.Error as error:
                raise ValueError(f"no header: {error}") from error
        _check(header, columns)
        return rows(file, columns, header)

    def rows(file: str, columns: Columns, header: list[str]) -> Iterator[tuple[int, Row]]:
        positions = [header.index(name) for name in columns]
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
                elif len(fields) == len(header):
                    yield line, {name: fields[position] for name, position in zip(columns, positions, strict=True)}
                elif fields:
                    yield line, f"{len(fields)} fields, the header has {len(header)}"

    return read


def _json_lines(file: str, columns: Columns) -> Iterator[tuple[int, Row]]:
    for record in records(Path(file)):
        try:
            yield record.number + 1, _object(record.fields, columns)
        except WrongFormat as error:
            yield record.number + 1, str(error)


def _object(record: Mapping[str, Any], columns: Columns) -> Row:
    missing = next((name for name in columns if name not in record), None)
    return _no_column(missing, list(record)) if missing else dict(record)


def _encoding_fault(field: str) -> str:
    """Return the reason why a field that `_open` read was no UTF-8; "" if it was."""
    try:
        field.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    return ""


def _open(file: str, newline: str | None = None) -> TextIO:
    return open(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _check(header: list[str], columns: Columns) -> None:
    for name in columns:
        if header.count(name) != 1:
            raise ValueError(_no_column(name, header))


def _no_column(name: str, header: list[str]) -> str:
    names = ", ".join(map(repr, header[:20]))
    return f"not one column {name!r}; there are {names} (settings image_column and caption_column)"


_READERS = {".parquet": _parquet, ".csv": _separated(","), ".tsv": _separated("\t"), ".jsonl": _json_lines}
ENDINGS = tuple(_READERS)
