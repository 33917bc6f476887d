"""Shard sets as the viewer reads them: the row at a place and what is known of it. Never a whole index.

The rows of a shard are its samples in order of the tar, then its units that gave none in order of the ledger; the rows
of the viewer are those of all shards in order. The manifest says how many each shard has, so a place in the middle is
found without a look at the rows before it.
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

from datagen.card.card import spread
from datagen.job.ledger import LedgerRow
from varyforge.errors import UserError
from varyforge.sample import Sample
from varyforge.shards import IndexRow, ShardRecord, ShardSet
from varyforge.tables import columns_of

NUMBERS = ("tokens", "answer_chars", "images")
"""Columns of every index that a range can be asked of, beside the source's measures."""

_HEAD_BYTES = 16 * 1024  # of a sample: holds the conversation of a full page
_SHARDS_SAMPLED = 8  # per set, for the values that menus offer
_TABLES_KEPT = 8  # parquet files, as bytes: the pictures of a page ask for the same few


class Place(NamedTuple):
    """A row of the viewer: the number of its shard over all sets, and of the row in the shard."""

    shard: int
    row: int

    def __str__(self) -> str:
        return f"{self.shard}.{self.row}"


class Shard(NamedTuple):
    """A shard of one of the sets."""

    name: str  # of its set, as on the command line
    shards: ShardSet
    record: ShardRecord

    @property
    def rows(self) -> int:
        """Samples, and units that gave none."""
        return self.record.samples + self.record.rejected + self.record.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row with all that is known of it."""

    place: Place
    set: str
    index: dict[str, Any]  # the sample's row; empty for a unit that gave none
    ledger: dict[str, Any]  # its unit's row
    sample: dict[str, Any]  # what its `.json` member holds; empty for a unit, or where it cannot be read
    broken: str  # why it cannot be read


class Library:
    """Shard sets, opened for browsing. Threads may share it.

    Args:
        places: paths or URLs of shard sets; a set's name is its place as given.

    Raises:
        UserError: a set is missing, unfinished, broken, given twice, or of an older version.
    """

    def __init__(self, places: Sequence[str]) -> None:
        if not places:
            raise UserError("no shard set given: name the folders to look at")
        if len(set(places)) < len(places):
            raise UserError("a shard set is given twice")
        self.sets = {place: ShardSet(place) for place in places}
        self.shards = [Shard(name, opened, record) for name, opened in self.sets.items() for record in opened.records]
        self._ends = list(accumulate(shard.rows for shard in self.shards))
        self._bytes = lru_cache(_TABLES_KEPT)(self._read_bytes)
        self.columns = {name: self._columns_of(name) for name in self.sets}

    # Places and how far they are from the start.

    def span(self, name: str) -> tuple[int, int]:
        """The first row of a set and the one after its last; of all sets for ""."""
        numbers = [number for number, shard in enumerate(self.shards) if name in ("", shard.name)]
        if not numbers:
            raise UserError(f"set={name}: no such set here; there is {', '.join(self.sets)}")
        return self._ends[numbers[0]] - self.shards[numbers[0]].rows, self._ends[numbers[-1]]

    def offset(self, place: Place) -> int:
        """Rows before a place."""
        return (self._ends[place.shard - 1] if place.shard else 0) + place.row

    def place_at(self, offset: int) -> Place:
        """The place with `offset` rows before it; the end for one beyond."""
        number = bisect_right(self._ends, offset)
        if number == len(self.shards):
            return Place(number, 0)
        return Place(number, offset - self.offset(Place(number, 0)))

    def place(self, text: str) -> Place:
        """The place that an address names.

        Raises:
            UserError: there is none like it.
        """
        shard, _, row = text.partition(".")
        if shard.isdecimal() and row.isdecimal() and len(text) < 32:
            place = Place(int(shard), int(row))
            if place == (len(self.shards), 0):
                return place
            if place.shard < len(self.shards) and place.row <= self.shards[place.shard].rows:
                return place
        raise UserError(f"{text}: no such row here")

    # Rows.

    def items(self, places: Sequence[Place]) -> list[Item]:
        """All that is known of rows.

        Raises:
            UserError: index or ledger cannot be read.
        """
        found: dict[Place, Item] = {}
        for number in sorted({place.shard for place in places}):
            rows = sorted({place.row for place in places if place.shard == number})
            found |= {item.place: item for item in self._items_of(number, rows)}
        return [found[place] for place in places]

    def _items_of(self, number: int, rows: list[int]) -> Iterator[Item]:
        shard, samples = self.shards[number], self.shards[number].record.samples
        index = _picked(self.table(number, "index"), [row for row in rows if row < samples])
        others = _picked(self.table(number, "ledger"), [row - samples for row in rows if row >= samples])
        wanted = pa.array(sorted({row["unit"] for row in index}), pa.string())
        ledger = self.table(number, "ledger", written=True)
        ledger = ledger.filter(pc.is_in(ledger.column("unit"), value_set=wanted))
        by_unit = {row["unit"]: row for row in ledger.to_pylist()}
        for row, cells in zip(rows, index + others, strict=True):
            place = Place(number, row)
            if row >= samples:
                yield Item(place=place, set=shard.name, index={}, ledger=cells, sample={}, broken="")
                continue
            sample, broken = {}, ""
            try:
                sample = json.loads(conversation(shard, cells))
            except (OSError, ValueError) as error:
                broken = f"{shard.shards.folder}/{cells['shard']}: {error}"
            unit = by_unit.get(cells["unit"], {})
            yield Item(place=place, set=shard.name, index=cells, ledger=unit, sample=sample, broken=broken)

    def sample(self, place: Place) -> Sample:
        """The sample at a place, with its pictures.

        Raises:
            UserError: there is no sample, or it cannot be read.
        """
        if place.shard >= len(self.shards) or place.row >= self.shards[place.shard].record.samples:
            raise UserError(f"{place}: no sample here")
        shard = self.shards[place.shard]
        cells = self.table(place.shard, "index", ["offset", "shard", "size"]).slice(place.row, 1).to_pylist()[0]
        try:
            return shard.shards.read(**cells)
        except (OSError, ValueError) as error:
            raise UserError(f"{error}; the shard set is damaged") from error

    def unit(self, place: Place) -> tuple[str, str]:
        """Set and id of the unit without samples at a place.

        Raises:
            UserError: there is none.
        """
        if place.shard < len(self.shards):
            shard = self.shards[place.shard]
            if shard.record.samples <= place.row < shard.rows:
                units = self.table(place.shard, "ledger", ["unit"]).column("unit")
                return shard.name, units[place.row - shard.record.samples].as_py()
        raise UserError(f"{place}: no unit without samples here")

    # What filters can offer, and the page's first line.

    def counts(self) -> dict[str, dict[str, int]]:
        """Set → how many samples, rejected units and failed units it has."""
        return {
            name: {
                what: sum(getattr(record, what) for record in opened.records)
                for what in ("samples", "rejected", "failed")
            }
            for name, opened in self.sets.items()
        }

    def measures(self) -> list[str]:
        """Names of the numbers that a range can be asked of."""
        found = {name: None for columns in self.columns.values() for name in sorted(columns["measures"])}
        return [*found, *NUMBERS]

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """Languages, licences and causes in a few shards of each set: suggestions, perhaps not all."""
        found: dict[str, set[str]] = {"language": set(), "gate": set(), "reason": set()}
        licences: set[str] = set()
        for name in self.sets:
            numbers = [number for number, shard in enumerate(self.shards) if shard.name == name]
            for pick in spread(len(numbers), _SHARDS_SAMPLED):
                for written in (True, False):
                    table = self.table(numbers[pick], "ledger", sorted(found), written=written)
                    for column, values in found.items():
                        values |= set(pc.unique(table.column(column)).to_pylist())
                index = self.table(numbers[pick], "index", ["licence"])
                licences |= set(pc.unique(index.column("licence")).to_pylist())
        menus = {"language": found["language"], "licence": licences, "cause": found["gate"] | found["reason"]}
        return {name: sorted(values - {"", None}) for name, values in menus.items()}

    # Files.

    def _columns_of(self, name: str) -> dict[str, set[str]]:
        """Columns of a set's index and ledger, and those that hold measures. All shards have the same."""
        number = next(number for number, shard in enumerate(self.shards) if shard.name == name)
        found = {}
        for kind, row_type in (("index", IndexRow), ("ledger", LedgerRow)):
            schema = self._guarded(number, kind, pq.read_schema)
            columns = set(schema.names)
            missing = [item.name for item in fields(row_type) if item.name not in columns]
            if missing:
                raise UserError(f"{name}: made by an older version: its {kind} has no {missing[0]}; make it again")
            found[kind] = columns
            if kind == "index":
                known = {item.name for item in fields(row_type)}
                found["measures"] = {one.name for one in schema if one.name not in known and one.type == pa.float64()}
        return found

    def table(self, number: int, kind: str, columns: list[str] | None = None, *, written: bool = False) -> pa.Table:
        """A shard's index; or its ledger's units without samples, in the order of the viewer's rows (or the others)."""
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
    """The `.json` member of the sample that an index row points to; its pictures are not read.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    folder, offset, size = shard.shards.folder, cells["offset"], cells["size"]
    head = folder.read(cells["shard"], offset, min(size, _HEAD_BYTES))
    name, digits = head[:100].rstrip(b"\0"), head[124:135]  # tarfile takes longer than all the rest of a search
    if not name.endswith(b".json") or not digits.isdigit():
        raise ValueError(f"no sample at byte {offset}")
    end = tarfile.BLOCKSIZE + int(digits, 8)
    if end > size:
        raise ValueError(f"the sample at byte {offset} is cut")
    if end > len(head):
        head += folder.read(cells["shard"], offset + len(head), end - len(head))
    return head[tarfile.BLOCKSIZE : end]
