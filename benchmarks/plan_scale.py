"""Does a job of ten million pages fit in memory? Plans it for real, then settles and sums up a set of that size.

    python -m benchmarks.plan_scale --pages 10000000 --out /tmp/scale

The inputs are made up (documents of 20 pages that are never opened), everything else is the job's own code: scanning in
child processes, plan files, the plan, and, on index and ledger files written here without tars, groups, split, manifest
and summary. Prints seconds and the peak of this process's memory for each part.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp(Source):
    """Documents that are not there."""

    documents: int

    name = "scale"
    locations = ()

    def inputs(self) -> Iterator[str]:
        """See `Source`."""
        return (f"archive/{number % 997:03d}/paper-{number:08d}.pdf" for number in range(self.documents))

    def document(self, path: str) -> str:
        """See `Source`."""
        return path

    def units(self, path: str, file: str) -> Iterator[Unit]:
        """See `Source`."""
        content = hashlib.sha256(path.encode()).hexdigest()
        for number in range(PAGES):
            unit = f"{path}#{number:04d}"
            yield Unit(id=unit, document=path, content=f"{content}#{number}", files=(path,), payload={"page": number})

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Never called."""
        raise NotImplementedError


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Says how long a part took, and the most memory that this process ever held."""
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{what}: {time.monotonic() - started:.0f} s, peak {peak:.0f} MiB")


def write_shard(folder: Folder, plan: ShardPlan, dice: np.random.Generator) -> ShardRecord:
    """Index and ledger of a shard in which every page was written. A page in 50 is the copy of another."""
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


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder; some gigabytes")
    parser.add_argument("--units-per-shard", type=int, default=1000)
    arguments = parser.parse_args()
    folder = folder_at(arguments.out)
    workspace = Workspace(folder)
    settings = JobSettings(units_per_shard=arguments.units_per_shard, limits=Limits())
    source, runner = MadeUp(documents=arguments.pages // PAGES), LocalRunner(2)
    with measured("scan and plan"), Monitor(runner) as monitor:
        plan = plan_job(source, workspace, settings, runner, monitor)
    say(f"{plan.units} pages in {len(plan.shards)} shards")
    with measured("plan again from plan files"), Monitor(runner) as monitor:
        assert plan_job(source, workspace, settings, runner, monitor).job == plan.job
    dice = np.random.default_rng(0)
    with measured("(index and ledger files, not part of a job in this form)"):
        records = [write_shard(folder, shard, dice) for shard in plan.shards]
    del plan
    with measured("groups, twins, split"):
        settled = assign_splits(workspace, records, (), 0.05)
    say(f"{sum(a != b for a, b in zip(records, settled, strict=True))} index files rewritten")
    tables: Iterator[pa.Table] = (read_table(folder, f"ledger/{record.name}.parquet") for record in settled)
    with measured("summary of the ledger"):
        assert summarise(tables).units == sum(record.units for record in records)


if __name__ == "__main__":  # by its real name, which the child processes can import
    from benchmarks.plan_scale import main as _main

    _main()
