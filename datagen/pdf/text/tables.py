"""The cells of tables, ruled or parted by gutters."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import attrgetter
from statistics import median

from datagen.pdf.page import Rect
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.grid import Grid
from datagen.pdf.text.paragraphs import row_text
from datagen.pdf.text.regions import Region, Row, Run, leads, switch_share
from datagen.pdf.text.rows import rows_of
from datagen.pdf.text.table_text import TableCell

_PAGE = re.compile(r"(?:^|[.·…\s])(?:(?:[A-Z]-?)?\d{1,4}|[ivxlcIVXLC]{1,7})$")


def region_cells(region: Region, edges: Sequence[Rect], joiner: Joiner) -> list[TableCell]:
    """Return the cells of a table that gutters part.

    Several printed rows form one row of the table where rules enclose them. Without rules they do where every cell
    continues the cell above it in the document's order. `edges` are drawings that can be rules or borders of cells.
    """
    if _is_contents(region.rows):
        return _contents_cells(region)
    cells: list[TableCell] = []
    used = sorted({region.column(run) for row in region.rows for run in row.runs})
    region = Region(region.rows, [region.gutters[column - 1] for column in used[1:]])
    number = -1
    for group in _table_rows(region, edges):
        leads = "".join([row.runs[0].lead for row in group]).split()
        cells += [TableCell(" ".join(leads), number := number + 1, 0)] if leads else []
        number += 1
        texts: dict[int, str] = {}
        spans: dict[int, int] = {}
        for run in sorted((run for row in group for run in row.runs), key=attrgetter("index")):
            column, text = region.column(run), run.text.strip()
            texts[column] = joiner.join(texts[column], text) if column in texts else text
            spans[column] = max(spans.get(column, 1), region.last_column(run) - column + 1)
        cells += [TableCell(texts[column], number, column, columns=spans[column]) for column in sorted(texts)]
    return cells


def _is_contents(rows: Sequence[Row]) -> bool:
    """Whether rows are a table of contents: dots lead from each entry to its page, and to no other cell."""
    led = [row for row in rows if any(map(leads, row.runs))]
    return bool(led) and all(map(_leads_to_page, led))


def _leads_to_page(row: Row) -> bool:
    begin = next(number for number, run in enumerate(row.runs) if leads(run))
    *dots, last = row.runs[begin:]
    return bool(_PAGE.search(last.text.strip())) and not any(run.text.strip(" .·…") for run in dots[1:])


def _contents_cells(region: Region) -> list[TableCell]:
    """Return the cells of a table of contents: an entry with its number, and its page."""
    cells: list[TableCell] = []
    for number, row in enumerate(region.rows):
        runs = row.runs
        has_page = len(runs) > 1 and bool(_PAGE.search(runs[-1].text.strip()))
        entry = Row(runs[:-1]) if has_page else row
        text = row.runs[0].lead.replace("\n", " ") + " ".join(run.text.strip() for run in entry.runs)
        cells += [TableCell(text, number, 0), *([TableCell(runs[-1].text.strip(), number, 1)] if has_page else [])]
    return cells


def grid_cells(grid: Grid, joiner: Joiner) -> list[TableCell]:
    """Return the cells of a ruled table. A row of the grid without rules between its lines may hold several rows."""
    printed = [rows_of(map(replace, runs))[0] for runs in grid.runs]
    parts: list[list[list[Row]]] = [[rows] for rows in printed]  # of each cell: the lines of each of its rows
    starts = [0]
    for number in range(len(grid.ys) - 1):
        members = [n for n, cell in enumerate(grid.cells) if cell.top == number == cell.bottom - 1 and printed[n]]
        rows = _rows_between_rules({n: printed[n] for n in members})
        for n in {n for row in rows for n in row}:
            parts[n] = [row.get(n, []) for row in rows]
        starts.append(starts[-1] + max(len(rows), 1))
    cells: list[TableCell] = []
    for cell, texts in zip(grid.cells, parts, strict=True):
        begin, columns = starts[cell.top], cell.right - cell.left
        height = starts[cell.bottom] - begin if len(texts) == 1 else 1
        for number, lines in enumerate(texts):
            text = reduce(joiner.join, map(row_text, lines), "")
            cells.append(TableCell(text, begin + number, cell.left, height, columns))
    return cells


def _rows_between_rules(cells: dict[int, list[Row]]) -> list[dict[int, list[Row]]]:
    """Return the rows of the table that a row of its grid holds, with the lines of each cell; none if it is one row.

    It holds several where the lines of most cells stand side by side, unless the document writes cell after cell. A
    cell that stands between the rows is in none of them, because it spans them all.
    """
    lines = [(row, n) for n, rows in cells.items() if len(rows) > 1 for row in rows]
    levels = _levels(lines)
    full = {n for n in cells if sum(n in level for level in levels) > limits.FULL_CELL * len(levels)}
    if len(full) < limits.TABLE_ROWS:
        return []
    order = [n for _, n in sorted((run.index, n) for row, n in lines for run in row.runs)]
    by_cells = _in_one_piece(order)
    key = min(cells)
    most, numbers = 2 * len(full) >= len(cells), any(_numbers(cells[n]) for n in full)
    if not (key in full and most and numbers if by_cells else key in full or most):
        return []
    single = [(rows[0], n) for n, rows in cells.items() if len(rows) == 1 and n != key]
    for level in levels:
        middle = next(iter(level.values())).middle
        level.update({n: row for row, n in single if abs(row.middle - middle) <= limits.SAME_ROW * row.size})
    groups: list[dict[int, list[Row]]] = []
    for level in levels:
        if not groups or 2 * len(level) > len(full) or key in level:
            groups.append({})
        for n, row in level.items():
            groups[-1].setdefault(n, []).append(row)
    return groups


def _levels(lines: Sequence[tuple[Row, int]]) -> list[dict[int, Row]]:
    """Return the lines of cells that stand side by side, by the cell's number, from top to bottom."""
    levels: list[dict[int, Row]] = []
    for row, n in sorted(lines, key=lambda line: line[0].middle):
        first = next(iter(levels[-1].values())) if levels else None
        if first and n not in levels[-1] and row.middle - first.middle <= limits.SAME_ROW * row.size:
            levels[-1][n] = row
        else:
            levels.append({n: row})
    return levels


def _numbers(rows: Sequence[Row]) -> bool:
    """Whether the lines of a cell are a column of numbers."""
    begin = [row.runs[0].text.strip()[:2] for row in rows]
    return len(rows) >= limits.NUMBER_LINES and all(any(char.isdigit() for char in text) for text in begin)


def _table_rows(region: Region, edges: Sequence[Rect]) -> list[list[Row]]:
    cuts = _separators(region, edges)
    if not cuts:
        return _rows_by_order(region)
    between: dict[int, list[Row]] = {}
    for row in region.rows:
        between.setdefault(bisect(cuts, row.middle), []).append(row)
    groups: list[list[Row]] = []
    for number, rows in between.items():
        whole = 0 < number < len(cuts) and _written_by_cells(rows, region)
        groups += [rows] if whole else [[row] for row in rows]
    return groups


def _written_by_cells(rows: Sequence[Row], region: Region) -> bool:
    """Whether the document finishes each cell before it begins the next."""
    order = sorted((run.index, region.column(run)) for row in rows for run in row.runs)
    return _in_one_piece([column for _, column in order])


def _in_one_piece(cells: Sequence[int]) -> bool:
    """Whether each number stands in one piece: the document finishes each cell before it begins the next."""
    return sum(a != b for a, b in pairwise(cells)) == len(set(cells)) - 1


def _rows_by_order(region: Region) -> list[list[Row]]:
    """Group rows whose cells all continue the cells above in the document's order."""
    rows = region.rows
    if len(rows) == 1 or not region.gutters or _written_by_columns(region):
        return [[row] for row in rows]
    loose = median([row.middle - above.middle for above, row in pairwise(rows)])
    grouped, last = [[rows[0]]], _cells(rows[0], region)
    for above, row in pairwise(rows):
        here, distance = _cells(row, region), row.middle - above.middle
        goes_on = all(column in last and last[column].last + 1 == run.index for column, run in here.items())
        # A first cell is a key of its own, unless rows are clearly further apart than lines.
        goes_on &= 0 not in here or distance < limits.KEY_LEADING * loose
        if goes_on and distance <= limits.CELL_LEADING * row.size:
            grouped[-1].append(row)
            last |= here
        else:
            grouped.append([row])
            last = here
    return grouped


def _cells(row: Row, region: Region) -> dict[int, Run]:
    return {region.column(run): run for run in row.runs}


def _written_by_columns(region: Region) -> bool:
    left, right = region.gutters[0]
    lefts = [Row(runs) for row in region.rows if (runs := [run for run in row.runs if run.x0 < left])]
    rights = [Row(runs) for row in region.rows if (runs := [run for run in row.runs if run.x0 >= right])]
    return bool(lefts and rights) and switch_share(lefts, rights) <= limits.BY_COLUMNS_SWITCHES


def _separators(region: Region, edges: Sequence[Rect]) -> list[float]:
    """Return the y of borders and rules between the rows of a table; empty where most rows have none."""
    rows = region.rows
    x0, x1 = min(row.x0 for row in rows), max(row.x1 for row in rows)
    top, bottom = rows[0].y0 - limits.BORDER_MARGIN * rows[0].size, rows[-1].y1 + limits.BORDER_MARGIN * rows[-1].size
    near = limits.BORDER_NEAR * rows[0].size
    widths: list[tuple[float, float]] = []
    for left, above, right, below in edges:
        if above >= bottom or below <= top:
            continue
        width = min(right, x1) - max(left, x0)
        if width > 0:
            heights = (above, below) if below - above > near else ((above + below) / 2,)
            widths += [(y, width) for y in heights if top < y < bottom]
    cuts: list[float] = []
    covered, begin = 0.0, float("-inf")
    for y, width in [*sorted(widths), (float("inf"), 0.0)]:
        if y - begin > near:
            if covered >= limits.BORDER_WIDTH * (x1 - x0):
                cuts.append(begin)
            covered, begin = 0.0, y
        covered += width
    if len(cuts) < limits.LEAST_BORDERS:
        return []
    keys = sum(region.column(row.runs[0]) == 0 for row in rows if cuts[0] < row.middle < cuts[-1])
    return cuts if len(cuts) - 1 >= limits.BORDERS_PER_KEY * keys else []
