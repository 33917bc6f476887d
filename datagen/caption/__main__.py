"""The command line of `datagen.caption`."""

from __future__ import annotations

import argparse

from datagen.caption.source import _OPTIONS, FORMS, CaptionSource
from datagen.cli import job_parser, paths_and_settings, run_source
from varyforge.errors import UserError, command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.caption",
        "Turns images with captions into conversations.",
        CaptionSource,
        examples="""
  python -m datagen.caption laion-coco/ --out shards/caption caption_key=top_caption
  python -m datagen.caption --llava blip_laion_cc_sbu_558k.json --images images/ --out shards/blip
  python -m datagen.caption --coco captions_train2017.json --images train2017/ --out shards/coco
  python -m datagen.caption --table captions.parquet --images photos/ --out shards/own image_column=path""",
    )
    made.add_argument(
        "paths", nargs="*", help=f"{FORMS['tars'].help}, folders or URLs of them; then key=value settings"
    )
    forms = made.add_mutually_exclusive_group()
    for name in _OPTIONS:
        forms.add_argument(f"--{name}", metavar="FILE", help=FORMS[name].help)
    made.add_argument(
        "--images", default="", help="folder that the file names of images are relative to (not for tars)"
    )
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    paths, settings = paths_and_settings(arguments.paths)
    form = next((name for name in _OPTIONS if getattr(arguments, name)), "tars")
    if (form == "tars") != bool(paths):
        raise UserError("name either tars or one of " + ", ".join(f"--{name}" for name in _OPTIONS))
    inputs = {"form": form, "paths": paths or [getattr(arguments, form)], "images": arguments.images}
    return run_source(CaptionSource, inputs, settings, arguments)


if __name__ == "__main__":
    main()
