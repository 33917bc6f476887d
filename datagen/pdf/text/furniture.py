"""Furniture of a page: headers, footers, footnotes and figures. Each page is judged by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from datagen.pdf.page import Rect
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.columns import with_columns
from datagen.pdf.text.document_order import best_order
from datagen.pdf.text.grid import tables_of
from datagen.pdf.text.regions import Region, Row, Run
from datagen.pdf.text.terms import terms_apart

_PAGE_NUMBER = re.compile(
    r"^\W*(?:page|p\.|seite|n[o°º]\.?|№|стр\.|σελ\.|第)?\s*(?:\d{1,4}|[ivxlcIVXLC]{1,7}|[A-Z]?\d{0,2}[-–.]\d{1,4})\s*页?(?:\s*(?:of|/|共)\s*\d+\s*页?)?\W*$",
    re.I,
)
_RUNNING = re.compile(
    r"^(?:rev(?:ision|\.)?|version|p/n|doi:?|©|\(c\)|copyright|confidential|issn)(?![^\W\d_]).{0,50}$", re.I
)
_NOTE_MARK = re.compile(r"^(?:\d{1,2}|[¹²³⁴-⁹]+|[*∗†‡§¶#]+|[a-z]|[①-⑳]|\[\d+\]|注|\(\d+\))[\s.)]*\S")


@dataclass(frozen=True, slots=True)
class Frame:
    """The page, turned so that the text runs to the right."""

    width: float  # pixels
    height: float
    body_size: float  # font size of most characters, pixels
    rules: Sequence[Rect]  # horizontal ones


class Furniture(NamedTuple):
    """The furniture around the text of one direction, and the text itself."""

    header: list[Row]
    regions: list[Region]  # between header and footer, in reading order
    footnotes: list[int]  # of each region: the number of rows at its end that are footnotes
    footer: list[Row]
    by_document: bool  # whether the regions are in the document's own order


def furniture_of(rows: Sequence[Row], frame: Frame) -> Furniture:
    """Separate header, footer and footnotes from the text.

    The rows between header and footer are put into reading order here, because a footnote is known by its place at
    the end of a column.
    """
    top, bottom = _headers_and_footers(rows, frame)
    regions, by_document = best_order(terms_apart(rows[top : len(rows) - bottom]))
    regions = with_columns(regions)
    notes = [_footnotes(region, frame) for region in regions]
    return Furniture(list(rows[:top]), regions, notes, list(rows[len(rows) - bottom :]), by_document)


def body_size(runs: Iterable[Run]) -> float:
    """Return the font size of most characters, to half a pixel."""
    exact: dict[float, int] = {}
    for run in runs:
        exact[run.size] = exact.get(run.size, 0) + len(run.text)
    sizes: Counter[float] = Counter()
    for size, count in exact.items():
        sizes[round(size * 2) / 2] += count
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _headers_and_footers(rows: Sequence[Row], frame: Frame) -> tuple[int, int]:
    """Count the rows of the header at the top and of the footer at the bottom.

    Both are not larger than the text and are set apart from it. In the outermost tenth of the page a distance of two
    lines is enough. In the outermost seventh a distance of one line and a mark are needed: a rule, a page number,
    parts at both margins, or words such as "Revision". A page number alone may be further in.
    """
    top = _edge_rows([(row, row.y0, row.y1) for row in rows[: limits.MOST_HEADER_ROWS + 1]], rows, frame)
    last = rows[: -limits.MOST_HEADER_ROWS - 2 : -1]
    flipped = [(row, frame.height - row.y1, frame.height - row.y0) for row in last]
    bottom = _edge_rows(flipped, rows, frame, upwards=True)
    return (top, bottom) if top + bottom < len(rows) else (0, 0)


def _edge_rows(
    edge: Sequence[tuple[Row, float, float]], rows: Sequence[Row], frame: Frame, *, upwards: bool = False
) -> int:
    """Count the rows before the furthest cut that sets rows apart.

    `edge` has rows in the order from the edge inwards, the bottom edge if `upwards`. Each has the distances of its two
    sides from the edge in pixels. `rows` are those of the page.
    """
    count, widest, body, near = 0, 0.0, frame.body_size, limits.HEADER_RULE_PX
    largest = max(body, _large_size(rows)) if edge and edge[0][0].size > limits.HEADER_SIZE * body else body
    left = min((row.x0 for row in rows), default=0.0)
    for number, ((row, _, end), (inner, begin, _)) in enumerate(pairwise(edge), 1):
        gap = begin - end
        between = (frame.height - begin, frame.height - end) if upwards else (end, begin)
        ruled = any(between[0] - near <= rule[1] <= between[1] + near for rule in frame.rules)
        numbered = _is_numbered(row)
        single = numbered and count == 0 and len(row.runs) == 1
        zone = limits.NUMBER_ZONE if single and gap > limits.NUMBER_APART * body else limits.WIDE_HEADER_ZONE
        size = limits.MARKED_HEADER_SIZE if ruled or numbered else limits.HEADER_SIZE
        if end > zone * frame.height or row.size > size * largest:
            break
        outer = end <= limits.HEADER_ZONE * frame.height
        if tables_of(row) and (count or not outer):
            break
        if upwards and ruled and not numbered and _NOTE_MARK.match(row.runs[0].text.strip()):
            break  # a footnote below its rule
        if any(grid is other for grid in tables_of(row) for other in tables_of(inner)):
            continue  # within a table
        running = number == count + 1 and bool(_RUNNING.match(row.runs[0].text.strip()))
        marked = numbered or running or _in_parts(row, 0 if outer else limits.HEADER_PARTS)
        if count and not marked and gap < limits.FURTHER_CUT * widest:
            continue  # a header is not set apart more from itself than from the text
        boxed = upwards and not outer and row.x0 - left < limits.FOOTER_INDENT * row.size  # by the rule of a box
        marked |= ruled and not boxed
        alone = numbered and count == 0 and gap > limits.PAGE_NUMBER_GAP * body
        least = limits.MARKED_HEADER_GAP if marked else limits.HEADER_GAP
        if alone or (gap >= least * body and (marked or outer)):
            count, widest = number, max(widest, gap)
    return count


def _is_numbered(row: Row) -> bool:
    """Whether a page number stands at either side of a row. A number with a point begins a heading."""
    first, last = row.runs[0].text.strip(), row.runs[-1].text.strip()
    heading = len(row.runs) > 1 and first.endswith(".")
    return bool(_PAGE_NUMBER.match(last) or (not heading and _PAGE_NUMBER.match(first)))


def _in_parts(row: Row, least: float) -> bool:
    """Whether a row is a table, or has parts that are at least `least` font sizes apart."""
    gaps = [right.x0 - left.x1 for left, right in pairwise(row.runs)]
    heading = row.runs[0].text.strip().endswith(".")
    return bool(tables_of(row)) or (not heading and any(gap >= least * row.size for gap in gaps))


def _large_size(rows: Sequence[Row]) -> float:
    """Return the largest size that a good part of the text has; code and tables may outweigh the text."""
    sizes: Counter[float] = Counter()
    for row in rows:
        sizes[row.size] += sum(len(run.text) for run in row.runs)
    least = limits.LARGE_TEXT * sum(sizes.values())
    return max((size for size, count in sizes.items() if count >= least), default=0.0)


def _footnotes(region: Region, frame: Frame) -> int:
    """Count the rows at the end of a column that are footnotes: smaller than the text, with a mark or below a rule.

    Small type without mark and rule is text, such as methods, captions and references.
    """
    if region.is_table:
        return 0
    rows, count = region.rows, 0
    for number, row in enumerate(reversed(rows), 1):
        if row.size > limits.NOTE_SIZE * frame.body_size or row.y0 < limits.NOTE_ZONE * frame.height:
            break
        above = rows[-number - 1] if number < len(rows) else None
        first = above is None or above.size > limits.NOTE_SIZE * frame.body_size
        if _rule_between(above, row, frame) or (first and _NOTE_MARK.match(row.runs[0].text.strip())):
            count = number
    return count


def _rule_between(above: Row | None, row: Row, frame: Frame) -> bool:
    top = above.middle if above else row.y0 - limits.NOTE_RULE_ABOVE * row.size
    return any(
        top < rule[1] < row.middle
        and abs(rule[0] - row.x0) < limits.NOTE_RULE_SHIFT * row.size
        and rule[2] - rule[0] < limits.NOTE_RULE_WIDTH * frame.width
        for rule in frame.rules
    )


def figure_boxes(rasters: Iterable[Rect], width: float, height: float) -> list[Rect]:
    """Return the pictures that are figures. A picture of most of the page is its paper or background."""
    return [box for box in rasters if (box[2] - box[0]) * (box[3] - box[1]) < limits.BACKGROUND * width * height]
