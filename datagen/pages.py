"""One PDF page → picture and text. The only reader of PDFs (PyMuPDF; `datagen.examples` writes some with it)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import PIL.Image
import pymupdf

pymupdf.TOOLS.mupdf_display_errors(False)  # failures come as exceptions; the rest is noise on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)

# Ligatures as letters, no images, spaces kept as printed; hyphens at line ends stay (they are on the page). A glyph
# without a Unicode value comes as U+FFFD, so that the gate sees it; never as its number in the font.
_TEXT_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP


class PdfError(ValueError):
    """A document or page that cannot be read. `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A rendered page."""

    picture: PIL.Image.Image  # RGB, as seen: rotation, crop box, annotations and form fields applied
    text: str  # the text layer in the document's own order, a line per printed line, no blank lines


def page_count(path: str) -> int:
    """Number of pages.

    Raises:
        PdfError: `encrypted`, `empty` or `unreadable`.
    """
    with _open(path) as document:
        return len(document)


def render_page(path: str, number: int, *, short_side_px: int, long_side_px: int) -> Page:
    """Renders page `number` (from 0).

    Args:
        path: the PDF.
        number: index of the page.
        short_side_px: the picture's short side has at least this many pixels …
        long_side_px: … unless its long side would then be longer than this.

    Raises:
        PdfError: the document or the page is unreadable.
    """
    with _open(path) as document:
        try:
            page = document.load_page(number)
            width_pt, height_pt = page.rect.width, page.rect.height  # as seen: rotated, cropped
            if width_pt < 1 or height_pt < 1:
                raise PdfError("unreadable", f"page of {width_pt:.1f} x {height_pt:.1f} points")
            zoom = min(short_side_px / min(width_pt, height_pt), long_side_px / max(width_pt, height_pt))
            pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
            picture = PIL.Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
            return Page(picture=picture, text=_text(page))
        except (RuntimeError, pymupdf.mupdf.FzErrorBase) as error:
            raise PdfError("unreadable", f"page {number}: {error}") from error


def _text(page: pymupdf.Page) -> str:
    lines = (line.strip() for line in page.get_text("text", flags=_TEXT_FLAGS).splitlines())
    return "\n".join(line for line in lines if line)


@contextmanager
def _open(path: str) -> Iterator[pymupdf.Document]:
    try:
        document = pymupdf.open(path, filetype="pdf")
    except (RuntimeError, ValueError, OSError, pymupdf.mupdf.FzErrorBase) as error:
        raise PdfError("unreadable", str(error)) from error
    with document:
        if document.needs_pass:
            raise PdfError("encrypted", "the document asks for a password")
        try:
            pages = len(document)
        except (RuntimeError, pymupdf.mupdf.FzErrorBase) as error:
            raise PdfError("unreadable", str(error)) from error
        if pages == 0:
            raise PdfError("empty", "the document has no page")
        yield document
