"""Read access to shard sets for the viewer, one row at a time. No index is ever held whole.

The rows of a shard are its samples in the order of the tar, then its units without samples in the order of the ledger.
The viewer's rows are the rows of all shards in order. The manifest says how many rows each shard has, so the viewer
finds a row in the middle without reading the rows before it.
"""

from __future__ import annotations

import json
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.card.spread import spread
from datagen.job.ledger import LedgerRow
from varyforge.errors import UserError
from varyforge.sample import Sample
from varyforge.shards import IndexRow, ShardRecord, ShardSet
from varyforge.tables import columns_of

NUMBERS = ("tokens", "answer_chars", "images")
"""Columns of every index that the page can filter by a range, beside the source's measures."""

_HEAD_BYTES = 16 * 1024  # read of a sample: the conversation of a full page fits
_SHARDS_SAMPLED = 8  # per set, for the values that menus offer
_TABLES_CACHED = 8  # parquet files, as bytes: the pictures of a page need the same few


class RowId(NamedTuple):
    """A row of the viewer: the number of the shard over all sets, and the number of the row in the shard."""

    shard: int
    row: int

    def __str__(self) -> str:
        return f"{self.shard}.{self.row}"


class Shard(NamedTuple):
    """A shard of one of the sets."""

    name: str  # of the set, as on the command line
    shards: ShardSet
    record: ShardRecord

    @property
    def rows(self) -> int:
        """Samples and units without samples."""
        return self.record.samples + self.record.rejected + self.record.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row with everything that the set records about it."""

    id: RowId
    set: str
    index: dict[str, Any]  # the sample's row; empty for a unit without samples
    ledger: dict[str, Any]  # the unit's row
    sample: dict[str, Any]  # content of the `.json` member; empty for a unit, or where the member cannot be read
    broken: str  # why the member cannot be read


class Library:
    """Shard sets, opened for browsing. Threads may share a library.

    Args:
        locations: paths or URLs of shard sets; each set is named by its location.

    Raises:
        UserError: a set is missing, unfinished, broken, given twice, or of an older version.
    """

    def __init__(self, locations: Sequence[str]) -> None:
        if not locations:
            raise UserError("no shard set given: name the folders to look at")
        if len(set(locations)) < len(locations):
            raise UserError("a shard set is given twice")
        self.sets = {location: ShardSet(location) for location in locations}
        self.shards = [Shard(name, opened, record) for name, opened in self.sets.items() for record in opened.records]
        self._ends = list(accumulate(shard.rows for shard in self.shards))
        self._bytes = lru_cache(_TABLES_CACHED)(self._read_bytes)
        self.columns = {name: self._columns_of(name) for name in self.sets}

    # Rows and their distance from the start.

    def span(self, name: str) -> tuple[int, int]:
        """Return the offsets of a set's first row and of the row after its last; for "" those of all sets."""
        numbers = [number for number, shard in enumerate(self.shards) if name in ("", shard.name)]
        if not numbers:
            raise UserError(f"set={name}: no such set here; there is {', '.join(self.sets)}")
        return self._ends[numbers[0]] - self.shards[numbers[0]].rows, self._ends[numbers[-1]]

    def offset(self, row_id: RowId) -> int:
        """Count the rows before a row."""
        return (self._ends[row_id.shard - 1] if row_id.shard else 0) + row_id.row

    def row_at(self, offset: int) -> RowId:
        """Return the row with `offset` rows before it; beyond the last row, the end."""
        number = bisect_right(self._ends, offset)
        if number == len(self.shards):
            return RowId(number, 0)
        return RowId(number, offset - self.offset(RowId(number, 0)))

    def row_id(self, text: str) -> RowId:
        """Parse the row that an address names.

        Raises:
            UserError: there is no such row.
        """
        shard, _, row = text.partition(".")
        if shard.isdecimal() and row.isdecimal() and len(text) < 32:
            row_id = RowId(int(shard), int(row))
            if row_id == (len(self.shards), 0):
                return row_id
            if row_id.shard < len(self.shards) and row_id.row <= self.shards[row_id.shard].rows:
                return row_id
        raise UserError(f"{text}: no such row here")

    # Content of rows.

    def items(self, row_ids: Sequence[RowId]) -> list[Item]:
        """Return everything recorded about rows, in their order.

        Raises:
            UserError: an index or a ledger cannot be read.
        """
        items: dict[RowId, Item] = {}
        for number in sorted({row_id.shard for row_id in row_ids}):
            rows = sorted({row_id.row for row_id in row_ids if row_id.shard == number})
            items |= {item.id: item for item in self._items_of(number, rows)}
        return [items[row_id] for row_id in row_ids]

    def _items_of(self, number: int, rows: list[int]) -> Iterator[Item]:
        shard, samples = self.shards[number], self.shards[number].record.samples
        index = _picked(self.table(number, "index"), [row for row in rows if row < samples])
        others = _picked(self.table(number, "ledger"), [row - samples for row in rows if row >= samples])
        units = pa.array(sorted({row["unit"] for row in index}), pa.string())
        ledger = self.table(number, "ledger", written=True)
        ledger = ledger.filter(pc.is_in(ledger.column("unit"), value_set=units))
        by_unit = {row["unit"]: row for row in ledger.to_pylist()}
        for row, cells in zip(rows, index + others, strict=True):
            row_id = RowId(number, row)
            if row >= samples:
                yield Item(id=row_id, set=shard.name, index={}, ledger=cells, sample={}, broken="")
                continue
            sample, broken = {}, ""
            try:
                sample = json.loads(conversation(shard, cells))
            except (OSError, ValueError) as error:
                broken = f"{shard.shards.folder}/{cells['shard']}: {error}"
            unit = by_unit.get(cells["unit"], {})
            yield Item(id=row_id, set=shard.name, index=cells, ledger=unit, sample=sample, broken=broken)

    def sample(self, row_id: RowId) -> Sample:
        """Read the sample of a row, with its pictures.

        Raises:
            UserError: the row has no sample, or the sample cannot be read.
        """
        if row_id.shard >= len(self.shards) or row_id.row >= self.shards[row_id.shard].record.samples:
            raise UserError(f"{row_id}: no sample here")
        shard = self.shards[row_id.shard]
        cells = self.table(row_id.shard, "index", ["offset", "shard", "size"]).slice(row_id.row, 1).to_pylist()[0]
        try:
            return shard.shards.read(**cells)
        except (OSError, ValueError) as error:
            raise UserError(f"{error}; the shard set is damaged") from error

    def unit(self, row_id: RowId) -> tuple[str, str]:
        """Return set and id of the unit without samples of a row.

        Raises:
            UserError: the row is no such unit.
        """
        if row_id.shard < len(self.shards):
            shard = self.shards[row_id.shard]
            if shard.record.samples <= row_id.row < shard.rows:
                units = self.table(row_id.shard, "ledger", ["unit"]).column("unit")
                return shard.name, units[row_id.row - shard.record.samples].as_py()
        raise UserError(f"{row_id}: no unit without samples here")

    # Choices of the filters, and the page's first line.

    def counts(self) -> dict[str, dict[str, int]]:
        """Count samples, rejected units and failed units of each set."""
        return {
            name: {
                what: sum(getattr(record, what) for record in opened.records)
                for what in ("samples", "rejected", "failed")
            }
            for name, opened in self.sets.items()
        }

    def measures(self) -> list[str]:
        """Return the names of the numbers that the page can filter by a range."""
        names = {name: None for columns in self.columns.values() for name in sorted(columns["measures"])}
        return [*names, *NUMBERS]

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """Languages, licences and causes in a few shards of each set: suggestions, not a full list."""
        choices: dict[str, set[str]] = {"language": set(), "gate": set(), "reason": set()}
        licences: set[str] = set()
        for name in self.sets:
            numbers = [number for number, shard in enumerate(self.shards) if shard.name == name]
            for pick in spread(len(numbers), _SHARDS_SAMPLED):
                for written in (True, False):
                    table = self.table(numbers[pick], "ledger", sorted(choices), written=written)
                    for column, values in choices.items():
                        values |= set(pc.unique(table.column(column)).to_pylist())
                index = self.table(numbers[pick], "index", ["licence"])
                licences |= set(pc.unique(index.column("licence")).to_pylist())
        menus = {"language": choices["language"], "licence": licences, "cause": choices["gate"] | choices["reason"]}
        return {name: sorted(values - {"", None}) for name, values in menus.items()}

    # Files.

    def _columns_of(self, name: str) -> dict[str, set[str]]:
        """Return the columns of a set's index and ledger, and the names of its measures; all shards are alike."""
        number = next(number for number, shard in enumerate(self.shards) if shard.name == name)
        columns_by_kind = {}
        for kind, row_type in (("index", IndexRow), ("ledger", LedgerRow)):
            schema = self._guarded(number, kind, pq.read_schema)
            columns = set(schema.names)
            missing = [item.name for item in fields(row_type) if item.name not in columns]
            if missing:
                raise UserError(f"{name}: made by an older version: its {kind} has no {missing[0]}; make it again")
            columns_by_kind[kind] = columns
            if kind == "index":
                known = {item.name for item in fields(row_type)}
                measures = {item.name for item in schema if item.name not in known and item.type == pa.float64()}
                columns_by_kind["measures"] = measures
        return columns_by_kind

    def table(self, number: int, kind: str, columns: list[str] | None = None, *, written: bool = False) -> pa.Table:
        """Read columns of a shard's index, or of its ledger's units with (`written`) or without samples."""
        with_outcome = None if columns is None else sorted({*columns, "outcome"})
        if kind == "index":
            return self._guarded(number, kind, lambda file: columns_of(file, columns))
        table = self._guarded(number, kind, lambda file: columns_of(file, with_outcome))
        is_written = pc.equal(table.column("outcome"), "written")
        return table.filter(is_written if written else pc.invert(is_written))

    def _guarded(self, number: int, kind: str, read: Callable[[pa.BufferReader], Any]) -> Any:
        shard = self.shards[number]
        try:
            return read(pa.BufferReader(self._bytes(number, kind)))
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(
                f"{shard.name}/{kind}/{shard.record.name}.parquet: broken ({error}); make it again"
            ) from error

    def _read_bytes(self, number: int, kind: str) -> bytes:
        shard = self.shards[number]
        return shard.shards.folder.read(f"{kind}/{shard.record.name}.parquet")


def _picked(table: pa.Table, rows: list[int]) -> list[dict[str, Any]]:
    return list(table.take(pa.array(rows, pa.int64())).to_pylist())


def conversation(shard: Shard, cells: dict[str, Any]) -> bytes:
    """Read the `.json` member of the sample that an index row points to, without its pictures.

    Raises:
        OSError, ValueError: the member cannot be read.
    """
    folder, offset, size = shard.shards.folder, cells["offset"], cells["size"]
    head = folder.read(cells["shard"], offset, min(size, _HEAD_BYTES))
    name, digits = head[:100].rstrip(b"\0"), head[124:135]  # `parse_header` would make a search a third longer
    if not name.endswith(b".json") or not digits.isdigit():
        raise ValueError(f"no sample at byte {offset}")
    end = tarfile.BLOCKSIZE + int(digits, 8)
    if end > size:
        raise ValueError(f"the sample at byte {offset} is cut")
    if end > len(head):
        head += folder.read(cells["shard"], offset + len(head), end - len(head))
    return head[tarfile.BLOCKSIZE : end]
