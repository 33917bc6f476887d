"""Measure words and their order in the labels of PDF pages against OCR, beside other tools on the same pages.

    apt-get install tesseract-ocr poppler-utils
    python -m benchmarks.pdf_words FOLDER --half held --ocr ocr/

`benchmarks.pdf_labels` says how the documents come into the folder. Pages are those that the audit accepts and whose
layer is right. Words that stand once in the OCR's text and once in the tool's are compared by Kendall's tau. Scripts
without word spaces count by pairs of characters. With `--tiny` the text layer itself stands in for OCR.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np
import pymupdf
import pypdfium2

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.pdf_audit import render, verdict
from benchmarks.pdf_labels import Labelled, OcrWords, add_labelled, labelled_pages, tokens
from datagen.pdf.page import PdfError
from datagen.pdf.text.reading_order import read_text
from varyforge.console import say
from varyforge.errors import UserError

TINY: dict[str, int] = {}
LEAST_WORDS = 20  # in common and unique; fewer say little about order
LEAST_FOUND = 0.5  # share of the OCR's words that the best of all texts has; below it OCR has failed
NOTHING = (0.0, 1.0, 0.0)  # figures of a text with too few words in common
SCRIPTS = {
    "Chinese, Japanese": r"[\u3040-\u30ff\u3400-\u9fff]",
    "Korean": r"[\uac00-\ud7a3]",
    "Cyrillic, Greek": r"[\u0370-\u03ff\u0400-\u052f]",
    "Arabic, Hebrew": r"[\u0590-\u06ff\ufb1d-\ufdff\ufe70-\ufefc]",
    "Thai, Indic": r"[\u0900-\u0e7f]",
    "Latin": r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]",
}
FAULTS = {  # kind of character or sequence → pattern that a label should not hold
    "U+FFFD": r"\ufffd",
    "private use": r"[\ue000-\uf8ff]",
    "control, U+2029": r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]",
    "soft hyphen": r"\u00ad",
    "accents apart (3 or more)": r"(?:[A-Za-z][\u00b4\u00a8\u02c6\u02dc\u00b8\u02c7\u02d8\u02da][A-Za-z\u0131].*){3}",
    "Arabic presentation forms": r"[\ufb50-\ufdff\ufe70-\ufefc]",
    "ligature letters": r"[\ufb00-\ufb06]",
    "Han or kana with a space on one side of Latin": r"[\u3040-\u30ff\u3400-\u9fff](?:[A-Za-z]{2,} |"
    r" [A-Za-z]{2,})[\u3040-\u30ff\u3400-\u9fff]",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_labelled(parser)
    parser.add_argument("--show", type=int, default=0, help="number of pages with the lowest tau to name (%(default)s)")


@dataclass
class Score:
    """Figures of a tool, one entry a page."""

    tau: list[float] = field(default_factory=list)
    jumps: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)

    def row(self, name: str) -> list[str]:
        """Return the tool's row of the table."""
        if not self.tau:
            return [name, *["-"] * 5]
        low = [f"{sum(tau < most for tau in self.tau) / len(self.tau):.1%}" for most in (0.9, 0.7)]
        return [name, f"{mean(self.tau):.3f}", *low, f"{mean(self.jumps):.3f}", f"{mean(self.words):.3f}"]


def _pdftotext(*words: str) -> Callable[[Labelled], str]:
    def read(label: Labelled) -> str:
        number = str(label.page)
        command = ["pdftotext", "-q", "-enc", "UTF-8", *words, "-f", number, "-l", number, str(label.path), "-"]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).stdout.decode(errors="replace")

    return read


def _pdfium(label: Labelled) -> str:
    document = pypdfium2.PdfDocument(label.path)
    try:
        return str(document[label.page - 1].get_textpage().get_text_bounded())
    finally:
        document.close()


def _mupdf(sort: bool) -> Callable[[Labelled], str]:
    def read(label: Labelled) -> str:
        with pymupdf.open(label.path) as document:
            return str(document[label.page - 1].get_text(sort=sort))

    return read


def tools() -> dict[str, Callable[[Labelled], str]]:
    """Return the other tools that are installed here, by name."""
    poppler = {name: _pdftotext(*name.split()[1:]) for name in ("pdftotext", "pdftotext -layout", "pdftotext -raw")}
    return {
        "get_text": _mupdf(sort=False),
        "get_text(sort)": _mupdf(sort=True),
        **(poppler if shutil.which("pdftotext") else {}),
        "pdfium": _pdfium,
    }


def compare(text: str, ocr: Sequence[str]) -> tuple[float, float, float] | None:
    """Compare a text with the OCR's words.

    Returns:
        Kendall's tau, the share of words that do not stand behind the word before in the OCR, and the share of the
        OCR's words that the text has; None for too few words.
    """
    ours = tokens(text)
    once, once_read = ({word for word, count in Counter(words).items() if count == 1} for words in (ours, ocr))
    position = {word: i for i, word in enumerate(ours) if word in once and word in once_read}
    if len(position) < LEAST_WORDS:
        return None
    places = np.array([position[word] for word in ocr if word in position])
    ranks = places.argsort().argsort()
    behind = np.sign(ranks[None, :] - ranks[:, None])[np.triu_indices(len(ranks), 1)]
    words = (Counter(ours) & Counter(ocr)).total() / len(ocr)
    return float(behind.mean()), float((np.diff(ranks) != 1).mean()), words


def script_of(text: str) -> str:
    """Return the script that is not Latin if it has a fifth of the letters, else Latin."""
    counts = {name: len(re.findall(pattern, text)) for name, pattern in SCRIPTS.items()}
    return next((name for name, count in counts.items() if 5 * count >= sum(counts.values())), "Latin")


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Compare the texts of the chosen half's pages.

    Raises:
        UserError: there is no document of the table, or nothing that OCR reads.
    """
    scores: dict[str, Score] = defaultdict(Score)
    by_script: dict[str, Score] = defaultdict(Score)
    faults: Counter[str] = Counter()
    lowest: list[tuple[float, str]] = []
    written = 0
    others = tools()
    with work_folder() as work, work_folder(arguments.ocr) as cache:
        reader = OcrWords(cache, layer=arguments.tiny)
        for label in labelled_pages(arguments, work):
            text = _label(label)
            if text is None:
                continue
            written += 1
            faults.update(name for name, pattern in FAULTS.items() if re.search(pattern, text))
            ocr = reader.text(label)
            if ocr is None or label.is_wrong(unreadable=False) or not (words := tokens(ocr)):
                continue
            texts = {"ours": text, **{name: tool(label) for name, tool in others.items()}}
            figures = {name: compare(text, words) for name, text in texts.items()}
            if max((each[2] for each in figures.values() if each), default=0.0) < LEAST_FOUND:
                continue
            for name, each in figures.items():
                _add(scores[name], each or NOTHING)
            ours = figures["ours"] or NOTHING
            lowest.append((ours[0], label.name))
            _add(by_script[script_of(text)], ours)
    if not lowest:
        raise UserError("no page to compare: `benchmarks.pdf_labels` says how to get the documents")
    for tau, name in sorted(lowest)[: arguments.show]:
        say(f"  {name}: tau {tau:.3f}")
    absent = "" if shutil.which("pdftotext") else " pdftotext is not installed here."
    yield f"Half `{arguments.half}`: {written} pages are accepted, {len(lowest)} of them are compared.{absent}"
    head = ("tau mean", "pages < 0.9", "pages < 0.7", "jumps per word", "OCR words found")
    yield Table(head=("text of", *head), rows=[score.row(name) for name, score in scores.items()])
    rows = [[*score.row(name), str(len(score.tau))] for name, score in sorted(by_script.items())]
    yield Table(title="Ours, by script.", head=("script", *head, "pages"), rows=rows)
    yield Table(
        title=f"Characters that a label should not hold, on the {written} accepted pages.",
        head=("kind", "pages"),
        rows=[(name, str(faults[name])) for name in FAULTS],
    )


def _label(label: Labelled) -> str | None:
    """Return the page's label, or None where the audit refuses the page."""
    try:
        page = render(label.path, label.page - 1)
    except PdfError as error:
        say(f"{label.name}: {error}")
        return None
    return None if verdict(page) else unicodedata.normalize("NFC", read_text(page).text)


def _add(score: Score, figures: tuple[float, float, float]) -> None:
    tau, jumps, words = figures
    score.tau.append(tau)
    score.jumps.append(jumps)
    score.words.append(words)


if __name__ == "__main__":
    main_of("benchmarks.pdf_words")
