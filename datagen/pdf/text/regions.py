"""Rows of a page in reading order: bands of rows that share gutters, columns, tables.

A gutter is a vertical strip without text. A band is a sequence of rows with at least one common gutter; a full-width
row ends the band. A gutter separates columns, which are read one after the other, or the cells of a table, which is
read row by row. The shape of the parts and the order in which the document writes them decide between the two.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from operator import attrgetter
from statistics import median

from datagen.pdf.page import Rect
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.sentences import sentences

Interval = tuple[float, float]


@dataclass(slots=True)
class Run:
    """Upright text without a gap. Coordinates are pixels of the page, turned so that the text runs to the right."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float  # of the font
    index: int  # position in the document's own order
    last: int  # the position of its last piece; equal to `index` for a run of one piece
    bold: bool = False
    mono: bool = False
    joints: tuple[
        tuple[int, float, float], ...
    ] = ()  # of its pieces: characters before, end of the left, start of the right
    lead: str = ""  # names in the margin, with what separates them from the text

    @property
    def middle(self) -> float:
        """Vertical middle in pixels."""
        return (self.y0 + self.y1) / 2


@dataclass(slots=True)
class Row:
    """A row of runs, from left to right."""

    runs: list[Run]
    x0: float = field(init=False)
    y0: float = field(init=False)
    x1: float = field(init=False)
    y1: float = field(init=False)
    size: float = field(init=False)
    middle: float = field(init=False)  # vertical middle of the longest run

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


@dataclass(slots=True)
class Region:
    """A block of rows that are read from top to bottom."""

    rows: list[Row]
    gutters: list[Interval] = field(default_factory=list)  # of a table; running text has none

    @property
    def is_table(self) -> bool:
        """Whether the rows have cells."""
        return bool(self.gutters)

    def column(self, run: Run) -> int:
        """Return the number of the column, from 0, in which a run begins."""
        return bisect(self.gutters, (run.x0, run.x0))

    def last_column(self, run: Run) -> int:
        """Return the number of the column in which a run ends."""
        return max(bisect(self.gutters, (run.x1, run.x1)), self.column(run))


def join_drop_caps(runs: Sequence[Run], body_size: float) -> list[Run]:
    """Return the runs with each drop cap put before its first line. The lines beside it lose their indent."""
    large = [run for run in runs if run.size >= limits.DROP_CAP_SIZE * body_size]
    capitals = [run for run in large if len(run.text.strip()) == 1 and run.text[0].isalpha()]
    if not capitals or len(capitals) > limits.MOST_DROP_CAPS:  # a title letter by letter
        return list(runs)
    rest = [run for run in runs if run not in capitals]
    for capital in capitals:
        largest = limits.DROP_CAP_TEXT_SIZE * capital.size
        beside = [run for run in rest if capital.y0 < run.middle < capital.y1 and run.size < largest]
        least, most = limits.DROP_CAP_GAP
        near = [run for run in beside if least < (run.x0 - capital.x1) / body_size < most]
        top = min(near, key=attrgetter("middle"), default=None)
        if top and top.middle < capital.middle:
            top.text = capital.text.strip() + top.text.lstrip()
            for run in near:
                run.x0 = capital.x0
        else:
            rest.append(capital)
    return rest


def in_order(rows: Sequence[Row]) -> list[Region]:
    """Return regions in reading order. Neighbouring bands without columns form one region."""
    if len(rows) < 2:
        return [Region(list(rows))] if rows else []
    ordered: list[Region] = []
    flowing = False  # whether the next band may continue the last region
    least = limits.GUTTER * median(row.size for row in rows)
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
    """Return the regions of a band's columns, in reading order; an empty list for a band without columns."""
    cut = _table_apart(band, gutters[0]) if gutters else 0
    if cut:
        return in_order(band[:cut]) + in_order(band[cut:])
    parts = parted(band, gutters)
    partings = [gutter for gutter, sides in zip(gutters, pairwise(parts), strict=True) if _are_columns(*sides)]
    if not partings:
        return []
    cut = _lead(band, partings[0][0]) or _rest(band, partings[0][0])
    if cut:
        return in_order(band[:cut]) + in_order(band[cut:])
    return [region for part in parted(band, partings) for region in in_order([row for row in part if row])]


def parted(rows: Sequence[Row], gutters: Sequence[Interval]) -> list[list[Row | None]]:
    """Return, for each part between gutters, the part of each row; None where it has none."""
    rights = [right for _, right in gutters]
    parts: list[list[Row | None]] = [[None] * len(rows) for _ in range(len(gutters) + 1)]
    for number, row in enumerate(rows):
        columns: dict[int, list[Run]] = {}
        for run in row.runs:
            columns.setdefault(bisect(rights, run.x0), []).append(run)
        for column, runs in columns.items():
            parts[column][number] = Row(runs) if len(columns) > 1 else row
    return parts


def _table(band: list[Row], gutters: list[Interval]) -> list[Region]:
    """Split a band into text, table, text. A table begins and ends with a row that has cells beside a gutter."""
    enough = max(limits.TABLE_ROWS, len(band) / limits.ROWS_PER_TABLE_ROW)
    gutters = [(a, b) for a, b in gutters if sum(row.x0 < a and row.x1 > b for row in band) >= enough]
    if not gutters or _is_listing(band):
        return [Region(band)]
    wide = [number for number, row in enumerate(band) if len(row.runs) > 1]
    begin, end = wide[0], wide[-1] + 1
    while end < len(band) and band[end].y0 - band[end - 1].y1 < limits.CELL_BELOW * band[end].size:
        end += 1  # further lines of the last cells
    parts = [Region(band[:begin]), Region(band[begin:end], gutters), Region(band[end:])]
    return [part for part in parts if part.rows]


def _is_listing(band: list[Row]) -> bool:
    """Whether rows are code that aligns a few of its signs."""
    return all(row.runs[0].mono for row in band) and 2 * sum(len(row.runs) > 1 for row in band) < len(band)


def _lead(band: list[Row], parting: float) -> int:
    """Return the number of rows above the columns at the right, such as a date, that are not the right column's."""
    begin = next(number for number, row in enumerate(band) if row.x0 < parting)
    if begin == 0:
        return 0
    rest = next((row for row in band[begin:] if row.x1 > parting), None)
    return begin if rest is None or rest.y0 - band[begin - 1].y1 > limits.LEAD_GAP * rest.size else 0


def _rest(band: list[Row], parting: float) -> int:
    """Return the number of the first row far below the columns at the left, such as a heading; 0 for none."""
    end = next(number for number in range(len(band), 0, -1) if band[number - 1].x1 > parting)
    apart = end < len(band) and band[end].y0 - band[end - 1].y1 > limits.REST_GAP * band[end].size
    return end if apart else 0


def _table_apart(band: list[Row], parting: Interval) -> int:
    """Return the row where a table that shares the gutter of the columns around it begins or ends; 0 for none."""
    sides: list[list[Row | None]] = []
    widths: list[float] = []
    pairs = enumerate(pairwise(band), 1)
    cuts = [number for number, (above, row) in pairs if row.y0 - above.y1 > limits.TABLE_APART * row.size]
    for begin, end in pairwise([0, *cuts, len(band)]):
        piece = band[begin:end]
        if len(piece) in (1, len(band)) or any(len(row.runs) == 1 for row in piece):
            continue
        sides = sides or parted(band, [parting])
        widths = widths or [median(row.x1 - row.x0 for row in side if row) for side in sides]
        lefts, rights = ([row for row in side[begin:end] if row] for side in sides)
        short = _are_short(lefts, widths[0]) and _are_short(rights, widths[1])
        if short and switch_share(lefts, rights) >= limits.TABLE_SWITCHES:
            return begin or end
    return 0


def _are_short(rows: list[Row], width: float) -> bool:
    """Whether the texts of rows are short compared with `width`; false for no row."""
    filled = [sum(run.x1 - run.x0 for run in row.runs) for row in rows]
    return bool(filled) and median(filled) < limits.TABLE_CELL_WIDTH * width


def _bands(rows: Sequence[Row], least: float) -> list[tuple[list[Row], list[Interval]]]:
    """Cut rows into bands, each with the gutters that all its rows leave free, at least `least` pixels wide."""
    left, right = min(row.x0 for row in rows) - 1, max(row.x1 for row in rows) + 1
    bands: list[tuple[list[Row], list[Interval]]] = []
    band: list[Row] = []
    free: list[Interval] = []
    gutters: list[Interval] = []
    x0 = x1 = 0.0
    for row, below in zip_longest(rows, rows[1:]):
        if band:
            free_with = _without(free, row, least)
            x0_with, x1_with = min(x0, row.x0), max(x1, row.x1)
            has = _inner(free_with, x0_with, x1_with)
            if not gutters and len(row.runs) > 1:  # a table below a line across its gutters
                alone = _inner(_without([(left, right)], row, least), row.x0, row.x1)
                far = row.y0 - band[-1].y1 > limits.LEAD_GAP * row.size
                has = has if len(has) >= len(alone) and not far else []
            if has or not (gutters or len(row.runs) > 1 or _beside(row, below, least)):
                band.append(row)
                free, gutters, x0, x1 = free_with, has, x0_with, x1_with
                continue
            bands.append((band, gutters))
        band, free, x0, x1 = [row], _without([(left, right)], row, least), row.x0, row.x1
        gutters = _inner(free, x0, x1)
    bands.append((band, gutters))
    return bands


def _beside(row: Row, below: Row | None, least: float) -> bool:
    """Whether the next row stands beside this one at another height, as first rows of two columns may."""
    if below is None or below.y0 > row.y1 - limits.BESIDE * row.size:
        return False
    return below.x0 - row.x1 >= least or row.x0 - below.x1 >= least


def _without(free: list[Interval], row: Row, least: float) -> list[Interval]:
    """Return the parts of the free strips beside the runs of `row` that are at least `least` pixels wide."""
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


def _are_columns(left: list[Row | None], right: list[Row | None]) -> bool:
    """Whether two stacks of rows are columns of text and not of a table."""
    if len(left) < limits.COLUMN_ROWS:
        return False
    lefts, rights = [row for row in left if row], [row for row in right if row]
    prose = is_prose(lefts) + is_prose(rights)
    if prose == 2 and not all(row.runs[0].mono for row in lefts + rights):
        return True
    fewer, switches = min(len(lefts), len(rights)), switch_share(lefts, rights)
    aligned = sum([a is not None and b is not None for a, b in zip(left, right, strict=True)]) / fewer
    in_turn = switches <= limits.HALF_PROSE_SWITCHES
    if prose == 1:
        uneven = aligned < limits.HALF_PROSE_ALIGNED and switches < limits.TABLE_SWITCHES
        return (in_turn or uneven) and (fewer > 1 or len(left) > limits.HALF_PROSE_ROWS)
    if in_turn and (prose == 2 or (fewer > 1 and (sentences(lefts) or sentences(rights)))):
        return True
    if aligned < limits.LISTS_ALIGNED and switches <= limits.LISTS_SWITCHES:
        return True
    apart = fewer >= limits.WRITTEN_APART_ROWS and switches <= limits.WRITTEN_APART_SWITCHES
    numbers = sum(any(char.isdigit() for char in row.runs[0].text[:3]) for row in rights)
    return apart and numbers < limits.NUMERIC_SHARE * len(rights)


def switch_share(lefts: Sequence[Row], rights: Sequence[Row]) -> float:
    """Count how often the document changes sides and back, per row of the smaller side.

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
    """Whether most rows are about as wide as the stack, and at least ten letters wide."""
    if len(rows) < limits.PROSE_ROWS or 2 * sum(map(has_leaders, rows)) > len(rows):
        return False
    width = max(row.x1 for row in rows) - min(row.x0 for row in rows)
    typical = median(row.x1 - row.x0 for row in rows)
    return typical >= limits.PROSE_FILL * width and typical >= limits.PROSE_WIDTH * median(row.size for row in rows)


def has_leaders(row: Row) -> bool:
    """Whether dots lead from the text of a row to a number at its right."""
    return any(map(leads, row.runs[-2:]))


def leads(run: Run) -> bool:
    """Whether a run has a row of dots."""
    return "...." in run.text or ". . . ." in run.text or "……" in run.text


def full(rows: Sequence[Row]) -> float:
    """Return the x at which full rows end. A quarter of the rows may reach beyond it, into the margin."""
    edges = sorted(row.x1 for row in rows)
    return edges[-1 - len(edges) // limits.FULL_ROWS]


def rules_of(drawings: Iterable[Rect], *, longest_side: float) -> list[Rect]:
    """Return the horizontal rules: drawings much wider than high. `longest_side` is the page's, in pixels."""
    thick = longest_side / limits.RULES_IN_PAGE
    return [box for box in drawings if box[3] - box[1] <= thick and box[2] - box[0] >= limits.RULE_LENGTH * thick]
