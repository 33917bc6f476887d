"""The backend for PyMuPDF (AGPL). `datagen.examples` also writes PDFs with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pymupdf
from pymupdf import mupdf
from typing_extensions import override

from datagen.pdf.backends.mupdf_text import PageReader
from datagen.pdf.page import Document, Page, PdfError, library_error, picture_size, zoom_of
from varyforge.images import MemoryPicture

pymupdf.TOOLS.mupdf_display_errors(False)  # failures raise; other messages are noise on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)

_FAILURES = (RuntimeError, ValueError, OSError, pymupdf.mupdf.FzErrorBase)


def open_document(file: str | bytes) -> MuDocument:
    """Open a PDF from a path or from its bytes.

    Raises:
        PdfError: `encrypted`, `empty` or `unreadable`.
    """
    try:
        document = _opened(file)
        if not document.is_pdf:  # the library also opens pictures and web pages, whatever their names
            raise PdfError("unreadable", "no PDF")
        if document.needs_pass:
            raise PdfError("encrypted", "the document asks for a password")
        return MuDocument(document)
    except _FAILURES as error:
        raise library_error(error) from error


def _opened(file: str | bytes) -> pymupdf.Document:
    if isinstance(file, str) and not file.isprintable():  # MuPDF takes names in UTF-8 alone
        file = Path(file).read_bytes()
    return pymupdf.open(**({"stream": file} if isinstance(file, bytes) else {"filename": file}), filetype="pdf")


class MuDocument(Document):
    """A PDF that PyMuPDF has opened."""

    def __init__(self, document: pymupdf.Document) -> None:
        super().__init__(document)
        self._reader = PageReader()

    @override
    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        try:
            page = self._document.load_page(number)
            sizes = (page.rect.width, page.rect.height, short_side_px, long_side_px)
            picture_size(*sizes)  # raises beyond the limits
            zoom = zoom_of(*sizes)  # pixels per point
            content = page.get_displaylist()  # interpreted once, for the picture and for the text
            picture = _picture(content, zoom)
            lines, rasters, drawings = self._reader.read(content, zoom)
            return Page(picture=picture, lines=lines, rasters=tuple(rasters), drawings=tuple(drawings))
        except _FAILURES as error:
            raise library_error(error, f"page {number}") from error


def _picture(content: pymupdf.DisplayList, zoom: float) -> PIL.Image.Image:
    """Return the page on white paper, in MuPDF's memory: one byte per pixel where all is grey, else three."""
    size = mupdf.FzMatrix(zoom, 0, 0, zoom, 0, 0)
    colors = mupdf.fz_device_gray() if _is_grey(content) else mupdf.fz_device_rgb()
    samples = np.asarray(_Samples(mupdf.fz_new_pixmap_from_display_list(content.this, size, colors, 0)))
    return MemoryPicture(np.broadcast_to(samples, (*samples.shape[:2], 3)))


class _Samples:
    """The memory of a pixmap, which an array over it keeps alive."""

    def __init__(self, pixmap: mupdf.FzPixmap) -> None:
        self._pixmap = pixmap
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (pixmap.h(), pixmap.w(), pixmap.n()),
            "data": (mupdf.fz_pixmap_samples_int(pixmap), False),
        }


def _is_grey(content: pymupdf.DisplayList) -> bool:
    """Whether all that the page draws is grey, judged by its operations and the kinds of its pictures."""
    result = mupdf.ll_fz_new_test_device_outparams()
    device = mupdf.FzDevice(mupdf.ll_fz_new_test_device_outparams_fn(0.0, 0, None, result))
    whole, cookie = mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE), mupdf.FzCookie()
    mupdf.fz_run_display_list(content.this, device, mupdf.FzMatrix(), whole, cookie)  # ends at the first colour
    mupdf.fz_close_device(device)
    return int(result.is_color) == 0 and cookie.errors() == 0  # an operation that fails may have a colour


Box = tuple[float, float, float, float]


def drawn_glyphs(pdf: bytes) -> Iterator[tuple[str, list[tuple[str, Box]], int]]:
    """Yield the glyphs of each page of our own PDF, without spaces and in the order in which they were drawn.

    A page has its characters ("\ufffd" for a glyph that no font has), characters with the ink of each in points, and
    the number of drawn lines.
    """
    with pymupdf.open("pdf", pdf) as document:
        for page in document:
            trace = [char for span in page.get_texttrace() for char in span["chars"]]
            # Glyph 0 is the box for a missing one. Parts of a tall bracket have no character, but for the first part.
            glyphs = "".join(
                chr(char) if glyph else "\ufffd" for char, glyph, *_ in trace if not (glyph and char == 0xFFFD)
            )
            blocks = page.get_text("rawdict", flags=pymupdf.TEXT_ACCURATE_BBOXES)["blocks"]
            spans = [span for block in blocks for line in block.get("lines", ()) for span in line["spans"]]
            boxes = [(char["c"], char["bbox"]) for span in spans for char in span["chars"] if not char["c"].isspace()]
            yield "".join(glyphs.split()), boxes, sum("s" in one["type"] for one in page.get_cdrawings())


def cjk_font() -> bytes:
    """Return MuPDF's font for Chinese (Droid Sans Fallback, Apache-2.0). Its bytes are the same on every machine."""
    return bytes(pymupdf.Font("china-s").buffer)
