"""The data job: a source's units become shards, each unit exactly one ledger row, whatever happens.

One task makes one shard; a manifest line, written last, says that it is finished. A shard's bytes depend on its units,
the source's settings and the code's version alone: not on the number of workers, on order, kills or retries.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from datagen.config import to_dict
from datagen.console import Progress, say
from datagen.errors import UserError
from datagen.files import remove_temporaries, sha256_file, write_text
from datagen.isolate import Child, Limits
from datagen.ledger import LedgerRow, LedgerSummary, ledger_row, summarise
from datagen.plan import ShardPlan, plan_hash, plan_shards
from datagen.shards import (
    JOB,
    MANIFEST,
    IndexRow,
    ShardRecord,
    ShardSet,
    open_shard,
    read_manifest,
    write_table,
)
from datagen.unit import Failed, Source, Unit, Written, split_of

_BYTES_DEPEND_ON = ("varyforge", "pymupdf", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What a job needs besides its source."""

    units_per_shard: int = 128
    validation_share: float = 0.05  # of the groups (documents) kept out of training
    limit: int | None = None  # only the first so many units
    limits: Limits = field(default_factory=Limits)


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
    with _lock(out):
        remove_temporaries(out)
        plans = plan_shards(source.name, _units(source, settings), settings.units_per_shard)
        _claim(out, _describe(source, settings, plans))
        finished = {record.name for record in read_manifest(out) if _is_whole(out, record)}
        todo = [plan for plan in plans if plan.name not in finished]
        if finished:
            say(f"{out}: {len(finished)} of {len(plans)} shards are finished; {len(todo)} to do")
        task = partial(make_shard, source, out, settings.limits, settings.validation_share)
        _write_all(out, todo, runner.run(task, todo))
        _sort_manifest(out)
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
    return list(islice(_scan(source, settings.limits), settings.limit))


def _scan(source: Source, limits: Limits) -> Iterator[Unit]:
    """Units of all inputs. An input that cannot be cut into units is itself one unit, failed."""
    with Child(source, limits) as child:
        for path in source.inputs():
            found = child.call("units", path)
            if isinstance(found, Failed):
                yield Unit(id=path, group=path, content=path, verdict=found)
            else:
                yield from found


def _describe(source: Source, settings: JobSettings, plans: Sequence[ShardPlan]) -> dict[str, Any]:
    described = to_dict(settings)
    del described["limits"]  # how patient the job is does not belong to what the shards are
    return {
        "source": source.name,
        "settings": to_dict(source) | described,
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


def _is_whole(out: Path, record: ShardRecord) -> bool:
    tar = out / f"{record.name}.tar"
    tables = (_table(out, kind, record.name) for kind in ("index", "ledger"))
    return tar.is_file() and tar.stat().st_size == record.tar_bytes and all(table.is_file() for table in tables)


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


def _sort_manifest(out: Path) -> None:
    """The finished manifest in order of shards, so that equal jobs give equal files."""
    write_text(out / MANIFEST, "".join(json.dumps(asdict(record)) + "\n" for record in read_manifest(out)))


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """One job at a time per folder; the kernel lets go of the lock when the process dies."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "w")
    except OSError as error:
        raise UserError(f"{out}: cannot write there: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{out}: another job is writing there; wait for it or choose another --out") from error
        yield
