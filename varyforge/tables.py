"""Parquet tables of a shard set: equal rows give equal bytes, and a broken file is one clear error."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from varyforge.errors import UserError
from varyforge.storage import Folder, write


def schema_of(row_type: type, measures: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of a dataclass's rows: its fields, then a nullable float column per measure."""
    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bytes": pa.binary()}
    columns = [(item.name, kinds[str(item.type)]) for item in fields(row_type)]
    return pa.schema(columns + [(name, pa.float64()) for name in measures])


def table_bytes(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Write rows as parquet; equal rows give equal bytes."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), out, compression="zstd")
    return out.getvalue()


def write_table(folder: Folder, name: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Write rows to a parquet file. Returns the file's SHA-256."""
    data = table_bytes(rows, schema)
    write(folder, name, data)
    return hashlib.sha256(data).hexdigest()


def read_table(folder: Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file.

    Raises:
        OSError: the file is missing.
        UserError: the file is broken.
    """
    return parse_table(folder.read(name), f"{folder}/{name}", columns)


def parse_table(
    data: bytes | BinaryIO, where: str, columns: Sequence[str] | None = None, *, coded: Sequence[str] = ()
) -> pa.Table:
    """Read a parquet file that is open or in memory.

    Raises:
        UserError: the file is broken. The message begins with `where`.
    """
    try:
        return columns_of(pa.BufferReader(data) if isinstance(data, bytes) else data, columns, coded=coded)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{where}: broken ({reason}); delete it and run the datagen command again") from error


def columns_of(
    file: BinaryIO | pa.BufferReader, columns: Sequence[str] | None = None, *, coded: Sequence[str] = ()
) -> pa.Table:
    """Read columns of an open parquet file; text columns in `coded` as values and codes (pa.dictionary).

    Only this thread reads. A thread of Arrow's may hold the file a little longer than the call lasts, and if it closes
    the file while Python is ending, the process aborts. (Arrow's own `read_table` would also take twice the memory.)

    Raises:
        OSError, ValueError: the file is no whole parquet file, or lacks a column.
    """
    try:
        opened = pq.ParquetFile(file, pre_buffer=False, read_dictionary=list(coded))
    except KeyError as error:  # of `coded`
        raise ValueError(f"no column {error.args[0].decode()!r}") from error
    with opened:
        missing = set(columns or ()) - set(opened.schema_arrow.names)
        if missing:
            raise ValueError(f"no column {min(missing)!r}")
        return opened.read(columns, use_threads=False)
