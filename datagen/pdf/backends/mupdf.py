"""The backend for PyMuPDF (AGPL). `datagen.examples` also writes PDFs with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import PIL.Image
import pymupdf
from pymupdf import mupdf
from typing_extensions import override

from datagen.pdf.page import Document, Line, Page, PdfError, Rect, Span, inside, picture_size

pymupdf.TOOLS.mupdf_display_errors(False)  # failures raise; other messages are noise on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)

# Ligatures, spaces and hyphens stay as they are on the page; `TextPolicy` decides about them. A glyph without a
# Unicode value becomes U+FFFD, which the audit counts, and never its number in the font.
_TEXT_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_PRESERVE_LIGATURES | pymupdf.TEXT_MEDIABOX_CLIP
_SHAPE_FLAGS = pymupdf.TEXT_PRESERVE_IMAGES | pymupdf.TEXT_COLLECT_VECTORS | pymupdf.TEXT_MEDIABOX_CLIP
_MOST_SHAPES = 3000  # the first shapes of a map or plot with thousands of points are enough
_BOLD, _SUPERSCRIPT = int(pymupdf.TEXT_FONT_BOLD), int(pymupdf.TEXT_FONT_SUPERSCRIPT)
_PAINTED = 16 | 32  # `char_flags` of MuPDF's structured text: filled, stroked
_FAILURES = (RuntimeError, ValueError, OSError, pymupdf.mupdf.FzErrorBase)


def open_document(file: str | bytes) -> MuDocument:
    """Open a PDF from a path or from its bytes.

    Raises:
        PdfError: `encrypted`, `empty` or `unreadable`.
    """
    try:
        origin = {"stream": file} if isinstance(file, bytes) else {"filename": file}
        document = pymupdf.open(**origin, filetype="pdf")
        if not document.is_pdf:  # the library also opens pictures and web pages, whatever their names
            raise PdfError("unreadable", "no PDF")
        if document.needs_pass:
            raise PdfError("encrypted", "the document asks for a password")
        return MuDocument(document)
    except _FAILURES as error:
        raise PdfError("unreadable", str(error)) from error


class MuDocument(Document):
    """A PDF that PyMuPDF has opened."""

    @override
    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        try:
            page = self._document.load_page(number)
            picture_size(page.rect.width, page.rect.height, short_side_px, long_side_px)  # raises beyond the limits
            zoom = short_side_px / min(page.rect.width, page.rect.height)  # pixels per point
            content = page.get_displaylist()  # interpreted once, for the picture and for the text
            picture = _picture(content, zoom)
            text = pymupdf.TextPage(content.get_textpage(_TEXT_FLAGS)).extractDICT()
            rasters, drawings = _shapes(content, zoom)
            lines = _lines(text, zoom, _covered(content) if rasters else {})
            return Page(picture=picture, lines=lines, rasters=rasters, drawings=drawings)
        except _FAILURES as error:
            raise PdfError("unreadable", f"page {number}: {error}") from error


def _picture(content: pymupdf.DisplayList, zoom: float) -> PIL.Image.Image:
    """Return the page on white paper, as RGBX.

    With a fourth byte per pixel Pillow uses MuPDF's memory; three bytes would be copied into four. The byte is opaque
    white, so that the colours are those of a picture without it.
    """
    size = mupdf.FzMatrix(zoom, 0, 0, zoom, 0, 0)
    box = mupdf.fz_round_rect(mupdf.fz_transform_rect(mupdf.fz_bound_display_list(content.this), size))
    pixmap = mupdf.fz_new_pixmap_with_bbox(mupdf.fz_device_rgb(), box, mupdf.FzSeparations(), 1)
    mupdf.fz_clear_pixmap_with_value(pixmap, 255)
    device = mupdf.fz_new_draw_device(size, pixmap)
    whole = mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE)
    mupdf.fz_run_display_list(content.this, device, mupdf.FzMatrix(), whole, mupdf.FzCookie())
    mupdf.fz_close_device(device)
    samples = mupdf.fz_pixmap_samples_memoryview(pixmap)
    picture = PIL.Image.frombuffer("RGBX", (pixmap.w(), pixmap.h()), samples, "raw", "RGBX", 0, 1)
    picture.pixmap = pixmap  # type: ignore[attr-defined]  # keeps the memory alive
    return picture


def _shapes(content: pymupdf.DisplayList, zoom: float) -> tuple[tuple[Rect, ...], tuple[Rect, ...]]:
    """Return the boxes of pictures and of drawings, in pixels.

    `extractBLOCKS` gives boxes only. `extractDICT` would decode every picture, which takes longer than the whole text.
    """
    rasters: list[Rect] = []
    drawings: list[Rect] = []
    boxes = {mupdf.FZ_STEXT_BLOCK_IMAGE: rasters, mupdf.FZ_STEXT_BLOCK_VECTOR: drawings}
    blocks = pymupdf.TextPage(content.get_textpage(_SHAPE_FLAGS)).extractBLOCKS()
    for x0, y0, x1, y1, _, _, kind in islice((block for block in blocks if block[-1] in boxes), _MOST_SHAPES):
        boxes[kind].append((x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom))
    return tuple(rasters), tuple(drawings)


def _covered(content: pymupdf.DisplayList) -> dict[Rect, list[Rect]]:
    """Return, in points, each text block's box under later opaque pictures, with the boxes of those pictures."""
    page = pymupdf.TextPage(content.get_textpage(_TEXT_FLAGS | pymupdf.TEXT_PRESERVE_IMAGES))
    opaque = [  # neither masked nor a stencil; a stencil has no colours
        (image["number"], image["bbox"])
        for image in page.extractIMGINFO()
        if image["colorspace"] and not image["has-mask"]
    ]
    covered: dict[Rect, list[Rect]] = {}
    for *box, _, number, kind in page.extractBLOCKS() if opaque else ():
        later = [over for position, over in opaque if position > number]
        if kind == 0 and later:
            covered[_rounded(box)] = later
    return covered


def _rounded(box: Sequence[float]) -> Rect:
    """Return a box as a key of a dictionary."""
    x0, y0, x1, y1 = (round(number, 1) for number in box)
    return (x0, y0, x1, y1)


def _lines(text: dict[str, Any], zoom: float, covered: Mapping[Rect, list[Rect]]) -> tuple[Line, ...]:
    lines = []
    for block in text["blocks"]:
        over = covered.get(_rounded(block["bbox"]), []) if covered else []
        for line in block.get("lines", ()):
            spans = tuple([_span(span, zoom, over) for span in line["spans"]])
            lines.append(Line(spans, _scaled(line["bbox"], zoom), line["dir"]))
    return tuple(lines)


def _span(span: dict[str, Any], zoom: float, over: list[Rect]) -> Span:
    visible = bool(span["char_flags"] & _PAINTED) and span["alpha"] > 0 and not inside(span["bbox"], over)
    return Span(
        span["text"],
        _scaled(span["bbox"], zoom),
        span["size"] * zoom,
        span["font"],
        span["color"],
        visible,
        bool(span["flags"] & _BOLD),
        bool(span["flags"] & _SUPERSCRIPT),
    )


def _scaled(box: Rect, zoom: float) -> Rect:
    x0, y0, x1, y1 = box
    return (x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom)


def cjk_font() -> bytes:
    """Return MuPDF's font for Chinese (Droid Sans Fallback, Apache-2.0). Its bytes are the same on every machine."""
    return bytes(pymupdf.Font("china-s").buffer)
