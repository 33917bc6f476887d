"""Printed characters of a page → lines and spans, by their places alone; for backends that tell single characters.

Pure array arithmetic: nothing here knows a PDF library. Distances are in font sizes, so that the zoom does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datagen.pdf.page import Line, Rect, Span

Floats = npt.NDArray[np.float64]

_SAME_BASELINE = 0.6  # of the font size: superscripts are raised by less, lines are further apart
_MAX_GAP = 0.8  # of the font size: further to the right is another column (MuPDF's number)
_SPACE = 0.1  # of the font size: a gap that reads as a space; letters of one word stand closer
_MAX_OVERLAP = 1.0  # of the font size: the letters of a ligature share one glyph, accents stand on theirs
_LEADING = 1.6  # of the font size: lines of one block are not further apart
_RAISED = 0.1  # of the font size: higher above the line's baseline is a superscript


class Style(NamedTuple):
    """What the characters of a span share."""

    font: str
    size: float  # pixels
    color: int
    visible: bool
    bold: bool
    direction: tuple[float, float]  # of writing, as seen
    height: float  # pixels from the font's descender to its ascender


class Characters(NamedTuple):
    """The printed characters of a page in the order of the document, one row each (N)."""

    text: list[str]
    box: Floats  # (N, 4) pixels: from the origin to the next one, from descender to ascender
    origin: Floats  # (N, 2) pixels: on the baseline
    style: npt.NDArray[np.int64]  # (N,) index into `styles`
    apart: npt.NDArray[
        np.bool_
    ]  # (N,) the backend sees a space or line break before it that the document does not hold
    styles: list[Style]

    @property
    def size(self) -> Floats:
        """(N,) pixels."""
        return np.array([style.size for style in self.styles])[self.style]

    @property
    def direction(self) -> Floats:
        """(N, 2) unit vectors as seen."""
        return np.array([style.direction for style in self.styles])[self.style]


def lines(found: Characters) -> tuple[Line, ...]:
    """Cuts the characters, at least one, into lines where they leave the baseline, and lines into spans of a style."""
    size, direction = found.size, found.direction
    starts, gap = _line_starts(found, size, direction)
    line_of = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)[line_of]
    offset = found.origin - found.origin[first]
    rise = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]  # over the baseline of the line's first
    raised = rise > _RAISED * size
    span_starts = np.flatnonzero(starts | (np.diff(found.style, prepend=-1) != 0) | np.diff(raised, prepend=False))
    text = _spaced(found.text, ~starts & (found.apart | (gap > _SPACE * size)))
    stops = [*span_starts[1:].tolist(), len(text)]
    spans = [
        _span("".join(text[start:stop]), box, found.styles[found.style[start]], bool(raised[start]))
        for start, stop, box in zip(span_starts.tolist(), stops, _unions(found.box, span_starts), strict=True)
    ]
    line_starts = np.flatnonzero(starts)
    of_line = np.searchsorted(span_starts, [*line_starts, len(text)]).tolist()
    boxes = _unions(found.box, line_starts)
    blocks = _blocks(np.array(boxes), found.origin[line_starts], direction[line_starts], size[line_starts])
    return tuple(
        Line(spans=tuple(spans[begin:end]), box=box, direction=(x, y), block=block)
        for begin, end, box, (x, y), block in zip(
            of_line[:-1], of_line[1:], boxes, direction[line_starts].tolist(), blocks, strict=True
        )
    )


def _spaced(text: list[str], gaps: npt.NDArray[np.bool_]) -> list[str]:
    """The characters with a space before those behind a gap, unless there is one."""
    blank = np.array([char.isspace() for char in text])
    spaced = text.copy()
    for row in np.flatnonzero(gaps & ~blank & ~np.roll(blank, 1)).tolist():
        spaced[row] = " " + text[row]
    return spaced


def _line_starts(found: Characters, size: Floats, direction: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Whether each character starts a line, and its gap to the one before in pixels along the direction of writing."""
    step = np.diff(found.origin, axis=0, prepend=found.origin[:1])
    along = (step * direction).sum(axis=1)
    across = np.abs(step[:, 0] * direction[:, 1] - step[:, 1] * direction[:, 0])
    gap = along - np.roll(_advances(found, direction), 1)
    larger = np.maximum(size, np.roll(size, 1))
    turned = (direction * np.roll(direction, 1, axis=0)).sum(axis=1) < 0.99
    starts = turned | (across > _SAME_BASELINE * larger) | (gap > _MAX_GAP * larger) | (gap < -_MAX_OVERLAP * larger)
    starts[0] = True
    return starts, gap


def _advances(found: Characters, direction: Floats) -> Floats:
    """(N,) widths along the direction of writing, from the upright box around the slanted glyph."""
    cosine, sine = np.abs(direction).T
    side = np.where(cosine >= sine, found.box[:, 2] - found.box[:, 0], found.box[:, 3] - found.box[:, 1])
    height = np.array([style.height for style in found.styles])[found.style]
    widths: Floats = np.maximum(side - height * np.minimum(cosine, sine), 0.0) / np.maximum(cosine, sine)
    return widths


def _unions(boxes: Floats, starts: npt.NDArray[np.int64]) -> list[Rect]:
    """The boxes around the rows between neighbouring `starts`."""
    least, most = np.minimum.reduceat(boxes, starts), np.maximum.reduceat(boxes, starts)
    return list(map(tuple, np.hstack([least[:, :2], most[:, 2:]]).tolist()))


def _span(text: str, box: Rect, style: Style, raised: bool) -> Span:
    if any("\ud800" <= char <= "\udfff" for char in text):  # halves of one character beyond the first plane
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return Span(
        text=text,
        box=box,
        size=style.size,
        font=style.font,
        color=style.color,
        visible=style.visible,
        bold=style.bold,
        superscript=raised,
    )


def _blocks(boxes: Floats, origin: Floats, direction: Floats, size: Floats) -> list[int]:
    """A line goes on with the block of the one before where it stands next below it."""
    step = np.diff(origin, axis=0, prepend=origin[:1])
    down = step[:, 1] * direction[:, 0] - step[:, 0] * direction[:, 1]
    before = np.roll(boxes, 1, axis=0)
    upright = np.abs(direction[:, 0]) >= np.abs(direction[:, 1])
    overlap = np.where(
        upright,
        np.minimum(boxes[:, 2], before[:, 2]) - np.maximum(boxes[:, 0], before[:, 0]),
        np.minimum(boxes[:, 3], before[:, 3]) - np.maximum(boxes[:, 1], before[:, 1]),
    )
    same = (down > 0) & (down < _LEADING * np.maximum(size, np.roll(size, 1))) & (overlap > 0)
    same &= (direction == np.roll(direction, 1, axis=0)).all(axis=1)
    same[0] = True
    return [int(number) for number in np.cumsum(~same)]
