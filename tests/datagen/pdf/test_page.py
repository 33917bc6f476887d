from __future__ import annotations

import math

import PIL.Image
import pytest

from datagen.pdf.audit.gates import measure
from datagen.pdf.page import Line, Page, PdfError, Span, picture_size
from datagen.pdf.text.reading_order import TextPolicy, read_text
from varyforge.language import read


@pytest.mark.parametrize(
    ("points", "short", "pixels"),
    [
        ((612, 792), 1024, (1024, 1326)),
        ((792, 612), 1024, (1326, 1024)),
        ((100, 100), 1024, (1024, 1024)),
        ((595.276, 841.89), 1000, (1000, 1415)),
        ((300, 300.0000001), 300, (300, 300)),  # a rounding error is no pixel
    ],
)
def test_the_short_side_has_its_pixels(points: tuple[float, float], short: int, pixels: tuple[int, int]) -> None:
    assert picture_size(*points, short, 4096) == pixels


@pytest.mark.parametrize("points", [(0, 100), (100, 0.5), (-5, 100), (math.inf, 100), (100, math.nan)])
def test_a_page_without_a_size_is_unreadable(points: tuple[float, float]) -> None:
    with pytest.raises(PdfError, match="points") as error:
        picture_size(*points, 1024, 4096)
    assert error.value.reason == "unreadable"


def test_a_page_too_slender_for_both_limits_is_smaller_and_a_strip_is_refused() -> None:
    assert picture_size(100, 400, 1024, 4096) == (1024, 4096)
    assert picture_size(100, 800, 1024, 4096) == (512, 4096)
    with pytest.raises(PdfError, match=r"10\.0 x 9000\.0 points give 5 x 4096 pixels") as error:
        picture_size(10, 9000, 1024, 4096)
    assert error.value.reason == "page_size"


def test_a_line_has_the_text_of_its_spans() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    spans = tuple(Span(text, box, 12, "Serif", 0, True) for text in ("one ", "", "two"))
    assert Line(spans, box).text == "one two"
    assert Line((), box).text == ""


@pytest.mark.parametrize("size", [0.0, -3.0, 1e-300, math.nan, math.inf])
@pytest.mark.parametrize("wrong", [0.0, -math.inf, math.nan, 1e30])
def test_numbers_of_a_page_are_harmless(size: float, wrong: float) -> None:
    good, odd = (50.0, 50.0, 150.0, 62.0), (50.0, wrong, 150.0, wrong)
    spans = (Span("words", good, size, "Serif", 0, True), Span("more", odd, 12, "Serif", 0, True))
    lines = (Line(spans, odd), Line(spans[:1], good, (wrong, 0.0)), Line((), good), Line(spans[1:], good))
    page = Page(PIL.Image.new("RGB", (200, 100)), lines, rasters=(odd, good), drawings=(odd,))
    numbers = [number for box in (*page.rasters, *page.drawings) for number in box]
    for line in page.lines:
        numbers += [*line.box, *line.direction]
        assert math.isclose(math.hypot(*line.direction), 1)
        for span in line.spans:
            numbers += [*span.box, span.size]
            assert span.size > 0
    assert all(abs(number) <= 1e6 for number in numbers)
    text = read_text(page, TextPolicy()).text
    assert "words" in text
    measure(page, text, read(text))


def test_text_of_no_size_is_hidden() -> None:
    spans = tuple(Span(text, (9.0, 9.0, 9.0 + h, 9.0 + h), 0.0, "Serif", 0, True) for text, h in (("a", 0.0), ("b", 5)))
    (line,) = Page(PIL.Image.new("RGB", (20, 20)), (Line(spans, (9.0, 9.0, 14.0, 14.0)),)).lines
    assert [(span.visible, span.size) for span in line.spans] == [(False, 1.0), (True, 5.0)]
