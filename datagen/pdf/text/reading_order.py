"""The text of a page in reading order: the label of an OCR sample. Knows `datagen.pdf.page.Page` and no PDF library.

A page is read in four phases:

1. runs: visible lines of text, turned upright, without line numbers, joined into rows.
2. furniture: header, footer and footnotes. Text in figures is dropped with the runs, if the policy says so.
3. regions: the rows between header and footer as columns and tables, in the layout's order or the document's.
4. paragraphs: one line of the label per paragraph, or per row of a table.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args, get_type_hints

from datagen.pdf.page import Line, Page, Rect, Span, around, inside, turned_box
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.bidi import is_leftward, mirror, mirror_other_regions
from datagen.pdf.text.furniture import Frame, Furniture, body_size, figure_boxes, furniture_of
from datagen.pdf.text.glyphs import RTL, SOFT_HYPHEN, Joiner, cleaner
from datagen.pdf.text.grid import Grid, cut_out, parts_of, rows_with
from datagen.pdf.text.margins import without_line_numbers
from datagen.pdf.text.paragraphs import paragraphs, printed_lines
from datagen.pdf.text.regions import Region, Run, join_drop_caps, rules_of
from datagen.pdf.text.rows import rows_of
from datagen.pdf.text.table_text import written
from datagen.pdf.text.tables import grid_cells, region_cells
from datagen.pdf.text.vertical import stacked

POLICY_VERSION = 2
"""Raised when the rules change the text of a page."""

_MONOSPACED = re.compile(r"mono|courier|consol|menlo|inconsolata|cmtt|typewriter|\btt\b|[a-z]tt\d", re.IGNORECASE)
_TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # directions of writing: to the right, down, to the left, up
_SLANTED = -1
_LEADERS = re.compile(r"\s*(?:(?:\. ?){5,}|…{2,}|(?:· ?){5,})\s*")
_HAS_LEADERS = re.compile(r"\. ?\. ?\. ?\.|……|· ?· ?·")  # a quick test; most lines have none


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPolicy:
    """The choices of a label: which visible text it has and how it is written. Hidden text is never part of it."""

    headers: Literal["keep", "drop"] = "keep"  # running heads and page numbers; kept: header first, footer last
    footnotes: Literal["keep", "drop"] = "keep"  # kept: at the end of their column, where they stand
    figures: Literal["keep", "drop"] = "keep"  # text that lies on a picture smaller than the page
    tables: Literal["tabs", "markdown", "html"] = "tabs"  # HTML alone says how many rows and columns a cell spans
    paragraphs: Literal["join", "lines"] = "join"  # one line per paragraph, or lines as printed with their hyphens
    leaders: Literal["keep", "drop"] = "drop"  # rows of dots, as in contents: nobody can read off how many there are
    ligatures: Literal["letters", "keep"] = "letters"  # ﬁ as "fi": one spelling per word; a reader sees letters
    fullwidth: Literal["keep", "ascii"] = "keep"  # Ａ１ as they are (or A1); Chinese punctuation always stays

    def __post_init__(self) -> None:
        for name, choice in get_type_hints(TextPolicy).items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} is one of {', '.join(get_args(choice))}, not {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class PageText:
    """The text of a page. A line is a paragraph, a printed line, or a row of a table with tabs between cells."""

    text: str
    notes: Mapping[str, int]
    """Counts of text that was left out, changed or is doubtful:

    document_order: 1 if the document's own order is taken, not that of the layout; line_numbers: in the margin, behind
    the text; hidden_spans: not painted; header_lines, footer_lines, footnote_lines, figure_lines: dropped by policy;
    leaders: rows of dots replaced by a tab; doubled_runs: printed twice at one place; joined_hyphens: removed at line
    ends; turned_lines: not in the main direction of the page, they come after the rest; slanted_lines: at an angle,
    they come last; rtl_letters: Arabic, Hebrew and the like, whose order comes from their positions.
    """


def read_text(page: Page, policy: TextPolicy = TextPolicy()) -> PageText:
    """Return the visible text of `page` in reading order. Its `rasters` and `drawings` may be empty."""
    notes: Counter[str] = Counter()
    by_turn = _runs(page, policy, notes)
    slanted = by_turn.pop(_SLANTED, [])
    turns = sorted(by_turn, key=lambda turn: (-sum(len(run.text) for run in by_turn[turn]), turn))
    joiner = Joiner(lambda: "\n".join(run.text for runs in by_turn.values() for run in runs))
    lines: list[str] = []
    for turn in turns:
        drawings = [turned_box(box, turn, page.picture.size) for box in page.drawings] if turn else page.drawings
        width, height = page.picture.size if turn % 2 == 0 else page.picture.size[::-1]
        thick = max(width, height) / limits.RULES_IN_PAGE
        leftward = is_leftward("".join([run.text for run in by_turn[turn]]))
        if leftward:  # columns, cells and indents begin at the right
            mirror(by_turn[turn], width)
            drawings = [(width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in drawings]
        rules = rules_of(drawings, longest_side=max(width, height))
        frame = Frame(width, height, body_size(by_turn[turn]), rules)
        printed, numbers = without_line_numbers(by_turn[turn])
        runs, tables = cut_out(join_drop_caps(printed, frame.body_size), drawings, frame.body_size, thick)
        rows, doubled = rows_of(runs)
        notes["doubled_runs"] += doubled
        furniture = _after(policy, furniture_of(rows_with(rows, tables), frame), notes)
        if not all(run.text.isascii() for run in by_turn[turn]):
            mirror_other_regions(furniture.regions, width, leftward)
        lines += _paragraphs(furniture, drawings, policy, joiner)
        lines += numbers
        notes["line_numbers"] += len(by_turn[turn]) - len(printed)
    lines += [run.text.strip() for run in slanted]
    notes["turned_lines"] += sum(len(by_turn[turn]) for turn in turns[1:])
    notes["slanted_lines"] += len(slanted)
    notes["joined_hyphens"] += joiner.hyphens
    if policy.leaders == "drop":
        lines, dropped = _without_leaders(lines)
        notes["leaders"] += dropped
    text = "\n".join(line for line in lines if line).replace(SOFT_HYPHEN, "-")  # printed, at the end of a line
    notes["rtl_letters"] += 0 if text.isascii() else len(RTL.findall(text))
    return PageText(text, {name: count for name, count in notes.items() if count})


def _without_leaders(lines: Iterable[str]) -> tuple[list[str], int]:
    replaced = [_LEADERS.subn("\t", line) if _HAS_LEADERS.search(line) else (line, 0) for line in lines]
    return [line.strip() if count else line for line, count in replaced], sum(count for _, count in replaced)


def _runs(page: Page, policy: TextPolicy, notes: Counter[str]) -> dict[int, list[Run]]:
    """Return the visible lines by quarter turn of their direction, in coordinates in which they run to the right."""
    clean = cleaner(policy.ligatures, policy.fullwidth)
    figures = figure_boxes(page.rasters, *page.picture.size) if policy.figures == "drop" else []
    by_turn: dict[int, list[Run]] = {}
    size = page.picture.size
    for index, line in enumerate(stacked(page.lines)):
        visible = _visible(line, notes)
        if visible is None:
            continue
        text, box, main, bold, mono = visible
        if figures and inside(box, figures):
            notes["figure_lines"] += 1
            continue
        turn = _turn(line.direction)
        quarters = 0 if turn == _SLANTED else turn
        x0, y0, x1, y1 = turned_box(box, quarters, size)
        if box != main.box:  # symbols reach far up and down; the letters tell the rows
            _, y0, _, y1 = turned_box(main.box, quarters, size)
        by_turn.setdefault(turn, []).append(Run(clean(text), x0, y0, x1, y1, main.size, index, index, bold, mono))
    return by_turn


def _visible(line: Line, notes: Counter[str]) -> tuple[str, Rect, Span, bool, bool] | None:
    """Return the painted part of a line: text, box, longest span, whether bold, whether monospaced; None for none."""
    spans = [span for span in line.spans if span.visible]
    hidden = len(spans) < len(line.spans)
    if hidden:
        notes["hidden_spans"] += sum(not span.visible and bool(span.text.strip()) for span in line.spans)
    text = "".join([span.text for span in spans])
    if not text or text.isspace():
        return None
    box = around([span.box for span in spans]) if hidden else line.box
    if len(spans) == 1:
        return text, box, spans[0], spans[0].bold, _monospaced(spans[0].font)
    main = max(spans, key=lambda span: len(span.text))
    bold = main.bold and all(span.bold for span in spans if not span.text.isspace())
    mono = _monospaced(main.font) and all(_monospaced(span.font) for span in spans if not span.text.isspace())
    return text, box, main, bold, mono


@cache
def _monospaced(font: str) -> bool:
    return bool(_MONOSPACED.search(font))


def _turn(direction: tuple[float, float]) -> int:
    if direction == (1.0, 0.0):
        return 0
    x, y = direction
    for turn, (along_x, along_y) in enumerate(_TURNS):
        if x * along_x + y * along_y > 0 and abs(x * along_y - y * along_x) <= limits.TILT * math.hypot(x, y):
            return turn
    return _SLANTED


def _after(policy: TextPolicy, furniture: Furniture, notes: Counter[str]) -> Furniture:
    """Return the furniture that `policy` keeps, and count the lines that it drops."""
    header, regions, footnotes, footer, by_document = furniture
    notes["document_order"] += by_document
    if policy.headers == "drop":
        notes["header_lines"] += len(header)
        notes["footer_lines"] += len(footer)
        header, footer = [], []
    if policy.footnotes == "drop":
        notes["footnote_lines"] += sum(footnotes)
        for region, count in zip(regions, footnotes, strict=True):
            del region.rows[len(region.rows) - count :]
    return Furniture(header, regions, footnotes, footer, by_document)


def _paragraphs(page: Furniture, drawings: Sequence[Rect], policy: TextPolicy, joiner: Joiner) -> list[str]:
    lines: list[str] = []
    edges = [Region(rows) for rows in (page.header, page.footer)]
    done: list[Grid] = []
    for region in (edges[0], *page.regions, edges[1]):
        for part in parts_of(region, done):
            if isinstance(part, Grid):
                lines += written(grid_cells(part, joiner), policy.tables)
            elif policy.paragraphs == "lines" or region in edges:
                lines += printed_lines(part)
            elif part.is_table:
                lines += written(region_cells(part, drawings, joiner), policy.tables)
            else:
                lines += paragraphs(part, joiner)
    return lines
