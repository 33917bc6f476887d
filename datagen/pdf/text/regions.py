"""Where text stands on a page, in reading order: rows, bands of rows that share gutters, columns, tables.

A band is a run of rows with one free strip (gutter) or more between them; a full-width row ends it. A gutter parts
columns, read one after the other, or the cells of a table, read row by row. Which of the two is decided by what the
parts look like and by the order in which the document itself writes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from operator import attrgetter
from statistics import median

from datagen.pdf.page import Rect

Interval = tuple[float, float]

_SAME_ROW = 0.4  # of the font size: how far the middles of two runs of one row lie apart, at most
_ONE_RUN = 0.5  # of the font size: a gap that is a space between words
_MARKER_GAP = 3.0  # of the font size: between a list's marker and its text
_NUMBER_GAP = 1.6  # the same of a number without a point or bracket; wider, and it is the cell of a table
_GUTTER = 0.8  # of the median font size: the narrowest gutter
_MARKERS = frozenset("•‣◦▪●○■□✓–—-*·∗†‡§o\uf0b7\uf0a7\uf0d8")  # the last ones are bullets of symbol fonts


@dataclass(slots=True)
class Run:
    """Text without a gap in it, upright; coordinates in pixels of the page as it is turned for reading."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float  # of the font
    index: int  # place in the document's own order
    last: int  # the same of its last piece, where it is put together of several
    bold: bool = False
    mono: bool = False

    @property
    def middle(self) -> float:
        """Middle of its height."""
        return (self.y0 + self.y1) / 2


@dataclass(slots=True)
class Row:
    """Runs side by side, from left to right."""

    runs: list[Run]
    x0: float = field(init=False)
    y0: float = field(init=False)
    x1: float = field(init=False)
    y1: float = field(init=False)
    size: float = field(init=False)
    middle: float = field(init=False)  # of the height of its longest run

    def __post_init__(self) -> None:
        runs = self.runs
        if len(runs) == 1:
            (longest,) = runs
            self.x0, self.y0, self.x1, self.y1 = longest.x0, longest.y0, longest.x1, longest.y1
        else:
            longest = max(runs, key=lambda run: len(run.text))
            self.x0, self.x1 = min([run.x0 for run in runs]), max([run.x1 for run in runs])
            self.y0, self.y1 = min([run.y0 for run in runs]), max([run.y1 for run in runs])
        self.size, self.middle = longest.size, longest.middle

    def within(self, left: float, right: float) -> Row | None:
        """Its part between two x, if there is any."""
        if left <= self.x0 and self.x1 < right:  # most often
            return self
        runs = [run for run in self.runs if left <= run.x0 < right]
        if len(runs) == len(self.runs):
            return self
        return Row(runs) if runs else None


@dataclass(slots=True)
class Region:
    """Rows that are read from top to bottom."""

    rows: list[Row]
    gutters: list[Interval] = field(default_factory=list)  # of a table; none: running text

    @property
    def is_table(self) -> bool:
        """Whether its rows have cells."""
        return bool(self.gutters)


def join_drop_caps(runs: Sequence[Run], body_size: float) -> list[Run]:
    """Puts a capital as high as several lines before the first of them; the lines beside it lose their indent."""
    capitals = [
        run for run in runs if run.size >= 1.8 * body_size and len(run.text.strip()) == 1 and run.text[0].isalpha()
    ]
    if not capitals or len(capitals) > 3:  # more: a title letter by letter
        return list(runs)
    kept = [run for run in runs if run not in capitals]
    for capital in capitals:
        beside = [run for run in kept if capital.y0 < run.middle < capital.y1 and run.size < 0.6 * capital.size]
        near = [run for run in beside if -0.5 < (run.x0 - capital.x1) / body_size < 1.5]
        top = min(near, key=attrgetter("middle"), default=None)
        if top and top.middle < capital.middle:
            top.text = capital.text.strip() + top.text.lstrip()
            for run in near:
                run.x0 = capital.x0
        else:
            kept.append(capital)
    return kept


def rows_of(runs: Iterable[Run]) -> tuple[list[Row], int]:
    """Runs sorted into rows, from top to bottom; and how many were left out because they are printed twice."""
    rows: list[list[Run]] = []
    for run in sorted(runs, key=attrgetter("middle")):
        first = rows[-1][0] if rows else None
        if first and run.middle - first.middle <= _SAME_ROW * min(run.size, first.size):
            rows[-1].append(run)
        else:
            rows.append([run])
    doubled = 0
    made = []
    for row in rows:
        merged, left_out = _merged(row)
        made.append(Row(merged))
        doubled += left_out
    return made, doubled


def _merged(row: list[Run]) -> tuple[list[Run], int]:
    if len(row) == 1:
        return row, 0
    row.sort(key=attrgetter("x0"))
    merged, doubled = row[:1], 0
    for run in row[1:]:
        last = merged[-1]
        gap, size = run.x0 - last.x1, max(run.size, last.size)
        if run.text == last.text and abs(run.x0 - last.x0) < 0.3 * size:
            doubled += 1  # bold or a shadow made by printing twice
        elif gap < _ONE_RUN * size or gap < _marker_gap(last.text, run.text) * size:
            _append(last, run, gap)
        else:
            merged.append(run)
    return merged, doubled


def _append(last: Run, run: Run, gap: float) -> None:
    spaced = gap > 0.15 * run.size and not last.text.endswith(" ") and not run.text.startswith(" ")
    if len(run.text) > len(last.text):
        last.size, last.bold, last.mono, last.y0, last.y1 = run.size, run.bold, run.mono, run.y0, run.y1
    last.text += (" " if spaced else "") + run.text
    last.x1 = max(last.x1, run.x1)
    last.index, last.last = min(last.index, run.index), max(last.last, run.last)


def _marker_gap(text: str, after: str) -> float:
    """The widest gap, of the font size, between `text` and what it is the bullet or number of; 0 if it is none."""
    text = text.strip()
    if text in _MARKERS:
        return _MARKER_GAP
    number = text.strip("().")
    if len(text) > 8 or not number.replace(".", "").isalnum() or not after.lstrip()[:1].isalpha():
        return 0
    if text[-1] in ").":
        return _MARKER_GAP
    return _NUMBER_GAP if number[0].isdigit() else 0


def in_order(rows: Sequence[Row]) -> list[Region]:
    """Rows as regions in reading order; neighbours without columns are one region."""
    if not rows:
        return []
    ordered: list[Region] = []
    flowing = False  # whether the last region is text that the next band may go on
    least = _GUTTER * median(row.size for row in rows)
    for band, gutters in _bands(rows, least):
        regions = _columns(band, gutters)
        in_columns = bool(regions)
        regions = regions or _table(band, gutters)
        if flowing and not in_columns and not regions[0].is_table:
            ordered[-1].rows.extend(regions.pop(0).rows)
        ordered += regions
        flowing = not in_columns and not ordered[-1].is_table
    return ordered


def _columns(band: list[Row], gutters: list[Interval]) -> list[Region]:
    """The columns of a band, each in reading order; none where it has none."""
    cut = _table_apart(band, gutters[0]) if gutters else 0
    if cut:
        return in_order(band[:cut]) + in_order(band[cut:])
    partings = [gutter for gutter, parts in zip(gutters, _adjacent(band, gutters), strict=True) if _are_columns(*parts)]
    if not partings:
        return []
    cut = _lead(band, partings[0][0]) or _rest(band, partings[0][0])
    if cut:
        return in_order(band[:cut]) + in_order(band[cut:])
    found: list[Region] = []
    edges = [-math.inf, *(right for _, right in partings), math.inf]
    for left, right in pairwise(edges):
        found += in_order([part for row in band if (part := row.within(left, right))])
    return found


def _table(band: list[Row], gutters: list[Interval]) -> list[Region]:
    """Text, a table and text: a table begins and ends with rows that have cells on both sides of a gutter."""
    enough = max(2, len(band) / 10)
    gutters = [(a, b) for a, b in gutters if sum(row.x0 < a and row.x1 > b for row in band) >= enough]
    if not gutters:
        return [Region(band)]
    wide = [number for number, row in enumerate(band) if len(row.runs) > 1]
    begin, end = wide[0], wide[-1] + 1
    while end < len(band) and band[end].y0 - band[end - 1].y1 < 0.8 * band[end].size:
        end += 1  # cells that go on
    parts = [Region(band[:begin]), Region(band[begin:end], gutters), Region(band[end:])]
    return [part for part in parts if part.rows]


def _lead(band: list[Row], parting: float) -> int:
    """How many rows stand alone above the columns, at the right: a date, an address; not the right column's own."""
    begin = next(number for number, row in enumerate(band) if row.x0 < parting)
    if begin == 0:
        return 0
    rest = next((row for row in band[begin:] if row.x1 > parting), None)
    return begin if rest is None or rest.y0 - band[begin - 1].y1 > 1.5 * rest.size else 0


def _rest(band: list[Row], parting: float) -> int:
    """Where rows begin that stand alone far below the columns, at the left: a heading of what follows; 0: nowhere."""
    end = next(number for number in range(len(band), 0, -1) if band[number - 1].x1 > parting)
    apart = end < len(band) and band[end].y0 - band[end - 1].y1 > 3 * band[end].size
    return end if apart else 0


def _table_apart(band: list[Row], parting: Interval) -> int:
    """Where a table begins or ends that lies between columns so that their gutter runs through it; 0: nowhere."""
    cuts = [number for number, (above, row) in enumerate(pairwise(band), 1) if row.y0 - above.y1 > 0.6 * row.size]
    for begin, end in pairwise([0, *cuts, len(band)]):
        piece = band[begin:end]
        if len(piece) in (1, len(band)) or any(len(row.runs) == 1 for row in piece):
            continue
        sides = [_side(band, piece, -math.inf, parting[1]), _side(band, piece, parting[1], math.inf)]
        if all(short for _, short in sides) and switch_share(sides[0][0], sides[1][0]) >= 1:
            return begin or end
    return 0


def _side(band: list[Row], piece: list[Row], left: float, right: float) -> tuple[list[Row], bool]:
    """The part of `piece` between two x, and whether its rows are short there, compared with those of the band."""
    of_band = [part for row in band if (part := row.within(left, right))]
    of_piece = [part for row in piece if (part := row.within(left, right))]
    width = median(part.x1 - part.x0 for part in of_band)
    filled = [sum(run.x1 - run.x0 for run in part.runs) for part in of_piece]
    return of_piece, bool(filled) and median(filled) < 0.6 * width


def _bands(rows: Sequence[Row], least: float) -> list[tuple[list[Row], list[Interval]]]:
    """Runs of rows with the gutters that all rows of one leave free."""
    left, right = min(row.x0 for row in rows) - 1, max(row.x1 for row in rows) + 1
    bands: list[tuple[list[Row], list[Interval]]] = []
    band: list[Row] = []
    free: list[Interval] = []
    had: list[Interval] = []
    x0 = x1 = 0.0
    for row, below in zip_longest(rows, rows[1:]):
        if band:
            free_with = _without(free, row, least)
            x0_with, x1_with = min(x0, row.x0), max(x1, row.x1)
            has = _inner(free_with, x0_with, x1_with)
            if not had and len(row.runs) > 1:  # a table that begins below a line that stands across its gutters
                alone = _inner(_without([(left, right)], row, least), row.x0, row.x1)
                has = has if len(has) >= len(alone) else []
            if has or not (had or len(row.runs) > 1 or _beside(row, below, least)):
                band.append(row)
                free, had, x0, x1 = free_with, has, x0_with, x1_with
                continue
            bands.append((band, had))
        band, free, x0, x1 = [row], _without([(left, right)], row, least), row.x0, row.x1
        had = _inner(free, x0, x1)
    bands.append((band, had))
    return bands


def _beside(row: Row, below: Row | None, least: float) -> bool:
    """Whether the next row stands beside this one, on another line: the first rows of two columns may do so."""
    if below is None or below.y0 > row.y1 - 0.2 * row.size:
        return False
    return below.x0 - row.x1 >= least or row.x0 - below.x1 >= least


def _without(free: list[Interval], row: Row, least: float) -> list[Interval]:
    """What the runs of `row` leave of the free strips, as far as it is wide enough."""
    for run in row.runs:
        x0, x1 = run.x0, run.x1
        left_free: list[Interval] = []
        for left, right in free:
            if x1 <= left or right <= x0:
                left_free.append((left, right))
                continue
            if x0 - left >= least:
                left_free.append((left, x0))
            if right - x1 >= least:
                left_free.append((x1, right))
        free = left_free
    return free


def _inner(free: list[Interval], x0: float, x1: float) -> list[Interval]:
    return [strip for strip in free if x0 < strip[0] and strip[1] < x1]


def _adjacent(band: list[Row], gutters: list[Interval]) -> list[tuple[list[Row | None], list[Row | None]]]:
    """For each gutter the parts of the rows to its left and right, as far as the next gutter."""
    edges = [-math.inf, *(right for _, right in gutters), math.inf]
    parts = [[row.within(left, right) for row in band] for left, right in pairwise(edges)]
    return list(pairwise(parts))


def _are_columns(left: list[Row | None], right: list[Row | None]) -> bool:
    """Whether two stacks of rows are columns of text and not of a table."""
    lefts, rights = [row for row in left if row], [row for row in right if row]
    fewer = min(len(lefts), len(rights))
    if len(left) < 3:
        return False
    aligned = sum(bool(a and b) for a, b in zip(left, right, strict=True)) / fewer
    switches = switch_share(lefts, rights)
    prose = is_prose(lefts) + is_prose(rights)
    cell_by_cell = aligned > 0.5 and 0.15 < switches < 0.5
    if prose == 2:
        return not (cell_by_cell and fewer > 4)
    if prose == 1:
        return (switches <= 0.2 or aligned < 0.5) and (fewer > 1 or len(left) > 5)
    return (aligned < 0.3 and switches <= 0.3) or (fewer >= 4 and switches <= 0.1 and not _numeric(rights))


def switch_share(lefts: Sequence[Row], rights: Sequence[Row]) -> float:
    """How often the document goes from one side to the other and back, per row of the smaller side.

    About 0 for columns written one after the other, 2 for tables written row by row. Rows above or below the other
    side do not count.
    """
    top, bottom = max(lefts[0].middle, rights[0].middle), min(lefts[-1].middle, rights[-1].middle)
    lefts, rights = ([row for row in rows if top <= row.y1 and row.y0 <= bottom] for rows in (lefts, rights))
    if not lefts or not rights:
        return 0.0
    sides = sorted((run.index, side) for side, rows in enumerate((lefts, rights)) for row in rows for run in row.runs)
    switches = sum(a[1] != b[1] for a, b in pairwise(sides)) - 1
    return switches / min(len(lefts), len(rights))


def is_prose(rows: Sequence[Row]) -> bool:
    """Whether most rows fill the width that the widest ones have, and that is ten letters' width or more."""
    if len(rows) < 3:
        return False
    width = max(row.x1 for row in rows) - min(row.x0 for row in rows)
    typical = median(row.x1 - row.x0 for row in rows)
    return typical >= 0.7 * width and typical >= 10 * median(row.size for row in rows)


def _numeric(rows: Sequence[Row]) -> bool:
    return sum(any(char.isdigit() for char in row.runs[0].text[:3]) for row in rows) >= 0.4 * len(rows)


def rules_of(drawings: Iterable[Rect], *, longest_side: float) -> list[Rect]:
    """Horizontal rules: drawings much wider than high. `longest_side` of the page, in pixels."""
    thick = longest_side / 300
    return [box for box in drawings if box[3] - box[1] <= thick and box[2] - box[0] >= 8 * thick]
