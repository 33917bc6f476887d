"""The command line of `datagen.referring`."""

from __future__ import annotations

import argparse

from datagen.cli import job_parser, run_source
from datagen.referring.source import ReferringSource
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.referring",
        "Turns phrases that refer to objects into conversations: phrase → box, and box → phrase.",
        ReferringSource,
        examples="""
  python -m datagen.referring --refs refcoco refcoco+ --images train2014/ --out shards/refcoco split_by=[unc]
  python -m datagen.referring --jsonl own.jsonl --images photos/ --out shards/own convention=xyxy_px reverse=also""",
    )
    made.add_argument("--refs", nargs="+", default=[], help="folders as published: refs(….p) and instances.json")
    made.add_argument("--jsonl", nargs="+", default=[], help="files or folders: {image, phrase, bbox} a line")
    made.add_argument("--images", required=True, help="folder of the images")
    made.add_argument("settings", nargs="*", help="key=value")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    inputs = {name: getattr(arguments, name) for name in ("refs", "jsonl", "images")}
    return run_source(ReferringSource, inputs, arguments.settings, arguments)


if __name__ == "__main__":
    main()
