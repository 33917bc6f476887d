"""The data job: a source's units become shards, each unit exactly one ledger row, whatever its outcome.

    inputs ── scan ──▶ plan files ── plan ──▶ shards to make ── make ──▶ tar, index, ledger ── split ──▶ manifest

One task makes one shard. The record of the shard is written last and says that it is finished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datagen.job.change import Change, Config, config_of, differences, digest_of, plan_digest
from datagen.job.ledger import LedgerSummary, matches, summarise
from datagen.job.monitor import Monitor
from datagen.job.plan import PLAN, ShardPlan, join, plan_shards
from datagen.job.runner import Runner
from datagen.job.scan import Scan, batches, failed_inputs, read_runs
from datagen.job.settings import JobSettings
from datagen.job.shard_task import ShardTask, Work
from datagen.job.split import assign_splits
from datagen.job.track import Tracker
from datagen.job.workspace import Workspace, open_workspace
from datagen.source import Source
from varyforge.console import say, warn
from varyforge.errors import UserError
from varyforge.shards import ShardRecord, ShardSet, is_whole, read_job
from varyforge.storage import Folder
from varyforge.tables import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """The work of a job: the shards that it needs, those that are finished, and those to make."""

    job: dict[str, Any]  # the future job.json
    shards: tuple[ShardPlan, ...]
    finished: tuple[ShardRecord, ...]  # and not concerned by any change
    todo: tuple[Work, ...]
    changes: tuple[str, ...]  # from the job.json in the folder; empty where it is the same or there is none
    records: tuple[ShardRecord, ...]  # of all shards ever finished, those to make again included

    @property
    def plan_files(self) -> Mapping[str, str]:
        """The SHA-256 of each plan file, by name."""
        files: Mapping[str, str] = self.job["plan"]["files"]
        return files

    @property
    def units(self) -> int:
        """The number of units of the job."""
        return sum(shard.units for shard in self.shards)

    @property
    def units_todo(self) -> int:
        """The number of units of the shards to make."""
        return sum(work.plan.units for work in self.todo)


def run_job(
    source: Source, out: str | Path, settings: JobSettings, runner: Runner, tracker: Tracker | None = None
) -> LedgerSummary:
    """Make the shard set `out` (path or URL), or finish one that an earlier run of the same job began.

    Raises:
        UserError: there is no input; `out` holds something else, or was made with other settings or inputs and
            `update` is not set; another job is writing to `out`.
    """
    with open_workspace(out) as workspace, Monitor(runner, tracker, settings.stall_minutes) as monitor:
        plan = plan_job(source, workspace, workspace.folder, settings, runner, monitor)
        if plan.changes and not settings.update:
            raise UserError(
                f"{out} was made otherwise: {'; '.join(plan.changes)}. {len(plan.todo)} of {len(plan.shards)} shards "
                "would be made again: add --update for that, or write to another folder with --out"
            )
        if settings.retry and not plan.todo:
            warn(f"{out}: nothing to retry: no unit {settings.retry.replace(':', ' as ', 1)}")
        if plan.finished:
            say(f"{out}: {len(plan.finished)} of {len(plan.shards)} shards are finished; {len(plan.todo)} to do")
        if plan.todo or plan.changes or not workspace.is_closed or len(plan.records) > len(plan.finished):
            _make(source, workspace, settings, runner, plan, monitor)
        elif plan.job != read_job(workspace.folder):  # an input was touched or moved
            workspace.write_job(plan.job)
        shards = {shard.name for shard in plan.shards}
        workspace.remove(lambda name: _is_stray(name, source.name, shards, plan.plan_files))
    return summarise(ShardSet(out).ledgers())


def plan_job(
    source: Source, workspace: Workspace, plans: Folder, settings: JobSettings, runner: Runner, monitor: Monitor
) -> JobPlan:
    """Scan the inputs and work out what there is to do. Writes only plan files, to `plans`; later runs use them too."""
    folder, earlier = workspace.folder, workspace.job(source.name)
    config = config_of(source)
    shards, plan_files = _scan(source, plans, settings, runner, monitor, digest_of(config))
    job = {
        "source": source.name,
        "config": config,
        "job": {name: getattr(settings, name) for name in ("units_per_shard", "validation_share", "limit")}
        | ({"validation": settings.validation} if settings.validation else {}),
        "plan": {
            "units": sum(shard.units for shard in shards),
            "shards": len(shards),
            "sha256": plan_digest((shard.name, shard.units_sha256) for shard in shards),
            "files": plan_files,
        },
        "inputs": {name: getattr(source, name) for name in source.locations},
    }
    if not shards:
        raise UserError(f"{folder}: nothing to do: the inputs hold no unit")
    records = workspace.finished()
    change = Change(source, earlier["config"] if earlier else config, config)
    finished, todo = _sort_out(folder, shards, records, change, settings.retry)
    return JobPlan(
        job=job,
        shards=tuple(shards),
        finished=finished,
        todo=todo,
        changes=() if earlier is None else _changes(earlier, job, settings.retry),
        records=tuple(records),
    )


def _changes(old: Config, new: Config, retry: str | None) -> tuple[str, ...]:
    """Return the differences of two job.json, a line each. A retry may cut the same inputs into more units."""
    parts = ("config", "job")
    pairs = differences({part: old.get(part) for part in parts}, {part: new[part] for part in parts})
    changes = [f"{key.partition('.')[2]} {change}" for key, change in pairs]
    before, after = old.get("plan", {}), new["plan"]
    same_inputs = before.get("files", {}).keys() == after["files"].keys()
    if before.get("sha256") != after["sha256"] and not (retry and same_inputs):
        other_number = before.get("units") != after["units"]
        counts = f"inputs {before.get('units')} → {after['units']} units"
        changes.append(counts if other_number else "inputs have other contents")
    return tuple(changes)


def _scan(
    source: Source, folder: Folder, settings: JobSettings, runner: Runner, monitor: Monitor, config: str
) -> tuple[list[ShardPlan], dict[str, str]]:
    """Write the missing plan files. Return the planned shards, and each plan file's SHA-256.

    Raises:
        UserError: no input could be cut into units.
    """
    planned = batches(source, config, settings.units_per_shard, settings.limit)
    present = set(folder.names(".parquet", PLAN))
    reason = (settings.retry or "").partition(":")[2]
    todo = [
        batch
        for batch in planned
        if batch.name not in present or (settings.retry and any(failed_inputs(folder, batch.name, reason)))
    ]
    inputs = sum(len(batch.inputs) for batch in todo)
    with monitor.watch("planning", inputs, "file"):
        for _ in runner.for_units(inputs).run(Scan(source, folder, settings.limits), todo, monitor.tick):
            pass
    scans = [read_runs(folder, batch.name) for batch in planned]
    runs = join([each for each, _, _ in scans])
    failed = sum(count for _, count, _ in scans)
    if failed and failed == int(runs.units.sum()):
        name = next(b.name for b, (_, count, _) in zip(planned, scans, strict=True) if count)
        first, failure = next(failed_inputs(folder, name))
        why = f"{first}: {failure.reason}: {failure.detail}"
        raise UserError(why + (f"; none of the {failed} inputs can be used" if failed > 1 else "; it cannot be used"))
    hashes = {batch.name: digest for batch, (_, _, digest) in zip(planned, scans, strict=True)}
    return list(plan_shards(source.name, runs, settings.units_per_shard)), dict(sorted(hashes.items()))


def _sort_out(
    folder: Folder, shards: Sequence[ShardPlan], records: Sequence[ShardRecord], change: Change, retry: str | None
) -> tuple[tuple[ShardRecord, ...], tuple[Work, ...]]:
    """Return the records of the finished shards, and the shards to make with what can be reused for them."""
    by_name = {record.name: record for record in records}
    before, now = digest_of(change.old), digest_of(change.new)
    finished: list[ShardRecord] = []
    todo: list[Work] = []
    for shard in shards:
        record = by_name.get(shard.name)
        if record and not is_whole(folder, record):
            record = None
        same_units = record and record.units_sha256 == shard.units_sha256
        if record and same_units and record.config_sha256 == before != now and not change.concerns(folder, record):
            record = replace(record, config_sha256=now)
        again = False
        if record and retry and record.failed:
            ledger = read_table(folder, f"ledger/{record.name}.parquet", ["outcome", "reason"])
            again = any(matches(row, retry) for row in ledger.to_pylist())
        if record and same_units and record.config_sha256 == now and not again:
            finished.append(record)
        else:
            usable = record if record and record.config_sha256 == now else None
            todo.append(Work(plan=shard, previous=usable, retry=retry if again else None))
    return tuple(finished), tuple(todo)


def _make(
    source: Source, workspace: Workspace, settings: JobSettings, runner: Runner, plan: JobPlan, monitor: Monitor
) -> None:
    """Make the shards that are to do, and close the set."""
    finished = {record.name: record for record in plan.finished}
    again = {work.plan.name for work in plan.todo}
    stale = (replace(record, units_sha256="") for record in plan.records if record.name in again)  # for reuse only
    workspace.begin(plan.job, [*finished.values(), *stale])
    task = ShardTask(
        source=source,
        workspace=workspace,
        limits=settings.limits,
        validation_share=settings.validation_share,
        config_sha256=digest_of(plan.job["config"]),
    )
    largest_first = sorted(plan.todo, key=lambda work: -work.plan.units)  # so that workers end together
    with monitor.watch(Path(str(workspace.folder)).name, plan.units_todo, "unit"):
        for record in runner.for_units(plan.units_todo).run(task, largest_first, monitor.tick):
            finished[record.name] = record
            monitor.shard_done(record)
        monitor.end()
    records = [finished[name] for name in sorted(finished)]
    records = assign_splits(workspace, records, source.measures, settings.held_out, monitor.alive)
    ended = sum(record.written + record.rejected + record.failed for record in records)
    if ended != plan.units:
        raise AssertionError(f"{plan.units} units planned, {ended} in the ledger: a defect of ours")
    workspace.close(records)


def _is_stray(name: str, source: str, shards: set[str], plan_files: Mapping[str, str]) -> bool:
    """Whether an earlier plan of this source wrote the file and this plan does not. Other files are left alone."""
    if re.fullmatch(rf"{PLAN}/(all|limit|[01]+)-[0-9a-f]{{16}}\.parquet", name):
        return name not in plan_files
    shard = re.fullmatch(rf"(?:(?:index|ledger)/)?({re.escape(source)}-(?:all|[01]+))\.(?:tar|parquet)", name)
    return shard is not None and shard[1] not in shards
