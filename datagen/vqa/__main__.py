"""The command line `python -m datagen.vqa`."""

from __future__ import annotations

import argparse
from typing import Any

from datagen.cli import job_command, job_parser
from datagen.vqa.source import VqaSource
from varyforge.errors import UserError

parser = job_parser(
    "datagen.vqa",
    "Turns questions and conversations about images into samples for VQA and instruction tuning (SFT).",
    VqaSource,
    examples="""
  python -m datagen.vqa --docvqa DocVQA/ --out shards/docvqa
  python -m datagen.vqa --chartqa "ChartQA Dataset/" --out shards/chartqa turns=all
  python -m datagen.vqa --llava llava_instruct_80k.json --images train2017/ --out shards/llava
  python -m datagen.vqa --jsonl own.jsonl --images photos/ --out shards/own
  python -m datagen.vqa --parquet LLaVA-NeXT-Data/data/ --out shards/llava_next --units-per-shard 1000
  python -m datagen.vqa --parquet cord-v2/data/ --out shards/cord
  python -m datagen.vqa --funsd dataset/ --out shards/funsd turns=all""",
)
PUBLISHED = ("docvqa", "chartqa", "ai2d", "funsd", "sroie")  # in folders
formats = parser.add_mutually_exclusive_group(required=True)
formats.add_argument("--docvqa", metavar="DIR", help="folder of DocVQA as published")
formats.add_argument("--chartqa", metavar="DIR", help="folder of ChartQA as published")
formats.add_argument("--ai2d", metavar="DIR", help="folder of AI2D: questions/, images/, ai2d_test_ids.csv")
formats.add_argument("--funsd", metavar="DIR", help="folder of FUNSD: training_data/, testing_data/")
formats.add_argument("--sroie", metavar="DIR", help="folder of SROIE, task 3: train/entities/, train/img/ …")
files = "conversations or questions in files of JSON, JSON Lines or Parquet, or folders of them (repeatable)"
formats.add_argument(
    "--llava", "--jsonl", "--parquet", metavar="FILE", dest="records", action="append", default=[], help=files
)
parser.add_argument("--images", default="", metavar="DIR", help="folder of the records' images, where they are files")
parser.add_argument("settings", nargs="*", help="key=value")


def _inputs(arguments: argparse.Namespace) -> dict[str, Any]:
    format = next((format for format in PUBLISHED if getattr(arguments, format)), "records")
    if format == "records":
        return {"form": format}
    if arguments.images:
        raise UserError(f"--{format} takes no --images: the images are in its folder")
    return {"form": format, "images": getattr(arguments, format)}


main = job_command(parser, VqaSource, _inputs)

if __name__ == "__main__":
    main()
