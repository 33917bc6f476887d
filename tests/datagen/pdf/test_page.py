from __future__ import annotations

import math

import pytest

from datagen.pdf.page import Line, PdfError, Span, picture_size


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


def test_a_page_too_slender_for_both_limits_is_refused() -> None:
    assert picture_size(100, 400, 1024, 4096) == (1024, 4096)
    with pytest.raises(PdfError, match="1024 x 4107 pixels, the long side allows 4096") as error:
        picture_size(100, 401, 1024, 4096)
    assert error.value.reason == "page_size"


def test_a_line_has_the_text_of_its_spans() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    spans = tuple(Span(text, box, 12, "Serif", 0, True) for text in ("one ", "", "two"))
    assert Line(spans, box).text == "one two"
    assert Line((), box).text == ""
