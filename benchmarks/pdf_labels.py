"""Pages of PDFs that Debian ships, with the verdict of OCR and of a reader on their labels.

The table `data/pdf_labels.tsv` names packages of Debian 12 with their versions. To have the documents:

    apt-get download PACKAGE && dpkg -x PACKAGE_*.deb FOLDER/PACKAGE
    find FOLDER -name '*.pdf.gz' -exec gunzip {} +

A TeX package's folder, or a family of translations, is in one half. Thresholds are set on `tune`, figures are of
`held`.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pymupdf

from benchmarks.inputs import add_inputs, draw_documents, files_in

TABLE = Path(__file__).with_name("data") / "pdf_labels.tsv"
OCR_SHORT_SIDE_PX = 1600
OCR_CONFIDENCE = 30  # of 100; below it tesseract mostly reads drawings
WRONG = 0.6  # similarity; tesseract reads about 0.9 of a clean page at this size, and tables worse
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, kana, Han
SYLLABLES = UNSPACED + "\uac00-\ud7a3"  # tesseract splits words of these scripts, Korean too
REASONS = {
    "ok": "the label says what the page shows; a line in the wrong order and formulas in pieces are allowed",
    "unreadable": "the label holds characters that nobody can read, such as U+FFFD",
    "shifted": "letters or symbols are others than those printed",
    "missing": "more than half of the letters on the page are not in the label, such as those of a screenshot",
    "torn": "words come apart",
    "order": "lines or characters are mixed up",
}
TOKENS = re.compile(rf"[{UNSPACED}]+|[^\W_{UNSPACED}]+")


@dataclass(frozen=True)
class Labelled:
    """A row of the table.

    Args:
        folder: where the packages were unpacked.
        page: from 1.
        languages: tesseract's names.
        kind: "accepted", "refused" by the audit of the time of sampling (oversampled), or "other" (few letters, thin).
        similarity: of text layer and OCR when the table was written; None where OCR reads fewer than 20 letter pairs.
        reason: one of `REASONS` where a reader looked at the picture and the label, else "".
    """

    folder: Path
    package: str
    version: str
    file: str
    page: int
    half: str
    languages: str
    kind: str = "accepted"
    similarity: float | None = 1.0
    reason: str = ""
    COLUMNS: ClassVar = ("package", "version", "file", "page", "half", "languages", "kind", "similarity", "reason")

    @property
    def path(self) -> Path:
        """The document."""
        return self.folder / self.package / self.file

    @property
    def name(self) -> str:
        """The page's name in a report."""
        return f"{self.package}/{self.path.name}#{self.page}"

    def is_wrong(self, unreadable: bool) -> bool:
        """Whether the label is wrong: if it is `unreadable`, by eye where somebody looked, else by OCR."""
        if unreadable or self.reason in ("", "unreadable"):
            return unreadable or (self.similarity or 0) < WRONG
        return self.reason != "ok"

    def row(self) -> list[str]:
        """Return the page as a row of the table."""
        similarity = "" if self.similarity is None else f"{self.similarity:.2f}"
        return [similarity if name == "similarity" else str(getattr(self, name)) for name in self.COLUMNS]


class OcrWords:
    """Words that tesseract reads on pages, from a folder of its TSV files, or from the tool where one is missing."""

    def __init__(self, folder: Path, *, layer: bool = False) -> None:
        self.folder = folder
        self.layer = layer  # stand-in for OCR: the text layer itself

    @cached_property
    def tesseract(self) -> bool:
        """Whether the tool is here."""
        return shutil.which("tesseract") is not None

    def text(self, page: Labelled) -> str | None:
        """Return the words in OCR's order, one line of print a line; None where there is neither file nor tool."""
        with pymupdf.open(page.path) as document:
            if self.layer:
                return str(document[page.page - 1].get_text())
            stored = (
                self.folder
                / f"{page.package}-{page.path.parent.name}-{page.path.stem}-{page.page:04d}-{page.languages}.tsv"
            )
            if not stored.exists():
                if not self.tesseract:
                    return None
                self._read(document[page.page - 1], page.languages, stored)
        return "\n".join(" ".join(words) for words in _lines(stored))

    def _read(self, page: pymupdf.Page, languages: str, stored: Path) -> None:
        zoom = OCR_SHORT_SIDE_PX / min(page.rect.width, page.rect.height)
        picture = stored.with_suffix(".png")
        page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom)).save(picture)
        words = ["tesseract", str(picture), str(stored.with_suffix("")), "-l", languages, "--psm", "3", "tsv"]
        limits = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        subprocess.run(words, capture_output=True, check=True, env=limits, timeout=300)
        picture.unlink()


def _lines(tsv: Path) -> Iterator[list[str]]:
    """Yield the words of each line of print."""
    lines: dict[tuple[str, ...], list[str]] = {}
    with tsv.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["text"] and row["text"].strip() and float(row["conf"]) >= OCR_CONFIDENCE:
                lines.setdefault((row["block_num"], row["par_num"], row["line_num"]), []).append(row["text"])
    yield from lines.values()


def add_labelled(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose labelled pages."""
    add_inputs(parser, "the folder in which the packages were unpacked")
    parser.add_argument("--half", choices=("tune", "held"), default="held", help="(%(default)s)")
    parser.add_argument("--ocr", type=Path, help="folder that keeps what tesseract reads (default: a temporary one)")


def labelled_pages(arguments: argparse.Namespace, work: Path) -> list[Labelled]:
    """Return the rows of the chosen half whose documents are there; with `--tiny` pages that are drawn here."""
    if arguments.tiny and not arguments.inputs:
        draw_documents(work / "drawn")
        files = files_in([work], ".pdf")
        return [Labelled(work, "drawn", "0", path.name, 1, arguments.half, "eng") for path in files]
    pages = [page for folder in arguments.inputs for page in read_table(folder) if page.half == arguments.half]
    return [page for page in pages if page.path.exists()]


def read_table(folder: Path, table: Path = TABLE) -> Iterator[Labelled]:
    """Yield the table's rows, for packages unpacked in `folder`."""
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            page, similarity = int(row.pop("page")), row.pop("similarity")
            yield Labelled(folder, page=page, similarity=float(similarity) if similarity else None, **row)


def plain(text: str) -> str:
    """Return text in lower case, without marks on letters (points, vowel signs) and compatibility forms."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return text if text.isascii() else "".join(char for char in text if unicodedata.category(char)[0] != "M")


def tokens(text: str) -> list[str]:
    """Split text into words of letters and digits, and scripts without word spaces into pairs of characters."""
    text = re.sub(rf"(?<=[{UNSPACED}])[ \n]+(?=[{UNSPACED}])", "", plain(text))
    pieces: list[str] = []
    for word in TOKENS.findall(text):
        pairs = len(word) > 2 and re.match(f"[{UNSPACED}]", word)
        pieces += [word[i : i + 2] for i in range(len(word) - 1)] if pairs else [word]
    return pieces


def bag(text: str) -> Counter[str]:
    """Count pairs of letters and digits inside words, and words of a single character."""
    counts: Counter[str] = Counter()
    text = re.sub(rf"(?<=[{SYLLABLES}])\s+(?=[{SYLLABLES}])", "", plain(text))
    for word in "".join(char if char.isalnum() else " " for char in text).split():
        counts.update(word if len(word) == 1 else (word[i : i + 2] for i in range(len(word) - 1)))
    return counts


def similarity(a: str, b: str) -> float:
    """Return the Dice coefficient of two texts' bags, 0 to 1."""
    first, second = bag(a), bag(b)
    return 2 * (first & second).total() / max(first.total() + second.total(), 1)
