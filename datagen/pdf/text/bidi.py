"""Lines of right-to-left scripts in the order in which they are read, from the positions of their characters.

Documents store such lines in the order of reading, in the order on the page, or word by word, and libraries reorder
some of them. The positions tell what a reader sees. The bidirectional algorithm (Unicode Annex 9) is applied backwards:
letters from right to left, numbers and words of other alphabets from left to right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import NamedTuple

from datagen.pdf.text.glyphs import RTL
from datagen.pdf.text.regions import Region, Row, Run

_SAME_BASELINE = 0.3  # em; the most distance of the baselines of a row's pieces
_CUT = 0.8  # em; a wider gap begins another cell or column
_SPACE = 0.16  # em; a wider gap is a space
_RTL_SPACE = 0.1  # em; the same between letters of right-to-left scripts, which touch or nearly do
_MARKED_SPACE = 0.06  # em; the same where the document has a space character
_THIN = 0.005  # em; a narrower character is a further letter of a ligature, or a mark
_FAR_MARK = 0.5  # em; a mark is not that far from its letter
_DOUBLED = 0.15  # em; the most shift between two prints of a character
_MIXED = 3  # times as many letters of the page's other direction make a line of that direction

_MIRRORED = dict(zip("()[]{}<>«»‹›", ")(][}{><»«›‹", strict=True))
_OPENING = frozenset("([{<«‹")
_FORMS = re.compile(r"[\ufb1d-\ufdf9\ufdfc\ufe70-\ufefc]")
_LATIN_GLUE = frozenset("+-−*/\\_&@=#~^|$%'’°")  # belongs to the word of another alphabet that it touches
_SENTENCE = frozenset(".,;:!?…،؛؟")  # belongs to it at its right only; at its left it ends a sentence
_NUMBER_MARKS = frozenset("+-−±%‰°$€£#")
_JOINS_NO_FURTHER = frozenset("اأإآٱدذرزژوؤةىء")  # the next letter has the same form behind a space


class Glyph(NamedTuple):
    """A printed character. Distances are pixels."""

    text: str  # one character or more; a space character is one too
    x0: float
    x1: float
    y: float  # of the baseline
    size: float  # of the font
    line: int  # number of the library's line


class _Cell(NamedTuple):
    """A place of a row with its text: a character with its marks, or the letters of a ligature."""

    parts: list[tuple[int, str]]  # number of the glyph, text; in the order of reading
    kind: str  # L, R, N (number), A (Arabic number), O (other); S is a space
    x0: float
    x1: float
    size: float

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.parts)


Order = list[tuple[int, str]]
"""Numbers of glyphs in the order of reading, each with its text, which begins with a space between two words."""


class Reading(NamedTuple):
    """The glyphs of a page in the order of reading. Spaces and second prints of right-to-left rows are left out."""

    order: list[int]  # numbers of glyphs
    texts: dict[int, str]  # of the glyphs of right-to-left rows; a text begins with a space between two words
    starts: set[int]  # numbers of the glyphs that begin a line


def reordered(glyphs: Sequence[Glyph], usable: Sequence[bool]) -> Reading | None:
    """Return the order of a page's glyphs, given in the library's order; None for a page without right-to-left letters.

    Rows with such letters are cut where a gap is as wide as between columns, and so are all rows of a page that has
    mostly such letters. All other lines stay as they are, and so do glyphs that are not `usable`: hidden or turned.
    """
    kinds = [_kind(glyph.text) for glyph in glyphs]
    if "R" not in kinds:
        return None
    leftward = kinds.count("R") >= kinds.count("L")
    rows = _rows(glyphs, usable, all_rows=leftward)
    pieces = [piece for row in rows for piece in _pieces(_cells(glyphs, row), _parted(glyphs, row))]
    readings = [_read(piece, leftward) for piece in pieces]
    mirrored = _is_mirrored(readings)
    written = [_written(reading, mirrored) for reading in readings]
    at = {min(number for number, _ in piece): piece for piece in written}
    moved = {number for row in rows for number in row}
    order: list[int] = []
    starts: set[int] = set()
    texts: dict[int, str] = {}
    last = -1
    for number, glyph in enumerate(glyphs):
        if number in at:
            piece = dict.fromkeys(number for number, _ in at[number])
            for part, text in at[number]:
                texts[part] = texts.get(part, "") + text
            starts.add(next(iter(piece)))
            order += piece
            last = -1
        elif number not in moved:
            if glyph.line != last:
                starts.add(number)
            order.append(number)
            last = glyph.line
    return Reading(order, texts, starts)


def is_leftward(text: str) -> bool:
    """Whether most letters of a text are of a right-to-left script."""
    if text.isascii() or not RTL.search(text):
        return False
    return 2 * len(RTL.findall(text)) > sum(char.isalpha() for char in text)


def mirror(runs: Iterable[Run], width: float) -> None:
    """Mirror positions at the middle of a page, so that what begins at the right begins at the left."""
    for run in runs:
        run.x0, run.x1 = width - run.x1, width - run.x0


def mirror_other_regions(regions: Sequence[Region], width: float, leftward: bool) -> None:
    """Mirror the regions of running text whose direction is not the page's, for their indents and ragged edges.

    On a mirrored page, the runs of other rows without right-to-left letters, such as formulas, are put in their order.
    """
    for region in regions:
        text = "".join([run.text for row in region.rows for run in row.runs])
        if not region.is_table and is_leftward(text) is not leftward and any(map(str.isalpha, text)):
            mirror((run for row in region.rows for run in row.runs), width)
            region.rows[:] = [Row(sorted(row.runs, key=lambda run: run.x0)) for row in region.rows]
        elif not region.is_table and leftward:
            for row in region.rows:
                row.runs.sort(key=lambda run: run.x0, reverse=not any(RTL.search(run.text) for run in row.runs))


def _rows(glyphs: Sequence[Glyph], usable: Sequence[bool], *, all_rows: bool) -> list[list[int]]:
    """Return the numbers of the glyphs of the rows, or of those with a right-to-left letter, in the library's order."""
    numbers = [number for number in range(len(glyphs)) if usable[number]]
    lines = [list(line) for _, line in groupby(numbers, lambda number: glyphs[number].line)]
    ordered = sorted(lines, key=lambda line: glyphs[line[0]].y)
    rows: list[list[int]] = []
    for line in ordered:
        first, last = glyphs[line[0]], glyphs[rows[-1][0]] if rows else None
        if last and first.y - last.y <= _SAME_BASELINE * min(first.size, last.size):
            rows[-1] += line
        else:
            rows.append(list(line))
    return [sorted(row) for row in rows if all_rows or any(RTL.search(glyphs[number].text) for number in row)]


def _parted(glyphs: Sequence[Glyph], row: Sequence[int]) -> set[frozenset[int]]:
    """Return the pairs of glyphs between which the document has a space character."""
    pairs: set[frozenset[int]] = set()
    last, spaced = -1, False
    for number in row:
        if glyphs[number].text.isspace():
            spaced = True
        elif not _is_part(glyphs[number]):
            if spaced:
                pairs.add(frozenset((last, number)))
            last, spaced = number, False
    return pairs


def _cells(glyphs: Sequence[Glyph], row: Sequence[int]) -> list[_Cell]:
    """Return the cells of a row from left to right, without spaces."""
    solid = [number for number in row if not (_is_part(glyphs[number]) or glyphs[number].text.isspace())]
    parts: dict[int, Order] = {number: [(number, glyphs[number].text)] for number in solid}
    for place, number in enumerate(row):
        if number not in parts and solid and not glyphs[number].text.isspace():
            base = _base(glyphs, row, place, parts)
            if number > base or _is_mark(glyphs[number].text):
                parts[base].append((number, glyphs[number].text))
            else:  # the library has turned the line around, with the letters of the ligature
                parts[base].insert(1, (number, glyphs[number].text))
    cells = [
        _Cell(_ligature(parts[number]), _kind(glyph.text), glyph.x0, glyph.x1, glyph.size)
        for number in solid
        for glyph in [glyphs[number]]
    ]
    return sorted(cells, key=lambda cell: cell.x0 + cell.x1)


def _is_mark(text: str) -> bool:
    return unicodedata.category(text[:1]) == "Mn"


def _is_part(glyph: Glyph) -> bool:
    return _is_mark(glyph.text) or (glyph.x1 - glyph.x0 < _THIN * glyph.size and not glyph.text.isspace())


def _base(glyphs: Sequence[Glyph], row: Sequence[int], place: int, parts: dict[int, Order]) -> int:
    """Return the number of the glyph that a mark or the further letter of a ligature belongs to."""
    part = glyphs[row[place]]
    before = next((number for number in reversed(row[:place]) if number in parts), None)
    after = next((number for number in row[place:] if number in parts), None)
    if before is None or after is None:
        likely = after if before is None else before
    elif _is_mark(part.text):  # it follows its letter where the library has the letters in the order of reading
        likely = before if glyphs[after].x0 < glyphs[before].x1 else after
    else:
        likely = min((before, after), key=lambda number: abs(glyphs[number].x1 - part.x0))
    if likely is None or _distance(glyphs[likely], part) > _FAR_MARK * part.size:
        return min(parts, key=lambda number: _distance(glyphs[number], part))
    return likely


def _distance(glyph: Glyph, part: Glyph) -> float:
    return max(glyph.x0 - part.x0, part.x0 - glyph.x1, 0.0)


def _ligature(parts: Order) -> Order:
    """Return the letters of a ligature in the order of reading: lam comes first in all common ones."""
    letters = [part for part in parts if not _is_mark(part[1])]
    text = "".join(text for _, text in letters)
    if len(text) > 1 and text[-1] == "ل" and text[0] != "ل":
        number = letters[0][0]
        return [(number, text[::-1]), *(part for part in parts if _is_mark(part[1]))]
    return parts


@cache
def _kind(text: str) -> str:
    if text.isspace():
        return "S"
    kinds = {"L": "L", "R": "R", "AL": "R", "EN": "N", "AN": "A"}
    return kinds.get(unicodedata.bidirectional(text[:1]), "O")


def _pieces(cells: Sequence[_Cell], parted: set[frozenset[int]]) -> list[list[_Cell]]:
    """Cut a row at wide gaps. Words are parted by one cell of kind S, and characters printed twice are left out."""
    pieces: list[list[_Cell]] = []
    last: _Cell | None = None
    for cell in cells:
        if last and cell.text == last.text and cell.x0 - last.x0 < _DOUBLED * cell.size:
            continue
        gap = (cell.x0 - last.x1) / max(cell.size, last.size, 1e-6) if last else _CUT + 1
        letters = last is not None and cell.kind == last.kind == "R"
        marked = last is not None and frozenset((last.parts[0][0], cell.parts[0][0])) in parted
        if gap > _CUT:
            pieces.append([])
        elif gap > (_MARKED_SPACE if marked else _RTL_SPACE if letters else _SPACE):
            pieces[-1].append(_Cell([], "S", cell.x0, cell.x0, cell.size))
        elif marked and letters and cell.parts[-1][1][-1] not in _JOINS_NO_FURTHER:
            cell.parts.append((cell.parts[-1][0], "\u200c"))  # the letters have the forms of two words
        pieces[-1].append(cell)
        last = cell
    return pieces


def _read(piece: Sequence[_Cell], page_leftward: bool) -> list[tuple[_Cell, bool]]:
    """Return the cells in the order of reading, each with whether it is read from right to left."""
    kinds = "".join(cell.kind for cell in piece)
    leftward = _is_line_leftward(piece, kinds, page_leftward)
    flags = [True] * len(piece) if leftward else _leftward_words(kinds)
    if leftward:
        for start, stop in _foreign_words(piece, kinds):
            flags[start:stop] = [False] * (stop - start)
    for start, stop in _numbers(piece, kinds):
        flags[start:stop] = [False] * (stop - start)
    runs = [list(run) for _, run in groupby(zip(piece, flags, strict=True), lambda item: item[1])]
    if leftward:
        return [item for run in reversed(runs) for item in (reversed(run) if run[0][1] else run)]
    return [item for run in _joined(runs, _leftward_words(kinds)) for item in run]


def _is_line_leftward(piece: Sequence[_Cell], kinds: str, page_leftward: bool) -> bool:
    """Guess the direction of a line: by the letters at both ends, by the end of a sentence, or else by the page."""
    left, right = kinds.count("L"), kinds.count("R")
    ends = kinds.strip("SNAO")
    if not right:
        return False
    if ends[0] == ends[-1]:
        return right > left or (right == left and page_leftward)
    ended = piece[0].text in _SENTENCE, piece[-1].text in _SENTENCE
    if any(ended) and not all(ended):
        return ended[0]
    return _MIXED * right >= left if page_leftward else right > _MIXED * left


def _joined(runs: list[list[tuple[_Cell, bool]]], inner: Sequence[bool]) -> Iterable[list[tuple[_Cell, bool]]]:
    """Yield the runs of a line read from left to right; its words of right-to-left letters with numbers as one."""
    place = 0
    pending: list[list[tuple[_Cell, bool]]] = []
    for run in runs:
        if inner[place]:
            pending.append(list(reversed(run)) if run[0][1] else run)
        else:
            yield from reversed(pending)
            pending = []
            yield run
        place += len(run)
    yield from reversed(pending)


def _leftward_words(kinds: str) -> list[bool]:
    """Return which cells of a line that is read from left to right belong to words read from right to left."""
    flags = [False] * len(kinds)
    for match in re.finditer(r"(?:AS?)?R(?:[^L]*[RA])?", kinds):
        flags[match.start() : match.end()] = [True] * (match.end() - match.start())
    return flags


def _foreign_words(piece: Sequence[_Cell], kinds: str) -> Iterable[tuple[int, int]]:
    """Yield the stretches of words and numbers that are read from left to right within a line that is not."""
    for match in re.finditer(r"(?:N[^RA]*?)?L(?:[^RA]*[LN])?", kinds):
        start, stop = match.span()
        while stop < len(piece) and piece[stop].text and _glued(piece, start, stop, stop, _LATIN_GLUE | _SENTENCE):
            stop += 1
        while start > 0 and piece[start - 1].text and _glued(piece, start, stop, start - 1, _LATIN_GLUE):
            start -= 1
        yield start, stop


def _glued(piece: Sequence[_Cell], start: int, stop: int, place: int, signs: frozenset[str]) -> bool:
    """Whether the cell beside a word is a sign of it, or the other bracket of a pair that begins inside it."""
    text = piece[place].text
    if text in signs:
        return True
    partner = _MIRRORED.get(text)
    inside = [cell.text for cell in piece[start:stop]]
    return partner is not None and inside.count(partner) > inside.count(text)


def _numbers(piece: Sequence[_Cell], kinds: str) -> Iterable[tuple[int, int]]:
    """Yield the numbers with their separators and signs."""
    for match in re.finditer(r"N(?:O?N)*|A(?:O?A)*", kinds):
        start, stop = match.span()
        for place in range(start, stop):  # a separator that is none: two numbers
            if kinds[place] == "O" and piece[place].text not in (".,:/٫٬'" if kinds[start] == "A" else ".,:/٫٬'-+−"):
                yield start, place
                start = place + 1
        if stop < len(piece) and piece[stop].text in ("%", "‰", "°", "٪"):
            stop += 1
        if 0 < start and piece[start - 1].text in _NUMBER_MARKS and stop < len(piece):  # at the line's start: "3-"
            start -= 1
        yield start, stop


def _is_mirrored(orders: Iterable[Sequence[tuple[_Cell, bool]]]) -> bool:
    """Whether the brackets of the page are stored as they look: read from right to left "(" is then stored as ")"."""
    score = 0
    for order in orders:
        brackets = [cell.text for cell, leftward in order if leftward and cell.text in _MIRRORED]
        for first, second in pairwise(brackets):
            if _MIRRORED[first] == second:
                score += 1 if first not in _OPENING else -1
    return score >= 0


def _written(order: Sequence[tuple[_Cell, bool]], mirrored: bool) -> Order:
    """Return the glyphs with the letters of a label: without presentation forms, and with brackets as they are read."""
    written: Order = []
    space = ""
    for cell, leftward in order:
        if cell.kind == "S":
            space = " "
            continue
        for number, text in cell.parts:
            if mirrored and leftward and text in _MIRRORED:
                text = _MIRRORED[text]  # noqa: PLW2901
            written.append((number, space + _letters(text)))
            space = ""
    return written


def _letters(text: str) -> str:
    """Return the letters of presentation forms; marks that stand alone have a space in Unicode's table."""
    if not _FORMS.search(text):
        return text
    return unicodedata.normalize("NFKC", text).lstrip(" ")
