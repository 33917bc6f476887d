"""The data job: a source's units become shards, each unit exactly one ledger row, whatever happens.

One task makes one shard; a manifest line, written last, says that it is finished. A shard's bytes depend on its units,
the source's settings and the code's version alone: not on the number of workers, on order, kills or retries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from datagen.config import to_dict
from datagen.console import Progress, say, warn
from datagen.errors import UserError
from datagen.files import locked, remove_temporaries, sha256_file, write_text
from datagen.isolate import Child, Limits
from datagen.ledger import LedgerRow, LedgerSummary, ledger_row, summarise
from datagen.plan import ShardPlan, plan_hash, plan_shards
from datagen.shards import (
    JOB,
    MANIFEST,
    IndexRow,
    ShardRecord,
    ShardSet,
    is_whole,
    open_shard,
    read_manifest,
    write_table,
)
from datagen.unit import Failed, Source, Unit, Written, split_of

_BYTES_DEPEND_ON = ("varyforge", "pymupdf", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What a job needs besides its source."""

    units_per_shard: int = 64
    validation_share: float = 0.05  # of the groups (documents) kept out of training
    limit: int | None = None  # only the first so many units
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise UserError(f"validation share {self.validation_share} must be from 0 to below 1")


class Runner(Protocol):
    """Runs tasks somewhere: `datagen.job.LocalRunner` here, `datagen.ray_runner.RayRunner` on Ray."""

    def run(self, task: Callable[[ShardPlan], ShardRecord], plans: Sequence[ShardPlan]) -> Iterator[ShardRecord]:
        """Yields results as they come, in any order; raises what a task raised."""
        ...


class LocalRunner:
    """One shard after the other in this process (units still in their child)."""

    def run(self, task: Callable[[ShardPlan], ShardRecord], plans: Sequence[ShardPlan]) -> Iterator[ShardRecord]:
        """See `Runner`."""
        return map(task, plans)


def run_job(source: Source, out: Path, settings: JobSettings, runner: Runner) -> LedgerSummary:
    """Makes the shard set `out`, or finishes one that an earlier run of the same job began.

    Raises:
        UserError: nothing to read, or `out` holds something else, or another job is writing to it.
    """
    out = out.absolute()  # Ray's workers have their own working folder
    with locked(out):
        remove_temporaries(out)
        plans = plan_shards(source.name, _units(source, settings), settings.units_per_shard)
        _claim(out, _describe(source, settings, plans))
        finished = _keep_finished(out, plans)
        todo = [plan for plan in plans if plan.name not in finished]
        if finished:
            say(f"{out}: {len(finished)} of {len(plans)} shards are finished; {len(todo)} to do")
        task = partial(make_shard, source, out, settings.limits, _share_held_out(plans, settings.validation_share))
        _write_all(out, todo, runner.run(task, todo))
        _write_manifest(out, read_manifest(out))  # sorted, so that equal jobs give equal files
    return summarise(ShardSet(out).ledger())


def make_shard(source: Source, out: Path, limits: Limits, validation_share: float, plan: ShardPlan) -> ShardRecord:
    """One task: runs the units of `plan` in a child process and writes tar, index and ledger.

    Returns:
        The manifest line. It is the driver that appends it: the shard is finished when the line is there.
    """
    tar, index, ledger = (out / f"{plan.name}.tar", _table(out, "index", plan.name), _table(out, "ledger", plan.name))
    rows: list[LedgerRow] = []
    with open_shard(tar) as shard, Child(source, limits) as child:
        for unit in plan.units:
            outcome = unit.verdict or child.call("make", unit)
            if isinstance(outcome, Written):
                for sample in outcome.samples:
                    shard.add(sample, unit=unit.id, group=unit.group, split=split_of(unit.group, validation_share))
            rows.append(ledger_row(unit, outcome, tar.name))
    write_table(index, shard.rows, IndexRow)
    write_table(ledger, rows, LedgerRow)
    return ShardRecord(
        name=plan.name,
        units=len(rows),
        samples=len(shard.rows),
        **{kind: sum(row.outcome == kind for row in rows) for kind in ("written", "rejected", "failed")},
        tar_bytes=tar.stat().st_size,
        tar_sha256=sha256_file(tar),
        index_sha256=sha256_file(index),
        ledger_sha256=sha256_file(ledger),
    )


def _units(source: Source, settings: JobSettings) -> list[Unit]:
    """All units, or the first `limit`.

    Raises:
        UserError: not one input could be cut into units.
    """
    units = list(islice(_scan(source, settings.limits), settings.limit))
    if units and all(isinstance(unit.verdict, Failed) for unit in units):
        first = units[0].verdict
        assert isinstance(first, Failed)
        raise UserError(f"{units[0].id}: {first.reason}: {first.detail}; none of the inputs can be used")
    return units


def _scan(source: Source, limits: Limits) -> Iterator[Unit]:
    """Units of all inputs. An input that cannot be cut into units is itself one unit, failed."""
    paths = list(source.inputs())
    with Child(source, limits) as child, Progress("planning", total=len(paths), unit="file") as progress:
        for path in paths:
            found = child.call("units", path)
            progress.advance(1)
            if isinstance(found, Failed):
                name = source.document(path)
                yield Unit(id=name, group=name, content=name, verdict=found)
            else:
                yield from found


def _share_held_out(plans: Sequence[ShardPlan], asked: float) -> float:
    """The validation share asked for; 0, said loudly, where it would leave nothing to train on."""
    groups = {unit.group for plan in plans for unit in plan.units if unit.verdict is None}
    if groups and all(split_of(group, asked) == "validation" for group in groups):
        warn(f"{len(groups)} documents are too few to hold one out: all are for training")
        return 0.0
    return asked


def _keep_finished(out: Path, plans: Sequence[ShardPlan]) -> set[str]:
    """Names of the planned shards that are whole; the manifest's other lines are taken out."""
    planned = {plan.name for plan in plans}
    kept = [record for record in read_manifest(out) if record.name in planned and is_whole(out, record)]
    _write_manifest(out, kept)
    return {record.name for record in kept}


def _describe(source: Source, settings: JobSettings, plans: Sequence[ShardPlan]) -> dict[str, Any]:
    described = to_dict(source) | to_dict(settings)
    for name in ("limits", *source.places):  # neither patience nor where the inputs lie is part of what the shards are
        del described[name]
    return {
        "source": source.name,
        "settings": described,
        "versions": {package: version(package) for package in _BYTES_DEPEND_ON},
        "shards": len(plans),
        "units": sum(len(plan.units) for plan in plans),
        "plan_sha256": plan_hash(plans),
    }


def _claim(out: Path, job: dict[str, Any]) -> None:
    """Writes job.json, or checks that the one there describes the same job."""
    if job["units"] == 0:
        raise UserError(f"{out}: nothing to do: the inputs hold no unit")
    path, text = out / JOB, json.dumps(job, indent=2, ensure_ascii=False) + "\n"
    if not path.exists():
        if any(out.glob("*.tar")):
            raise UserError(f"{out}: holds tar files that no job of ours wrote; choose an empty folder for --out")
        write_text(path, text)
        return
    try:
        there = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: broken ({error}); delete {out} and run again") from error
    differences = list(_differences(there, json.loads(text)))
    if differences:
        raise UserError(
            f"{out} was made otherwise: {'; '.join(differences)}. "
            "Write to another folder with --out, or delete this one"
        )


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _table(out: Path, kind: str, name: str) -> Path:
    return out / kind / f"{name}.parquet"


def _write_all(out: Path, todo: Sequence[ShardPlan], results: Iterable[ShardRecord]) -> None:
    """Appends a manifest line for each shard as it is finished."""
    units = sum(len(plan.units) for plan in todo)
    written = rejected = failed = 0
    with Progress(out.name, total=units, unit="unit") as progress, open(out / MANIFEST, "ab") as manifest:
        for record in results:
            manifest.write(b"\n" if manifest.tell() else b"")  # ends a line that a kill may have torn
            manifest.write(json.dumps(asdict(record)).encode())
            manifest.flush()
            written, rejected, failed = (
                written + record.written,
                rejected + record.rejected,
                failed + record.failed,
            )
            progress.advance(record.units, f"{written} written, {rejected} rejected, {failed} failed")


def _write_manifest(out: Path, records: Sequence[ShardRecord]) -> None:
    write_text(out / MANIFEST, "".join(json.dumps(asdict(record)) + "\n" for record in records))
