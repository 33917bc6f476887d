"""The command `python -m datagen.pdf`: PDF pages → OCR samples."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from datagen.cli import job_command, job_parser
from datagen.pdf.source import PdfSource
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.storage import LocalFolder, folder_at

parser = job_parser(
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
parser.add_argument(
    "paths", nargs="*", help="PDFs, folders or URLs, then key=value settings; without any, sample documents"
)
parser.add_argument("--languages", metavar="EN,ZH", help="keep only pages in these (gates.languages=[en,zh])")


def _inputs(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.languages:  # quoted: "no" is Norwegian
        arguments.settings.append(f"gates.languages={json.dumps(arguments.languages.split(','))}")
    if arguments.paths:
        return {}
    if not isinstance(folder_at(arguments.out), LocalFolder):
        raise UserError("no PDFs given; name some (sample documents need --out on this machine)")
    from datagen.examples.documents import write_documents  # noqa: PLC0415  # PyMuPDF; pdfium and --help do without

    folder = Path(arguments.out) / "documents"
    written = write_documents(folder)
    say(f"no PDFs given: made {len(written)} sample documents in {folder} (English and Chinese, several layouts)")
    return {"paths": [str(folder)]}


main = job_command(parser, PdfSource, _inputs)

if __name__ == "__main__":
    main()
