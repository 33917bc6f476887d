"""Lines of program code: their indents and the gaps within them are written as spaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Row


class _Piece(NamedTuple):
    """A part of a row between its gaps, and its left and right end in pixels."""

    text: str
    start: float
    end: float
    far: bool = False  # whether it is no code, and as far away as another cell


def is_code(row: Row) -> bool:
    """Whether a row is code. A comment behind it may have another font."""
    return row.runs[0].mono


def code_lines(rows: Sequence[Row]) -> list[str]:
    """Return the rows of a piece of code as printed. Indents are counted from the row furthest left.

    Numbers of lines stand before the indents.
    """
    numbered = [_numbered(list(_pieces(row))) for row in rows]
    width = _width([pieces for _, pieces in numbered], rows[0].size)
    left = min(pieces[0].start for _, pieces in numbered)
    return [_line(number, pieces, left, width) for number, pieces in numbered]


def _pieces(row: Row) -> Iterator[_Piece]:
    last = row.x0
    for run in row.runs:
        far = not run.mono and run.x0 - last >= limits.CELL_GAP * run.size
        begin, x0, last = 0, run.x0, run.x1
        for place, end, start in run.joints:
            yield _Piece(run.text[begin:place].strip(), x0, end, far)
            begin, x0, far = place, start, False
        yield _Piece(run.text[begin:].strip(), x0, run.x1, far)


def _numbered(pieces: list[_Piece]) -> tuple[str, list[_Piece]]:
    """Return the number of a line and the rest of its pieces; an empty number for a line without one."""
    number = pieces[0].text
    return (f"{number} ", pieces[1:]) if number.isdecimal() and len(pieces) > 1 else ("", pieces)


def _width(lines: Sequence[Sequence[_Piece]], size: float) -> float:
    """Return the width of a character in pixels. `size` is that of the font."""
    long = [piece for pieces in lines for piece in pieces if len(piece.text) >= limits.CODE_CHARS]
    widths = [(piece.end - piece.start) / len(piece.text) for piece in long if piece.text.isascii()]
    return median(widths or [limits.CODE_WIDTH * size])


def _line(number: str, pieces: Sequence[_Piece], left: float, width: float) -> str:
    line = number + " " * _count(pieces[0].start - left, width) + pieces[0].text
    for last, piece in pairwise(pieces):
        gap = piece.start - last.end
        spaces = " " * max(_count(gap, width), int(gap > limits.CODE_GAP * width))
        line += ("\t" if piece.far else spaces) + piece.text
    return line


def _count(distance: float, width: float) -> int:
    return min(max(round(distance / width), 0), limits.CODE_SPACES) if width > 1 else 0
