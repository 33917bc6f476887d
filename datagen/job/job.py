"""The data job: a source's units become shards, each unit exactly one ledger row, whatever happens.

    inputs ── scan ──▶ plan files ── plan ──▶ shards to make ── make ──▶ tar, index, ledger ── settle ──▶ manifest

One task makes one shard; its record, written last, says that it is finished. A shard's bytes depend on its units, the
source's settings and the code's version alone: not on the number of workers, on order, kills or retries. When inputs
or settings change, only the shards that the change concerns are made again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from datagen.job.change import Change, Config, config_of, differences, digest_of
from datagen.job.ledger import LedgerSummary, summarise
from datagen.job.monitor import Monitor
from datagen.job.plan import ShardPlan, join, plan_shards
from datagen.job.runner import Runner
from datagen.job.scan import PLAN, Scan, batches, failed_input, fails_as, is_plan_file, read_runs
from datagen.job.settings import JobSettings
from datagen.job.shard_task import ShardMaker, Work, matches
from datagen.job.split import settle
from datagen.job.track import Tracker
from datagen.job.workspace import _job_text, alone, close, is_closed, read_records, read_there, reopen, tidy
from datagen.source import Source
from varyforge.console import say, warn
from varyforge.errors import UserError
from varyforge.outcome import Failed
from varyforge.shards import JOB, ShardRecord, ShardSet, is_whole, read_job
from varyforge.storage import Folder, folder_at, write
from varyforge.tables import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a job will do."""

    job: dict[str, Any]  # job.json to be
    shards: tuple[ShardPlan, ...]
    kept: tuple[ShardRecord, ...]  # finished, and not concerned by any change
    todo: tuple[Work, ...]
    changes: tuple[str, ...]  # from the job.json that is there; empty where it is the same or none is there
    records: tuple[ShardRecord, ...]  # of shards that were finished before, whatever they are good for now

    @property
    def plan_files(self) -> Mapping[str, str]:
        """Names of the plan files, with their SHA-256."""
        files: Mapping[str, str] = self.job["plan"]["files"]
        return files

    @property
    def units(self) -> int:
        """All units of the job."""
        return sum(shard.units for shard in self.shards)

    @property
    def units_todo(self) -> int:
        """Units of the shards to make."""
        return sum(work.plan.units for work in self.todo)


def run_job(
    source: Source, out: str | Path, settings: JobSettings, runner: Runner, tracker: Tracker | None = None
) -> LedgerSummary:
    """Makes the shard set `out` (path or URL), or finishes one that an earlier run of the same job began.

    Raises:
        UserError: nothing to read; `out` holds something else, or was made otherwise and `update` is not set; another
            job is writing to it.
    """
    folder = folder_at(out)
    with alone(folder), Monitor(runner, settings, tracker) as monitor:
        folder.tidy()
        plan = plan_job(source, folder, settings, runner, monitor)
        if plan.changes and not settings.update:
            raise UserError(
                f"{out} was made otherwise: {'; '.join(plan.changes)}. {len(plan.todo)} of {len(plan.shards)} shards "
                "would be made again: add --update for that, or write to another folder with --out"
            )
        if settings.retry and not plan.todo:
            warn(f"{out}: nothing to retry: no unit {settings.retry.replace(':', ' as ', 1)}")
        if plan.kept:
            say(f"{out}: {len(plan.kept)} of {len(plan.shards)} shards are finished; {len(plan.todo)} to do")
        if plan.todo or plan.changes or not is_closed(folder) or len(plan.records) > len(plan.kept):
            _make(source, folder, settings, runner, plan, monitor)
        elif plan.job != read_job(folder):  # an input was touched, or lies elsewhere now
            write(folder, JOB, _job_text(plan.job))
        _remove_strays(folder, source.name, plan)
    return summarise(ShardSet(out).ledgers())


def plan_job(source: Source, folder: Folder, settings: JobSettings, runner: Runner, monitor: Monitor) -> JobPlan:
    """Scans the inputs and says what there is to do. Writes nothing but plan files, which later runs use too."""
    there = read_there(folder)
    if there and there["source"] != source.name:
        raise UserError(f"{folder}: holds a set made by {there['source']!r}; choose another --out")
    config = config_of(source)
    shards, plan_files = _scan(source, folder, settings, runner, monitor, digest_of(config))
    job = {
        "source": source.name,
        "config": config,
        "job": {name: getattr(settings, name) for name in ("units_per_shard", "validation_share", "limit")},
        "plan": {
            "units": sum(shard.units for shard in shards),
            "shards": len(shards),
            "sha256": plan_digest(shards),
            "files": plan_files,
        },
        "inputs": {name: getattr(source, name) for name in source.places},
    }
    if not shards:
        raise UserError(f"{folder}: nothing to do: the inputs hold no unit")
    changes = () if there is None else _changes(there, job, settings.retry)
    records = read_records(folder)
    old = there["config"] if there else config
    kept, todo = _sort_out(source, folder, shards, records, old, config, settings.retry)
    return JobPlan(
        job=job,
        shards=tuple(shards),
        kept=kept,
        todo=todo,
        changes=changes,
        records=tuple(records),
    )


class Planned(Protocol):
    """A shard to be, in whatever way it is planned."""

    @property
    def name(self) -> str:
        """Without ".tar"."""
        ...

    @property
    def units_sha256(self) -> str:
        """Of what it is made of."""
        ...


def plan_digest(shards: Sequence[Planned]) -> str:
    """SHA-256 of what all shards are made of."""
    return digest_of({shard.name: shard.units_sha256 for shard in shards})


def _changes(there: Config, job: Config, retry: str | None) -> tuple[str, ...]:
    """What differs, one line each. A retry may find more units in the same inputs without that being a change."""
    parts = ("config", "job")
    found = differences({part: there.get(part) for part in parts}, {part: job[part] for part in parts})
    changes = [f"{key.partition('.')[2]} {change}" for key, change in found]
    old, new = there.get("plan", {}), job["plan"]
    same_inputs = old.get("files", {}).keys() == new["files"].keys()
    if old.get("sha256") != new["sha256"] and not (retry and same_inputs):
        more = old.get("units") != new["units"]
        changes.append(f"inputs {old.get('units')} → {new['units']} units" if more else "inputs have other contents")
    return tuple(changes)


def _scan(
    source: Source, folder: Folder, settings: JobSettings, runner: Runner, monitor: Monitor, config: str
) -> tuple[list[ShardPlan], dict[str, str]]:
    """The shards to be, and the plan files they are made from with their SHA-256.

    Raises:
        UserError: not one input could be cut into units.
    """
    wanted = batches(source, config, settings.units_per_shard, settings.limit)
    here = set(folder.names(".parquet", PLAN))
    todo = [b for b in wanted if b.name not in here or (settings.retry and fails_as(folder, b.name, settings.retry))]
    with monitor.watch("planning", sum(len(batch.inputs) for batch in todo), "file"):
        for _ in runner.run(Scan(source, folder, settings.limits), todo, monitor.tick):
            pass
    found = [read_runs(folder, batch.name) for batch in wanted]
    runs = join([one for one, _, _ in found])
    failed = sum(count for _, count, _ in found)
    if failed and failed == int(runs.units.sum()):
        first = failed_input(folder, next(b.name for b, (_, count, _) in zip(wanted, found, strict=True) if count))
        assert isinstance(first.verdict, Failed)
        why = f"{first.id}: {first.verdict.reason}: {first.verdict.detail}"
        raise UserError(why + (f"; none of the {failed} inputs can be used" if failed > 1 else "; it cannot be used"))
    hashes = {batch.name: digest for batch, (_, _, digest) in zip(wanted, found, strict=True)}
    return list(plan_shards(source.name, runs, settings.units_per_shard)), dict(sorted(hashes.items()))


def _sort_out(
    source: Source,
    folder: Folder,
    shards: Sequence[ShardPlan],
    records: Sequence[ShardRecord],
    old: Config,
    new: Config,
    retry: str | None,
) -> tuple[tuple[ShardRecord, ...], tuple[Work, ...]]:
    """Which shards are finished, and which are to be made and from what."""
    change, by_name = Change(source, old, new), {record.name: record for record in records}
    was, now = digest_of(old), digest_of(new)
    kept: list[ShardRecord] = []
    todo: list[Work] = []
    for shard in shards:
        record = by_name.get(shard.name)
        if record and not is_whole(folder, record):
            record = None
        same_units = record and record.units_sha256 == shard.units_sha256
        if record and same_units and record.config_sha256 == was != now and not change.concerns(folder, record):
            record = replace(record, config_sha256=now)
        again = bool(record and retry and record.failed and _any_matches(folder, record, retry))
        if record and same_units and record.config_sha256 == now and not again:
            kept.append(record)
        else:
            usable = record if record and record.config_sha256 == now else None
            todo.append(Work(plan=shard, previous=usable, retry=retry if again else None))
    return tuple(kept), tuple(todo)


def _any_matches(folder: Folder, record: ShardRecord, retry: str) -> bool:
    ledger = read_table(folder, f"ledger/{record.name}.parquet", ["outcome", "reason"])
    return any(matches(row, retry) for row in ledger.to_pylist())


def _make(
    source: Source, folder: Folder, settings: JobSettings, runner: Runner, plan: JobPlan, monitor: Monitor
) -> None:
    """Makes what is to do and closes the set."""
    kept = {record.name: record for record in plan.kept}
    again = {work.plan.name for work in plan.todo}
    stale = (replace(record, units_sha256="") for record in plan.records if record.name in again)  # for reuse only
    reopen(folder, [*kept.values(), *stale])
    write(folder, JOB, _job_text(plan.job))
    maker = ShardMaker(
        source=source,
        out=folder,
        limits=settings.limits,
        validation_share=settings.validation_share,
        config_sha256=digest_of(plan.job["config"]),
    )
    with monitor.watch(Path(str(folder)).name, plan.units_todo, "unit"):
        for record in runner.run(maker, plan.todo, monitor.tick):
            kept[record.name] = record
            monitor.shard_done(record)
        monitor.made()
    records = [kept[name] for name in sorted(kept)]
    records = settle(folder, records, source.measures, settings.validation_share, monitor.alive)
    _check_sums(plan, records)
    close(folder, records)


def _check_sums(plan: JobPlan, records: Sequence[ShardRecord]) -> None:
    ended = sum(record.written + record.rejected + record.failed for record in records)
    if ended != plan.units:
        raise AssertionError(f"{plan.units} units planned, {ended} in the ledger: a defect of ours")


def _remove_strays(folder: Folder, source: str, plan: JobPlan) -> None:
    """What is left of shards and inputs that are no longer planned, and of workers that died. Nothing of others'."""
    ours = re.compile(rf"{re.escape(source)}-(all|[01]+)")
    planned = {shard.name for shard in plan.shards}
    for below, ending in (("", ".tar"), ("index", ".parquet"), ("ledger", ".parquet")):
        for name in folder.names(ending, below):
            stem = name.removeprefix(f"{below}/").removesuffix(ending)
            if ours.fullmatch(stem) and stem not in planned:
                folder.remove(name)
    for name in folder.names(".parquet", PLAN):
        if is_plan_file(name) and name not in plan.plan_files:
            folder.remove(name)
    folder.tidy()
    tidy(folder)
