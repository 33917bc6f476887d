"""Measure how often the audit of PDF pages is right: its verdicts against the text that OCR reads on rendered pages.

    apt-get install tesseract-ocr tesseract-ocr-chi-sim
    python -m benchmarks.pdf_audit papers/ --cache ocr/ --pages 250

Text layer and OCR are compared as bags of character pairs (letters and digits only), so that reading order does not
matter. A layer with a similarity below 0.6 counts as wrong. As few real layers are wrong, layers that OCR confirmed are
also broken on purpose. With `--tiny` the text layer itself stands in for OCR.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import string
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.inputs import add_inputs, draw_documents, files_in, inputs_of
from datagen.pdf.audit.gates import PageGates, judge
from datagen.pdf.audit.gates import measure as measure_page
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Line, Page, PdfError
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.language import language_of, read
from varyforge.outcome import Rejected

WRONG = 0.6  # similarity; tesseract reads about 0.9 of a clean page at this size, and tables worse
OCR_SHORT_SIDE_PX = 1700  # 200 dpi of a letter page
TESSERACT_LANGUAGES = {"zh": "chi_sim", "": "eng+chi_sim"}

GATES = PageGates()
TINY = {"pages": 4}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_inputs(parser, "PDF files")
    parser.add_argument("--cache", type=Path, help="folder that keeps tesseract's texts (default: a temporary one)")
    parser.add_argument("--pages", type=int, default=120, help="to read with OCR (%(default)s)")


@dataclass
class Judged:
    """A page with the audit's verdict and the text that OCR reads."""

    path: Path
    number: int
    text: str
    refused: Rejected | None
    similarity: float = 1.0
    read: str = ""

    @property
    def name(self) -> str:
        """The page's name in a report."""
        return f"{self.path.name}#{self.number}"


def render(path: Path, number: int, short_side_px: int = 1024) -> Page:
    """Render a page as the data job does."""
    with open_document(str(path)) as opened:
        return opened.page(number, short_side_px=short_side_px, long_side_px=4 * short_side_px)


def text_of(lines: tuple[Line, ...]) -> str:
    """Join lines in the document's own order."""
    return "\n".join(line.text for line in lines)


def verdict(page: Page) -> Rejected | None:
    """Return the data job's verdict on a page."""
    text = text_of(page.lines)
    reading = read(text)
    return judge(measure_page(page, text, reading), reading.language, GATES)


def bag(text: str) -> Counter[str]:
    """Count pairs of letters and digits inside words, and words of a single character."""
    counts: Counter[str] = Counter()
    for word in "".join(char if char.isalnum() else " " for char in text.casefold()).split():
        counts.update(word if len(word) == 1 else (word[i : i + 2] for i in range(len(word) - 1)))
    return counts


def similarity(a: str, b: str) -> float:
    """Return the Dice coefficient of two texts' bags, 0 to 1."""
    first, second = bag(a), bag(b)
    return 2 * (first & second).total() / max(first.total() + second.total(), 1)


def ocr(page: Judged, cache: Path) -> str:
    """Read the page's picture with tesseract, or its text from the cache."""
    language = TESSERACT_LANGUAGES.get(language_of(page.text), "eng")
    digest = hashlib.sha256(page.path.read_bytes()).hexdigest()[:16]
    stored = cache / f"{digest}-{page.number:04d}-{language}-{OCR_SHORT_SIDE_PX}.txt"
    if not stored.exists():
        picture = stored.with_suffix(".png")
        render(page.path, page.number, OCR_SHORT_SIDE_PX).picture.convert("RGB").save(picture)
        words = ["tesseract", str(picture), "stdout", "-l", language, "--psm", "3"]
        limits = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=limits, timeout=300)
        stored.write_text(done.stdout, encoding="utf-8")
        picture.unlink()
    return stored.read_text(encoding="utf-8")


def judged_pages(paths: list[Path]) -> Iterator[tuple[Judged, float]]:
    """Yield every page of the PDFs, and the CPU seconds of its measures."""
    for path in paths:
        with open_document(str(path)) as opened:
            for number in range(len(opened)):
                try:
                    page = opened.page(number, short_side_px=1024, long_side_px=4096)
                except PdfError as error:
                    say(f"{path.name}#{number}: {error}")
                    continue
                text = text_of(page.lines)
                before = time.process_time()
                reading = read(text)
                measures = measure_page(page, text, reading)
                seconds = time.process_time() - before
                yield Judged(path, number, text, judge(measures, reading.language, GATES)), seconds


def chosen(pages: list[Judged], count: int) -> list[Judged]:
    """Return all refused pages, and accepted ones from all documents in turn until there are `count`."""
    refused, rest = [page for page in pages if page.refused], [page for page in pages if not page.refused]
    of_document: dict[Path, list[Judged]] = defaultdict(list)
    for page in rest:
        of_document[page.path].append(page)
    room = max(count - len(refused), 0)
    share = -(-room // max(len(of_document), 1))
    while sum(min(len(accepted), share) for accepted in of_document.values()) < min(room, len(rest)):
        share += 1  # documents of few pages leave room
    spread = [
        accepted[i * len(accepted) // min(share, len(accepted))]
        for accepted in of_document.values()
        for i in range(min(share, len(accepted)))
    ]
    return refused + spread[:room]


def moved(page: Page, down_px: float) -> Page:
    """Return the page with its text layer `down_px` pixels lower."""
    down = lambda box: (box[0], box[1] + down_px, box[2], box[3] + down_px)  # noqa: E731
    lines = (
        line._replace(box=down(line.box), spans=tuple(span._replace(box=down(span.box)) for span in line.spans))
        for line in page.lines
    )
    return replace(page, lines=tuple(lines))


def respelled(page: Page, change: Callable[[str], str]) -> Page:
    """Return the page with the text of each span changed."""
    lines = (
        line._replace(spans=tuple(span._replace(text=change(span.text)) for span in line.spans)) for line in page.lines
    )
    return replace(page, lines=tuple(lines))


def line_height_px(page: Page) -> float:
    """Return the median height of the lines."""
    heights = sorted(line.box[3] - line.box[1] for line in page.lines)
    return heights[len(heights) // 2]


def caesar(text: str, by: int) -> str:
    """Shift each letter by `by` in the alphabet, and Chinese characters in code points."""
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    table = str.maketrans(lower + upper, lower[by:] + lower[:by] + upper[by:] + upper[:by])
    return "".join(chr(ord(char) + by) if "\u4e00" <= char < "\u9f00" else char for char in text.translate(table))


DEFECTS: dict[str, Callable[[Page, Page], Page]] = {  # defect → function of the page and of another page
    "half a line down": lambda page, other: moved(page, line_height_px(page) / 2),
    "a line and a quarter down": lambda page, other: moved(page, 1.25 * line_height_px(page)),
    "the layer of another page": lambda page, other: replace(page, lines=other.lines),
    "letters one on": lambda page, other: respelled(page, lambda text: caesar(text, 1)),
    "letters thirteen on": lambda page, other: respelled(page, lambda text: caesar(text, 13)),
    "spans reversed": lambda page, other: respelled(page, lambda text: text[::-1]),
    "every second line missing": lambda page, other: replace(page, lines=page.lines[::2]),
}


def report_real(pages: list[Judged]) -> Table:
    """Compute precision and recall of "refused" as a prediction of "layer wrong"."""
    readable = [page for page in pages if max(len(bag(page.text)), len(bag(page.read))) >= 20]
    wrong = [page for page in readable if page.similarity < WRONG]
    refused = [page for page in readable if page.refused]
    both = [page for page in wrong if page.refused]
    for page in sorted(readable, key=lambda page: page.name):
        if bool(page.refused) != (page.similarity < WRONG):
            gate = f"{page.refused.gate} {page.refused.value:.2f}" if page.refused else "accepted"
            say(f"  disagree: {page.name}: similarity {page.similarity:.2f}, {gate}")
    say(f"refused by {dict(Counter(page.refused.gate for page in refused if page.refused).most_common())}")
    precision, recall = (len(both) / max(len(all_of), 1) for all_of in (refused, wrong))
    return Table(
        head=("pages read", "with text", "wrong by OCR", "refused", "both", "precision", "recall"),
        rows=[
            [
                *(str(len(some)) for some in (pages, readable, wrong, refused, both)),
                *map("{:.2f}".format, (precision, recall)),
            ]
        ],
    )


def report_broken(pages: list[Judged]) -> Table:
    """Compute the share of broken layers that are refused, by defect."""
    good = [page for page in pages if not page.refused and page.similarity >= WRONG and len(page.text) >= 200]
    rendered = [render(page.path, page.number) for page in good]
    rows = []
    for name, defect in DEFECTS.items():
        missed = []
        for i, (judged, page) in enumerate(zip(good, rendered, strict=True)):
            other = next(  # the next page of the same size, mostly of the same document
                (o for o in rendered[i + 1 :] + rendered[:i] if o.picture.size == page.picture.size and o is not page),
                None,
            )
            if other and not verdict(defect(page, other)):
                missed.append(judged.name)
        say(f"  {name}: missed {', '.join(missed[:8])}")
        rows.append((name, f"{1 - len(missed) / max(len(good), 1):.3f}"))
    title = f"{len(good)} pages that were accepted and that OCR confirmed, their layers broken on purpose."
    return Table(title=title, head=("defect", "share refused"), rows=rows)


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Judge all pages, read some with OCR, compare.

    Raises:
        UserError: tesseract is not installed.
    """
    if not (arguments.tiny or shutil.which("tesseract")):
        raise UserError("there is no tesseract here; type: apt-get install tesseract-ocr tesseract-ocr-chi-sim")
    with work_folder() as work, work_folder(arguments.cache) as cache:
        paths = files_in(inputs_of(arguments, work / "pdf", draw_documents), ".pdf")
        pages, seconds = zip(*judged_pages(paths), strict=True)
        yield f"{len(pages)} pages; the audit's measures take {1000 * sum(seconds) / len(pages):.2f} ms of CPU a page."
        sampled = chosen(list(pages), arguments.pages)
        for page in sampled:
            page.read = page.text if arguments.tiny else ocr(page, cache)
            page.similarity = similarity(page.text, page.read)
        yield report_real(sampled)
        yield report_broken(sampled)


if __name__ == "__main__":
    main_of("benchmarks.pdf_audit")
