"""A page as every PDF backend gives it: the picture, and the text layer's glyph runs where they stand on it.

All coordinates are pixels of the picture: x to the right, y down, origin at the top left, as seen (rotation and crop
box applied). Layout (`reading_order.py`) and audit (`gates.py`) work on this alone and know no PDF library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import PIL.Image

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""


class PdfError(ValueError):
    """A document or page that cannot be read. `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Span(NamedTuple):  # hundreds a page: a dataclass takes three times as long to make
    """A run of glyphs of one line in one font, size and colour."""

    text: str  # U+FFFD for a glyph without a Unicode value; never its number in the font
    box: Rect
    size: float  # of the font, pixels
    font: str  # name in the document
    color: int  # 0xRRGGBB of the fill
    visible: bool  # painted: not render mode 3, not fully transparent, not under an opaque picture painted later
    bold: bool = False
    superscript: bool = False


class Line(NamedTuple):
    """Spans that the backend found on one baseline, in the backend's order."""

    spans: tuple[Span, ...]
    box: Rect
    direction: tuple[float, float] = (1.0, 0.0)  # of writing, as seen: (1, 0) rightwards, (0, 1) downwards
    block: int = 0  # lines that the backend takes for one block share a number

    @property
    def text(self) -> str:
        """All spans joined as they are."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page and its text layer."""

    picture: PIL.Image.Image  # RGB or RGBX, as seen: rotation, crop box, annotations and form fields applied
    lines: tuple[Line, ...]  # in the document's own order; hidden text too
    rasters: tuple[Rect, ...] = ()  # where pictures (not drawings) lie
    drawings: tuple[Rect, ...] = ()  # boxes of filled and stroked shapes; a rule is a thin one. Empty: not known


def picture_size(width_pt: float, height_pt: float, short_side_px: int, long_side_px: int) -> tuple[int, int]:
    """Pixels of a page's picture, from its size in points as seen.

    Raises:
        PdfError: `unreadable` for a page without a size, `page_size` for one too slender for both limits.
    """
    if not (1 <= width_pt < math.inf and 1 <= height_pt < math.inf):
        raise PdfError("unreadable", f"page of {width_pt:.1f} x {height_pt:.1f} points")
    zoom = short_side_px / min(width_pt, height_pt)
    width, height = (math.ceil(side * zoom - 0.001) for side in (width_pt, height_pt))  # less rounding errors
    if max(width, height) > long_side_px:
        raise PdfError("page_size", f"{width} x {height} pixels, the long side allows {long_side_px}")
    return width, height


class Document(Protocol):
    """An open PDF. A context manager."""

    def __enter__(self) -> Document: ...

    def __exit__(self, *_: object) -> None: ...

    def __len__(self) -> int:
        """Number of pages."""
        ...

    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        """Renders page `number` (from 0).

        Args:
            number: index of the page.
            short_side_px: the picture's short side has this many pixels.
            long_side_px: the most its long side may then have.

        Raises:
            PdfError: `unreadable`, or `page_size` for a page too slender for both limits.
        """
        ...
