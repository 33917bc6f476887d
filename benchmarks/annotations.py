"""Measure time and memory of a job that scans and plans an annotation file of gigabytes.

    python -m benchmarks.annotations --gb 2

The file is written to a temporary folder in Objects365's format: `annotations` before `images`, in random order of
images, 15 boxes an image. All else is the job's own code: the child process that reads the file, the plan files, the
plan, and the plan a second time from its files, as for a job that goes on. Peak memory is the highest of a process so
far.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import peak_mib
from datagen.detection.source import DetectionSource
from datagen.job.isolate import Limits
from datagen.job.job import plan_job
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.workspace import Workspace
from varyforge.storage import folder_at

BOXES = 15  # an image, about as many as Objects365 has
TINY = {"gb": 0.0002}
_BYTES_PER_IMAGE = BOXES * 212 + 202


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--gb", type=float, default=2.0, help="size of the file (%(default)s)")
    parser.add_argument("--units-per-shard", type=int, default=1000, help="(%(default)s)")


def write_annotations(path: Path, images: int) -> None:
    """Write a file of `images` images in Objects365's format."""
    dice = random.Random(0)
    with path.open("w") as file:
        file.write('{"annotations": [')
        for number in range(images * BOXES):
            box = [dice.uniform(0, 500) for _ in range(4)]
            file.write(
                f'{", " if number else ""}{{"id": {number}, "iscrowd": 0, "isfake": 0, "area": {box[2] * box[3]}, '
                f'"isreflected": 0, "bbox": {box}, "image_id": {dice.randrange(images)}, '
                f'"category_id": {dice.randrange(1, 366)}}}'
            )
        file.write('], "categories": [' + ", ".join(f'{{"id": {n}, "name": "class {n}"}}' for n in range(1, 366)))
        file.write('], "images": [')
        for number in range(images):
            name = f"images/v1/patch{number % 51}/objects365_v1_{number:08d}.jpg"
            file.write(
                f'{", " if number else ""}{{"height": 512, "id": {number}, "license": 5, "width": 769, '
                f'"file_name": "{name}", "url": ""}}'
            )
        file.write('], "licenses": [{"id": 5, "name": "", "url": "https://example.org/licence"}]}')


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Plan a job over the file twice."""
    with work_folder() as folder:
        path = folder / "annotations.json"
        write_annotations(path, int(arguments.gb * 1e9 / _BYTES_PER_IMAGE))
        megabytes, before_mib, rows = path.stat().st_size / 1e6, peak_mib(), []
        source = DetectionSource(format="coco", annotations=str(path), images=str(folder))
        settings = JobSettings(units_per_shard=arguments.units_per_shard, limits=Limits())
        for part in ("scan and plan", "plan again from plan files"):
            started, runner = time.monotonic(), LocalRunner(1)
            with Monitor(runner) as monitor:
                out = folder_at(folder / "out")
                plan = plan_job(source, Workspace(out), out, settings, runner, monitor)
            seconds = time.monotonic() - started
            runner.close()
            peaks = (f"{peak_mib(who):.0f}" for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            rows.append((part, f"{seconds:.1f}", f"{megabytes / seconds:.1f}", *peaks))
        plan_files = sum(file.stat().st_size for file in (folder / "out" / "plan").iterdir())
        yield (
            f"A file of {megabytes:,.0f} MB with {plan.units:,} images and {plan.units * BOXES:,} boxes; "
            f"{len(plan.shards):,} shards, {plan_files / 1e6:.0f} MB of plan files. The job's process had "
            f"{before_mib:.0f} MiB before."
        )
        yield Table(head=("part", "s", "MB/s", "peak MiB, the job's process", "peak MiB, its child"), rows=rows)


if __name__ == "__main__":
    main_of("benchmarks.annotations")
