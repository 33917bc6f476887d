"""The task that makes one shard: its units become a tar, an index and a ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from datagen.job.index import Row, index_row
from datagen.job.isolate import Limits, child_of
from datagen.job.ledger import LedgerRow, cause_of, ledger_row, matches
from datagen.job.plan import ShardPlan
from datagen.job.runner import Tick
from datagen.job.scan import mark_duplicate, read_units
from datagen.job.workspace import Workspace
from datagen.source import Source, Unit, split_of
from varyforge.outcome import Failed, Outcome, Written
from varyforge.processes import detail_line
from varyforge.shards import IndexRow, ShardRecord, ShardWriter, open_shard
from varyforge.storage import Fetcher, Folder
from varyforge.tables import read_table, schema_of

_UNITS_AT_ONCE = 8  # sent to a child, which then need not wait until each is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A shard to make, and the finished shard of that name to reuse."""

    plan: ShardPlan
    previous: ShardRecord | None = None  # made with the same configuration: its units are copied where unchanged
    retry: str | None = None  # "failed" or "failed:REASON": units of `previous` to make again


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """The settings that all shards of a job share. Called with a `Work`, it makes that shard."""

    source: Source
    workspace: Workspace
    limits: Limits
    validation_share: float
    config_sha256: str

    def __call__(self, work: Work, tick: Tick) -> ShardRecord:
        """Write the shard's three files, then its record, with which the shard is finished."""
        plan, tar = work.plan, f"{work.plan.name}.tar"
        previous = _load_previous(self.workspace.folder, work)
        index: list[Row] = []
        ledger: list[Row] = []
        with open_shard(self.workspace.folder, tar) as shard:
            for unit, result in self._results(plan, previous):
                if isinstance(result, _Previous):
                    row, rows = result.row, result.copy_into(shard)
                else:
                    row, rows = ledger_row(unit, result, tar), self._write(unit, result, shard)
                ledger.append(row | {"shard": tar})
                index += [row | {"shard": tar} for row in rows]
                tick({cause_of(ledger[-1]): 1})
            written = shard.close()
        schemas = schema_of(IndexRow, self.source.measures), schema_of(LedgerRow, self.source.measures)
        made_of = self.config_sha256, plan.units_sha256
        record = self.workspace.write_tables(plan.name, (index, ledger), schemas, tar=written, made_of=made_of)
        tick({})  # raises where the run has ended: another run may be making the same shard by now
        self.workspace.put(record)
        return record

    def _units(self, plan: ShardPlan) -> Iterator[Unit]:
        """Yield the shard's units in order, duplicates marked."""
        first_of = dict(plan.duplicates)
        runs = list(dict.fromkeys([*plan.runs, *((file, row) for file, row, _ in first_of.values())]))
        units = dict(zip(runs, read_units(self.workspace.folder, runs), strict=True))
        for file, row in plan.runs:
            for number, unit in enumerate(units[file, row]):
                first = first_of.get((file, row, number))
                yield mark_duplicate(unit, units[first[:2]][first[2]]) if first else unit

    def _results(
        self, plan: ShardPlan, previous: Mapping[tuple[str, str], _Previous]
    ) -> Iterator[tuple[Unit, Outcome | _Previous]]:
        """Yield each unit of the shard, in order, with its outcome. The child makes a unit while another is written."""
        child, units = child_of(self.source, self.limits), self._units(plan)
        with Fetcher() as copies:
            while batch := list(islice(units, _UNITS_AT_ONCE)):
                known = [unit.verdict or previous.get((unit.id, unit.content)) for unit in batch]
                todo = [unit for unit, result in zip(batch, known, strict=True) if result is None]
                files = _fetch(copies, todo)
                ready = [
                    (unit, paths) for unit, paths in zip(todo, files, strict=True) if not isinstance(paths, Failed)
                ]
                with closing(child.run_units(ready)) as results:
                    outcomes = (paths if isinstance(paths, Failed) else next(results) for paths in files)
                    for unit, result in zip(batch, known, strict=True):
                        yield unit, result or next(outcomes)

    def _write(self, unit: Unit, outcome: Outcome, shard: ShardWriter) -> list[Row]:
        """Write the unit's samples. Return their index rows, whose group and split `split.py` corrects at the end."""
        if not isinstance(outcome, Written):
            return []
        rows = []
        for sample in outcome.samples:
            offset, size = shard.add(sample)
            row = index_row(sample, language=outcome.language) | {"offset": offset, "size": size, "unit": unit.id}
            row |= {"document": unit.document, "group": unit.document}
            rows.append(row | {"split": split_of(unit.document, self.validation_share), **outcome.measures})
        return rows


def _fetch(copies: Fetcher, units: Sequence[Unit]) -> list[list[str] | Failed]:
    """Return local paths of each unit's files, or why they cannot be read. The copies live until the next call."""
    results: list[list[str] | Failed] = []
    paths: list[str] = []
    for unit in units:
        try:
            results.append(copies.local_paths([*paths, *unit.files])[len(paths) :])
            paths += unit.files
        except OSError as error:
            results.append(Failed(reason="unreadable", detail=detail_line(error, unit.files)))
    return results


@dataclass(frozen=True, slots=True)
class _Previous:
    """A unit's outcome in the finished shard that is being replaced."""

    row: Row
    index: list[Row]
    samples: list[bytes]  # tar members of each sample

    def copy_into(self, shard: ShardWriter) -> list[Row]:
        rows = []
        for row, members in zip(self.index, self.samples, strict=True):
            offset, size = shard.copy(members)
            rows.append(row | {"offset": offset, "size": size})
        return rows


def _load_previous(folder: Folder, work: Work) -> dict[tuple[str, str], _Previous]:
    """Return (unit's id, content) → earlier outcome, without those to retry.

    The result is empty where the shard's files contradict its record.
    """
    record = work.previous
    if record is None:
        return {}
    names = (f"{record.name}.tar", f"index/{record.name}.parquet", f"ledger/{record.name}.parquet")
    try:
        data = [folder.read(name) for name in names]
    except OSError:
        return {}
    hashes = [hashlib.sha256(content).hexdigest() for content in data]
    if hashes != [record.tar_sha256, record.index_sha256, record.ledger_sha256]:
        return {}
    samples: dict[str, list[Row]] = {}
    for row in read_table(folder, names[1]).to_pylist():
        samples.setdefault(row["unit"], []).append(row)
    previous = {}
    for row in read_table(folder, names[2]).to_pylist():
        if row["gate"] != "duplicate" and not matches(row, work.retry):
            rows = samples.get(row["unit"], [])
            members = [data[0][each["offset"] : each["offset"] + each["size"]] for each in rows]
            previous[row["unit"], row["content"]] = _Previous(row, rows, members)
    return previous
