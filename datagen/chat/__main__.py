"""The command line `python -m datagen.chat`."""

from __future__ import annotations

import argparse

from datagen.chat.source import ChatSource
from datagen.cli import job_parser, paths_and_settings, run_source
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = job_parser(
        "datagen.chat",
        "Turns chats (ShareGPT, Baize, Alpaca, OpenAI messages) into text conversations.",
        ChatSource,
        examples="""
  python -m datagen.chat ShareGPT_V3_unfiltered_cleaned_split.json --out shards/sharegpt
  python -m datagen.chat alpaca_en.json alpaca_zh.json --out shards/alpaca licence=cc-by-nc-4.0
  python -m datagen.chat chats/ --out shards/chat --limit 1000""",
    )
    arguments.add_argument(
        "paths", nargs="+", help="JSON or JSON Lines files or their folders, then key=value settings"
    )
    return arguments


@command
def main() -> int:
    """Parse the command line and run the data job."""
    arguments = parser().parse_intermixed_args()
    paths, settings = paths_and_settings(arguments.paths)
    return run_source(ChatSource, {"paths": paths}, settings, arguments)


if __name__ == "__main__":
    main()
