"""The command line of `datagen.guard`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from datagen.guard.benchmark_sets import BenchmarkImage, chartqa_images, docvqa_images, folder_images, refcoco_images
from datagen.guard.guard import build_guard
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command

_SHOWN = 20  # lines about images that could not be read


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m datagen.guard",
        description="Lists the images of benchmarks, so that sources can refuse them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m datagen.guard --out guard.arrow --refcoco refer/data --coco-images coco/train2014
  python -m datagen.guard --out guard.arrow --docvqa docvqa/ --chartqa ChartQA/ --folder exam=ours/exam""",
    )
    add = made.add_argument
    add("--out", required=True, help="the guard, one file")
    add("--refcoco", type=Path, help="holds refcoco/refs(unc).p, refcoco+/, refcocog/")
    add("--coco-images", type=Path, help="COCO's train2014, so that RefCOCO's images are known by their look, too")
    add("--docvqa", type=Path, help="holds val/val_v1.0.json or spdocvqa_qas/val_v1.0_withQT.json, and test")
    add("--chartqa", type=Path, help='holds val/ and test/, or "ChartQA Dataset" with these')
    add("--missing-ok", action="store_true", help="leave out what is not there, with a warning; the guard may be empty")
    add("--folder", type=_named_folder, action="append", default=[], metavar="NAME=PATH", help="a folder of images")
    return made


@command
def main() -> int:
    """Parses the command line, writes the guard, shows what it holds."""
    arguments = parser().parse_args()
    if arguments.coco_images and not arguments.refcoco:
        raise UserError("--coco-images are the images of --refcoco, which is not given; --folder guards any images")
    for name in ("refcoco", "coco_images", "docvqa", "chartqa"):
        folder = getattr(arguments, name)
        if folder and not folder.is_dir():
            if not arguments.missing_ok:
                raise UserError(f"{folder}: no such folder (--{name.replace('_', '-')}); --missing-ok leaves it out")
            warn(f"{folder}: no such folder: images of {name} are not refused by what is there")
            setattr(arguments, name, None)
    images = list(_listed(arguments))
    if not images and not arguments.missing_ok:
        raise UserError("nothing to guard; give --refcoco, --docvqa, --chartqa or --folder NAME=PATH")
    report = build_guard(images, arguments.out)
    rows = [(name, n, report.by_id[name], report.by_appearance[name]) for name, n in report.images.items()]
    show_table(arguments.out, ("benchmark", "images", "known by name", "by look"), rows)
    for line in report.without_fingerprint[:_SHOWN]:
        say(f"not known by look: {line}")
    if len(report.without_fingerprint) > _SHOWN:
        say(f"… and {len(report.without_fingerprint) - _SHOWN} more, in the column `problem` of {arguments.out}")
    if report.unguarded:
        warn(f"{report.unguarded} images are known neither by name nor by look: they are not guarded")
    return 0


def _listed(arguments: argparse.Namespace) -> Iterator[BenchmarkImage]:
    if arguments.refcoco:
        yield from refcoco_images(arguments.refcoco, arguments.coco_images)
    if arguments.docvqa:
        yield from docvqa_images(arguments.docvqa)
    if arguments.chartqa:
        yield from chartqa_images(arguments.chartqa)
    for name, folder in arguments.folder:
        yield from folder_images(name, folder)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, _folder(path)


if __name__ == "__main__":
    main()
