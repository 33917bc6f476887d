"""One task: the units of a shard become its tar, its index and its part of the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import pyarrow as pa

from datagen.job.duplicates import fingerprint
from datagen.job.isolate import Limits, child_of
from datagen.job.ledger import LedgerRow, ledger_row
from datagen.job.plan import ShardPlan
from datagen.job.runner import Tick
from datagen.job.scan import mark_duplicate, read_units
from datagen.job.workspace import put_record
from datagen.source import Source, Unit, split_of
from varyforge.lengths import estimate_tokens
from varyforge.outcome import Failed, Outcome, Written
from varyforge.sample import Sample
from varyforge.shards import IndexRow, ShardRecord, ShardWriter, open_shard
from varyforge.storage import Fetcher, Folder
from varyforge.tables import read_table, schema_of, write_table

_TEXT_IS_CONTENT = ("ocr", "markdown", "text")  # tasks in which equal answers mean equal samples

_AT_ONCE = 8  # units that a child is given: it does not wait for each to be written

_COLUMNS = tuple(item.name for item in fields(IndexRow))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A shard to make, and what of its earlier self is still good."""

    plan: ShardPlan
    previous: ShardRecord | None = None  # made with the same configuration: units that are the same are copied from it
    retry: str | None = None  # "failed" or "failed:REASON": these are made again


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMaker:
    """What all tasks of a job share. Calling it is a task."""

    source: Source
    out: Folder
    limits: Limits
    validation_share: float
    config_sha256: str

    def __call__(self, work: Work, tick: Tick) -> ShardRecord:
        """Writes the shard's three files, then its record: with that it is finished."""
        plan, tar = work.plan, f"{work.plan.name}.tar"
        previous = _load_previous(self.out, work)
        index: list[Row] = []
        ledger: list[Row] = []
        with open_shard(self.out, tar) as shard:
            for unit, ended in self._ended(plan, previous):
                if isinstance(ended, _Known):
                    row, rows = ended.row, ended.copy_into(shard)
                else:
                    row, rows = ledger_row(unit, ended, tar), self._write(unit, ended, shard)
                ledger.append(row | {"shard": tar})
                index += [index_row | {"shard": tar} for index_row in rows]
                tick({cause_of(row): 1})
            written = shard.close()
        schemas = schema_of(IndexRow, self.source.measures), schema_of(LedgerRow, self.source.measures)
        made_of = self.config_sha256, plan.units_sha256
        record = write_tables(self.out, plan.name, (index, ledger), schemas, tar=written, made_of=made_of)
        tick({})  # raises where nobody waits for this any more: then another run may be making the same shard
        put_record(self.out, record)
        return record

    def _units(self, plan: ShardPlan) -> Iterator[Unit]:
        """The shard's units in order, duplicates marked."""
        first_of = dict(plan.duplicates)
        runs = list(dict.fromkeys([*plan.runs, *((file, row) for file, row, _ in first_of.values())]))
        units = dict(zip(runs, read_units(self.out, runs), strict=True))
        for file, row in plan.runs:
            for number, unit in enumerate(units[file, row]):
                first = first_of.get((file, row, number))
                yield mark_duplicate(unit, units[first[:2]][first[2]]) if first else unit

    def _ended(self, plan: ShardPlan, previous: Mapping[str, _Known]) -> Iterator[tuple[Unit, Outcome | _Known]]:
        """The shard's units in order and how each ended. The child makes the next one while one is being written."""
        child, units = child_of(self.source, self.limits), self._units(plan)
        with Fetcher() as copies:
            while batch := list(islice(units, _AT_ONCE)):
                known = [unit.verdict or _as_before(unit, previous) for unit in batch]
                todo = [unit for unit, ended in zip(batch, known, strict=True) if ended is None]
                files = _fetch(copies, todo)
                good = [(unit, there) for unit, there in zip(todo, files, strict=True) if not isinstance(there, Failed)]
                with closing(child.make_each(good)) as made:
                    outcomes = (there if isinstance(there, Failed) else next(made) for there in files)
                    for unit, ended in zip(batch, known, strict=True):
                        yield unit, ended or next(outcomes)

    def _write(self, unit: Unit, outcome: Outcome, shard: ShardWriter) -> list[Row]:
        """Index rows of what the unit gave. Group, twins and split are settled when all shards are there."""
        if not isinstance(outcome, Written):
            return []
        return [_index_row(unit, outcome, sample, shard, self.validation_share) for sample in outcome.samples]


def _fetch(copies: Fetcher, units: Sequence[Unit]) -> list[list[str] | Failed]:
    """Each unit's files on this machine, or why it has none. They stay until the next call."""
    found: list[list[str] | Failed] = []
    wanted: list[str] = []
    for unit in units:
        try:
            found.append(copies.local_paths([*wanted, *unit.files])[len(wanted) :])
            wanted += unit.files
        except OSError as error:
            found.append(Failed(reason="unreadable", detail=" ".join(str(error).split())[:200]))
    return found


def _as_before(unit: Unit, previous: Mapping[str, _Known]) -> _Known | None:
    """How the unit ended in the shard's earlier self, where it is the same unit."""
    known = previous.get(unit.id)
    return known if known and known.row["content"] == unit.content else None


def cause_of(row: Row) -> str:
    """A ledger row in a word or two: "written", "rejected: GATE", "failed: REASON"."""
    return ": ".join(filter(None, (row["outcome"], row["gate"] or row["reason"])))


def matches(row: Row, retry: str | None) -> bool:
    """Whether a ledger row is one that `retry` ("failed", "failed:timeout") asks to make again."""
    if retry is None:
        return False
    outcome, _, reason = retry.partition(":")
    return bool(row["outcome"] == outcome and (not reason or row["reason"] == reason))


def write_tables(
    out: Folder,
    name: str,
    rows: tuple[Sequence[Row], Sequence[Row]],
    schemas: tuple[pa.Schema, pa.Schema],
    *,
    tar: tuple[int, str],
    made_of: tuple[str, str],
) -> ShardRecord:
    """Writes a shard's index and its part of the ledger, when its tar is there.

    Args:
        out: the shard set.
        name: of the shard.
        rows: of index and ledger.
        schemas: of index and ledger.
        tar: its bytes and SHA-256, as `ShardWriter.close` gives them.
        made_of: SHA-256 of the settings and of the units, for the record.

    Returns:
        The record that says that the shard is finished, to be put down by `put_record`.
    """
    index, ledger = rows
    return ShardRecord(
        name=name,
        units=len(ledger),
        samples=len(index),
        **{kind: sum(row["outcome"] == kind for row in ledger) for kind in ("written", "rejected", "failed")},
        tar_bytes=tar[0],
        tar_sha256=tar[1],
        index_sha256=write_table(out, f"index/{name}.parquet", index, schemas[0]),
        ledger_sha256=write_table(out, f"ledger/{name}.parquet", ledger, schemas[1]),
        config_sha256=made_of[0],
        units_sha256=made_of[1],
    )


def _index_row(unit: Unit, made: Written, sample: Sample, shard: ShardWriter, share: float) -> Row:
    offset, size = shard.add(sample)
    place: Row = {"offset": offset, "size": size, "unit": unit.id, "document": unit.document, "group": unit.document}
    place["split"] = split_of(unit.document, share)
    return index_row(sample, language=made.language) | place | dict(made.measures)


def index_row(sample: Sample, *, language: str = "") -> Row:
    """The fields of `IndexRow` as far as they follow from the sample; where it lies and belongs is left empty.

    Args:
        sample: the sample.
        language: of a sample whose origin names none.
    """
    answers = [turn.text for turn in sample.turns if turn.role == "assistant"]
    row = IndexRow(
        key=sample.key,
        task=sample.task,
        shard="",
        offset=0,
        size=0,
        unit="",
        document="",
        group="",
        twins="",
        split="",
        language=str(sample.origin.get("language", language)),
        licence=str(sample.origin.get("licence", "")),
        prompt=str(sample.origin.get("prompt", "")),
        images=len(sample.images),
        width=sample.images[0].width if sample.images else 0,
        height=sample.images[0].height if sample.images else 0,
        boxes=int(sample.origin.get("boxes", 0)),
        answer_chars=sum(map(len, answers)),
        tokens=sum(estimate_tokens(turn.text) for turn in sample.turns),
        fingerprint=fingerprint("\n".join(answers)) if sample.task in _TEXT_IS_CONTENT else b"",
    )
    return {name: getattr(row, name) for name in _COLUMNS}


@dataclass(frozen=True, slots=True)
class _Known:
    """A unit's outcome in the shard's earlier self."""

    row: Row
    index: list[Row]
    samples: list[bytes]  # tar members of each sample

    def copy_into(self, shard: ShardWriter) -> list[Row]:
        rows = []
        for row, members in zip(self.index, self.samples, strict=True):
            offset, size = shard.copy(members)
            rows.append(row | {"offset": offset, "size": size})
        return rows


def _load_previous(out: Folder, work: Work) -> dict[str, _Known]:
    """By unit, the outcomes that stand. Nothing where the shard's files are not as the record says."""
    record = work.previous
    if record is None:
        return {}
    names = (f"{record.name}.tar", f"index/{record.name}.parquet", f"ledger/{record.name}.parquet")
    try:
        data = [out.read(name) for name in names]
    except OSError:
        return {}
    found = [hashlib.sha256(content).hexdigest() for content in data]
    if found != [record.tar_sha256, record.index_sha256, record.ledger_sha256]:
        return {}
    samples: dict[str, list[Row]] = {}
    for row in read_table(out, names[1]).to_pylist():
        samples.setdefault(row["unit"], []).append(row)
    known = {}
    for row in read_table(out, names[2]).to_pylist():
        if row["gate"] != "duplicate" and not matches(row, work.retry):
            rows = samples.get(row["unit"], [])
            known[row["unit"]] = _Known(row, rows, [data[0][r["offset"] : r["offset"] + r["size"]] for r in rows])
    return known
