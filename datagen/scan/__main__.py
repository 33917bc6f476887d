"""The command line `python -m datagen.scan`."""

from __future__ import annotations

from datagen.cli import job_command, job_parser
from datagen.scan.source import ScanSource

parser = job_parser(
    "datagen.scan",
    "Read scanned pages by OCR and write them with the text as OCR samples. No person has checked these labels.",
    ScanSource,
    examples="""
  python -m datagen.scan scans/ --out shards/scan
  python -m datagen.scan letters.pdf fax.tif --out shards/scan languages=[deu,eng]
  python -m datagen.scan scans/ --out shards/scan engine=rapidocr --deadline 300
  python -m datagen.scan scans/ --out shards/scan gates.min_confidence=0.9 --update""",
)
parser.add_argument(
    "paths", nargs="+", help="PDFs, PNG, JPEG and TIFF files, or folders or URLs of them, then key=value settings"
)
main = job_command(parser, ScanSource)

if __name__ == "__main__":
    main()
