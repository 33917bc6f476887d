from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from datagen.pdf.backends import mupdf, mupdf_text
from datagen.pdf.backends.mupdf import cjk_font, open_document
from datagen.pdf.page import Page, PdfError
from varyforge.images import pixels_of

SIDES = {"short_side_px": 400, "long_side_px": 4000}


def page_of(draw: Callable[[pymupdf.Page], object], **save: object) -> Page:
    with pymupdf.open() as document:
        draw(document.new_page(width=200, height=300))
        data = document.tobytes(**save)
    with open_document(data) as opened:
        return opened.page(0, **SIDES)


def picture(color: int = 90, *, alpha: bool = False) -> pymupdf.Pixmap:
    pixmap = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8), alpha)
    pixmap.clear_with(color)
    return pixmap


def visible(page: Page) -> dict[str, bool]:
    return {span.text: span.visible for line in page.lines for span in line.spans}


def test_text_below_a_picture_is_hidden_and_above_it_is_not() -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((20, 40), "covered")
        page.insert_image(pymupdf.Rect(10, 20, 100, 110), pixmap=picture(), keep_proportion=False)
        page.insert_text((20, 100), "on top")
        page.insert_text((20, 200), "elsewhere")

    assert visible(page_of(draw)) == {"covered": False, "on top": True, "elsewhere": True}


def test_a_transparent_picture_hides_nothing() -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((20, 40), "below")
        page.insert_image(pymupdf.Rect(10, 20, 100, 60), pixmap=picture(alpha=True))

    assert visible(page_of(draw)) == {"below": True}


def test_unpainted_text_is_invisible() -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((20, 40), "painted")
        page.insert_text((20, 60), "mode three", render_mode=3)
        page.insert_text((20, 80), "transparent", fill_opacity=0)

    assert visible(page_of(draw)) == {"painted": True, "mode three": False, "transparent": False}


def test_boxes_are_in_pixels_of_the_picture() -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_image(pymupdf.Rect(50, 50, 150, 100), pixmap=picture(), keep_proportion=False)
        page.draw_rect(pymupdf.Rect(20, 200, 120, 250), fill=(0, 0, 0))

    page = page_of(draw)
    assert page.picture.size == (400, 600)
    assert page.rasters == (pytest.approx((100, 100, 300, 200), abs=1),)
    assert page.drawings[0] == pytest.approx((40, 400, 240, 500), abs=3)


def test_shapes_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(page: pymupdf.Page) -> None:
        for number in range(20):
            page.draw_line((10, 10 + 12 * number), (150, 10 + 12 * number))

    assert len(page_of(draw).drawings) == 20
    monkeypatch.setattr(mupdf_text, "_MOST_SHAPES", 5)
    assert len(page_of(draw).drawings) == 5


def test_the_picture_outlives_its_document() -> None:
    page = page_of(lambda page: page.insert_text((20, 40), "some ink"))
    gc.collect()
    pixels = np.asarray(page.picture)
    assert pixels.shape == (600, 400, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_documents_that_cannot_be_read(tmp_path: Path) -> None:
    with pymupdf.open() as document:
        document.new_page()
        locked = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret", owner_pw="owner")
    for file, reason in ((locked, "encrypted"), (b"not a PDF", "unreadable"), (str(tmp_path / "gone"), "unreadable")):
        with pytest.raises(PdfError) as error:
            open_document(file)
        assert error.value.reason == reason


def test_a_page_that_does_not_exist() -> None:
    with pymupdf.open() as document:
        document.new_page()
        data = document.tobytes()
    with open_document(data) as opened:
        assert len(opened) == 1
        with pytest.raises(PdfError, match="page 3: ") as error:
            opened.page(3, **SIDES)
    assert error.value.reason == "unreadable"


def test_the_chinese_font_is_the_same_each_time() -> None:
    assert cjk_font() == cjk_font()
    assert len(cjk_font()) > 1_000_000


def in_grey(page: pymupdf.Page) -> None:
    page.insert_text((20, 40), "black", fontsize=20)
    page.insert_text((20, 70), "half", fontsize=20, color=(0.5, 0.5, 0.5))
    page.draw_rect(pymupdf.Rect(20, 100, 100, 140), fill=(0.8, 0.8, 0.8))
    page.insert_image(pymupdf.Rect(20, 200, 80, 260), pixmap=pymupdf.Pixmap(pymupdf.csGRAY, picture()))


def test_a_page_without_colours_is_drawn_in_grey_as_it_would_be_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = page_of(in_grey).picture
    monkeypatch.setattr(mupdf, "_is_grey", lambda content: False)
    colored = page_of(in_grey).picture
    assert (pixels_of(grey).strides[2], pixels_of(colored).strides[2]) == (0, 1)
    assert np.abs(pixels_of(grey).astype(int) - pixels_of(colored)).max() <= 1
    assert len(np.unique(pixels_of(grey))) > 20


@pytest.mark.parametrize(
    "add",
    [
        lambda page: page.insert_text((20, 280), "x", fontsize=2, color=(0, 0, 0.1)),
        lambda page: page.insert_image(pymupdf.Rect(90, 200, 98, 208), pixmap=picture()),
        lambda page: page.add_highlight_annot(pymupdf.Rect(20, 20, 60, 40)),
    ],
    ids=["text", "picture", "annotation"],
)
def test_the_least_colour_makes_a_page_coloured(add: Callable[[pymupdf.Page], object]) -> None:
    def draw(page: pymupdf.Page) -> None:
        in_grey(page)
        add(page)

    assert pixels_of(page_of(draw).picture).strides[2] == 1


def test_the_pixels_outlive_their_page() -> None:
    pixels = pixels_of(page_of(in_grey).picture)
    before = pixels.copy()
    gc.collect()
    again = [page_of(in_grey) for _ in range(3)]
    assert (pixels == before).all() and len(again) == 3
