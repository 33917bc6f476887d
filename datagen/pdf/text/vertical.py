"""Vertical Chinese and Japanese that a document sets character by character, put together to lines that run down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from datagen.pdf.page import Line, Span, around
from datagen.pdf.text.glyphs import IS_UNSPACED

_LEAST = 30  # characters set alone; a vertical label in a table has fewer
_MOST_OTHERS = 0.5  # of the page's characters
_GAP = 0.25  # em; the most between two characters of a column
_SHIFT = 0.25  # em; the most shift of their middles
_VERTICAL_SHIFT = 0.75  # em; of the boxes of vertical fonts
_TIER_SHIFT = 2.0  # em
_CHAINED = 0.7  # of the characters set alone have another below them
_BESIDE = 0.5  # of these, at most, have another as near beside them; more are a grid


def stacked(lines: Sequence[Line]) -> Sequence[Line]:
    """Return the lines with columns of single characters joined, where most of the page is set so; else `lines`.

    The columns come first, those of the upper tier before those of the lower one.
    """
    alone = [number for number, line in enumerate(lines) if len(line.spans) == 1 and _is_alone(line.spans[0])]
    if len(alone) < _LEAST or len(alone) < _MOST_OTHERS * sum(len(line.text) for line in lines):
        return lines
    set_alone = min(
        [[_moved(lines[number], shift) for number in alone] for shift in (0.0, _VERTICAL_SHIFT)],
        key=lambda moved: sum(1 + _overlaps(column) for column in _chains(moved, along=1)),
    )
    columns = _chains(set_alone, along=1)
    below = sum(len(column) - 1 for column in columns)
    beside = sum(len(row) - 1 for row in _chains(set_alone, along=0))
    if below < _CHAINED * len(alone) or beside > _BESIDE * below:
        return lines
    taken = set(alone)
    others = [line for number, line in enumerate(lines) if number not in taken]
    return [*_by_tiers([_joined(column) for column in columns]), *others]


def _moved(line: Line, shift: float) -> Line:
    """Return a character of a vertical font higher by `shift` em; MuPDF has its box too low."""
    if line.direction[0] > line.direction[1]:
        return line
    x0, y0, x1, y1 = line.box
    shift *= line.spans[0].size
    return line._replace(box=(x0, y0 - shift, x1, y1 - shift))


def _overlaps(column: Sequence[Line]) -> int:
    return sum(above.box[3] - line.box[1] > _SHIFT * line.spans[0].size for above, line in pairwise(column))


def _by_tiers(columns: Sequence[Line]) -> list[Line]:
    """Return the columns by tier, which a strip without text parts, and from right to left.

    Tiers are moved apart, so that their columns are not taken for one.
    """
    tiers: list[list[Line]] = []
    bottom = 0.0
    for column in sorted(columns, key=lambda column: column.box[1]):
        if not tiers or column.box[1] > bottom:
            tiers.append([])
        tiers[-1].append(column)
        bottom = max(bottom, column.box[3])
    ordered = [
        (number, column)
        for number, tier in enumerate(tiers)
        for column in sorted(tier, key=lambda column: -column.box[0])
    ]
    return [_moved(column, -_TIER_SHIFT * number) for number, column in ordered]


def _is_alone(span: Span) -> bool:
    text = span.text.strip()
    return len(text) == 1 and bool(IS_UNSPACED.match(text) or not text.isalnum()) and span.visible


def _chains(characters: Sequence[Line], *, along: int) -> list[list[Line]]:
    """Return chains of characters that follow one another down (`along` is 1) or to the right (0)."""

    def middle(line: Line) -> float:
        return (line.box[1 - along] + line.box[3 - along]) / 2

    strips: list[list[Line]] = []
    for line in sorted(characters, key=middle):
        if strips and middle(line) - middle(strips[-1][0]) <= _SHIFT * line.spans[0].size:
            strips[-1].append(line)
        else:
            strips.append([line])
    chains: list[list[Line]] = []
    for strip in strips:
        strip.sort(key=lambda line: line.box[along])
        chains.append(strip[:1])
        for above, line in pairwise(strip):
            if line.box[along] - above.box[along + 2] > _GAP * line.spans[0].size:
                chains.append([])
            chains[-1].append(line)
    return chains


def _joined(column: Sequence[Line]) -> Line:
    box = around(line.box for line in column)
    text = "".join(line.text.strip() for line in column)
    return Line((column[0].spans[0]._replace(text=text, box=box),), box, (0.0, 1.0))
