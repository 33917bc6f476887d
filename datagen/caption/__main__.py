"""The command line `python -m datagen.caption`."""

from __future__ import annotations

import argparse

from datagen.caption.source import FORMAT_OPTIONS, FORMATS, CaptionSource
from datagen.cli import job_parser, paths_and_settings, run_source
from varyforge.errors import UserError, command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = job_parser(
        "datagen.caption",
        "Turns images with captions into conversations.",
        CaptionSource,
        examples="""
  python -m datagen.caption laion-coco/ --out shards/caption caption_key=top_caption
  python -m datagen.caption --llava blip_laion_cc_sbu_558k.json --images images/ --out shards/blip
  python -m datagen.caption --coco captions_train2017.json --images train2017/ --out shards/coco
  python -m datagen.caption --table captions.parquet --images photos/ --out shards/own image_column=path""",
    )
    arguments.add_argument(
        "paths", nargs="*", help=f"{FORMATS['tars'].help} or folders or URLs of them, then key=value settings"
    )
    formats = arguments.add_mutually_exclusive_group()
    for name in FORMAT_OPTIONS:
        formats.add_argument(f"--{name}", metavar="FILE", help=FORMATS[name].help)
    arguments.add_argument("--images", default="", help="folder of the images (not for tars)")
    return arguments


@command
def main() -> int:
    """Parse the command line and run the data job."""
    arguments = parser().parse_intermixed_args()
    paths, settings = paths_and_settings(arguments.paths)
    format = next((name for name in FORMAT_OPTIONS if getattr(arguments, name)), "tars")
    if (format == "tars") != bool(paths):
        raise UserError("give either tars or one of " + ", ".join(f"--{name}" for name in FORMAT_OPTIONS))
    inputs = {"form": format, "paths": paths or [getattr(arguments, format)], "images": arguments.images}
    return run_source(CaptionSource, inputs, settings, arguments)


if __name__ == "__main__":
    main()
