"""Turn a sideways page upright, and widen a thin one with paper: the picture and all boxes alike."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace

import numpy as np

from datagen.pdf.page import Line, Page, Rect
from varyforge.images import MemoryPicture, pixels_of

_MOST = 0.5  # share of the letters that run in one direction
_STRAIGHT = 0.99  # cosine between a direction and an axis


def upright(page: Page) -> Page:
    """Return the page turned by quarters so that most of its visible letters run to the right."""
    letters: Counter[int] = Counter()
    for line in page.lines:
        letters[_quarters(line)] += sum(len(span.text.strip()) for span in line.spans if span.visible)
    quarters, most = letters.most_common(1)[0] if letters else (0, 0)
    if most <= _MOST * letters.total():
        return page
    for _ in range(quarters):
        page = _turned(page)
    return page


def widened(page: Page, short_side_px: int) -> Page:
    """Return a thin page with white paper to the right or below, up to `short_side_px`."""
    width, height = (max(side, short_side_px) for side in page.picture.size)
    if (width, height) == page.picture.size:
        return page
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: page.picture.height, : page.picture.width] = pixels_of(page.picture)
    return replace(page, picture=MemoryPicture(pixels))


def _quarters(line: Line) -> int:
    """Return how many quarter turns to the left make a line run to the right; 0 for slanted and vertical writing."""
    x, y = line.direction
    if y > _STRAIGHT:
        wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line.text)
        return 0 if 2 * wide > len(line.text.strip()) else 1  # Chinese and Japanese are written downwards
    return 2 if x < -_STRAIGHT else 3 if y < -_STRAIGHT else 0


def _turned(page: Page) -> Page:
    """Return the page after a quarter turn to the left."""
    right = page.picture.width

    def box(old: Rect) -> Rect:
        x0, y0, x1, y1 = old
        return (y0, right - x1, y1, right - x0)

    def turned(line: Line) -> Line:
        x, y = line.direction
        spans = tuple(span._replace(box=box(span.box)) for span in line.spans)
        return line._replace(spans=spans, box=box(line.box), direction=(y, -x))

    return replace(
        page,
        picture=MemoryPicture(np.ascontiguousarray(np.rot90(pixels_of(page.picture)))),
        lines=tuple(map(turned, page.lines)),
        rasters=tuple(map(box, page.rasters)),
        drawings=tuple(map(box, page.drawings)),
    )
