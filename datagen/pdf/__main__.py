"""The command `python -m datagen.pdf`: PDF pages → OCR samples."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from datagen.cli import job_parser, paths_and_settings, run_source
from datagen.examples.documents import write_documents
from datagen.pdf.source import PdfSource
from varyforge.console import say
from varyforge.errors import UserError, command
from varyforge.storage import LocalFolder, folder_at


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = job_parser(
        "datagen.pdf",
        "Render PDF pages and write them with their text as OCR samples.",
        PdfSource,
        examples="""
  python -m datagen.pdf papers/ --out shards/pdf
  python -m datagen.pdf --out shards/                    sample documents of the project
  python -m datagen.pdf a.pdf b.pdf --out shards/pdf --workers 8 short_side_px=1280 gates.min_chars=50
  python -m datagen.pdf papers/ --out shards/pdf --languages en,zh --update    after adding papers
  python -m datagen.pdf papers/ --out shards/pdf --retry failed:timeout --deadline 300
  python -m datagen.pdf s3://bucket/papers --out s3://bucket/shards/pdf --address auto""",
    )
    command_line.add_argument(
        "paths", nargs="*", help="PDFs, folders or URLs, then key=value settings; without any, sample documents"
    )
    command_line.add_argument("--languages", metavar="EN,ZH", help="keep only pages in these (gates.languages=[en,zh])")
    return command_line


@command
def main() -> int:
    """Parse the command line and run the job."""
    arguments = parser().parse_intermixed_args()
    paths, overrides = paths_and_settings(arguments.paths)
    if arguments.languages:
        overrides.append(f"gates.languages={json.dumps(arguments.languages.split(','))}")  # quoted: "no" is Norwegian
    if not paths:
        if not isinstance(folder_at(arguments.out), LocalFolder):
            raise UserError("no PDFs given; name some (sample documents need --out on this machine)")
        folder = Path(arguments.out) / "documents"
        paths = [str(folder)]
        written = write_documents(folder)
        say(f"no PDFs given: made {len(written)} sample documents in {folder} (English and Chinese, several layouts)")
    return run_source(PdfSource, {"paths": paths}, overrides, arguments)


if __name__ == "__main__":
    main()
