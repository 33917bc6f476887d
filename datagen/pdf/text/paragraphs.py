"""Lines of a label: paragraphs of running text, and rows as printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.code import code_lines, is_code
from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.regions import Region, Row, full

_ITEM = re.compile(
    r"(?:[•‣◦▪●○■□–—*·✓\uf0b7\uf0a7\uf0d8]\s|o\s\S|[-−]\s+\S|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s|\[\d{1,3}\]\s|[（(]?[一二三四五六七八九十\d]{1,3}[)）、]|第[一二三四五六七八九十\d]+[章节条])"
)
_LEADERS = re.compile(r"(?:\. ?){4,}|…{2,}")


def printed_lines(region: Region) -> list[str]:
    """Return each row as printed. A gap as wide as between cells becomes a tab."""
    lines: list[str] = []
    for code, group in groupby(region.rows, is_code):
        rows = list(group)
        lines += _code(rows) if code else [row.runs[0].lead + row_text(row) for row in rows]
    return lines


def paragraphs(region: Region, joiner: Joiner) -> list[str]:
    """Return the paragraphs of a region of running text, one line each."""
    texts: list[str] = []
    column = min(row.x0 for row in region.rows), full(region.rows)
    cut = _stacks(region.rows)
    items = _items(cut, column[1])
    for code, numbers in groupby(range(len(cut)), lambda number: is_code(cut[number][0])):
        if code:
            texts += _code([row for number in numbers for row in cut[number]])
        else:
            for number in numbers:
                texts += _joined(_Stack(cut[number], column, number in items), joiner)
    return texts


def _code(rows: Sequence[Row]) -> list[str]:
    return [row.runs[0].lead + line for row, line in zip(rows, code_lines(rows), strict=True)]


def _items(stacks: Sequence[Sequence[Row]], right: float) -> set[int]:
    """Return the stacks whose first lines stand out to the left, as those of terms do; none where they are no list.

    The text of the column ends at `right`.
    """
    several = [number for number, rows in enumerate(stacks) if len(rows) > 1 and not is_code(rows[0])]
    items = [number for number in several if _is_item(stacks[number], right)]
    indented = sum(stacks[n][0].x0 - stacks[n][1].x0 > limits.INDENT * stacks[n][0].size for n in several)
    if len(items) < max(limits.HANGING_ITEMS, indented + 1):
        return set()
    shifts = [stacks[number][1].x0 - stacks[number][0].x0 for number in items]
    even = max(shifts) - min(shifts) <= limits.HANGING_EVEN * stacks[items[0]][0].size
    return set(items) if even else set()


def _is_item(rows: Sequence[Row], right: float) -> bool:
    """Whether all rows but the first are indented alike, below a row that has no room for the next word."""
    first, size = rows[0], rows[0].size
    starts = [row.x0 for row in rows[1:]]
    if min(starts) - first.x0 <= limits.INDENT * size or max(starts) - min(starts) > limits.HANGING_EVEN * size:
        return False
    return not _has_room(first, rows[1], max(right, *(row.x1 for row in rows)))


def _has_room(above: Row, row: Row, right: float) -> bool:
    """Whether the first word of `row` would have fitted above, even where lines end unevenly."""
    return right - above.x1 > _first_word_width(row, _start(row)) + limits.SHORT_ROW * row.size


def _joined(stack: _Stack, joiner: Joiner) -> list[str]:
    """Return the paragraphs of a stack of rows."""
    texts: list[str] = []
    rows = stack.rows
    text, first, lead = row_text(rows[0]), rows[0], rows[0].runs[0].lead
    for above, row in pairwise(rows):
        if stack.begins(above, row, first):
            texts.append(lead + text)
            text, first, lead = row_text(row), row, row.runs[0].lead
        else:
            text = joiner.join(text, row_text(row))
            lead = f"{lead.rstrip()}\n{row.runs[0].lead}".lstrip() if row.runs[0].lead else lead
    return [*texts, lead + text]


def row_text(row: Row, table: Region | None = None) -> str:
    """Return a row as printed. A tab follows each cell of `table`, and a gap as wide as between cells."""
    text, last = row.runs[0].text.strip(), row.runs[0]
    for run in row.runs[1:]:
        apart = table is not None and table.column(last) != table.column(run)
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
        if alike and near and not (is_code(row) or is_code(above)):
            stacks[-1].append(row)
        else:
            stacks.append([row])
    return stacks


def _usual_distance(rows: Sequence[Row]) -> float:
    """Return the distance of rows in a paragraph, in font sizes: an eighth are closer, as many rows may be headings."""
    pairs = [(above, row) for above, row in pairwise(rows) if _alike(above, row) and not is_code(row)]
    distances = [(row.middle - above.middle) / row.size for above, row in pairs]
    within = sorted(distance for distance in distances if distance >= limits.LEAST_LEADING)
    return within[len(within) // limits.USUAL_LEADING] if within else 0.0


def _alike(above: Row, row: Row) -> bool:
    return abs(row.size - above.size) <= limits.ALIKE_SIZE * max(row.size, above.size)


class _Stack:
    """A stack of rows of one distance and type, and how they are set, which tells where paragraphs begin."""

    def __init__(self, rows: Sequence[Row], column: tuple[float, float], is_item: bool) -> None:
        """Measure `rows`, which stand in the column between two x coordinates; an item is one of `_items`."""
        self.rows, self.is_item = rows, is_item
        size, edges = rows[0].size, sorted(row.x1 for row in rows)
        self.left = min(row.x0 for row in rows)
        self.right, self.column = full(rows), column[1]
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
        narrow = ragged and edges[-1] - self.left < limits.SINGLE_WIDTH * (column[1] - column[0])
        self.single = flush_right or centred or narrow  # addresses, signatures, lists
        # In a list, an index or a poem a short row is usual, and ends no paragraph of several rows.
        widest = edges[-2:][0] - self.left  # but one, which may reach into the margin
        self.short = limits.LIST_ITEM * widest
        self.list = len(rows) > limits.FEW_ROWS and median(edges) - self.left < limits.LIST_FILL * widest
        self.wraps = narrow and not centred and not flush_right
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
        if self.is_item and not _gapped(row):
            return _has_room(above, row, max(self.right, self.column))
        gapped = _gapped(above) or _gapped(row)
        if gapped or row.runs[0].lead.endswith((" ", "\t")) or _has_leaders(above.runs[-1].text):
            return True
        if self.single:
            return not (self.wraps and self._wraps(above, row, first))
        if self.list and above.x1 - self.left < self.short:
            return True
        return not self._indented(row) if self.hanging else self._begins_by_position(above, row, first)

    def _wraps(self, above: Row, row: Row, first: Row) -> bool:
        """Whether `row` is a further line of an item or goes on in small letters, indented below a full row."""
        text, room = _start(row), self.right - above.x1
        if row.x0 - first.x0 <= limits.INDENT * row.size or room > _first_word_width(row, text) or _ITEM.match(text):
            return False
        return text[:1].islower() or bool(_ITEM.match(_start(first)))

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
        ends = first is not above or (below_item and self.column - above.x1 > _first_word_width(row, text))
        return shift < -indent and ends

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


def _has_leaders(text: str) -> bool:
    return (text.count(".") > 3 or "……" in text) and bool(_LEADERS.search(text))


def _gapped(row: Row) -> bool:
    return len(row.runs) > 1 and any(b.x0 - a.x1 >= limits.CELL_GAP * row.size for a, b in pairwise(row.runs))


def _bold(row: Row) -> bool:
    return all(run.bold for run in row.runs)
