"""The command line of `datagen.markdown`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from datagen.cli import job_parser, paths_and_settings, run_source
from datagen.markdown.source import MarkdownSource
from varyforge.errors import command

if TYPE_CHECKING:
    pass


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.markdown",
        "Typesets LaTeX projects and Markdown files and writes each page with its Markdown.",
        MarkdownSource,
        examples="""
  python -m datagen.markdown papers/ --out shards/markdown
  python -m datagen.markdown 2401.12503.tar.gz notes.md --out shards/markdown max_pages=20""",
    )
    made.add_argument("paths", nargs="+", help="folders, archives, .tex and .md files or URLs, then key=value settings")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    paths, settings = paths_and_settings(arguments.paths)
    return run_source(MarkdownSource, {"paths": paths}, settings, arguments)


if __name__ == "__main__":
    main()
