"""The command `python -m datagen.markdown`: LaTeX and Markdown → pages with their Markdown."""

from __future__ import annotations

import argparse

from datagen.cli import job_parser, paths_and_settings, run_source
from datagen.markdown.source import MarkdownSource
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = job_parser(
        "datagen.markdown",
        "Typeset LaTeX projects and Markdown files and write each page with its Markdown.",
        MarkdownSource,
        examples="""
  python -m datagen.markdown papers/ --out shards/markdown
  python -m datagen.markdown 2401.12503.tar.gz notes.md --out shards/markdown max_pages=20""",
    )
    about = "folders, archives, .tex and .md files or URLs, then key=value settings"
    command_line.add_argument("paths", nargs="+", help=about)
    return command_line


@command
def main() -> int:
    """Parse the command line and run the job."""
    arguments = parser().parse_intermixed_args()
    paths, settings = paths_and_settings(arguments.paths)
    return run_source(MarkdownSource, {"paths": paths}, settings, arguments)


if __name__ == "__main__":
    main()
