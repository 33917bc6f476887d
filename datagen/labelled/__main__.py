"""The command line `python -m datagen.labelled`."""

from __future__ import annotations

from datagen.cli import job_command, job_parser
from datagen.labelled.source import LabelledSource

parser = job_parser(
    "datagen.labelled",
    "Turn pages with a text or JSON file of the same name into samples: invoice.pdf and invoice.json.",
    LabelledSource,
    examples="""
  python -m datagen.labelled letters/ --out shards/letters                     a.png, a.txt: OCR
  python -m datagen.labelled invoices/ --out shards/invoices                   b.pdf, b.json: the JSON as the answer
  python -m datagen.labelled invoices/ --out shards/invoices ask=keys          one question per key""",
)
parser.add_argument("paths", nargs="+", help="folders with pages and labels, or pages, then key=value settings")
main = job_command(parser, LabelledSource)

if __name__ == "__main__":
    main()
