"""The backend for PDFium (pypdfium2: Apache-2.0 or BSD-3-Clause).

PDFium returns one character at a time, in page coordinates. C-level loops read the columns of all characters, and array
arithmetic cuts them into lines and spans, without a Python call per character. Two limits: vertical writing gives one
line per character, and text of optional content that is switched off counts as visible.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
from typing_extensions import override

from datagen.pdf.backends.characters import line_starts, lines
from datagen.pdf.backends.letters import Characters, Floats, Style
from datagen.pdf.page import Document, Line, Page, PdfError, Rect, library_error, picture_size
from varyforge.errors import UserError

try:
    import pypdfium2
    from pypdfium2 import raw
except ImportError:  # an extra; `open_document` names it
    pypdfium2 = None

_INVISIBLE_MODES = {3, 7}  # neither filled nor stroked: nothing, or a clipping path
_STROKE_MODES = {1, 5}
_FORCE_BOLD = 1 << 18  # in a font descriptor's flags
_BOLD_NAME = re.compile(r"bold|black|heavy|cmbx|[-,]medi(?!um)", re.IGNORECASE)
_SUBSET_TAG = re.compile(r"^[A-Z]{6}\+")
_MAX_DEPTH = 8  # of nested form XObjects


def open_document(path: str) -> PdfiumDocument:
    """Open a PDF from a path.

    Raises:
        PdfError: `encrypted`, `empty` or `unreadable`.
        UserError: pypdfium2 is not installed.
    """
    if pypdfium2 is None:
        raise UserError("this PDF backend needs pypdfium2: pip install 'varyforge[pdfium]'")
    logging.getLogger("pypdfium2").setLevel(logging.ERROR)  # failures raise; the rest is noise on stderr
    handle = raw.FPDF_LoadDocument(os.fsencode(path) + b"\0", None)
    if not handle:
        code = raw.FPDF_GetLastError()
        locked = code in {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}
        raise PdfError("encrypted" if locked else "unreadable", _ERRORS.get(code, f"PDFium's error {code}"))
    document = pypdfium2.PdfDocument(handle)
    return PdfiumDocument(document)


class PdfiumDocument(Document):
    """A PDF that PDFium has opened."""

    def __init__(self, document: Any) -> None:
        super().__init__(document)
        document.init_forms()  # draws fields without an appearance of their own

    @override
    def page(self, number: int, *, short_side_px: int, long_side_px: int) -> Page:
        try:
            page = self._flat_page(number)
            try:
                view = _View.of(page, short_side_px=short_side_px, long_side_px=long_side_px)
                texts, rasters = _survey(page, view)
                return Page(picture=_render(page, view), lines=_read_lines(page, view, texts), rasters=rasters)
            finally:
                page.close()
        except (pypdfium2.PdfiumError, ctypes.ArgumentError) as error:
            raise library_error(error, f"page {number}") from error

    def _flat_page(self, number: int) -> Any:
        """Return the page with annotations and form fields merged into its content in memory, to be drawn and read."""
        if not 0 <= number < len(self._document):
            raise PdfError("unreadable", f"page {number} of {len(self._document)}")
        page = self._document[number]
        if _has_drawn_annotation(page) and raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) == raw.FLATTEN_SUCCESS:
            page.close()
            page = self._document[number]
        return page


def _has_drawn_annotation(page: Any) -> bool:
    """Whether the page has an annotation other than a link or pop-up, which no viewer draws."""
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        subtype = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if subtype not in {raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP}:
            return True
    return False


_Matrix = tuple[float, float, float, float, float, float]
_ERRORS = {2: "cannot be opened", 3: "no PDF, or damaged", 4: "asks for a password", 5: "of an unknown encryption"}


class _View(NamedTuple):
    """The picture's size, and the map from page to pixels: x' = a x + c y + e, y' = b x + d y + f."""

    width: int
    height: int
    matrix: _Matrix

    @classmethod
    def of(cls, page: Any, *, short_side_px: int, long_side_px: int) -> _View:
        width_pt, height_pt = page.get_size()  # after rotation and crop box
        width, height = picture_size(width_pt, height_pt, short_side_px, long_side_px)
        left, bottom, right, top = page.get_bbox()
        x, y = width / width_pt, height / height_pt
        matrix = {
            0: (x, 0.0, 0.0, -y, -left * x, top * y),
            90: (0.0, y, x, 0.0, -bottom * x, -left * y),
            180: (-x, 0.0, 0.0, y, right * x, -bottom * y),
            270: (0.0, -y, -x, 0.0, top * x, right * y),
        }[page.get_rotation()]
        return cls(width, height, matrix)

    @property
    def zoom(self) -> float:
        """Return the pixels per point."""
        a, b, c, d, _, _ = self.matrix
        return math.sqrt(abs(a * d - b * c))

    def points(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return points of the page in pixels."""
        a, b, c, d, e, f = self.matrix
        return a * x + c * y + e, b * x + d * y + f


def _render(page: Any, view: _View) -> PIL.Image.Image:
    bitmap = pypdfium2.PdfBitmap.new_native(view.width, view.height, raw.FPDFBitmap_BGRx, rev_byteorder=True)
    try:
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, view.width, view.height)
        where = (0, 0, view.width, view.height, 0)
        raw.FPDF_RenderPageBitmap(bitmap, page, *where, raw.FPDF_REVERSE_BYTE_ORDER)
        size = (view.width, view.height)
        return PIL.Image.frombuffer("RGBX", size, bitmap.buffer, "raw", "RGBX", bitmap.stride, 1).convert("RGB")
    finally:
        bitmap.close()


@functools.cache
def _call(name: str) -> Callable[..., Any]:
    """Return a function of PDFium that is called per character or object, with handles and addresses as integers.

    The prototypes of pypdfium2 create a Python object per handle, which takes three times as long.
    """
    function = getattr(raw, name)
    types = (function.restype, *function.argtypes)
    plain = (ctypes.c_void_p if hasattr(kind, "contents") else kind for kind in types)  # pointers have contents
    return ctypes.CFUNCTYPE(*plain)(_address(function))


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _read_lines(page: Any, view: _View, texts: dict[int, int]) -> tuple[Line, ...]:
    text_page = raw.FPDFText_LoadPage(page)
    if not text_page:
        raise PdfError("unreadable", "no text page")
    try:
        characters = _read_characters(text_page, view, texts)
    finally:
        raw.FPDFText_ClosePage(text_page)
    return lines(characters) if characters else ()


def _read_characters(text_page: Any, view: _View, texts: dict[int, int]) -> Characters | None:
    """Return the printed characters in the order in which the document draws them; None for none.

    PDFium's own order differs: it sorts the text objects of a line, and takes several lines of sideways text for one.
    """
    count, page = raw.FPDFText_CountChars(text_page), _address(text_page)
    if count < 1:
        return None
    rects, points = (ctypes.c_float * (4 * count))(), (ctypes.c_double * (2 * count))()
    rows, first_rect, first_point = range(count), ctypes.addressof(rects), ctypes.addressof(points)
    codes = list(map(_call("FPDFText_GetUnicode"), repeat(page), rows))
    objects = [pointer or 0 for pointer in map(_call("FPDFText_GetTextObject"), repeat(page), rows)]
    broken = list(map(_call("FPDFText_HasUnicodeMapError"), repeat(page), rows))
    boxes, xs = (range(first, first + 16 * count, 16) for first in (first_rect, first_point))
    ys = range(first_point + 8, first_point + 8 + 16 * count, 16)
    deque(map(_call("FPDFText_GetLooseCharBox"), repeat(page), rows, boxes), maxlen=0)
    deque(map(_call("FPDFText_GetCharOrigin"), repeat(page), rows, xs, ys), maxlen=0)

    left, top, right, bottom = np.frombuffer(rects, np.float32).astype(np.float64).reshape(-1, 4).T
    x, y = view.points(np.stack([left, right]), np.stack([top, bottom]))
    box = np.stack([x.min(axis=0), y.min(axis=0), x.max(axis=0), y.max(axis=0)], axis=1)
    origin = np.stack(view.points(*np.frombuffer(points, np.float64).reshape(-1, 2).T), axis=1)
    order = np.array([texts.get(pointer, -1) for pointer in objects])
    visible = (box[:, 0] < view.width) & (box[:, 2] > 0) & (box[:, 1] < view.height) & (box[:, 3] > 0)
    index = np.flatnonzero((order >= 0) & visible & np.isfinite(np.hstack([box, origin])).all(axis=1))
    if len(index) == 0:
        return None
    index = index[np.argsort(order[index], kind="stable")]
    starts = np.flatnonzero(np.diff(order[index], prepend=-1))  # of text objects
    reader, known = _StyleReader(page, view), dict[Style, int]()
    read = [reader.read(objects[first], first) for first in index[starts].tolist()]
    lengths = np.diff(np.append(starts, len(index)))
    of_object = np.array([known.setdefault(style, len(known)) for style, _ in read], dtype=np.int64)
    printed = np.array(codes, np.int64)[index]
    printed[np.isin(printed, (0x02, 0xFFFE))] = ord("-")  # PDFium's marks for a hyphen at a line's end
    printed[(np.array(broken, bool)[index]) | (printed == 0) | (printed > 0x10FFFF)] = 0xFFFD
    characters = Characters(
        codes=printed,
        box=box[index],
        origin=origin[index],
        advance=np.zeros(len(index)),
        style=np.repeat(of_object, lengths),
        starts=np.zeros(len(index), bool),
        apart=order[index - 1] < 0,  # characters that PDFium generates have no object
        styles=list(known),
        texts=_beyond_the_first_plane(printed),
    )
    return line_starts(characters, np.repeat([height for _, height in read], lengths))


def _beyond_the_first_plane(codes: npt.NDArray[np.int64]) -> dict[int, str]:
    """Return the characters that come in two halves, each in the row of its first half."""
    texts: dict[int, str] = {}
    for row in np.flatnonzero((codes[:-1] & ~0x3FF == 0xD800) & (codes[1:] & ~0x3FF == 0xDC00)).tolist():
        texts[row] = chr(0x10000 + ((int(codes[row]) & 0x3FF) << 10) + (int(codes[row + 1]) & 0x3FF))
        texts[row + 1] = ""
    return texts


class _StyleReader:
    """A reader of the styles of text objects. It reuses its buffers and reads each font once."""

    def __init__(self, text_page: int, view: _View) -> None:
        self._text_page, self._view = text_page, view
        self._matrix = (ctypes.c_float * 6)(1, 0, 0, 1, 0, 0)
        self._color = (ctypes.c_uint * 4)()
        self._fonts: dict[int, tuple[str, bool, float]] = {}

    def read(self, text_object: int, character: int) -> tuple[Style, float]:
        """Return style and height in pixels of a text object, whose characters share them. `character` is the first."""
        mode = _call("FPDFTextObj_GetTextRenderMode")(text_object)
        _call("FPDFText_GetMatrix")(self._text_page, character, ctypes.addressof(self._matrix))
        p, q, r, s, _, _ = self._matrix
        a, b, c, d, _, _ = self._view.matrix
        x, y = a * p + c * q, b * p + d * q
        length, scale = math.hypot(x, y), math.sqrt(abs(p * s - q * r)) * self._view.zoom
        size = abs(_call("FPDFText_GetFontSize")(self._text_page, character) * scale)
        color, alpha = self._paint(character, "Stroke" if mode in _STROKE_MODES else "Fill")
        name, bold, height = self._font(_call("FPDFTextObj_GetFont")(text_object) or 0, character)
        size = round(size, 3) if math.isfinite(size) else 0.0
        style = Style(
            font=name,
            size=size,
            color=color,
            visible=mode not in _INVISIBLE_MODES and alpha > 0 and p * s >= q * r,  # else mirrored
            bold=bold,
            direction=(round(x / length, 3) + 0.0, round(y / length, 3) + 0.0) if 0 < length < math.inf else (1.0, 0.0),
        )
        return style, height * size

    def _paint(self, character: int, kind: Literal["Stroke", "Fill"]) -> tuple[int, int]:
        """Return 0xRRGGBB and alpha (0 to 255) of the paint; opaque black where the document names none."""
        self._color[:] = [0, 0, 0, 255]
        address = ctypes.addressof(self._color)
        addresses = range(address, address + 16, 4)
        _call(f"FPDFText_Get{kind}Color")(self._text_page, character, *addresses)
        red, green, blue, alpha = self._color
        return red << 16 | green << 8 | blue, alpha

    def _font(self, font: int, character: int) -> tuple[str, bool, float]:
        """Return name, whether bold, and the height from descender to ascender at size 1."""
        if font in self._fonts:
            return self._fonts[font]
        text = ctypes.cast(ctypes.c_void_p(self._text_page), raw.FPDF_TEXTPAGE)
        buffer, flags = ctypes.create_string_buffer(256), ctypes.c_int()
        length = raw.FPDFText_GetFontInfo(text, character, buffer, len(buffer), flags)
        name = _SUBSET_TAG.sub("", buffer.value.decode("utf-8", "replace")) if 0 < length <= len(buffer) else ""
        bold = bool(flags.value & _FORCE_BOLD) or bool(_BOLD_NAME.search(name))
        ascent, descent = ctypes.c_float(), ctypes.c_float()
        handle = ctypes.cast(ctypes.c_void_p(font), raw.FPDF_FONT)
        raw.FPDFFont_GetAscent(handle, 1.0, ascent)
        raw.FPDFFont_GetDescent(handle, 1.0, descent)
        self._fonts[font] = name, bold, ascent.value - descent.value
        return self._fonts[font]


def _survey(page: Any, view: _View) -> tuple[dict[int, int], tuple[Rect, ...]]:
    """Return the position of each text object in the document's order, and the boxes of images in pixels."""
    texts: dict[int, int] = {}
    rasters = []
    whole = (_address(page.raw), raw.FPDFPage_CountObjects(page), _call("FPDFPage_GetObject"))
    for item, image in _objects(*whole, outer=(1.0, 0.0, 0.0, 1.0, 0.0, 0.0), depth=0):
        if image is None:
            texts[item] = len(texts)
            continue
        a, b, c, d, e, f = image
        x, y = view.points(np.array([e, e + a, e + c, e + a + c]), np.array([f, f + b, f + d, f + b + d]))
        x, y = x.clip(0, view.width), y.clip(0, view.height)
        rect = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
        if rect[2] > rect[0] and rect[3] > rect[1]:  # false for NaN too
            rasters.append(rect)
    return texts, tuple(rasters)


def _objects(
    parent: int, count: int, child: Callable[[int, int], int | None], outer: _Matrix, depth: int
) -> Iterator[tuple[int, _Matrix | None]]:
    """Yield texts and images in the document's order, also from forms. An image comes with its unit square's matrix."""
    kind_of = _call("FPDFPageObj_GetType")
    for index in range(count):
        item = child(parent, index)
        kind = kind_of(item) if item else raw.FPDF_PAGEOBJ_UNKNOWN
        if kind == raw.FPDF_PAGEOBJ_TEXT and item:
            yield item, None
        elif kind in {raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_FORM} and item:
            handle, matrix = ctypes.cast(ctypes.c_void_p(item), raw.FPDF_PAGEOBJECT), raw.FS_MATRIX(1, 0, 0, 1, 0, 0)
            raw.FPDFPageObj_GetMatrix(handle, matrix)
            placed = _product((matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f), outer)
            if kind == raw.FPDF_PAGEOBJ_IMAGE:
                yield item, placed
            elif depth < _MAX_DEPTH:
                inside = raw.FPDFFormObj_CountObjects(handle)
                yield from _objects(item, inside, _call("FPDFFormObj_GetObject"), placed, depth + 1)


def _product(inner: _Matrix, outer: _Matrix) -> _Matrix:
    """Return the matrix that applies `inner`, then `outer`."""
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return (a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u)
