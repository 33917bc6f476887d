"""A PDF page as every backend returns it: the picture, and the glyph runs of the text layer with their positions.

All coordinates are pixels of the picture: x to the right, y down, origin at the top left, after rotation and crop box.
Reading order and audit use this page alone and know no PDF library.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
import PIL.Image

from varyforge.processes import is_out_of_memory

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""


_LEAST_SIDE_PX = 16  # of a picture
_REACH_PX = 1e6  # of coordinates and sizes; beyond it they are absurd
_LEAST_SIZE_PX = 0.01  # of a font
_UNIT_ERROR = 0.01  # of a direction's length


class PdfError(Exception):
    """An unreadable document or page. `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def library_error(error: Exception, subject: str = "") -> PdfError | MemoryError:
    """Return what to raise for an exception of a PDF library: `unreadable`, unless memory ran out."""
    if is_out_of_memory(error):
        return MemoryError(str(error))
    return PdfError("unreadable", f"{subject}: {error}" if subject else str(error))


class Span(NamedTuple):  # hundreds a page: a dataclass takes three times as long to make
    """A run of glyphs of one line in one font, size and colour."""

    text: str  # U+FFFD for a glyph without a Unicode value, never its number in the font
    box: Rect
    size: float  # of the font, pixels
    font: str  # its name in the document
    color: int  # 0xRRGGBB of the fill
    visible: bool  # painted: not render mode 3, not fully transparent, not under an opaque picture painted later
    bold: bool = False
    superscript: bool = False


class Line(NamedTuple):
    """A line: the spans on one baseline, in the backend's order."""

    spans: tuple[Span, ...]
    box: Rect
    direction: tuple[float, float] = (1.0, 0.0)  # of writing as seen: (1, 0) is rightwards, (0, 1) downwards

    @property
    def text(self) -> str:
        """The text of all spans."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page and its text layer."""

    picture: PIL.Image.Image  # RGB or RGBX, as seen: rotation, crop box, annotations and form fields applied
    lines: tuple[Line, ...]  # in the document's own order, with hidden text
    rasters: tuple[Rect, ...] = ()  # boxes of pictures, without drawings
    drawings: tuple[Rect, ...] = ()  # boxes of filled and stroked shapes such as rules; empty where unknown

    def __post_init__(self) -> None:
        """Make the numbers harmless: any number of a PDF may be zero, NaN, infinite or absurd."""
        if not _is_harmless(self):
            object.__setattr__(self, "lines", tuple(filter(None, map(_harmless_line, self.lines))))
            object.__setattr__(self, "rasters", tuple(filter(None, map(_clipped, self.rasters))))
            object.__setattr__(self, "drawings", tuple(filter(None, map(_clipped, self.drawings))))


def _is_harmless(page: Page) -> bool:
    spans = [span for line in page.lines for span in line.spans]
    boxes = [*(span.box for span in spans), *(line.box for line in page.lines), *page.rasters, *page.drawings]
    numbers = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes))
    sizes = np.fromiter((span.size for span in spans), np.float64, len(spans))
    turns = np.array([line.direction for line in page.lines], np.float64).reshape(-1, 2)
    return bool(
        (np.abs(numbers) <= _REACH_PX).all()  # false for NaN
        and ((sizes >= _LEAST_SIZE_PX) & (sizes <= _REACH_PX)).all()
        and (np.abs(np.hypot(*turns.T) - 1) < _UNIT_ERROR).all()
    )


def _clipped(box: Rect) -> Rect | None:
    """Return a box without absurd coordinates; None where one is NaN."""
    if any(map(math.isnan, box)):
        return None
    x0, y0, x1, y1 = (min(max(number, -_REACH_PX), _REACH_PX) for number in box)
    return (x0, y0, x1, y1)


def _harmless_line(line: Line) -> Line | None:
    spans = tuple(filter(None, map(_harmless_span, line.spans)))
    if not spans:
        return None
    x, y = line.direction
    length = math.hypot(x, y)
    direction = (x / length, y / length) if 0 < length < math.inf else (1.0, 0.0)
    return Line(spans, _clipped(line.box) or around(span.box for span in spans), direction)


def _harmless_span(span: Span) -> Span | None:
    """Return a span with a size that can be divided by. Glyphs without any extent are invisible."""
    box = _clipped(span.box)
    if box is None or _LEAST_SIZE_PX <= span.size <= _REACH_PX:
        return box and span._replace(box=box)
    height = box[3] - box[1]
    return span._replace(box=box, size=max(height, 1.0), visible=span.visible and height > _LEAST_SIZE_PX)


def around(boxes: Iterable[Rect]) -> Rect:
    """Return the box around at least one box."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def turned_box(box: Rect, quarters: int, size: tuple[int, int]) -> Rect:
    """Return a box after the picture (width, height in pixels) is turned to the left by 0 to 3 quarters."""
    (x0, y0, x1, y1), (width, height) = box, size
    if quarters == 0:
        return box
    if quarters == 1:
        return y0, width - x1, y1, width - x0
    if quarters == 2:
        return width - x1, height - y1, width - x0, height - y0
    return height - y1, x0, height - y0, x1


def inside(box: Rect, areas: Iterable[Rect]) -> bool:
    """Whether the middle of `box` lies in one of the areas."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in areas)


def picture_size(width_pt: float, height_pt: float, short_side_px: int, long_side_px: int) -> tuple[int, int]:
    """Return width and height of the picture in pixels, for a page's size in points as seen.

    The short side has `short_side_px`, and fewer where the long side would have more than `long_side_px`.

    Raises:
        PdfError: `unreadable` for a page without a size, `page_size` for a page so thin that nothing can be read.
    """
    if not (1 <= width_pt < math.inf and 1 <= height_pt < math.inf):
        raise PdfError("unreadable", f"page of {width_pt:.1f} x {height_pt:.1f} points")
    zoom = zoom_of(width_pt, height_pt, short_side_px, long_side_px)
    width, height = (math.ceil(side * zoom - 0.001) for side in (width_pt, height_pt))  # without rounding errors
    if min(width, height) < min(_LEAST_SIDE_PX, short_side_px):
        raise PdfError("page_size", f"{width_pt:.1f} x {height_pt:.1f} points give {width} x {height} pixels")
    return width, height


def zoom_of(width_pt: float, height_pt: float, short_side_px: int, long_side_px: int) -> float:
    """Return the pixels per point."""
    return min(short_side_px / min(width_pt, height_pt), long_side_px / max(width_pt, height_pt))


class Document(ABC):
    """An open PDF, which is a context manager."""

    def __init__(self, document: Any) -> None:
        """Take over the library's own document, which has a length and `close`.

        Raises:
            PdfError: `empty`.
        """
        if len(document) == 0:
            document.close()
            raise PdfError("empty", "the document has no page")
        self._document = document

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._document.close()

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self._document)

    @abstractmethod
    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        """Render page `number`, from 0, at the size of `picture_size`.

        Raises:
            PdfError: `unreadable` or `page_size`.
        """
