"""Measure how often the audit of PDF pages is right: its verdicts against those of OCR and of a reader.

    python -m benchmarks.pdf_audit FOLDER --half held --ocr ocr/

`benchmarks.pdf_labels` says how the documents come into the folder, and when a label is wrong. The verdict of OCR is a
comparison of bags of character pairs (letters and digits only), so that reading order does not matter. A label that
holds unreadable characters is wrong whatever OCR says; else the verdict by eye counts where the table has one. As few
real labels are wrong, layers of right pages are also broken on purpose (`--broken 0`: none). With `--tiny` all labels
count as right.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.pdf_labels import Labelled, add_labelled, labelled_pages
from datagen.pdf.audit.gates import PageGates, judge
from datagen.pdf.audit.gates import measure as measure_page
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Page, PdfError
from datagen.pdf.text.reading_order import read_text
from datagen.pdf.upright import upright, widened
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.language import read
from varyforge.outcome import Rejected

GATES = PageGates()
ROTATED = ("az", "AZ", "ая", "АЯ", "αω", "ΑΩ", "את", "ءي", "अह", "กฮ", "ぁん", "ァヺ", "一鿿", "가힣")
"""First and last letters of alphabets."""
TINY = {"broken": 2}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_labelled(parser)
    parser.add_argument("--broken", type=int, default=120, help="number of layers to break on purpose (%(default)s)")


@dataclass(frozen=True)
class Judged:
    """A labelled page with the audit's verdict."""

    label: Labelled
    refused: Rejected | None
    wrong: bool  # the label, whatever the audit says
    seconds: float


def render(path: Path, number: int, short_side_px: int = 1024) -> Page:
    """Render a page as the data job does."""
    with open_document(str(path)) as opened:
        page = opened.page(number, short_side_px=short_side_px, long_side_px=4 * short_side_px)
    return widened(upright(page), short_side_px)


def audit(page: Page) -> tuple[Rejected | None, bool]:
    """Return the data job's verdict on a page, and whether the label holds characters that nobody can read."""
    text = read_text(page).text
    reading = read(text)
    measures = measure_page(page, text, reading)
    return judge(measures, reading.language, GATES), measures["unreadable"] > 0


def verdict(page: Page) -> Rejected | None:
    """Return the data job's verdict on a page."""
    return audit(page)[0]


def judged_pages(labels: Sequence[Labelled]) -> Iterator[Judged]:
    """Yield the pages that OCR or a reader could judge, and the CPU seconds of text and audit."""
    for label in labels:
        if label.similarity is None and not label.reason:
            continue
        try:
            page = render(label.path, label.page - 1)
        except PdfError as error:
            say(f"{label.name}: {error}")
            continue
        before = time.process_time()
        refused, unreadable = audit(page)
        yield Judged(label, refused, label.is_wrong(unreadable), time.process_time() - before)


def interval(part: int, whole: int) -> str:
    """Format a share with its 95 % Wilson interval."""
    if not whole:
        return "-"
    share, z = part / whole, 1.96
    middle = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole**2)) / (1 + z * z / whole)
    return f"{share:.2f} ({middle - half:.2f} to {middle + half:.2f})"


def report_real(pages: Sequence[Judged], half: str) -> Table:
    """Compute precision and recall of "refused" as a prediction of "label wrong"."""
    for page in pages:
        if bool(page.refused) != page.wrong:
            gate = f"{page.refused.gate} {page.refused.value:.2f}" if page.refused else "accepted"
            label = f"similarity {page.label.similarity}, {page.label.reason or 'not looked at'}"
            say(f"  disagree: {page.label.name}: {gate}; {label}")
    kinds: dict[str, list[Judged]] = defaultdict(list)
    for page in pages:
        kinds["all"].append(page)
        if page.label.reason != "unreadable":
            kinds["all but labels with unreadable characters"].append(page)
        kinds[f"sampled as {page.label.kind}"].append(page)
    rows = []
    for kind, some in kinds.items():
        wrong, refused = (sum(choice(page) for page in some) for choice in (_is_wrong, _is_refused))
        both = sum(_is_wrong(page) and _is_refused(page) for page in some)
        counts = map(str, (len(some), wrong, refused, both))
        rows.append([kind, *counts, interval(both, refused), interval(both, wrong)])
    looked = sum(page.label.reason not in ("", "unreadable") for page in pages)
    return Table(
        title=f"Half `{half}`: {len(pages)} pages of {len({page.label.package for page in pages})} packages, "
        f"{looked} of them judged by eye.",
        head=("pages", "count", "label wrong", "refused", "both", "precision", "recall"),
        rows=rows,
    )


def _is_wrong(page: Judged) -> bool:
    return page.wrong


def _is_refused(page: Judged) -> bool:
    return page.refused is not None


def report_gates(pages: Sequence[Judged]) -> Table:
    """Count refusals by gate."""
    gates: dict[str, Counter[bool]] = defaultdict(Counter)
    for page in pages:
        gates[page.refused.gate if page.refused else "accepted"][page.wrong] += 1
    rows = [(gate, str(counts[True]), str(counts[False])) for gate, counts in sorted(gates.items())]
    return Table(head=("first gate", "label wrong", "label right"), rows=rows)


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


@cache
def _rotation(by: int) -> dict[int, int]:
    """Return for the letters of `ROTATED` those that stand `by` places on, as for `str.translate`."""
    table: dict[int, int] = {}
    for low, high in ROTATED:
        letters = [code for code in range(ord(low), ord(high) + 1) if chr(code).isalpha() and chr(code) != "\u0640"]
        table.update(zip(letters, letters[by:] + letters[:by], strict=True))
    return table


def caesar(text: str, by: int) -> str:
    """Replace each letter by the one that stands `by` places on in its alphabet, or in Unicode's order."""
    return text.translate(_rotation(by))


DEFECTS: dict[str, Callable[[Page, Page], Page]] = {  # defect → function of the page and of another page
    "half a line down": lambda page, other: moved(page, line_height_px(page) / 2),
    "a line and a quarter down": lambda page, other: moved(page, 1.25 * line_height_px(page)),
    "the layer of another page": lambda page, other: replace(page, lines=other.lines),
    "letters one on": lambda page, other: respelled(page, lambda text: caesar(text, 1)),
    "letters thirteen on": lambda page, other: respelled(page, lambda text: caesar(text, 13)),
    "spans reversed": lambda page, other: respelled(page, lambda text: text[::-1]),
    "every second line missing": lambda page, other: replace(page, lines=page.lines[::2]),
}


def report_broken(pages: Sequence[Judged], most: int) -> Table:
    """Compute the share of broken layers that are refused, by defect."""
    good = [page.label for page in pages if not page.refused and not page.wrong]
    good = [good[i * len(good) // most] for i in range(most)] if len(good) > most else good
    rendered = [render(label.path, label.page - 1) for label in good]
    rows = []
    for name, defect in DEFECTS.items():
        missed = []
        for i, (label, page) in enumerate(zip(good, rendered, strict=True)):
            other = next(  # the next page of the same size, mostly of the same document
                (o for o in rendered[i + 1 :] + rendered[:i] if o.picture.size == page.picture.size and o is not page),
                None,
            )
            if other and not verdict(defect(page, other)):
                missed.append(label.name)
        say(f"  {name}: missed {', '.join(missed[:8])}")
        rows.append((name, f"{1 - len(missed) / max(len(good), 1):.3f}"))
    title = f"{len(good)} pages that were accepted and are right, their layers broken on purpose."
    return Table(title=title, head=("defect", "share refused"), rows=rows)


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Judge the labelled pages and compare.

    Raises:
        UserError: there is no document of the table.
    """
    with work_folder() as work:
        pages = list(judged_pages(labelled_pages(arguments, work)))
        if not pages:
            raise UserError("none of the table's documents is there; `benchmarks.pdf_labels` says how to get them")
        seconds = sum(page.seconds for page in pages)
        yield f"Text and audit take {1000 * seconds / len(pages):.1f} ms of CPU a page."
        yield report_real(pages, arguments.half)
        yield report_gates(pages)
        if arguments.broken:
            yield report_broken(pages, arguments.broken)


if __name__ == "__main__":
    main_of("benchmarks.pdf_audit")
