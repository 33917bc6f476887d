"""Is the audit right? Its verdicts on pages of PDFs against what OCR reads on the rendered pages.

    python benchmarks/pdf_audit.py papers/ --cache /tmp/ocr --pages 120

Needs Debian's tesseract-ocr and tesseract-ocr-chi-sim. Text layer and OCR are compared as bags of character pairs
(letters and digits only), so that reading order does not matter; a layer below `WRONG` is taken for wrong. As few real
layers are wrong, layers that OCR confirmed are also broken on purpose.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import string
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.pdf.audit.gates import PageGates, judge, measure
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Line, Page, PdfError
from varyforge.language import language_of, read
from varyforge.outcome import Rejected

WRONG = 0.6  # similarity; tesseract itself reads about 0.9 of a clean page at this size, and tables worse
OCR_SHORT_SIDE_PX = 1700  # 200 dpi of a letter page
TESSERACT_LANGUAGES = {"zh": "chi_sim", "": "eng+chi_sim"}

GATES = PageGates()


@dataclass
class Judged:
    """A page and what was said about it."""

    path: Path
    number: int
    text: str
    refused: Rejected | None
    similarity: float = 1.0
    read: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.path.name}#{self.number}"


def render(path: Path, number: int, short_side_px: int = 1024) -> Page:
    """A page as the data job renders it."""
    with open_document(str(path)) as opened:
        return opened.page(number, short_side_px=short_side_px, long_side_px=4 * short_side_px)


def text_of(lines: tuple[Line, ...]) -> str:
    """Lines in the document's own order."""
    return "\n".join(line.text for line in lines)


def verdict(page: Page) -> Rejected | None:
    """What the data job would say."""
    text = text_of(page.lines)
    reading = read(text)
    return judge(measure(page, text, reading), reading.language, GATES)


def bag(text: str) -> Counter[str]:
    """Pairs of letters and digits inside words, and single ones of Chinese, where spaces are no guide."""
    found: Counter[str] = Counter()
    for word in "".join(char if char.isalnum() else " " for char in text.casefold()).split():
        found.update(word if len(word) == 1 else (word[i : i + 2] for i in range(len(word) - 1)))
    return found


def similarity(a: str, b: str) -> float:
    """Dice coefficient of two bags, 0 to 1."""
    first, second = bag(a), bag(b)
    return 2 * (first & second).total() / max(first.total() + second.total(), 1)


def ocr(page: Judged, cache: Path) -> str:
    """Text of the page's picture by tesseract; read from the cache where it has been there before."""
    language = TESSERACT_LANGUAGES.get(language_of(page.text), "eng")
    digest = hashlib.sha256(page.path.read_bytes()).hexdigest()[:16]
    stored = cache / f"{digest}-{page.number:04d}-{language}-{OCR_SHORT_SIDE_PX}.txt"
    if not stored.exists():
        picture = stored.with_suffix(".png")
        render(page.path, page.number, OCR_SHORT_SIDE_PX).picture.convert("RGB").save(picture)
        command = ["tesseract", str(picture), "stdout", "-l", language, "--psm", "3"]
        limits = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=limits, timeout=300)
        stored.write_text(done.stdout, encoding="utf-8")
        picture.unlink()
    return stored.read_text(encoding="utf-8")


def judged_pages(folder: Path) -> list[Judged]:
    """Every page of the folder's PDFs."""
    pages: list[Judged] = []
    spent = 0.0
    for path in sorted(folder.rglob("*.pdf")):
        with open_document(str(path)) as opened:
            for number in range(len(opened)):
                try:
                    page = opened.page(number, short_side_px=1024, long_side_px=4096)
                except PdfError as error:
                    print(f"{path.name}#{number}: {error}")
                    continue
                text = text_of(page.lines)
                before = time.process_time()
                reading = read(text)
                measures = measure(page, text, reading)
                spent += time.process_time() - before
                pages.append(Judged(path, number, text, judge(measures, reading.language, GATES)))
    print(f"{len(pages)} pages, measure takes {1000 * spent / max(len(pages), 1):.2f} ms of CPU each")
    return pages


def chosen(pages: list[Judged], count: int) -> list[Judged]:
    """All refused pages, and kept ones from all documents in turn until there are `count`."""
    refused, rest = [page for page in pages if page.refused], [page for page in pages if not page.refused]
    of_document: dict[Path, list[Judged]] = defaultdict(list)
    for page in rest:
        of_document[page.path].append(page)
    wanted = max(count - len(refused), 0)
    share = -(-wanted // max(len(of_document), 1))
    while sum(min(len(found), share) for found in of_document.values()) < min(wanted, len(rest)):
        share += 1  # documents of few pages leave room
    spread = [
        found[i * len(found) // min(share, len(found))]
        for found in of_document.values()
        for i in range(min(share, len(found)))
    ]
    return refused + spread[:wanted]


def moved(page: Page, down_px: float) -> Page:
    """The page with its text layer `down_px` pixels lower."""
    down = lambda box: (box[0], box[1] + down_px, box[2], box[3] + down_px)  # noqa: E731
    lines = (
        replace(line, box=down(line.box), spans=tuple(replace(span, box=down(span.box)) for span in line.spans))
        for line in page.lines
    )
    return replace(page, lines=tuple(lines))


def respelled(page: Page, change: Callable[[str], str]) -> Page:
    """The page with the text of each span changed."""
    lines = (
        replace(line, spans=tuple(replace(span, text=change(span.text)) for span in line.spans)) for line in page.lines
    )
    return replace(page, lines=tuple(lines))


def line_height_px(page: Page) -> float:
    """Height of the middle line."""
    heights = sorted(line.box[3] - line.box[1] for line in page.lines)
    return heights[len(heights) // 2]


def caesar(text: str, by: int) -> str:
    """Each letter `by` places on in the alphabet; Chinese in code points."""
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    table = str.maketrans(lower + upper, lower[by:] + lower[:by] + upper[by:] + upper[:by])
    return "".join(chr(ord(char) + by) if "\u4e00" <= char < "\u9f00" else char for char in text.translate(table))


DEFECTS: dict[str, Callable[[Page, Page], Page]] = {  # of the page itself and another page
    "half a line down": lambda page, other: moved(page, line_height_px(page) / 2),
    "a line and a quarter down": lambda page, other: moved(page, 1.25 * line_height_px(page)),
    "the layer of another page": lambda page, other: replace(page, lines=other.lines),
    "letters one on": lambda page, other: respelled(page, lambda text: caesar(text, 1)),
    "letters thirteen on": lambda page, other: respelled(page, lambda text: caesar(text, 13)),
    "spans reversed": lambda page, other: respelled(page, lambda text: text[::-1]),
    "every second line missing": lambda page, other: replace(page, lines=page.lines[::2]),
}


def report_real(pages: list[Judged]) -> None:
    """Precision and recall of "refused" as a forecast of "layer wrong"."""
    readable = [page for page in pages if max(len(bag(page.text)), len(bag(page.read))) >= 20]
    print(f"\n{len(pages)} pages read by OCR; {len(pages) - len(readable)} of them hold no text either way")
    wrong = [page for page in readable if page.similarity < WRONG]
    refused = [page for page in readable if page.refused]
    both = [page for page in wrong if page.refused]
    print(f"wrong by OCR: {len(wrong)}, refused: {len(refused)}, both: {len(both)}")
    print(f"precision {len(both) / max(len(refused), 1):.2f}, recall {len(both) / max(len(wrong), 1):.2f}")
    for page in sorted(readable, key=lambda page: page.name):
        if bool(page.refused) != (page.similarity < WRONG):
            gate = f"{page.refused.gate} {page.refused.value:.2f}" if page.refused else "kept"
            print(f"  disagree: {page.name}: similarity {page.similarity:.2f}, {gate}")
    gates = Counter(page.refused.gate for page in refused if page.refused)
    print("refused by", dict(gates.most_common()))


def report_broken(pages: list[Judged]) -> None:
    """Share of broken layers that are refused, by defect."""
    good = [page for page in pages if not page.refused and page.similarity >= WRONG and len(page.text) >= 200]
    rendered = [render(page.path, page.number) for page in good]
    print(f"\n{len(good)} pages kept and confirmed by OCR, their layers broken on purpose:")
    for name, defect in DEFECTS.items():
        missed = []
        for i, (judged, page) in enumerate(zip(good, rendered, strict=True)):
            other = next(  # the next page of the same size; of the same document, mostly
                (o for o in rendered[i + 1 :] + rendered[:i] if o.picture.size == page.picture.size and o is not page),
                None,
            )
            if other and not verdict(defect(page, other)):
                missed.append(judged.name)
        print(f"  {name}: {1 - len(missed) / len(good):.3f} refused; missed {', '.join(missed[:8])}")


def main() -> None:
    """Judges, reads, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder for what tesseract has read")
    parser.add_argument("--pages", type=int, default=120)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    pages = chosen(judged_pages(arguments.folder), arguments.pages)
    for page in pages:
        page.read = ocr(page, arguments.cache)
        page.similarity = similarity(page.text, page.read)
    report_real(pages)
    report_broken(pages)


if __name__ == "__main__":
    main()
