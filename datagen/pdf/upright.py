"""Turn a sideways page upright, and widen a thin one with paper: the picture and all boxes alike."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np

from datagen.pdf.page import Line, Page, turned_box
from varyforge.images import MemoryPicture, pixels_of

_MOST = 0.5  # share of the letters that run in one direction
_STRAIGHT = 0.99  # cosine between a direction and an axis


def upright(page: Page) -> Page:
    """Return the page turned by quarters so that most of its visible letters run to the right."""
    if all(line.direction[0] >= _STRAIGHT for line in page.lines):
        return page
    letters: Counter[int] = Counter()
    for line in page.lines:
        letters[_quarters(line)] += sum(len(span.text.strip()) for span in line.spans if span.visible)
    quarters, most = letters.most_common(1)[0] if letters else (0, 0)
    if most <= _MOST * letters.total():
        return page
    return _turned(page, quarters) if quarters else page


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


def _turned(page: Page, quarters: int) -> Page:
    """Return the page after so many quarter turns to the left."""
    box = partial(turned_box, quarters=quarters, size=page.picture.size)

    def turned(line: Line) -> Line:
        spans = tuple(span._replace(box=box(span.box)) for span in line.spans)
        x, y = line.direction
        direction = ((x, y), (y, -x), (-x, -y), (-y, x))[quarters]
        return line._replace(spans=spans, box=box(line.box), direction=direction)

    return replace(
        page,
        picture=MemoryPicture(np.ascontiguousarray(np.rot90(pixels_of(page.picture), quarters))),
        lines=tuple(map(turned, page.lines)),
        rasters=tuple(map(box, page.rasters)),
        drawings=tuple(map(box, page.drawings)),
    )
