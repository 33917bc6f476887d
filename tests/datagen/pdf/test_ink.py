from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from datagen.pdf.audit.ink import cells, ink_measures
from datagen.pdf.audit.words import doubled_share, share_of, words_of
from datagen.pdf.page import Line, Page, Rect, Span

SIDE = 640


def line(text: str, box: Rect, *, size: float = 20, visible: bool = True, down: bool = False, font: str = "") -> Line:
    span = Span(text, box, size, font, 0, visible)
    return Line((span,), box, (0.0, 1.0) if down else (1.0, 0.0))


def text_lines(count: int = 12, text: str = "mono letters of one width") -> tuple[Line, ...]:
    """Lines in a font whose letters are all twelve pixels wide."""
    width = 12.0 * len(text)
    return tuple(line(text, (40, 40 + 40 * n, 40 + width, 60 + 40 * n), font="Courier") for n in range(count))


def page_of(lines: tuple[Line, ...], **more: tuple[Rect, ...]) -> Page:
    return Page(picture=PIL.Image.new("RGB", (SIDE, SIDE), "white"), lines=lines, **more)


def inked(page: Page, *, paper: str = "white", ink: str = "black", right: float = 0, down: float = 0) -> Page:
    """The page with a bar of ink at each word, moved by some pixels."""
    picture = PIL.Image.new("RGB", page.picture.size, paper)
    draw, words = PIL.ImageDraw.Draw(picture), words_of(page)
    assert words is not None
    for x0, y0, x1, y1 in words.boxes:
        draw.rectangle((x0 + right, y0 + 4 + down, x1 + right - 2, y1 - 4 + down), fill=ink)
    return Page(picture=picture, lines=page.lines, rasters=page.rasters)


def measures_of(page: Page) -> dict[str, float]:
    return ink_measures(page, words_of(page))


def test_words_lie_where_their_letters_do() -> None:
    words = words_of(page_of((line("ab cde", (100, 50, 172, 70), font="Courier"),)))
    assert words is not None
    assert words.boxes == pytest.approx(np.array([[100, 50, 124, 70], [136, 50, 172, 70]]))
    assert words.letters.tolist() == [2, 3]
    assert words.gaps.tolist() == [0]


def test_words_downwards_and_chinese() -> None:
    words = words_of(page_of((line("ab", (10, 10, 30, 60), down=True), line("中文", (50, 10, 70, 60), down=True))))
    assert words is not None
    assert words.level.tolist() == [False, False]
    assert words.turned.tolist() == [True, False], "vertical Chinese is as it should be"


def test_punctuation_and_spaces_are_no_words() -> None:
    assert words_of(page_of(())) is None
    assert words_of(page_of((line("   ", (0, 0, 30, 20)), line("... !?", (0, 30, 60, 50))))) is None
    words = words_of(page_of((line("a ... b", (0, 0, 70, 20)),)))
    assert words is not None and words.letters.tolist() == [1, 0, 1]


def test_coordinates_that_are_no_numbers_do_no_harm() -> None:
    page = page_of((line("a word", (-float("inf"), 0, float("inf"), 20)),))
    assert all(np.isfinite(value) for value in measures_of(page).values())


def test_shares_of_words() -> None:
    words = words_of(page_of((line("ab cdef", (0, 0, 70, 20)), line("gh", (0, 30, 20, 50), visible=False))))
    assert words is not None
    assert share_of(words, ~words.visible) == pytest.approx(0.25)
    assert share_of(words, np.ones(3, np.bool_)) == 1


def test_spaces_lie_between_spans_and_inside_those_of_likely_width() -> None:
    def gaps(*lines: Line) -> list[int]:
        words = words_of(page_of(lines))
        assert words is not None
        return words.gaps.tolist()

    assert gaps(line("ab cde", (0, 0, 72, 20), font="Courier")) == [0]
    assert gaps(line("ab cde", (0, 0, 172, 20), font="Courier")) == [], "a table's cells, anywhere in their span"
    first, second = Span("ab", (0, 0, 24, 20), 20, "", 0, True), Span("cd", (34, 0, 58, 20), 20, "", 0, True)
    touching = second._replace(box=(25, 0, 49, 20))
    assert gaps(Line((first, second), (0, 0, 58, 20))) == [0]
    assert gaps(Line((first, touching), (0, 0, 49, 20))) == [], "a word in two fonts"
    assert gaps(Line((first,), (0, 0, 24, 20)), Line((second,), (34, 0, 58, 20))) == [], "two columns"
    assert gaps(line("a . . b", (0, 0, 84, 20), font="Courier")) == [], "dots of a leader"


def test_a_font_in_units_of_its_own_has_the_size_of_its_box() -> None:
    lines = (line("type three", (0, 0, 100, 26), size=0.2), line("down", (200, 0, 226, 80), size=0.2, down=True))
    words = words_of(page_of(lines))
    assert words is not None and words.sizes == pytest.approx([20, 20, 20])


def test_cells_of_pictures_in_every_mode() -> None:
    picture = PIL.Image.new("RGB", (11, 9), "white")
    picture.paste((0, 0, 0), (4, 4, 8, 8))
    for mode in ("RGB", "RGBX", "L"):
        assert cells(picture.convert(mode)).tolist() == [[255, 255], [255, 0]]
    assert cells(picture.crop((0, 0, 2, 3))).tolist() == [[255]]


def test_text_at_one_place_twice() -> None:
    twice = (line("again", (10, 10, 60, 30)), line("again", (12, 11, 62, 31)), line("again", (10, 90, 60, 110)))
    words = words_of(page_of(twice))
    assert words is not None
    assert doubled_share(words, "again again again") == pytest.approx(1 / 3)
    assert doubled_share(words, "again again") == 0, "the answer has it once"
    assert doubled_share(words, "") == 0


@pytest.mark.parametrize(("paper", "ink"), [("white", "black"), ("black", "white"), ("#204020", "yellow")])
def test_ink_at_the_words(paper: str, ink: str) -> None:
    measures = measures_of(inked(page_of(text_lines()), paper=paper, ink=ink))
    assert measures["glyphs_on_ink"] == 1
    assert measures["ink_in_glyphs"] > 0.9
    assert measures["ink_between"] < 0.3
    assert measures["ink_beside"] < 1


def test_ink_of_a_pure_colour_is_seen() -> None:
    assert measures_of(inked(page_of(text_lines()), paper="lime", ink="yellow"))["glyphs_on_ink"] == 1


def test_no_ink_at_the_words() -> None:
    measures = measures_of(page_of(text_lines()))
    assert (measures["glyphs_on_ink"], measures["ink"]) == (0, 0)


def test_a_layer_that_is_shifted() -> None:
    assert measures_of(inked(page_of(text_lines()), down=10))["ink_beside"] > 1.2
    sideways = measures_of(inked(page_of(text_lines(text="ab cde fg hij kl mno")), right=24))
    assert sideways["ink_between"] > 0.5


def test_ink_of_drawings_is_not_in_words() -> None:
    page = inked(page_of(text_lines(2)))
    PIL.ImageDraw.Draw(page.picture).rectangle((50, 300, 600, 600), fill="black")
    assert measures_of(page)["ink_in_glyphs"] < 0.2


def test_text_over_a_picture() -> None:
    lines = text_lines(12)
    measures = measures_of(inked(page_of(lines, rasters=((0.0, 0.0, 640.0, 275.0),))))
    assert measures["on_images"] == pytest.approx(0.5)
    assert "text_in_images" in measures
    logo = measures_of(inked(page_of(lines, rasters=((0.0, 0.0, 60.0, 60.0),))))
    assert "text_in_images" not in logo, "too small to hold text"


def test_text_in_a_picture_and_a_photograph() -> None:
    raster: Rect = (0.0, 128.0, 640.0, 640.0)
    printed = inked(page_of(text_lines(1), rasters=(raster,)))
    draw = PIL.ImageDraw.Draw(printed.picture)
    for y in range(136, 632, 20):
        for x in range(8, 620, 14):
            draw.rectangle((x, y, x + 6, y + 8), fill="black")
    assert measures_of(printed)["text_in_images"] > 0.6
    photograph = inked(page_of(text_lines(1), rasters=(raster,)))
    slope = np.linspace(0, 255, 640).astype(np.uint8)
    photograph.picture.paste(PIL.Image.fromarray(np.tile(slope, (512, 1))).convert("RGB"), (0, 128))
    assert measures_of(photograph)["text_in_images"] < 0.1


def test_shapes_in_a_picture_are_no_text() -> None:
    page = inked(page_of(text_lines(1), rasters=((0.0, 128.0, 640.0, 640.0),)))
    draw = PIL.ImageDraw.Draw(page.picture)
    for x in range(20, 600, 90):
        for y in range(150, 600, 90):
            draw.ellipse((x, y, x + 40, y + 40), fill="blue")
        draw.line((x + 60, 130, x + 60, 640), fill="black", width=3)
    assert measures_of(page)["text_in_images"] < 0.2
