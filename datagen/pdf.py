"""PDF pages → OCR samples: `python -m datagen.pdf papers/ --out shards/pdf`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datagen.audit import PageGates, judge, measure
from datagen.cli import job_parser, run_source
from datagen.console import say
from datagen.errors import command
from datagen.files import sha256_file
from datagen.images import encode_jpeg
from datagen.language import language_of
from datagen.listing import list_files, name_of
from datagen.page import PdfError
from datagen.pages import open_document
from datagen.prompts import choose
from datagen.sample import IMAGE_MARKER, Sample, Turn, make_key
from datagen.unit import Failed, Outcome, Unit, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfSource:
    """Pages of PDFs: the picture and, as the answer, the text layer (Vary-toy, arXiv 2401.12503, section 3.2)."""

    paths: list[str]  # PDF files, or folders searched for *.pdf at any depth
    short_side_px: int = 1024  # the model sees 1024 x 1024
    long_side_px: int = 4096  # of skinny pages
    jpeg_quality: int = 90
    gates: PageGates = field(default_factory=PageGates)

    name = "pdf"
    places = ("paths",)

    def __post_init__(self) -> None:
        if not (1 <= self.short_side_px <= self.long_side_px and 1 <= self.jpeg_quality <= 95):
            raise ValueError("needs 1 <= short_side_px <= long_side_px and jpeg_quality from 1 to 95")

    def inputs(self) -> Iterator[str]:
        """See `Source`."""
        return list_files(self.paths, ".pdf")

    def document(self, path: str) -> str:
        """See `Source`."""
        return name_of(path, self.paths)

    def units(self, path: str) -> list[Unit] | Failed:
        """One unit per page."""
        try:
            with open_document(path) as opened:
                pages = len(opened)
        except PdfError as error:
            return Failed(reason=error.reason, detail=str(error))
        document, content = self.document(path), sha256_file(Path(path))
        return [
            Unit(
                id=f"{document}#{number:04d}",
                group=document,
                content=f"{content}#{number}",
                payload={"path": path, "page": number},
            )
            for number in range(pages)
        ]

    def make(self, unit: Unit) -> Outcome:
        """Renders one page and takes its text as the answer."""
        path, number = unit.payload["path"], unit.payload["page"]
        try:
            with open_document(path) as opened:
                page = opened.page(number, short_side_px=self.short_side_px, long_side_px=self.long_side_px)
        except PdfError as error:
            return Failed(reason=error.reason, detail=str(error))
        text = "\n".join(line.text.strip() for line in page.lines if line.text.strip())
        language = language_of(text)
        refused = judge(measure(page, text), language, self.gates)
        if refused:
            return refused
        key = make_key(self.name, unit.content)
        prompt = choose("ocr", language, key)
        sample = Sample(
            key=key,
            task="ocr",
            turns=(Turn(role="user", text=IMAGE_MARKER + prompt), Turn(role="assistant", text=text)),
            images=(encode_jpeg(page.picture, self.jpeg_quality),),
            source=self.name,
            origin={"document": unit.group, "page": number, "language": language},
        )
        return Written(samples=(sample,))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.pdf",
        "Renders PDF pages and writes them with their text as OCR samples.",
        PdfSource,
        examples="""
  python -m datagen.pdf papers/ --out shards/pdf
  python -m datagen.pdf --out shards/                    sample documents made by the project
  python -m datagen.pdf a.pdf b.pdf --out shards/pdf --workers 8 short_side_px=1280 gates.min_chars=50""",
    )
    made.add_argument("paths", nargs="*", help="PDF files or folders (none: sample documents), then key=value settings")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    overrides = [item for item in arguments.paths if "=" in item and not Path(item).exists()]
    paths = [item for item in arguments.paths if item not in overrides]
    if not paths:
        from datagen.examples import write_documents  # noqa: PLC0415  # not for the children that import this module

        folder = Path(arguments.out) / "documents"
        paths = [str(folder)]
        written = write_documents(folder)
        say(f"no PDFs given: made {len(written)} sample documents in {folder} (English and Chinese, several layouts)")
    return run_source(PdfSource, {"paths": paths}, overrides, arguments)


if __name__ == "__main__":  # by its real name, so that what travels to workers is datagen.pdf.PdfSource
    from datagen.pdf import main as _main

    _main()
