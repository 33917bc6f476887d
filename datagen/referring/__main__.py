"""The command line `python -m datagen.referring`."""

from __future__ import annotations

import argparse

from datagen.cli import job_parser, run_source
from datagen.referring.source import ReferringSource
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = job_parser(
        "datagen.referring",
        "Turns referring expressions into conversations: phrase → box, and box → phrase.",
        ReferringSource,
        examples="""
  python -m datagen.referring --refs refcoco refcoco+ --images train2014/ --out shards/refcoco split_by=[unc]
  python -m datagen.referring --jsonl own.jsonl --images photos/ --out shards/own convention=xyxy_px reverse=also""",
    )
    arguments.add_argument("--refs", nargs="+", default=[], help="published folders with refs(….p) and instances.json")
    arguments.add_argument("--jsonl", nargs="+", default=[], help="files or folders; {image, phrase, bbox} per line")
    arguments.add_argument("--images", required=True, help="folder of the images")
    arguments.add_argument("settings", nargs="*", help="key=value")
    return arguments


@command
def main() -> int:
    """Parse the command line and run the data job."""
    arguments = parser().parse_intermixed_args()
    inputs = {name: getattr(arguments, name) for name in ("refs", "jsonl", "images")}
    return run_source(ReferringSource, inputs, arguments.settings, arguments)


if __name__ == "__main__":
    main()
