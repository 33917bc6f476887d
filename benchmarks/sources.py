"""Images per second of detection and caption conversion against a loop that only reads and decodes the images.

    python -m benchmarks.sources PHOTOGRAPHS --width 1024

From the JPEGs in a folder, photographs of 640 x 480 (or of another width, 4 to 3) are cut (JPEG of quality 90) and laid
out as img2dataset's tars, as LLaVA's JSON and as COCO's, each with a folder of images. Then, in turns:

- bare: one process that reads each file and decodes it with Pillow. What a person would write in three lines.
- job: `datagen.caption` and `datagen.detection` as they are (child process, checks, prompts, tars, hashes, index,
  ledger) with one worker, from its start to its manifest. The images pass through unchanged.

"Of bare" is the median over the rounds of bare time ÷ job time, each job next to a bare loop of its own, so that what
else runs on the machine weighs on both. CPU is that of the child, which cuts the input into units, reads, checks and
makes, and of the parent, which writes meanwhile. Where both have a core, the child sets the pace: "bare ÷ child".
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import PIL.ImageOps

from benchmarks.pdf_throughput import local_job
from datagen.caption.source import CaptionSource
from datagen.detection.source import DetectionSource
from varyforge.console import say, show_table
from varyforge.errors import UserError, command

_COPIES = 4  # making a photograph takes ten times as long as reading it
_PER_TAR = 1000
_WORDS = (
    "a the raccoon dog tree house on in near small brown two people street with red car sitting grass water".split()
)


def photographs(folder: Path, images: Path, count: int, width: int) -> list[str]:
    """Cuts `count` photographs from those in `folder`, each there `_COPIES` times. Returns their names."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise UserError(f"{folder}: no *.jpg in this folder")
    images.mkdir()
    names = []
    for number in range(count):
        dice = random.Random(number)
        picture = PIL.Image.open(found[number % len(found)]).convert("RGB")
        shift, part = (dice.random(), dice.random()), dice.uniform(0.7, 1)
        picture = picture.resize(picture.size, box=_part(picture.size, shift, part))
        cut = images / "cut.jpg"
        PIL.ImageOps.fit(picture, (width, 3 * width // 4)).save(cut, quality=90)
        for copy in range(_COPIES):
            names.append(f"{copy:04d}{number:04d}.jpg")
            os.link(cut, images / names[-1])
        cut.unlink()
    return sorted(names)


def _part(size: tuple[int, int], shift: tuple[float, float], part: float) -> tuple[float, float, float, float]:
    left, top = (side * (1 - part) * of for side, of in zip(size, shift, strict=True))
    return left, top, left + size[0] * part, top + size[1] * part


def lay_out(folder: Path, names: list[str], width: int) -> None:
    """The photographs in `folder`/images once more in tars, and JSON for them; captions and boxes are made up."""
    dice = random.Random(0)
    captions = [" ".join(dice.choices(_WORDS, k=dice.randint(7, 14))) for _ in names]
    (folder / "tars").mkdir()
    for start in range(0, len(names), _PER_TAR):
        with tarfile.open(folder / "tars" / f"{start // _PER_TAR:05d}.tar", "w") as tar:
            for name, caption in list(zip(names, captions, strict=True))[start : start + _PER_TAR]:
                about = {
                    "caption": caption,
                    "url": f"https://example.org/{name}",
                    "key": name[:-4],
                    "status": "success",
                }
                members = {
                    "jpg": (folder / "images" / name).read_bytes(),
                    "txt": caption.encode(),
                    "json": json.dumps(about, indent=4).encode(),
                }
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{name[:-4]}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    human = {"from": "human", "value": "Render a clear and concise summary of the photo.\n<image>"}
    records = [
        {"id": name[:-4], "image": name, "conversations": [human, {"from": "gpt", "value": caption}]}
        for name, caption in zip(names, captions, strict=True)
    ]
    (folder / "llava.json").write_text(json.dumps(records))
    boxes = [
        (n, dice.randrange(80), dice.uniform(0, 500), dice.uniform(0, 400)) for n in range(len(names)) for _ in range(7)
    ]
    size = {"width": width, "height": 3 * width // 4}
    coco = {
        "images": [{"id": n, "file_name": name, **size} for n, name in enumerate(names)],
        "annotations": [
            {"id": k, "image_id": n, "category_id": of, "bbox": [x, y, 100.5, 60.25]}
            for k, (n, of, x, y) in enumerate(boxes)
        ],
        "categories": [{"id": of, "name": f"class {of}"} for of in range(80)],
    }
    (folder / "coco.json").write_text(json.dumps(coco))


def bare(images: Path, names: list[str]) -> None:
    """The three lines."""
    for name in names:
        with open(images / name, "rb") as file:
            PIL.Image.open(io.BytesIO(file.read())).load()


class Spent(NamedTuple):
    """What a run took, seconds."""

    wall: float
    here: float  # CPU of this process
    children: float  # CPU of the processes that make units, from their start to their end


def spent(call: Callable[[], Any]) -> Spent:
    """Runs `call`, which waits for its children's end."""
    wall, before = time.monotonic(), os.times()
    call()
    after = os.times()
    return Spent(
        time.monotonic() - wall,
        after.user + after.system - before.user - before.system,
        after.children_user + after.children_system - before.children_user - before.children_system,
    )


def row(name: str, images: int, alone: list[Spent], whole: list[Spent]) -> tuple[str, ...]:
    """A line of the table: medians over the rounds."""
    bare_ms, wall_ms, here_ms, children_ms = (
        1000 / images * statistics.median(values)
        for values in (
            [one.here for one in alone],
            [one.wall for one in whole],
            [one.here for one in whole],
            [one.children for one in whole],
        )
    )
    ratio = statistics.median(one.wall / other.wall for one, other in zip(alone, whole, strict=True))
    pace = statistics.median(one.here / other.children for one, other in zip(alone, whole, strict=True))
    cpu = (f"{value:.2f}" for value in (bare_ms, children_ms, here_ms))
    return name, f"{1000 / wall_ms:.0f}", f"{ratio:.2f}", *cpu, f"{pace:.2f}"


@command
def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of JPEG photographs")
    parser.add_argument(
        "--count", type=int, default=1500, help="different photographs, each there four times (%(default)s)"
    )
    parser.add_argument("--width", type=int, default=640, help="pixels of a photograph (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--units-per-shard", type=int, default=1000, help="(%(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sources-"))
    images = folder / "images"
    names = photographs(arguments.folder, images, arguments.count, arguments.width)
    lay_out(folder, names, arguments.width)
    sources = {
        "caption, tars": CaptionSource(paths=[str(folder / "tars")]),
        "caption, LLaVA": CaptionSource(form="llava", paths=[str(folder / "llava.json")], images=str(images)),
        "detection, COCO": DetectionSource(format="coco", annotations=str(folder / "coco.json"), images=str(images)),
    }
    alone: dict[str, list[Spent]] = {name: [] for name in sources}
    whole: dict[str, list[Spent]] = {name: [] for name in sources}
    bare(images, names)  # the page cache
    for _ in range(arguments.repeats):
        for name, source in sources.items():
            alone[name].append(spent(partial(bare, images, names)))
            whole[name].append(spent(partial(local_job, source, folder / "out", 1, arguments.units_per_shard)))
    rows = [row(name, len(names), alone[name], whole[name]) for name in sources]
    head = ("", "images/s", "of bare", "CPU ms: bare", "child", "parent", "bare ÷ child")
    show_table(f"{len(names)} photographs {arguments.width} pixels wide, one worker", head, rows)
    total = sum((images / name).stat().st_size for name in names)
    say(f"an image has {total / len(names) / 1000:.0f} kB")
    shutil.rmtree(folder)


if __name__ == "__main__":  # by its real name, which the child processes can import
    from benchmarks.sources import main as _main

    _main()
