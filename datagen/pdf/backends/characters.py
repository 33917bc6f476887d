"""Printed characters of a page → lines and spans, for backends that return single characters.

Pure array arithmetic on positions, without a PDF library. Distances are in font sizes, and independent of the zoom.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datagen.pdf.page import Line, Rect, Span

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SAME_BASELINE = 0.6  # of the font size; superscripts rise by less, lines are further apart
_MAX_GAP = 0.8  # of the font size; a wider gap begins another column (MuPDF's number)
_SPACE = 0.1  # of the font size; letters of one word are closer
_MAX_OVERLAP = 1.0  # of the font size; letters of a ligature share a glyph, accents lie on a letter
_RAISED = 0.1  # of the font size; superscripts rise by more


class Style(NamedTuple):
    """The style that the characters of a span share."""

    font: str
    size: float  # pixels
    color: int
    visible: bool
    bold: bool
    direction: tuple[float, float]  # of writing, as seen
    height: float  # pixels from the font's descender to its ascender


class Characters(NamedTuple):
    """The N printed characters of a page in the order of the document."""

    text: list[str]
    box: Floats  # (N, 4) pixels: from the origin to the next one, from descender to ascender
    origin: Floats  # (N, 2) pixels: on the baseline
    style: npt.NDArray[np.int64]  # (N,) index into `styles`
    apart: Flags  # (N,) the backend sees a space or line break before it that the document does not have
    styles: list[Style]


def lines(characters: Characters) -> tuple[Line, ...]:
    """Cut one character or more into lines where they leave the baseline, and lines into spans of one style."""
    size = np.array([style.size for style in characters.styles])[characters.style]
    direction = np.array([style.direction for style in characters.styles])[characters.style]
    starts, gap = _line_starts(characters, size, direction)
    line_of = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)[line_of]
    offset = characters.origin - characters.origin[first]
    rise = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]  # above the first baseline
    raised = rise > _RAISED * size
    span_starts = np.flatnonzero(starts | (np.diff(characters.style, prepend=-1) != 0) | np.diff(raised, prepend=False))
    text = _spaced(characters.text, ~starts & (characters.apart | (gap > _SPACE * size)))
    stops = [*span_starts[1:].tolist(), len(text)]
    spans = [
        _span("".join(text[start:stop]), box, characters.styles[characters.style[start]], bool(raised[start]))
        for start, stop, box in zip(span_starts.tolist(), stops, _unions(characters.box, span_starts), strict=True)
    ]
    line_starts = np.flatnonzero(starts)
    of_line = np.searchsorted(span_starts, [*line_starts, len(text)]).tolist()
    boxes = _unions(characters.box, line_starts)
    return tuple(
        Line(spans=tuple(spans[begin:end]), box=box, direction=(x, y))
        for (begin, end), box, (x, y) in zip(pairwise(of_line), boxes, direction[line_starts].tolist(), strict=True)
    )


def _spaced(text: list[str], gaps: Flags) -> list[str]:
    """Return the characters with a space added before each that follows a gap, unless it has one."""
    blank = np.array([char.isspace() for char in text])
    spaced = text.copy()
    for row in np.flatnonzero(gaps & ~blank & ~np.roll(blank, 1)).tolist():
        spaced[row] = " " + text[row]
    return spaced


def _line_starts(characters: Characters, size: Floats, direction: Floats) -> tuple[Flags, Floats]:
    """Return whether each character starts a line (N,), and its gap to the one before along the line in pixels (N,)."""
    step = np.diff(characters.origin, axis=0, prepend=characters.origin[:1])
    along = (step * direction).sum(axis=1)
    across = np.abs(step[:, 0] * direction[:, 1] - step[:, 1] * direction[:, 0])
    gap = along - np.roll(_advances(characters, direction), 1)
    larger = np.maximum(size, np.roll(size, 1))
    turned = (direction * np.roll(direction, 1, axis=0)).sum(axis=1) < 0.99
    starts = turned | (across > _SAME_BASELINE * larger) | (gap > _MAX_GAP * larger) | (gap < -_MAX_OVERLAP * larger)
    starts[0] = True
    return starts, gap


def _advances(characters: Characters, direction: Floats) -> Floats:
    """Return the widths (N,) along the direction of writing, computed from upright boxes around slanted glyphs."""
    cosine, sine = np.abs(direction).T
    x0, y0, x1, y1 = characters.box.T
    side = np.where(cosine >= sine, x1 - x0, y1 - y0)
    height = np.array([style.height for style in characters.styles])[characters.style]
    widths: Floats = np.maximum(side - height * np.minimum(cosine, sine), 0.0) / np.maximum(cosine, sine)
    return widths


def _unions(boxes: Floats, starts: npt.NDArray[np.int64]) -> list[Rect]:
    """Return the box around each group of rows; `starts` has the first row of each group."""
    least, most = np.minimum.reduceat(boxes, starts), np.maximum.reduceat(boxes, starts)
    return list(map(tuple, np.hstack([least[:, :2], most[:, 2:]]).tolist()))


def _span(text: str, box: Rect, style: Style, raised: bool) -> Span:
    if any("\ud800" <= char <= "\udfff" for char in text):  # halves of one character beyond the first plane
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return Span(text, box, style.size, style.font, style.color, style.visible, style.bold, superscript=raised)
