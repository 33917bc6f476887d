"""What stands around the text of a page: headers, footers, footnotes, text inside pictures. Found on one page alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from datagen.pdf.page import Rect
from datagen.pdf.text.regions import Region, Row, Run

_ZONE, _WIDE_ZONE = 0.1, 0.14  # of the height: where headers and footers stand; the wide one needs more than a gap
_MOST_ROWS = 6  # of a header or footer
_PAGE_NUMBER = re.compile(
    r"^\W*(?:page|p\.|第)?\s*(?:\d{1,4}|[ivxlcIVXLC]{1,7}|[A-Z]?\d{0,2}[-–.]\d{1,4})\s*页?(?:\s*(?:of|/|共)\s*\d+\s*页?)?\W*$",
    re.I,
)
_NOTE_MARK = re.compile(r"^(?:\d{1,2}|[*∗†‡§¶#]+|[a-z]|[①-⑳]|\[\d+\]|注|\(\d+\))[\s.)]*\S")
_BACKGROUND = 0.6  # of the page: a picture as large as this is paper, not a figure


@dataclass(frozen=True, slots=True)
class Frame:
    """The page as it is turned for reading."""

    width: float  # pixels
    height: float
    body_size: float  # of most characters, pixels
    rules: Sequence[Rect]  # horizontal ones


def body_size(runs: Iterable[Run]) -> float:
    """The font size of most characters, to half a pixel."""
    sizes: Counter[float] = Counter()
    for run in runs:
        sizes[round(run.size * 2) / 2] += len(run.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def headers_and_footers(rows: Sequence[Row], frame: Frame) -> tuple[int, int]:
    """How many rows at the top are a header, and how many at the bottom a footer.

    They are not larger than the text and are set apart from it: in the outermost tenth of the page by a distance of
    two lines, in the outermost seventh by a distance of one line and a rule, a page number or parts at both margins.
    """
    top = _furniture([(row, row.y0, row.y1) for row in rows[: _MOST_ROWS + 1]], frame)
    flipped = [(row, frame.height - row.y1, frame.height - row.y0) for row in rows[: -_MOST_ROWS - 2 : -1]]
    bottom = _furniture(flipped, frame, upwards=True)
    return (top, bottom) if top + bottom < len(rows) else (0, 0)


def _furniture(rows: Sequence[tuple[Row, float, float]], frame: Frame, *, upwards: bool = False) -> int:
    """Rows from the edge inwards, each with its distances from the edge; the furthest cut that sets rows apart."""
    count, body = 0, frame.body_size
    for number, ((row, _, end), (_, begin, _)) in enumerate(pairwise(rows), 1):
        if end > _WIDE_ZONE * frame.height or row.size > 1.15 * body:
            break
        gap = begin - end
        between = (frame.height - begin, frame.height - end) if upwards else (end, begin)
        ruled = any(between[0] - 2 <= rule[1] <= between[1] + 2 for rule in frame.rules)
        numbered = any(_PAGE_NUMBER.match(run.text.strip()) for run in (row.runs[0], row.runs[-1]))
        if upwards and ruled and not numbered and _NOTE_MARK.match(row.runs[0].text.strip()):
            break  # a footnote below its rule
        marked = ruled or numbered or len(row.runs) > 1
        alone = numbered and count == 0 and gap > 0.4 * body
        if alone or (gap >= (0.8 if marked else 2) * body and (marked or end <= _ZONE * frame.height)):
            count = number
    return count


def footnotes(region: Region, frame: Frame) -> int:
    """How many rows at the end of a column are footnotes: smaller than the text, the first with a mark or below a rule.

    Small type without either is text: methods, captions, references.
    """
    if region.is_table:
        return 0
    rows, count = region.rows, 0
    for number, row in enumerate(reversed(rows), 1):
        if row.size > 0.94 * frame.body_size or row.y0 < 0.4 * frame.height:
            break
        above = rows[-number - 1] if number < len(rows) else None
        first = above is None or above.size > 0.94 * frame.body_size
        if _rule_between(above, row, frame) or (first and _NOTE_MARK.match(row.runs[0].text.strip())):
            count = number
    return count


def _rule_between(above: Row | None, row: Row, frame: Frame) -> bool:
    top = above.middle if above else row.y0 - 2 * row.size
    return any(
        top < rule[1] < row.middle and abs(rule[0] - row.x0) < 2 * row.size and rule[2] - rule[0] < 0.5 * frame.width
        for rule in frame.rules
    )


def figure_boxes(rasters: Iterable[Rect], width: float, height: float) -> list[Rect]:
    """The pictures that are figures: a picture of most of the page is its paper or its background."""
    return [box for box in rasters if (box[2] - box[0]) * (box[3] - box[1]) < _BACKGROUND * width * height]


def inside(box: Rect, figures: Iterable[Rect]) -> bool:
    """Whether the middle of `box` lies in a figure."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in figures)
