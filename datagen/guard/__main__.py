"""The command line `python -m datagen.guard`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from datagen.guard.benchmark_sets import BenchmarkImage, chartqa_images, docvqa_images, folder_images, refcoco_images
from datagen.guard.guard import build_guard
from varyforge.commands import program
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command

_MOST_LINES = 20  # printed about images without a fingerprint


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path}: no such folder")
    return name, Path(path)


parser = argparse.ArgumentParser(
    prog=program("datagen.guard"),
    description="Writes a file of benchmark images, so that sources can reject these (decontamination).",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="""examples:
  python -m datagen.guard --out guard.arrow --refcoco refer/data --coco-images coco/train2014
  python -m datagen.guard --out guard.arrow --docvqa docvqa/ --chartqa ChartQA/ --folder exam=ours/exam""",
)
add = parser.add_argument
add("--out", required=True, help="the guard file to write")
add("--refcoco", type=Path, help="folder with refcoco/refs(unc).p, refcoco+/, refcocog/")
add("--coco-images", type=Path, help="train2014 of COCO, to recognise RefCOCO images also by appearance")
add("--docvqa", type=Path, help="folder with val/val_v1.0.json or spdocvqa_qas/val_v1.0_withQT.json, and test")
add("--chartqa", type=Path, help='folder with val/ and test/, or with "ChartQA Dataset"')
add("--missing-ok", action="store_true", help="skip missing folders with a warning; the guard may be empty")
folders = "folder of other images (repeatable)"
add("--folder", type=_named_folder, action="append", default=[], metavar="NAME=PATH", help=folders)


@command
def main() -> int:
    """Parse the command line, write the guard and show its content."""
    arguments = parser.parse_args()
    if arguments.coco_images and not arguments.refcoco:
        raise UserError("--coco-images needs --refcoco; for other images give --folder NAME=PATH")
    for name in ("refcoco", "coco_images", "docvqa", "chartqa"):
        folder = getattr(arguments, name)
        if folder and not folder.is_dir():
            if not arguments.missing_ok:
                raise UserError(f"{folder}: no such folder (--{name.replace('_', '-')}); to skip it give --missing-ok")
            warn(f"{folder}: no such folder; images of {name} in it will not be rejected")
            setattr(arguments, name, None)
    images = list(_listed(arguments))
    if not images and not arguments.missing_ok:
        raise UserError("nothing to guard; give --refcoco, --docvqa, --chartqa or --folder NAME=PATH")
    report = build_guard(images, arguments.out)
    rows = [(name, n, report.by_id[name], report.by_appearance[name]) for name, n in report.images.items()]
    show_table(arguments.out, ("benchmark", "images", "known by name", "by appearance"), rows)
    for line in report.without_fingerprint[:_MOST_LINES]:
        say(f"not known by appearance: {line}")
    if len(report.without_fingerprint) > _MOST_LINES:
        say(f"… and {len(report.without_fingerprint) - _MOST_LINES} more, in the column `problem` of {arguments.out}")
    if report.unguarded:
        warn(f"{report.unguarded} images are known neither by name nor by appearance and will not be rejected")
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


if __name__ == "__main__":
    main()
