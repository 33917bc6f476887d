"""The command `python -m datagen.markdown`: LaTeX and Markdown → pages with their Markdown."""

from __future__ import annotations

from datagen.cli import job_command, job_parser
from datagen.markdown.source import MarkdownSource

parser = job_parser(
    "datagen.markdown",
    "Typeset LaTeX projects and Markdown files and write each page with its Markdown.",
    MarkdownSource,
    examples="""
  python -m datagen.markdown papers/ --out shards/markdown
  python -m datagen.markdown 2401.12503.tar.gz notes.md --out shards/markdown max_pages=20""",
)
parser.add_argument("paths", nargs="+", help="folders, archives, .tex and .md files or URLs, then key=value settings")
main = job_command(parser, MarkdownSource)

if __name__ == "__main__":
    main()
