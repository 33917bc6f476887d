"""MuPDF's structured text, read from its memory and by the library's accessors."""

from __future__ import annotations

import numpy as np
import pymupdf
import pytest
from pymupdf import mupdf

from datagen.pdf.backends import mupdf_text, stext
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.backends.mupdf_blocks import layer_of
from datagen.pdf.backends.stext import LayoutError, read_layer

FLAGS = mupdf_text._TEXT_FLAGS | mupdf_text._SHAPE_FLAGS


def stext_page(document: pymupdf.Document) -> mupdf.FzStextPage:
    return mupdf.FzStextPage(document[0].get_displaylist().this, mupdf.FzStextOptions(FLAGS))


def busy_page() -> pymupdf.Document:
    """Long lines, turned text, Hebrew, drawings within a line, a picture, more than one block of the pool."""
    document = pymupdf.open()
    page = document.new_page()
    for number in range(40):
        page.insert_text((30, 40 + 15 * number), f"line {number} " + "of many words " * 6, fontsize=9)
        page.draw_line((30, 42 + 15 * number), (90, 42 + 15 * number))
    page.insert_text((500, 400), "upwards", rotate=90)
    page.insert_htmlbox(pymupdf.Rect(30, 700, 300, 760), "<p>שלום עולם <u>under</u>lined</p>")
    pixmap = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8))
    page.insert_image(pymupdf.Rect(400, 700, 450, 750), pixmap=pixmap)
    return document


def test_the_memory_says_what_the_accessors_say() -> None:
    with busy_page() as document:
        page = stext_page(document)
        fast, slow = read_layer(page, 30), layer_of(page, 30)
    assert len(fast.chars) > 3000
    assert (fast.places, fast.shapes) == (slow.places, slow.shapes)
    for column in ("line", "vertical", "direction"):
        assert np.array_equal(getattr(fast, column), getattr(slow, column)), column
    for name in ("code", "flags", "argb", "origin", "quad", "size", "font"):
        assert np.array_equal(fast.chars[name], slow.chars[name]), name


def test_an_unknown_layout_is_read_by_the_accessors(monkeypatch: pytest.MonkeyPatch) -> None:
    with busy_page() as document:
        data, page = document.tobytes(), stext_page(document)
        with open_document(data) as opened:
            before = opened.page(0, short_side_px=400, long_side_px=4000)
        monkeypatch.setattr(stext, "_NODE", 2048)
        with pytest.raises(LayoutError, match="the pool"):
            read_layer(page, 30)
        with open_document(data) as opened:
            after = opened.page(0, short_side_px=400, long_side_px=4000)
    assert (before.lines, before.rasters, before.drawings) == (after.lines, after.rasters, after.drawings)


def test_a_wrong_address_is_never_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with busy_page() as document:
        page = stext_page(document)
        monkeypatch.setattr(stext, "_LINE", stext.struct.Struct("<B3x2f12x4xQQ12xQ"))
        with pytest.raises(LayoutError):
            read_layer(page, 30)


def test_an_empty_page() -> None:
    with pymupdf.open() as document:
        document.new_page()
        assert len(read_layer(stext_page(document), 30).chars) == 0
