"""The backend for PyMuPDF (AGPL). `datagen.examples` also writes PDFs with it."""

from __future__ import annotations

import PIL.Image
import pymupdf
from pymupdf import mupdf
from typing_extensions import override

from datagen.pdf.backends.mupdf_text import PageReader
from datagen.pdf.page import Document, Page, PdfError, picture_size

pymupdf.TOOLS.mupdf_display_errors(False)  # failures raise; other messages are noise on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)

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

    def __init__(self, document: pymupdf.Document) -> None:
        super().__init__(document)
        self._reader = PageReader()

    @override
    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        try:
            page = self._document.load_page(number)
            picture_size(page.rect.width, page.rect.height, short_side_px, long_side_px)  # raises beyond the limits
            zoom = short_side_px / min(page.rect.width, page.rect.height)  # pixels per point
            content = page.get_displaylist()  # interpreted once, for the picture and for the text
            picture = _picture(content, zoom)
            lines, rasters, drawings = self._reader.read(content, zoom)
            return Page(picture=picture, lines=lines, rasters=tuple(rasters), drawings=tuple(drawings))
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


def cjk_font() -> bytes:
    """Return MuPDF's font for Chinese (Droid Sans Fallback, Apache-2.0). Its bytes are the same on every machine."""
    return bytes(pymupdf.Font("china-s").buffer)
