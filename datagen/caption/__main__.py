"""The command line `python -m datagen.caption`."""

from __future__ import annotations

import argparse
from typing import Any

from datagen.caption.source import FORMAT_OPTIONS, FORMATS, CaptionSource
from datagen.cli import job_command, job_parser
from varyforge.errors import UserError

parser = job_parser(
    "datagen.caption",
    "Turns images with captions into conversations.",
    CaptionSource,
    examples="""
  python -m datagen.caption laion-coco/ --out shards/caption caption_key=top_caption
  python -m datagen.caption --llava blip_laion_cc_sbu_558k.json --images images/ --out shards/blip
  python -m datagen.caption --coco captions_train2017.json --images train2017/ --out shards/coco
  python -m datagen.caption --table captions.parquet --images photos/ --out shards/own image_column=path
  python -m datagen.caption --parquet pixparse-cc3m/data/ --out shards/cc3m caption_column=txt image_column=jpg""",
)
parser.add_argument(
    "paths", nargs="*", help=f"{FORMATS['tars'].help} or folders or URLs of them, then key=value settings"
)
formats = parser.add_mutually_exclusive_group()
for name in FORMAT_OPTIONS:
    also = ["--parquet"] if name == "table" else []
    formats.add_argument(f"--{name}", *also, metavar="FILE", help=FORMATS[name].help)
parser.add_argument("--images", default="", help="folder of the images (not for tars)")


def _inputs(arguments: argparse.Namespace) -> dict[str, Any]:
    format = next((name for name in FORMAT_OPTIONS if getattr(arguments, name)), "tars")
    if (format == "tars") != bool(arguments.paths):
        raise UserError("give either tars or one of " + ", ".join(f"--{name}" for name in FORMAT_OPTIONS))
    return {"form": format, "paths": arguments.paths or [getattr(arguments, format)]}


main = job_command(parser, CaptionSource, _inputs)

if __name__ == "__main__":
    main()
