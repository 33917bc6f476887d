"""Ruled tables: grids of horizontal and vertical rules, cells merged where a rule is missing, and their text.

A ruled table is cut out of the page before rows are read, because rules say more than the space between words. In the
reading order `TableRun`s stand for its printed rows, each as wide as the table.
"""

from __future__ import annotations

from bisect import bisect
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
from datagen.pdf.text.rows import rows_of

Boxes = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


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
    owner: npt.NDArray[np.intp]  # (rows, columns) number of the cell at each place
    beside: Flags  # (rows, columns - 1) whether a rule stands at the right of each place
    runs: list[list[Run]] = field(default_factory=list)  # of each cell

    def cell_at(self, x: float, y: float) -> int:
        """Return the number of the cell that holds a point, or of the nearest one for a point beside the table."""
        rows, columns = self.owner.shape
        row, column = min(max(bisect(self.ys, y) - 1, 0), rows - 1), min(max(bisect(self.xs, x) - 1, 0), columns - 1)
        return int(self.owner[row, column])


@dataclass(slots=True, kw_only=True)
class TableRun(Run):
    """A printed row of a ruled table in the reading order, as wide as the table."""

    grid: Grid


def cut_out(runs: list[Run], drawings: Sequence[Rect], body: float, thick: float) -> tuple[list[Run], list[Grid]]:
    """Return the runs outside ruled tables, and the tables with the runs inside them.

    `body` is the font size of the text and `thick` the most thickness of a rule, in pixels. A run that crosses a
    vertical rule is cut at the space next to it.
    """
    grids = list(_grids(drawings, body, thick)) if body else []
    outside = list(runs)
    tables: list[Grid] = []
    for grid in grids:
        x0, x1, y0, y1 = grid.xs[0], grid.xs[-1], grid.ys[0], grid.ys[-1]
        inner = [run for run in outside if x0 < (run.x0 + run.x1) / 2 < x1 and y0 < run.middle < y1]
        if len(inner) > 1 and _fill(grid, inner):
            members = set(map(id, inner))
            outside = [run for run in outside if id(run) not in members]
            tables.append(grid)
    return outside, tables


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
    parts = [[run] for run in stand_ins] + [row.runs for row in rows]
    merged: list[list[Run]] = []
    for part in sorted(parts, key=lambda part: Row(part).middle):
        above, row = (Row(merged[-1]), Row(part)) if merged else (None, Row(part))
        if above and row.middle - above.middle <= limits.SAME_ROW * min(row.size, above.size):
            merged[-1] = sorted(merged[-1] + part, key=attrgetter("x0"))
        else:
            merged.append(list(part))
    return [Row(part) for part in merged]


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
    lines = [len(rows_of(map(replace, inside))[0]) for inside in grid.runs]
    if max(letters) >= limits.FRAME_SHARE * sum(letters) and lines[letters.index(max(letters))] >= limits.FRAME_LINES:
        return False
    return max(lines) <= (limits.CELL_LINES if len(grid.ys) > 2 else limits.LONE_ROW_LINES)


def _crosses(run: Run, grid: Grid) -> bool:
    """Whether a run goes from one cell to another where no rule parts them, as in a frame with a title on its edge."""
    row = min(max(bisect(grid.ys, run.middle) - 1, 0), len(grid.ys) - 2)
    slack = limits.CUT_OVERLAP * run.size
    begin, end = bisect(grid.xs, run.x0 + slack), bisect(grid.xs, run.x1 - slack)
    between = range(max(begin, 1), min(end, len(grid.xs) - 1))
    return any(
        not grid.beside[row, column - 1] and grid.owner[row, column - 1] != grid.owner[row, column]
        for column in between
    )


def _cut(run: Run, grid: Grid) -> list[Run]:
    """Cut a run at the vertical rules that it crosses, each at the space nearest to the rule."""
    row = bisect(grid.ys, run.middle) - 1
    ends = [cell for cell in grid.cells if cell.top <= row < cell.bottom]
    slack = limits.CUT_OVERLAP * run.size
    rules = sorted(x for x in (grid.xs[cell.left] for cell in ends) if run.x0 + slack < x < run.x1 - slack)
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


def _grids(drawings: Sequence[Rect], body: float, thick: float) -> Iterator[Grid]:
    """Yield the grids of rules that touch one another: first of thin rules, then of the sides of boxes elsewhere."""
    if len(drawings) < limits.LEAST_RULES:
        return
    boxes = np.array(drawings, dtype=np.float64)
    near = limits.RULE_NEAR * body
    size = boxes[:, 2:] - boxes[:, :2]
    long = limits.RULE_PIECE * body
    flat, upright = (size[:, 1] <= thick) & (size[:, 0] >= long), (size[:, 0] <= thick) & (size[:, 1] >= long)
    covered: list[Grid] = []
    thin = np.vstack([boxes[flat], boxes[upright]]) if flat.any() and upright.any() else boxes[:0]
    for group in _touching(thin, near):
        grid = _grid(group, near, thick)
        if grid:
            covered.append(grid)
            yield grid
    rest = boxes[(size.min(axis=1) > thick) & (size.min(axis=1) >= long)]
    for grid in covered:
        middle = (rest[:, :2] + rest[:, 2:]) / 2
        inside = (middle > (grid.xs[0], grid.ys[0])) & (middle < (grid.xs[-1], grid.ys[-1]))
        rest = rest[~inside.all(axis=1)]
    if len(rest) >= limits.LEAST_RULES:
        for group in _touching(rest, near):
            grid = _grid(_sides(group), near, thick)
            if grid and len(grid.ys) > 2:  # shading of one row says nothing about the others
                yield grid


def _sides(boxes: Boxes) -> Boxes:
    """Return the four sides of each box as boxes without width or height."""
    x0, y0, x1, y1 = boxes.T
    sides = [(x0, y0, x1, y0), (x0, y1, x1, y1), (x0, y0, x0, y1), (x1, y0, x1, y1)]
    return np.vstack([np.stack(side, axis=1) for side in sides])


def _touching(boxes: Boxes, near: float) -> Iterator[Boxes]:
    """Yield groups of boxes that touch one another, within `near` pixels."""
    boxes = boxes[: limits.MOST_RULES]
    if len(boxes) < limits.LEAST_RULES:
        return
    low, high = boxes[:, :2] - near / 2, boxes[:, 2:] + near / 2
    begins = (low[:, None, 0] <= high[:, 0]) & (low[:, None, 1] <= high[:, 1])  # before the other ends
    touch = begins & begins.T
    free = touch.sum(axis=0) > 1  # all but those that touch no other
    for first in np.flatnonzero(free).tolist():
        if not free[first]:
            continue
        group: Flags = np.zeros(len(boxes), dtype=bool)
        edge = group.copy()
        edge[first] = True
        while edge.any():
            group = np.asarray(group | edge)
            edge = np.logical_and(np.any(touch[edge], axis=0), ~group)
        free[group] = False
        if group.sum() >= limits.LEAST_RULES:
            yield boxes[group]


def _grid(rules: Boxes, near: float, thick: float) -> Grid | None:
    """Return the grid of rules that touch one another; None for less than two columns."""
    size = rules[:, 2:] - rules[:, :2]
    flat = rules[(size[:, 1] <= thick) & (size[:, 0] > size[:, 1])]
    upright = rules[(size[:, 0] <= thick) & (size[:, 1] > size[:, 0])]
    if len(flat) < 1 or len(upright) < 1:
        return None
    low, high = rules[:, :2].min(axis=0), rules[:, 2:].max(axis=0)
    xs = _positions([*((upright[:, 0] + upright[:, 2]) / 2).tolist(), float(low[0]), float(high[0])], near)
    ys = _positions([*((flat[:, 1] + flat[:, 3]) / 2).tolist(), float(low[1]), float(high[1])], near)
    if len(xs) < 3 or len(ys) < 2 or len(xs) * len(ys) > limits.MOST_CELLS:
        return None
    beside = _covered(upright[:, [0, 2]], upright[:, [1, 3]], xs[1:-1], ys, near)
    below = _covered(flat[:, [1, 3]], flat[:, [0, 2]], ys[1:-1], xs, near)
    return Grid(xs, ys, *_cells(beside.T, below), beside.T)


def _positions(values: Iterable[float], near: float) -> list[float]:
    """Return the means of groups of values that are at most `near` apart, in ascending order."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][-1] <= near:
            groups[-1].append(value)
        else:
            groups.append([value])
    return [(group[0] + group[-1]) / 2 for group in groups]


def _covered(
    across: Boxes, along: Boxes, positions: Sequence[float], cuts: Sequence[float], near: float
) -> npt.NDArray[np.bool_]:
    """Return, for each position and each interval between two cuts, whether rules cover most of the interval.

    `across` (N, 2) has the extent of each rule across its direction, `along` (N, 2) the extent along it.
    """
    covered = np.zeros((len(positions), len(cuts) - 1), dtype=bool)
    middle = (across[:, 0] + across[:, 1]) / 2
    begins, ends = np.array(cuts[:-1]), np.array(cuts[1:])
    for number, position in enumerate(positions):
        pieces = along[np.abs(middle - position) <= near]
        lengths = np.minimum(pieces[:, 1:], ends) - np.maximum(pieces[:, :1], begins)
        covered[number] = lengths.clip(0).sum(axis=0) >= limits.RULED * (ends - begins)
    return covered


def _cells(beside: Flags, below: Flags) -> tuple[list[GridCell], npt.NDArray[np.intp]]:
    """Return the cells of a grid, merged to rectangles where no rule parts them, and the cell (R, C) at each place.

    `beside` (R, C - 1) says whether a rule stands at the right of a cell, `below` (R - 1, C) whether one is below it.
    """
    rows, columns = beside.shape[0], below.shape[1]
    owner = np.full((rows, columns), -1, dtype=np.intp)
    cells: list[GridCell] = []
    for row in range(rows):
        for column in range(columns):
            if owner[row, column] >= 0:
                continue
            right, bottom = column + 1, row + 1
            while right < columns and not beside[row, right - 1] and owner[row, right] < 0:
                right += 1
            while (
                bottom < rows
                and not below[bottom - 1, column:right].any()
                and not beside[bottom, column : right - 1].any()
            ):
                bottom += 1
            owner[row:bottom, column:right] = len(cells)
            cells.append(GridCell(row, column, bottom, right))
    return cells, owner
