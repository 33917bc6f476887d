"""Measure images per second of detection and caption conversion against a loop that only reads and decodes the images.

    python -m benchmarks.sources PHOTOGRAPHS --count 700

Photographs of several widths (4 to 3) are cut from the JPEG files of the inputs (quality 90). They are
written as img2dataset's tars, as LLaVA's JSON and as COCO's, each with a folder of images. Then, in turns:

- bare: one process that reads each file and decodes it with Pillow, the program that one would write in three lines
- job: `datagen.caption` and `datagen.detection` as they are (child process, checks, prompts, tars, hashes, index,
  ledger) with one worker, from its start to its manifest. The images pass through unchanged

"Of bare" is the median over the rounds of bare time ÷ job time. Each job runs next to a bare loop of its own, so that
other load on the machine slows both. CPU is that of the child, which cuts the input into units, reads, checks and
makes, and of the parent, which writes meanwhile. Where both have a core, the child sets the pace: "bare ÷ child".
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import PIL.Image
import PIL.ImageOps

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import Spent, spent
from benchmarks.inputs import PHOTOGRAPHS, add_inputs, draw_photographs, files_in, inputs_of
from benchmarks.pdf_throughput import local_job
from datagen.caption.source import CaptionSource
from datagen.detection.source import DetectionSource

_COPIES = 4  # of a photograph, whose making takes ten times as long as reading it
_PER_TAR = 1000
_WORDS = (
    "a the raccoon dog tree house on in near small brown two people street with red car sitting grass water".split()
)
TINY = {"count": 2, "repeats": 1, "width": [320]}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_inputs(parser, "JPEG photographs")
    parser.add_argument(
        "--count", type=int, default=1500, help="different photographs, of each four copies (%(default)s)"
    )
    parser.add_argument("--width", type=int, nargs="+", default=[640, 1024], help="pixels of a photograph (640 1024)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--units-per-shard", type=int, default=1000, help="(%(default)s)")


def photographs(originals: list[Path], images: Path, count: int, width: int) -> list[str]:
    """Cut `count` photographs from the originals, and copy each `_COPIES` times. Returns the names of the files."""
    images.mkdir()
    names = []
    for number in range(count):
        dice = random.Random(number)
        picture = PIL.Image.open(originals[number % len(originals)]).convert("RGB")
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
    """Write tars and JSON for the photographs in `folder`/images, with random captions and boxes."""
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
    """Run the three lines."""
    for name in names:
        with open(images / name, "rb") as file:
            PIL.Image.open(io.BytesIO(file.read())).load()


def row(name: str, images: int, alone: list[Spent], whole: list[Spent]) -> tuple[str, ...]:
    """Return a row of the table: medians over the rounds."""
    bare_ms, wall_ms, own_ms, children_ms = (
        1000 / images * statistics.median(values)
        for values in (
            [one.own for one in alone],
            [one.wall for one in whole],
            [one.own for one in whole],
            [one.children for one in whole],
        )
    )
    ratio = statistics.median(one.wall / other.wall for one, other in zip(alone, whole, strict=True))
    pace = statistics.median(one.own / other.children for one, other in zip(alone, whole, strict=True))
    cpu = (f"{value:.2f}" for value in (bare_ms, children_ms, own_ms))
    return name, f"{1000 / wall_ms:.0f}", f"{ratio:.2f}", *cpu, f"{pace:.2f}"


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Measure photographs of each width."""
    for width in arguments.width:
        with work_folder() as folder:
            originals = files_in(inputs_of(arguments, folder / "inputs", draw_photographs), *PHOTOGRAPHS)
            names = photographs(originals, folder / "images", arguments.count, width)
            lay_out(folder, names, width)
            yield table(folder, names, f"{width} pixels wide", arguments)


def table(folder: Path, names: list[str], size: str, arguments: argparse.Namespace) -> Table:
    """Time each job next to a bare loop."""
    images = folder / "images"
    sources = {
        "caption, img2dataset tars": CaptionSource(paths=[str(folder / "tars")]),
        "caption, LLaVA's JSON": CaptionSource(form="llava", paths=[str(folder / "llava.json")], images=str(images)),
        "detection, COCO": DetectionSource(format="coco", annotations=str(folder / "coco.json"), images=str(images)),
    }
    alone: dict[str, list[Spent]] = {name: [] for name in sources}
    whole: dict[str, list[Spent]] = {name: [] for name in sources}
    bare(images, names)  # fills the page cache
    for _ in range(arguments.repeats):
        for name, source in sources.items():
            alone[name].append(spent(partial(bare, images, names)))
            whole[name].append(spent(partial(local_job, source, folder / "out", 1, arguments.units_per_shard)))
    kilobytes = sum((images / name).stat().st_size for name in names) / len(names) / 1000
    return Table(
        title=f"{len(names):,} photographs {size}, {kilobytes:.0f} kB each, one worker.",
        head=("source", "images/s", "of bare", "bare loop, CPU ms/image", "child", "parent", "bare ÷ child"),
        rows=[row(name, len(names), alone[name], whole[name]) for name in sources],
    )


if __name__ == "__main__":
    main_of("benchmarks.sources")
