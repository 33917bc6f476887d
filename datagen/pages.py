"""PDFs through PyMuPDF (`datagen.examples` writes some with it). The other backend is `datagen.pdfium`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image
import pymupdf

from datagen.page import Line, Page, PdfError, Rect, Span

pymupdf.TOOLS.mupdf_display_errors(False)  # failures come as exceptions; the rest is noise on stderr
pymupdf.TOOLS.mupdf_display_warnings(False)

# Ligatures as letters, spaces kept as printed; hyphens at line ends stay (they are on the page). A glyph without a
# Unicode value comes as U+FFFD, so that the audit sees it; never as its number in the font.
_TEXT_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
_PAINTED = 16 | 32  # char_flags of MuPDF's structured text: filled, stroked
_FAILURES = (RuntimeError, ValueError, OSError, pymupdf.mupdf.FzErrorBase)


def open_document(path: str) -> MuDocument:
    """Opens a PDF.

    Raises:
        PdfError: `encrypted`, `empty` or `unreadable`.
    """
    try:
        document = pymupdf.open(path, filetype="pdf")
        if document.needs_pass:
            raise PdfError("encrypted", "the document asks for a password")
        if len(document) == 0:
            raise PdfError("empty", "the document has no page")
    except PdfError:
        raise
    except _FAILURES as error:
        raise PdfError("unreadable", str(error)) from error
    return MuDocument(document)


class MuDocument:
    """See `datagen.page.Document`."""

    def __init__(self, document: pymupdf.Document) -> None:
        self._document = document

    def __enter__(self) -> MuDocument:
        return self

    def __exit__(self, *_: object) -> None:
        self._document.close()

    def __len__(self) -> int:
        return len(self._document)

    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        """See `datagen.page.Document`."""
        try:
            page = self._document.load_page(number)
            width_pt, height_pt = page.rect.width, page.rect.height  # as seen: rotated, cropped
            if width_pt < 1 or height_pt < 1:
                raise PdfError("unreadable", f"page of {width_pt:.1f} x {height_pt:.1f} points")
            zoom = min(short_side_px / min(width_pt, height_pt), long_side_px / max(width_pt, height_pt))
            drawn = page.get_displaylist()  # the page is interpreted once; as seen, where page.get_text is unrotated
            pixmap = drawn.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
            picture = PIL.Image.frombuffer("RGB", (pixmap.width, pixmap.height), pixmap.samples_mv, "raw", "RGB", 0, 1)
            found = pymupdf.TextPage(drawn.get_textpage(_TEXT_FLAGS)).extractDICT()
            rasters, covered = _images(drawn)
            return Page(
                picture=picture,
                lines=_lines(found, zoom, covered),
                rasters=tuple(_scaled(box, zoom) for box in rasters),
            )
        except _FAILURES as error:
            if isinstance(error, PdfError):
                raise
            raise PdfError("unreadable", f"page {number}: {error}") from error


def _images(drawn: pymupdf.DisplayList) -> tuple[list[Rect], dict[Rect, list[Rect]]]:
    """Boxes of images; and of text blocks that opaque images are painted over later, with the boxes of these."""
    page = pymupdf.TextPage(drawn.get_textpage(_TEXT_FLAGS | pymupdf.TEXT_PRESERVE_IMAGES))
    images = page.extractIMGINFO()
    opaque = [  # neither masked nor a stencil, which has no colours
        (image["number"], image["bbox"]) for image in images if image["colorspace"] and not image["has-mask"]
    ]
    covered: dict[Rect, list[Rect]] = {}
    for *box, _, number, kind in page.extractBLOCKS() if opaque else ():
        later = [over for place, over in opaque if place > number]
        if kind == 0 and later:
            covered[_rounded(box)] = later
    return [image["bbox"] for image in images], covered


def _rounded(box: Sequence[float]) -> Rect:
    """For looking a box up."""
    x0, y0, x1, y1 = (round(number, 1) for number in box)
    return (x0, y0, x1, y1)


def _lines(found: dict[str, Any], zoom: float, covered: Mapping[Rect, list[Rect]]) -> tuple[Line, ...]:
    return tuple(
        Line(
            spans=tuple(_span(span, zoom, covered.get(_rounded(block["bbox"]), [])) for span in line["spans"]),
            box=_scaled(line["bbox"], zoom),
            direction=line["dir"],
            block=number,
        )
        for number, block in enumerate(found["blocks"])
        for line in block.get("lines", ())
    )


def _span(span: dict[str, Any], zoom: float, over: list[Rect]) -> Span:
    x, y = (span["bbox"][0] + span["bbox"][2]) / 2, (span["bbox"][1] + span["bbox"][3]) / 2
    covered = any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in over)
    return Span(
        text=span["text"],
        box=_scaled(span["bbox"], zoom),
        size=span["size"] * zoom,
        font=span["font"],
        color=span["color"],
        visible=bool(span["char_flags"] & _PAINTED) and span["alpha"] > 0 and not covered,
        bold=bool(span["flags"] & pymupdf.TEXT_FONT_BOLD),
        superscript=bool(span["flags"] & pymupdf.TEXT_FONT_SUPERSCRIPT),
    )


def _scaled(box: Rect, zoom: float) -> Rect:
    return (box[0] * zoom, box[1] * zoom, box[2] * zoom, box[3] * zoom)
