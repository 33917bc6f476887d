"""Measure time and memory of a job of ten million pages: its plan, then groups and split of a set of that size.

    python -m benchmarks.plan_scale --pages 10000000

The inputs do not exist: documents of 20 pages that are never opened. All else is the job's own code: the scan in child
processes, plan files and the plan, then groups, split, manifest and summary over index and ledger files that are
written here without tars. Peak memory is the highest of this process so far. Takes some gigabytes of disk.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from typing_extensions import override

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import peak_mib
from datagen.job.held_out import Amount
from datagen.job.isolate import Limits
from datagen.job.job import plan_job
from datagen.job.ledger import LedgerRow, summarise
from datagen.job.monitor import Monitor
from datagen.job.plan import ShardPlan
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.split import assign_splits
from datagen.job.workspace import Workspace
from datagen.source import Source, Unit
from varyforge.console import say
from varyforge.outcome import Outcome
from varyforge.shards import IndexRow, ShardRecord
from varyforge.storage import Folder, folder_at
from varyforge.tables import read_table, schema_of, write_table

PAGES = 20  # of a document
TINY = {"pages": 400, "units_per_shard": 100}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--pages", type=int, default=10_000_000, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="an empty folder that stays (default: a temporary one)")
    parser.add_argument("--units-per-shard", type=int, default=1000, help="(%(default)s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imaginary(Source):
    """Documents that do not exist."""

    documents: int

    name = "scale"
    locations = ()

    @override
    def inputs(self) -> Iterator[str]:
        return (f"archive/{number % 997:03d}/paper-{number:08d}.pdf" for number in range(self.documents))

    @override
    def document(self, path: str) -> str:
        return path

    @override
    def units(self, path: str, file: str) -> Iterator[Unit]:
        content = hashlib.sha256(path.encode()).hexdigest()
        for number in range(PAGES):
            unit = f"{path}#{number:04d}"
            yield Unit(id=unit, document=path, content=f"{content}#{number}", files=(path,), payload={"page": number})

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Raise, as nothing calls it."""
        raise NotImplementedError


@dataclass
class Parts:
    """Rows of the table: part, seconds, and the process's peak of memory so far."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Context manager: time the block."""
        started = time.monotonic()
        yield
        self.rows.append((part, f"{time.monotonic() - started:.1f}", f"{peak_mib():.0f}"))
        say(f"{part}: done")


def write_shard(folder: Folder, plan: ShardPlan, dice: np.random.Generator) -> ShardRecord:
    """Write index and ledger of a shard in which every page was written. A page in 50 is the copy of another."""
    n, name = plan.units, plan.name
    prints = [dice.bytes(64) for _ in range(n)]
    for number in range(0, n, 50):
        prints[number] = hashlib.sha512(bytes([number % 251, len(name)])).digest()
    document = [f"archive/{int(dice.integers(997)):03d}/paper-{int(dice.integers(10**8)):08d}.pdf" for _ in range(n)]
    row = {"key": "", "task": "ocr", "shard": f"{name}.tar", "offset": 0, "size": 1000, "twins": "", "split": "train"}
    row |= {"language": "en", "images": 1, "answer_chars": 3000, "tokens": 800}
    index = [
        row | {"key": f"{name}-{k}", "unit": f"{d}#{k}", "document": d, "group": d, "fingerprint": p}
        for k, (d, p) in enumerate(zip(document, prints, strict=True))
    ]
    blank = {"content": "", "shard": f"{name}.tar", "outcome": "written", "samples": 1, "gate": "", "value": 0.0}
    blank |= {"threshold": 0.0, "reason": "", "detail": "", "notes": "{}", "language": "en"}
    ledger = [blank | {"unit": f"{d}#{k}", "document": d} for k, d in enumerate(document)]
    return ShardRecord(
        name=name,
        units=n,
        samples=n,
        written=n,
        rejected=0,
        failed=0,
        tar_bytes=0,
        tar_sha256="",
        index_sha256=write_table(folder, f"index/{name}.parquet", index, schema_of(IndexRow)),
        ledger_sha256=write_table(folder, f"ledger/{name}.parquet", ledger, schema_of(LedgerRow)),
        config_sha256="",
        units_sha256=plan.units_sha256,
    )


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Plan, plan again, then split and sum up."""
    settings, parts = JobSettings(units_per_shard=arguments.units_per_shard, limits=Limits()), Parts()
    with work_folder(arguments.out) as path, LocalRunner(2) as runner:
        folder, source = folder_at(path), Imaginary(documents=arguments.pages // PAGES)
        workspace = Workspace(folder)
        with parts.measured("scan and plan"), Monitor(runner) as monitor:
            plan = plan_job(source, workspace, workspace.folder, settings, runner, monitor)
        yield f"{plan.units:,} pages in {len(plan.shards):,} shards of at most {arguments.units_per_shard:,}."
        with parts.measured("plan again from plan files"), Monitor(runner) as monitor:
            assert plan_job(source, workspace, workspace.folder, settings, runner, monitor).job == plan.job
        dice = np.random.default_rng(0)
        with parts.measured("(index and ledger files, not a part of a job)"):
            records = [write_shard(folder, shard, dice) for shard in plan.shards]
        del plan
        with parts.measured("groups, near duplicates and split"):
            split = assign_splits(workspace, records, (), Amount(share=0.05))
        tables: Iterator[pa.Table] = (read_table(folder, f"ledger/{record.name}.parquet") for record in split)
        with parts.measured("summary of the ledger"):
            assert summarise(tables).units == sum(record.units for record in records)
    rewritten = sum(a != b for a, b in zip(records, split, strict=True))
    yield Table(head=("part", "s", "peak MiB"), rows=parts.rows)
    yield f"The split rewrote {rewritten:,} index files."


if __name__ == "__main__":
    main_of("benchmarks.plan_scale")
