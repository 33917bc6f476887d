"""Ruled tables: grids of horizontal and vertical rules, cells merged where a rule is missing, and their text.

A ruled table is cut out of the page before rows are read, because rules say more than the space between words. In the
reading order `TableRun`s stand for its printed rows, each as wide as the table.
"""

from __future__ import annotations

import math
from bisect import bisect, bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datagen.pdf.page import Rect
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.glyphs import IS_UNSPACED
from datagen.pdf.text.regions import Region, Row, Run
from datagen.pdf.text.rows import beside_each_other, rows_of

Boxes = npt.NDArray[np.float64]
Flags = Sequence[Sequence[bool]]
Rule = tuple[float, float, float]
"""A rule: its middle across its direction, its beginning and its end, in pixels."""


class GridCell(NamedTuple):
    """The rows and columns of a grid that a cell covers, from 0; `bottom` and `right` are not part of it."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(slots=True)
class Grid:
    """A ruled table: the positions of its rules in pixels, its cells, and the text in each."""

    xs: list[float]
    ys: list[float]
    cells: list[GridCell]  # from top to bottom, from left to right
    owner: list[list[int]]  # (rows, columns) number of the cell at each place
    beside: Flags  # (rows, columns - 1) whether a rule stands at the right of each place
    runs: list[list[Run]] = field(default_factory=list)  # of each cell

    def cell_at(self, x: float, y: float) -> int:
        """Return the number of the cell that holds a point, or of the nearest one for a point beside the table."""
        row, column = bisect(self.ys, y, 1, len(self.ys) - 1) - 1, bisect(self.xs, x, 1, len(self.xs) - 1) - 1
        return self.owner[row][column]


@dataclass(slots=True, kw_only=True)
class TableRun(Run):
    """A printed row of a ruled table in the reading order, as wide as the table."""

    grid: Grid


class _Parting(NamedTuple):
    """The rules of a table and the positions at which they part its columns and rows, in pixels."""

    xs: list[float]
    ys: list[float]
    flat: list[Rule]
    upright: list[Rule]
    near: float  # the most distance of two rules at one position

    def grid(self) -> Grid:
        """Return the cells that the rules part."""
        xs, ys = self.xs, self.ys
        beside = list(zip(*_covered(self.upright, xs[1:-1], ys, self.near), strict=True))
        return Grid(xs, ys, *_cells(beside, _covered(self.flat, ys[1:-1], xs, self.near)), beside)


def cut_out(runs: list[Run], drawings: Sequence[Rect], body: float, thick: float) -> tuple[list[Run], list[Grid]]:
    """Return the runs outside ruled tables, and the tables with the runs inside them.

    `body` is the font size of the text and `thick` the most thickness of a rule, in pixels. A run that crosses a
    vertical rule is cut at the space next to it.
    """
    taken: set[int] = set()
    tables: list[Grid] = []
    middles: list[tuple[float, float, int]] = []
    for parting in _partings(drawings, body, thick) if body else ():
        x0, x1, y0, y1 = parting.xs[0], parting.xs[-1], parting.ys[0], parting.ys[-1]
        middles = middles or sorted([(run.middle, (run.x0 + run.x1) / 2, n) for n, run in enumerate(runs)])
        level = middles[bisect(middles, (y0, math.inf, 0)) : bisect_left(middles, (y1, -math.inf, 0))]
        inner = sorted([n for _, x, n in level if x0 < x < x1 and n not in taken])
        if len(inner) > 1 and _fill(grid := parting.grid(), [runs[n] for n in inner]):
            taken.update(inner)
            tables.append(grid)
    return [run for n, run in enumerate(runs) if n not in taken] if taken else runs, tables


def rows_with(rows: Sequence[Row], tables: Sequence[Grid]) -> list[Row]:
    """Return the rows of a page from top to bottom with those of its ruled tables, each as one run."""
    stand_ins: list[Run] = []
    for grid in tables:
        runs = [run for cell in grid.runs for run in cell]
        first, last = min(run.index for run in runs), max(run.last for run in runs)
        for row in rows_of(map(replace, runs))[0]:
            text = " ".join(run.text.strip() for run in row.runs)
            stand_ins.append(TableRun(text, grid.xs[0], row.y0, grid.xs[-1], row.y1, row.size, first, last, grid=grid))
    if not stand_ins:
        return list(rows)
    merged: list[Row] = []
    for row in sorted([*(Row([run]) for run in stand_ins), *rows], key=attrgetter("middle")):
        above = merged[-1] if merged else None
        if above and row.middle - above.middle <= limits.SAME_ROW * min(row.size, above.size):
            merged[-1] = Row(sorted(above.runs + row.runs, key=attrgetter("x0")))
        else:
            merged.append(row)
    return merged


def parts_of(region: Region, done: list[Grid]) -> Iterator[Region | Grid]:
    """Yield the ruled tables of a region and the rows between them, in reading order.

    Tables in `done` are left out and those that are yielded are added to it: columns can cut a table's rows apart.
    """
    rows: list[Row] = []
    for row in region.rows:
        grids = tables_of(row)
        rest = [run for run in row.runs if not isinstance(run, TableRun)] if grids else row.runs
        for grid in grids:
            if not any(grid is other for other in done):
                if rows:
                    yield Region(rows, region.gutters)
                rows = []
                done.append(grid)
                yield grid
        if rest:
            rows.append(Row(rest) if grids else row)
    if rows:
        yield Region(rows, region.gutters)


def tables_of(row: Row) -> list[Grid]:
    """Return the ruled tables that a row of the reading order is part of."""
    return [run.grid for run in row.runs if isinstance(run, TableRun)]


def _fill(grid: Grid, runs: Sequence[Run]) -> bool:
    """Put the runs into the cells of `grid`. Return whether it is a table and no frame: cells side by side."""
    if any(_crosses(run, grid) for run in runs):
        return False
    pieces = [piece for run in runs for piece in _cut(run, grid)]
    grid.runs = [[] for _ in grid.cells]
    for run in pieces:
        grid.runs[grid.cell_at((run.x0 + run.x1) / 2, run.middle)].append(run)
    filled = [cell for cell, inside in zip(grid.cells, grid.runs, strict=True) if inside]
    beside = any(a.left != b.left and a.top < b.bottom and b.top < a.bottom for a, b in pairwise(filled))
    if not beside or len(filled) < limits.FILLED_CELLS * len(grid.cells):
        return False
    letters = [sum(len(run.text) for run in inside) for inside in grid.runs]
    lines = [len(beside_each_other(inside)) if len(inside) > 1 else len(inside) for inside in grid.runs]
    if max(letters) >= limits.FRAME_SHARE * sum(letters) and lines[letters.index(max(letters))] >= limits.FRAME_LINES:
        return False
    return max(lines) <= (limits.CELL_LINES if len(grid.ys) > 2 else limits.LONE_ROW_LINES)


def _crosses(run: Run, grid: Grid) -> bool:
    """Whether a run goes from one cell to another where no rule parts them, as in a frame with a title on its edge."""
    row = min(max(bisect(grid.ys, run.middle) - 1, 0), len(grid.ys) - 2)
    slack = limits.CUT_OVERLAP * run.size
    begin, end = bisect(grid.xs, run.x0 + slack), bisect(grid.xs, run.x1 - slack)
    owner, beside = grid.owner[row], grid.beside[row]
    for column in range(max(begin, 1), min(end, len(grid.xs) - 1)):
        if not beside[column - 1] and owner[column - 1] != owner[column]:
            return True
    return False


def _cut(run: Run, grid: Grid) -> list[Run]:
    """Cut a run at the vertical rules that it crosses, each at the space nearest to the rule."""
    row = bisect(grid.ys, run.middle) - 1
    slack = limits.CUT_OVERLAP * run.size
    begin, end = bisect(grid.xs, run.x0 + slack), bisect_left(grid.xs, run.x1 - slack, 0, len(grid.xs) - 1)
    owner = grid.owner[row] if 0 <= row < len(grid.owner) else []
    rules = [grid.xs[n] for n in range(begin, end) if owner and (n == 0 or owner[n] != owner[n - 1])]
    pieces: list[Run] = []
    for rule in rules:
        place = _space_at(run, rule)
        if place:
            before, after = run.text[:place], run.text[place:]
            x = min(max(rule, run.x0), run.x1)
            pieces.append(replace(run, text=before, x1=x))
            run = replace(run, text=after, x0=x)
    return [piece for piece in (*pieces, run) if piece.text.strip()]


def _space_at(run: Run, x: float) -> int:
    """Return the number of characters before the space that is nearest to `x` by the usual widths; 0 for none near."""
    widths = np.cumsum([2 if IS_UNSPACED.match(char) else 1 for char in run.text])
    ends = run.x0 + widths * ((run.x1 - run.x0) / float(widths[-1]))
    spaces = [number for number, char in enumerate(run.text) if char == " "]
    nearest = min(spaces, key=lambda number: abs(float(ends[number]) - x), default=0)
    return nearest if nearest and abs(float(ends[nearest]) - x) < limits.CUT_REACH * run.size else 0


def _partings(drawings: Sequence[Rect], body: float, thick: float) -> Iterator[_Parting]:
    """Yield the rules of tables: first thin ones that touch one another, then the sides of boxes elsewhere."""
    if len(drawings) < limits.LEAST_RULES:
        return
    boxes = np.array(drawings, dtype=np.float64)
    near, long = limits.RULE_NEAR * body, limits.RULE_PIECE * body
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    flat, upright = (height <= thick) & (width >= long), (width <= thick) & (height >= long)
    thin = np.vstack([boxes[flat], boxes[upright]]) if flat.any() and upright.any() else boxes[:0]
    least = np.minimum(width, height)
    rest = boxes[(least > thick) & (least >= long)]
    for group in _touching(thin, near):
        lying = [((y0 + y1) / 2, x0, x1) for x0, y0, x1, y1 in group if y1 - y0 <= thick and x1 - x0 > y1 - y0]
        standing = [((x0 + x1) / 2, y0, y1) for x0, y0, x1, y1 in group if x1 - x0 <= thick and y1 - y0 > x1 - x0]
        parting = _parting(lying, standing, group, near)
        if parting:
            x, y = ((rest[:, :2] + rest[:, 2:]) / 2).T
            x0, x1, y0, y1 = parting.xs[0], parting.xs[-1], parting.ys[0], parting.ys[-1]
            rest = rest[~((x > x0) & (x < x1) & (y > y0) & (y < y1))]
            yield parting
    for group in _touching(rest, near):
        lying = [(y, x0, x1) for x0, y0, x1, y1 in group for y in (y0, y1)]
        standing = [(x, y0, y1) for x0, y0, x1, y1 in group for x in (x0, x1)]
        parting = _parting(lying, standing, group, near)
        if parting and len(parting.ys) > 2:  # shading of one row says nothing about the others
            yield parting


def _touching(boxes: Boxes, near: float) -> Iterator[list[Rect]]:
    """Yield groups of boxes that touch one another, within `near` pixels."""
    boxes = boxes[: limits.MOST_RULES]
    if len(boxes) < limits.LEAST_RULES:
        return
    (x0, y0), (x1, y1) = (boxes[:, :2] - near / 2).T.copy(), (boxes[:, 2:] + near / 2).T.copy()
    touch = x0[:, None] <= x1  # begins before the other ends
    touch &= y0[:, None] <= y1
    touch &= touch.T.copy()
    packed = np.packbits(touch, axis=1, bitorder="little")
    beside = [int.from_bytes(row, "little") for row in packed]  # the bits of an integer are a set of boxes
    rects: list[Rect] = [(a, b, c, d) for a, b, c, d in boxes.tolist()]
    free = (1 << len(rects)) - 1
    while free:
        group, edge, members = 0, free & -free, []
        while edge:
            bit = edge & -edge
            members.append(bit.bit_length() - 1)
            group |= bit
            edge = (edge | beside[members[-1]]) & ~group
        free &= ~group
        if len(members) >= limits.LEAST_RULES:
            yield [rects[number] for number in sorted(members)]


def _parting(flat: list[Rule], upright: list[Rule], boxes: Sequence[Rect], near: float) -> _Parting | None:
    """Return the positions of rules, the middles or sides of `boxes` that touch; None for less than two columns."""
    if not flat or not upright:
        return None
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    xs = _positions([*(middle for middle, _, _ in upright), min(x0), max(x1)], near)
    ys = _positions([*(middle for middle, _, _ in flat), min(y0), max(y1)], near) if len(xs) > 2 else []
    if len(ys) < 2 or len(xs) * len(ys) > limits.MOST_CELLS:
        return None
    return _Parting(xs, ys, flat, upright, near)


def _positions(values: Iterable[float], near: float) -> list[float]:
    """Return the means of groups of values that are at most `near` apart, in ascending order."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][-1] <= near:
            groups[-1].append(value)
        else:
            groups.append([value])
    return [(group[0] + group[-1]) / 2 for group in groups]


def _covered(rules: Iterable[Rule], positions: Sequence[float], cuts: Sequence[float], near: float) -> Flags:
    """Return, for each position and each interval between two cuts, whether rules cover most of the interval."""
    lengths = [[0.0] * (len(cuts) - 1) for _ in positions]
    for middle, begin, end in rules:
        number = bisect(cuts, begin, 1) - 1
        overlaps: list[tuple[int, float]] = []
        while number < len(cuts) - 1 and cuts[number] < end:
            overlaps.append((number, max(min(end, cuts[number + 1]) - max(begin, cuts[number]), 0.0)))
            number += 1
        for covered, position in zip(lengths, positions, strict=True):
            if abs(middle - position) <= near:
                for number, length in overlaps:
                    covered[number] += length
    least = [limits.RULED * (b - a) for a, b in pairwise(cuts)]
    return [[length >= enough for length, enough in zip(row, least, strict=True)] for row in lengths]


def _cells(beside: Flags, below: Flags) -> tuple[list[GridCell], list[list[int]]]:
    """Return the cells of a grid, merged to rectangles where no rule parts them, and the cell at each row and column.

    `beside` (R, C - 1) says whether a rule stands at the right of a cell, `below` (R - 1, C) whether one is below it.
    """
    rows, columns = len(beside), len(beside[0]) + 1
    owner = [[-1] * columns for _ in range(rows)]
    cells: list[GridCell] = []
    for row in range(rows):
        for column in range(columns):
            if owner[row][column] >= 0:
                continue
            right, bottom = column + 1, row + 1
            while right < columns and not beside[row][right - 1] and owner[row][right] < 0:
                right += 1
            while (
                bottom < rows
                and not any(below[bottom - 1][column:right])
                and not any(beside[bottom][column : right - 1])
            ):
                bottom += 1
            for covered in owner[row:bottom]:
                covered[column:right] = [len(cells)] * (right - column)
            cells.append(GridCell(row, column, bottom, right))
    return cells, owner
