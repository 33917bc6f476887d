"""The command line `python -m datagen.vqa`."""

from __future__ import annotations

import argparse
from typing import Any

from datagen.cli import job_parser, run_source
from datagen.vqa.source import VqaSource
from varyforge.errors import UserError, command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = job_parser(
        "datagen.vqa",
        "Turns questions and conversations about images into samples for VQA and instruction tuning (SFT).",
        VqaSource,
        examples="""
  python -m datagen.vqa --docvqa DocVQA/ --out shards/docvqa
  python -m datagen.vqa --chartqa "ChartQA Dataset/" --out shards/chartqa turns=all
  python -m datagen.vqa --llava llava_instruct_80k.json --images train2017/ --out shards/llava
  python -m datagen.vqa --jsonl own.jsonl --images photos/ --out shards/own""",
    )
    formats = arguments.add_mutually_exclusive_group(required=True)
    formats.add_argument("--docvqa", metavar="DIR", help="folder of DocVQA as published")
    formats.add_argument("--chartqa", metavar="DIR", help="folder of ChartQA as published")
    files = "conversations or questions in JSON or JSON Lines files or folders (repeatable)"
    formats.add_argument("--llava", "--jsonl", metavar="FILE", dest="records", action="append", help=files)
    arguments.add_argument("--images", metavar="DIR", help="folder of the records' images")
    arguments.add_argument("settings", nargs="*", help="key=value")
    return arguments


@command
def main() -> int:
    """Parse the command line and run the data job."""
    arguments = parser().parse_intermixed_args()
    inputs: dict[str, Any] = {"form": "records", "records": arguments.records, "images": arguments.images}
    for format in ("docvqa", "chartqa"):
        if folder := getattr(arguments, format):
            inputs = {"form": format, "images": folder}
    if not inputs["images"] or (arguments.images and inputs["form"] != "records"):
        raise UserError("--llava and --jsonl need --images, the folder of the images; --docvqa and --chartqa take none")
    return run_source(VqaSource, inputs, arguments.settings, arguments)


if __name__ == "__main__":
    main()
