"""MuPDF's structured text as arrays, by the library's own accessors: slower than `stext`, and the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pymupdf import mupdf

from datagen.pdf.backends.stext import CHAR, Layer, columns_of


def layer_of(page: Any, most_shapes: int) -> Layer:
    """Return the layer of an `FzStextPage`. Shapes after the first `most_shapes` are left out."""
    rows: list[tuple[Any, ...]] = []
    of_line: list[int] = []
    lines: list[tuple[bool, float, float]] = []
    places: list[tuple[int, int]] = []
    shapes: list[tuple[int, int, tuple[float, float, float, float], int]] = []
    for number, block in enumerate(linked(page.m_internal.first_block)):
        if block.type != 0:
            box = (block.bbox.x0, block.bbox.y0, block.bbox.x1, block.bbox.y1)
            shapes += [(block.type, number, box, len(lines))] if len(shapes) < most_shapes else []
            continue
        for place, line in enumerate(lines_in(block)):
            if not line.first_char:
                continue
            for char in linked(line.first_char):
                rows.append(_row(char))
                of_line.append(len(lines))
            lines.append((bool(line.wmode), line.dir.x, line.dir.y))
            places.append((number, place))
    chars = np.array(rows, CHAR) if rows else np.zeros(0, CHAR)
    return Layer(chars, np.array(of_line, np.int64), *columns_of(lines), places, shapes)


def lines_in(block: Any) -> Iterator[Any]:
    """Yield the lines of a text block."""
    for line in mupdf.FzStextBlock(block):
        yield line.m_internal


def _row(char: Any) -> tuple[Any, ...]:
    corners = (char.quad.ul, char.quad.ur, char.quad.ll, char.quad.lr)
    quad = [number for corner in corners for number in (corner.x, corner.y)]
    origin = (char.origin.x, char.origin.y)
    return char.c, char.bidi, char.flags, char.argb, origin, quad, char.size, int(char.font.this), 0


def linked(item: Any) -> Iterator[Any]:
    """Yield a struct and those that follow it."""
    while item:
        yield item
        item = item.next
