"""The preview of a job: its plan, and its cost from a few units that are tried (`--dry-run`)."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.job.isolate import Limits, child_of
from datagen.job.job import JobPlan, plan_job
from datagen.job.monitor import Monitor
from datagen.job.plan import PLAN
from datagen.job.runner import Runner
from datagen.job.scan import read_runs, read_units
from datagen.job.settings import JobSettings
from datagen.job.workspace import Workspace
from datagen.source import Source, Unit
from varyforge.outcome import Written
from varyforge.shards import ShardWriter
from varyforge.storage import Fetcher, Folder, LocalFolder, folder_at, write

_TRIED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPreview:
    """The plan of a job and its costs, extrapolated from a few units that were made and thrown away."""

    out: str
    plan: JobPlan
    workers: int
    failed_inputs: int
    duplicates: int
    tried: int  # units
    unit_seconds: float  # per unit, of one worker
    unit_bytes: float  # per unit, in the tar

    @property
    def seconds(self) -> float:
        """The wall-clock time on idle workers, in seconds."""
        return self.unit_seconds * self.plan.units_todo / self.workers

    @property
    def bytes(self) -> float:
        """The size of the tars to make, in bytes."""
        return self.unit_bytes * self.plan.units_todo


def preview_job(source: Source, out: str | Path, settings: JobSettings, runner: Runner, workers: int) -> JobPreview:
    """Plan a job and try a few of its units. Writes nothing to `out`, whose plan files are used where they fit.

    Raises:
        UserError: as for `run_job`, except that a set made with other settings is no error.
    """
    folder = folder_at(out)
    with tempfile.TemporaryDirectory(prefix="varyforge-") as temp:
        plans = LocalFolder(Path(temp))
        for name in folder.names(".parquet", PLAN):
            write(plans, name, folder.read(name))
        with Monitor(runner, stall_minutes=settings.stall_minutes) as monitor:
            no_retry = replace(settings, retry=None)  # a retry would scan again
            plan = plan_job(source, Workspace(folder), plans, no_retry, runner, monitor)
        units = [unit for unit in _some(plans, plan) if unit.verdict is None]
        failed_inputs = sum(read_runs(plans, name)[1] for name in plan.plan_files)
    seconds, size = _try(source, settings.limits, units)
    return JobPreview(
        out=str(out),
        plan=plan,
        workers=workers,
        failed_inputs=failed_inputs,
        duplicates=sum(len(shard.duplicates) for shard in plan.shards),
        tried=len(units),
        unit_seconds=seconds / max(len(units), 1),
        unit_bytes=size / max(len(units), 1),
    )


def _some(folder: Folder, plan: JobPlan) -> list[Unit]:
    """Return up to 12 units, spread over the shards to make."""
    sample: list[Unit] = []
    chosen = plan.todo[:: max(len(plan.todo) // _TRIED, 1)][:_TRIED]
    for work in chosen:
        units = [unit for run in read_units(folder, work.plan.runs) for unit in run]
        sample += units[:: max(len(units) * len(chosen) // _TRIED, 1)]
    return sample[:_TRIED]


def _try(source: Source, limits: Limits, units: list[Unit]) -> tuple[float, int]:
    """Make the units. Return the seconds that it takes, without the start of the child, and their bytes in a tar."""
    child = child_of(source, limits)
    size, started = 0, time.monotonic()
    with Fetcher() as copies, open("/dev/null", "wb") as nowhere:
        shard = ShardWriter(nowhere)
        for number, unit in enumerate(units):
            if number == 0:
                child.make(unit, copies.local_paths(unit.files))  # warms up: imports and open files
                started = time.monotonic()
            outcome = child.make(unit, copies.local_paths(unit.files))
            if isinstance(outcome, Written):
                size += sum(shard.add(sample)[1] for sample in outcome.samples)
    return time.monotonic() - started, size
