"""Does an annotation file of gigabytes fit in memory, and how long does it take? Scans and plans one for real.

    python -m benchmarks.annotations --gb 2

Writes a file in Objects365's form to a temporary folder: `annotations` before `images`, in random order of images, 15
boxes an image. Then everything is the job's own code: the child process that reads the file, the plan files, the plan,
and the plan again from its files, as for a job that goes on. Prints seconds, MB/s and both processes' peak memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from datagen.detection.source import DetectionSource
from datagen.job.isolate import Limits
from datagen.job.job import plan_job
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.workspace import Workspace
from varyforge.console import say
from varyforge.storage import folder_at

BOXES = 15  # an image, about as many as Objects365 has
_BYTES_PER_IMAGE = BOXES * 212 + 202


def write_annotations(path: Path, images: int) -> None:
    """A file of `images` images in Objects365's form."""
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


def peak_mib(who: int) -> float:
    """Most memory held: by this process, or by one of its children that have ended."""
    return resource.getrusage(who).ru_maxrss / 1024


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--units-per-shard", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="varyforge-") as place:
        path = Path(place) / "annotations.json"
        write_annotations(path, int(arguments.gb * 1e9 / _BYTES_PER_IMAGE))
        size = path.stat().st_size / 1e6
        source = DetectionSource(format="coco", annotations=str(path), images=place)
        settings = JobSettings(units_per_shard=arguments.units_per_shard, limits=Limits())
        say(f"{size:.0f} MB; this process before: {peak_mib(resource.RUSAGE_SELF):.0f} MiB")
        for what in ("scan and plan", "plan again from plan files"):
            started, runner = time.monotonic(), LocalRunner(1)
            with Monitor(runner) as monitor:
                plan = plan_job(source, Workspace(folder_at(f"{place}/out")), settings, runner, monitor)
            seconds = time.monotonic() - started
            runner.close()
            peaks = peak_mib(resource.RUSAGE_SELF), peak_mib(resource.RUSAGE_CHILDREN)
            say(f"{what}: {plan.units} images in {len(plan.shards)} shards, {seconds:.1f} s, {size / seconds:.1f} MB/s")
            say(f"  peak memory: {peaks[0]:.0f} MiB here, {peaks[1]:.0f} MiB in the child")
        plans = sum(file.stat().st_size for file in Path(place, "out", "plan").iterdir())
        say(f"plan files: {plans / 1e6:.0f} MB")


if __name__ == "__main__":  # by its real name, which the child processes can import
    from benchmarks.annotations import main as _main

    _main()
