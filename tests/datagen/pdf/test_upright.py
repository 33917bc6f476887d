"""Sideways pages are turned, thin ones widened; picture and boxes agree afterwards."""

from __future__ import annotations

import numpy as np
import pymupdf
import pytest

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Page
from datagen.pdf.text.reading_order import read_text
from datagen.pdf.upright import upright, widened

WORDS = "A line of words that is read"


def page_of(rotate: int, *, size: tuple[float, float] = (300, 400), text: str = WORDS, font: str = "helv") -> Page:
    with pymupdf.open() as document:
        page = document.new_page(width=size[0], height=size[1])
        start = {0: (20, 60), 90: (60, 300), 180: (250, 300), 270: (200, 40)}[rotate]
        page.insert_text(start, text, rotate=rotate, fontsize=12, fontname=font)
        with open_document(document.tobytes()) as opened:
            return opened.page(0, short_side_px=600, long_side_px=1600)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_page_is_turned_until_its_text_runs_to_the_right(rotate: int) -> None:
    page = page_of(rotate)
    turned = upright(page)
    assert (turned is page) == (rotate == 0)
    assert turned.picture.size == ((600, 800) if rotate % 180 == 0 else (800, 600))
    (line,) = turned.lines
    assert line.direction == pytest.approx((1, 0))
    assert read_text(turned).text == WORDS
    ink = np.argwhere(np.asarray(turned.picture)[..., 0] < 128)
    (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0)
    x0, y0, x1, y1 = line.box
    assert x0 - 2 <= left and right <= x1 + 2 and y0 - 2 <= top and bottom <= y1 + 2
    assert right - left > 5 * (bottom - top)


def test_a_few_sideways_words_and_vertical_chinese_turn_no_page() -> None:
    page = page_of(0)
    few = Page(page.picture, (*page.lines, page.lines[0]._replace(direction=(0.0, 1.0))))
    assert upright(few) is few
    span = page.lines[0].spans[0]._replace(text="\u6f22\u5b57\u3068\u3001")
    vertical = Page(page.picture, (page.lines[0]._replace(spans=(span,), direction=(0.0, 1.0)),))
    assert upright(vertical) is vertical
    assert upright(Page(page.picture, ())).lines == ()


@pytest.mark.parametrize("size", [(60.0, 400.0), (400.0, 60.0)])
def test_a_thin_page_gets_paper_beside_it(size: tuple[float, float]) -> None:
    page = page_of(0, size=size, text="words")
    assert max(page.picture.size) == 1600 and min(page.picture.size) == 240
    wide = widened(page, 600)
    assert sorted(wide.picture.size) == [600, 1600] and wide.lines == page.lines
    pixels, before = np.asarray(wide.picture), np.asarray(page.picture)
    assert (pixels[: before.shape[0], : before.shape[1]] == before).all()
    assert pixels.sum() == before.sum() + 255 * (pixels.size - before.size)
