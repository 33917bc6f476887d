"""Lines and spans from single characters: ten pixels wide, 12 above their baseline and 4 below."""

from __future__ import annotations

import numpy as np
import pytest

from datagen.pdf.backends.characters import Characters, Style, lines
from datagen.pdf.page import Line

SIZE = 20.0
PLAIN = Style("Serif", SIZE, 0, True, False, (1.0, 0.0), 16.0)


class Text:
    """Characters that are written piece by piece."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, tuple[float, ...], tuple[float, float], int, bool]] = []
        self._styles: list[Style] = []

    def write(self, text: str, x: float, y: float, style: Style = PLAIN, *, apart: bool = False) -> Text:
        """Writes in the direction of the style, a step of half the font size per character."""
        if style not in self._styles:
            self._styles.append(style)
        for number, char in enumerate(text):
            along, down = (value * number * style.size / 2 for value in style.direction)
            left, base = x + along, y + down
            if style.direction[1]:
                box = (left - style.height / 2, base, left + style.height / 2, base + style.size / 2)
            else:
                box = (left, base - 12, left + style.size / 2, base + 4)
            self._rows.append((char, box, (left, base), self._styles.index(style), apart and number == 0))
        return self

    def lines(self) -> tuple[Line, ...]:
        text, box, origin, style, apart = zip(*self._rows, strict=True)
        arrays = np.array(box, float), np.array(origin, float), np.array(style, np.int64), np.array(apart)
        return lines(Characters(list(text), *arrays, self._styles))


def texts(text: Text) -> list[str]:
    return [line.text for line in text.lines()]


def test_a_baseline_is_a_line() -> None:
    (line,) = Text().write("word", 100, 50).lines()
    assert (line.text, line.box, line.direction) == ("word", (100, 38, 140, 54), (1.0, 0.0))
    assert texts(Text().write("one", 100, 50).write("two", 100, 74)) == ["one", "two"]


@pytest.mark.parametrize(
    ("gap", "read"),
    [(1.0, ["onetwo"]), (4.0, ["one two"]), (15.0, ["one two"]), (17.0, ["one", "two"]), (-40.0, ["one", "two"])],
)
def test_a_gap_is_a_space_or_ends_the_line(gap: float, read: list[str]) -> None:
    assert texts(Text().write("one", 100, 50).write("two", 130 + gap, 50)) == read


def test_a_space_of_the_backend_is_one_and_is_not_doubled() -> None:
    assert texts(Text().write("one", 100, 50).write("two", 130, 50, apart=True)) == ["one two"]
    assert texts(Text().write("one ", 100, 50).write("two", 144, 50)) == ["one two"]
    assert texts(Text().write("one", 100, 50).write(" two", 133, 50)) == ["one two"]


def test_a_style_is_a_span() -> None:
    bold = PLAIN._replace(font="Serif-Bold", bold=True, color=0xFF0000)
    (line,) = Text().write("plain", 100, 50).write("bold", 150, 50, bold).write("plain", 190, 50).lines()
    assert [(span.text, span.bold, span.color) for span in line.spans] == [
        ("plain", False, 0), ("bold", True, 0xFF0000), ("plain", False, 0),
    ]  # fmt: skip
    assert [span.box[0] for span in line.spans] == [100, 150, 190]


def test_a_raised_span_is_a_superscript() -> None:
    small = PLAIN._replace(size=12.0)
    (line,) = Text().write("x", 100, 50).write("2", 110, 43, small).write("y", 116, 50).lines()
    assert [(span.text, span.superscript) for span in line.spans] == [("x", False), ("2", True), ("y", False)]
    assert len(Text().write("x", 100, 50).write("2", 110, 36, small).lines()) == 2, "too high for a superscript"


def test_text_downwards_is_a_line_in_its_direction() -> None:
    down = PLAIN._replace(direction=(0.0, 1.0))
    (line,) = Text().write("word", 100, 50, down).lines()
    assert (line.text, line.direction) == ("word", (0.0, 1.0))
    assert line.box == (92, 50, 108, 90)
    assert len(Text().write("one", 100, 50).write("two", 130, 50, down).lines()) == 2


def test_halves_of_a_character_are_joined() -> None:
    (line,) = Text().write("a\ud83d\ude00", 100, 50).lines()
    assert line.text == "a\U0001f600"
    (broken,) = Text().write("a\ud83d", 100, 50).lines()
    assert broken.text == "a\ufffd"
