"""Lines of a label: paragraphs of running text, and rows of tables with a tab between cells."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from statistics import median

from datagen.pdf.page import Rect
from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.regions import Region, Row, Run, switch_share

_ITEM = re.compile(
    r"(?:[•‣◦▪●○■□–—*·✓\uf0b7\uf0a7\uf0d8]\s|o\s\S|[-−]\s+\S|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s|\[\d{1,3}\]\s|[（(]?[一二三四五六七八九十\d]{1,3}[)）、]|第[一二三四五六七八九十\d]+[章节条])"
)
_LEADERS = re.compile(r"(?:\. ?){4,}|…{2,}")


def printed_lines(region: Region) -> list[str]:
    """Return each row as printed. A gap as wide as between cells becomes a tab."""
    return [_row_text(row) for row in region.rows]


def paragraphs(region: Region, joiner: Joiner) -> list[str]:
    """Return the paragraphs of a region of running text, one line each."""
    texts: list[str] = []
    column = min(row.x0 for row in region.rows), _full(region.rows)
    for rows in _stacks(region.rows):
        stack = _Stack(rows, column)
        text, first = _row_text(rows[0]), rows[0]
        for above, row in pairwise(rows):
            if stack.begins(above, row, first):
                texts.append(text)
                text, first = _row_text(row), row
            else:
                text = joiner.join(text, _row_text(row))
        texts.append(text)
    return texts


def _row_text(row: Row, table: Region | None = None) -> str:
    text, last = row.runs[0].text.strip(), row.runs[0]
    for run in row.runs[1:]:
        apart = table is not None and _column(last, table) != _column(run, table)
        text += ("\t" if apart or run.x0 - last.x1 >= limits.CELL_GAP * row.size else " ") + run.text.strip()
        last = run
    return text


def _stacks(rows: Sequence[Row]) -> list[list[Row]]:
    """Cut rows where distance, size or type changes. Lines are joined within a stack only."""
    least, most = limits.LEADING_RANGE
    usual = max(min(_usual_distance(rows), most), least)
    stacks = [[rows[0]]]
    for above, row in pairwise(rows):
        alike = _alike(above, row) and (_bold(row) == _bold(above) or _start(row)[:1].islower())  # bold first words
        near = row.middle - above.middle <= limits.LEADING * usual * row.size
        if alike and near and not (_mono(row) or _mono(above)):
            stacks[-1].append(row)
        else:
            stacks.append([row])
    return stacks


def _usual_distance(rows: Sequence[Row]) -> float:
    """Return the distance of rows in a paragraph, in font sizes: an eighth are closer, as many rows may be headings."""
    pairs = [(above, row) for above, row in pairwise(rows) if _alike(above, row) and not _mono(row)]
    distances = [(row.middle - above.middle) / row.size for above, row in pairs]
    within = sorted(distance for distance in distances if distance >= limits.LEAST_LEADING)
    return within[len(within) // limits.USUAL_LEADING] if within else 0.0


def _alike(above: Row, row: Row) -> bool:
    return abs(row.size - above.size) <= limits.ALIKE_SIZE * max(row.size, above.size)


def _full(rows: Sequence[Row]) -> float:
    """Return the x at which full rows end. A quarter of the rows may reach beyond it, into the margin."""
    edges = sorted(row.x1 for row in rows)
    return edges[-1 - len(edges) // limits.FULL_ROWS]


class _Stack:
    """A stack of rows of one distance and type, and how they are set, which tells where paragraphs begin."""

    def __init__(self, rows: Sequence[Row], column: tuple[float, float]) -> None:
        """Measure `rows`, which stand in the column between two x coordinates."""
        size, edges = rows[0].size, sorted(row.x1 for row in rows)
        self.left = min(row.x0 for row in rows)
        self.right = _full(rows)
        # A few rows cannot tell a margin from the end of a paragraph.
        if len(rows) <= limits.FEW_ROWS and self.left - column[0] < size:
            self.right = max(self.right, column[1])
        ragged = edges[-1] - edges[0] > limits.RAGGED * size
        flush_right = (
            edges[-1] - edges[0] < limits.FLUSH_RIGHT * size
            and max(row.x0 for row in rows) - self.left > limits.FLUSH_RIGHT_INDENT * size
        )
        centres = [row.x0 + row.x1 for row in rows]
        centred = ragged and max(centres) - min(centres) < limits.CENTRED * size
        self.single = (
            flush_right or centred or (ragged and edges[-1] - self.left < limits.SINGLE_WIDTH * (column[1] - column[0]))
        )  # addresses, signatures, lists
        self.hanging = self._hangs(rows)

    def _hangs(self, rows: Sequence[Row]) -> bool:
        """Whether first lines stand out to the left, as in references and lists."""
        indented = [row for row in rows if self._indented(row)]
        if 2 * len(indented) < len(rows) or len(indented) in (0, len(rows)):
            return False
        if max(row.x0 for row in indented) - min(row.x0 for row in indented) > limits.HANGING_EVEN * rows[0].size:
            return False
        numbered = sum(_start(row)[0] in "[(0123456789" for row in rows if not self._indented(row))
        if numbered > limits.HANGING_NUMBERED * (len(rows) - len(indented)):
            return True
        return self._ends_above(rows, False) > self._ends_above(rows, True)

    def _ends_above(self, rows: Sequence[Row], indented: bool) -> float:
        """Return the share of the rows that stand below a short row, among those that are indented or are not."""
        pairs = [(above, row) for above, row in pairwise(rows) if self._indented(row) is indented]
        short = [self.right - above.x1 > limits.SHORT_ROW * row.size for above, row in pairs]
        return sum(short) / max(len(short), 1)

    def begins(self, above: Row, row: Row, first: Row) -> bool:
        """Whether `row` begins a paragraph. `above` is the row before, `first` the first row of its paragraph."""
        if _is_heading_line(above, row):
            return False
        if self.single or _gapped(above) or _gapped(row) or _LEADERS.search(above.runs[-1].text):
            return True
        if self.hanging:
            return not self._indented(row)
        return self._begins_by_position(above, row, first)

    def _begins_by_position(self, above: Row, row: Row, first: Row) -> bool:
        size, text, indent = row.size, _start(row), limits.INDENT * row.size
        room, shift = self.right - above.x1, row.x0 - above.x0
        item, below_item = bool(_ITEM.match(text)), first is above and bool(_ITEM.match(_start(above)))
        if shift > indent:  # an indent, or a further line of an item
            return item or not below_item
        if room > _first_word_width(row, text) + limits.WORD_SPACE * size:
            return True  # the first word would have fitted above
        if item:
            next_item = abs(row.x0 - first.x0) < indent and _ITEM.match(_start(first))
            return bool(next_item or shift < -indent or room > limits.ITEM_ROOM * size or text[0] in "•‣◦▪●○■□✓")
        return shift < -indent and (below_item or first is not above)

    def _indented(self, row: Row) -> bool:
        return row.x0 - self.left > limits.INDENT * row.size


def _is_heading_line(above: Row, row: Row) -> bool:
    """Whether two rows belong to one centred heading."""
    centred = abs((above.x0 + above.x1) - (row.x0 + row.x1)) < limits.HEADING_CENTRE * row.size
    return centred and _bold(row) and _bold(above) and abs(above.x0 - row.x0) > limits.HEADING_SHIFT * row.size


def _start(row: Row) -> str:
    return row.runs[0].text.lstrip()


def _first_word_width(row: Row, text: str) -> float:
    word = text.split(" ", 1)[0]
    if any(char > "\u2e7f" for char in word[:2]):
        return limits.HAN_WIDTH * row.size  # a character; punctuation, which never begins a line, takes one along
    run = row.runs[0]
    return (run.x1 - run.x0) * len(word) / max(len(run.text), 1)


def _gapped(row: Row) -> bool:
    return any(b.x0 - a.x1 >= limits.CELL_GAP * row.size for a, b in pairwise(row.runs))


def _bold(row: Row) -> bool:
    return all(run.bold for run in row.runs)


def _mono(row: Row) -> bool:
    return all(run.mono for run in row.runs)


def table_lines(region: Region, edges: Sequence[Rect], joiner: Joiner) -> list[str]:
    """Return the rows of a table. A tab separates two cells; an empty cell leaves nothing.

    Several printed rows form one row of the table where rules enclose them. Without rules they do where every cell
    continues the cell above it in the document's order. `edges` are drawings that can be rules or borders of cells.
    """
    lines = []
    for group in _table_rows(region, edges):
        if len(group) == 1:
            lines.append(_row_text(group[0], region))
            continue
        cells: dict[int, str] = {}
        for run in sorted((run for row in group for run in row.runs), key=attrgetter("index")):
            column, text = _column(run, region), run.text.strip()
            cells[column] = joiner.join(cells[column], text) if column in cells else text
        lines.append("\t".join(cells[column] for column in sorted(cells)))
    return lines


def _column(run: Run, region: Region) -> int:
    return bisect(region.gutters, (run.x0, run.x0))


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
    order = sorted((run.index, _column(run, region)) for row in rows for run in row.runs)
    columns = [column for _, column in order]
    return sum(a != b for a, b in pairwise(columns)) == len(set(columns)) - 1


def _rows_by_order(region: Region) -> list[list[Row]]:
    """Group rows whose cells all continue the cells above in the document's order."""
    rows = region.rows
    if _written_by_columns(region):
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
    return {_column(run, region): run for run in row.runs}


def _written_by_columns(region: Region) -> bool:
    left, right = region.gutters[0]
    lefts = [part for row in region.rows if (part := row.within(float("-inf"), left))]
    rights = [part for row in region.rows if (part := row.within(right, float("inf")))]
    return bool(lefts and rights) and switch_share(lefts, rights) <= limits.BY_COLUMNS_SWITCHES


def _separators(region: Region, edges: Sequence[Rect]) -> list[float]:
    """Return the y of borders and rules between the rows of a table; empty where most rows have none."""
    rows = region.rows
    x0, x1 = min(row.x0 for row in rows), max(row.x1 for row in rows)
    top, bottom = rows[0].y0 - limits.BORDER_MARGIN * rows[0].size, rows[-1].y1 + limits.BORDER_MARGIN * rows[-1].size
    near = limits.BORDER_NEAR * rows[0].size
    widths: list[tuple[float, float]] = []
    for box in edges:
        width = min(box[2], x1) - max(box[0], x0)
        if width > 0:
            heights = (box[1], box[3]) if box[3] - box[1] > near else ((box[1] + box[3]) / 2,)
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
    keys = sum(_column(row.runs[0], region) == 0 for row in rows if cuts[0] < row.middle < cuts[-1])
    return cuts if len(cuts) - 1 >= limits.BORDERS_PER_KEY * keys else []
