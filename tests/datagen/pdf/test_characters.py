"""Lines and spans from single characters: ten pixels wide, "i" and "l" less, 12 above their baseline and 4 below."""

from __future__ import annotations

import numpy as np
import pytest

from datagen.pdf.backends.characters import line_starts, lines
from datagen.pdf.backends.letters import Characters, Style
from datagen.pdf.page import Line

SIZE = 20.0
HEIGHT = 16.0
PLAIN = Style("Serif", SIZE, 0, True, False, (1.0, 0.0))

MONOSPACED = PLAIN._replace(font="Mono")


class Text:
    """Characters that are written piece by piece."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, tuple[float, ...], tuple[float, float], int, bool]] = []
        self._styles: list[Style] = []

    def write(
        self, text: str, x: float, y: float, style: Style = PLAIN, *, apart: bool = False, step: float = 0.5
    ) -> Text:
        """Writes in the direction of the style, a step of half the font size per character, which is its width."""
        if style not in self._styles:
            self._styles.append(style)
        for number, char in enumerate(text):
            along, down = (value * number * style.size * step for value in style.direction)
            left, base = x + along, y + down
            if style.direction[1]:
                box = (left - HEIGHT / 2, base, left + HEIGHT / 2, base + style.size / 2)
            else:
                narrow = 0.5 if char in "il" and style.font != MONOSPACED.font else 0.0
                box = (left, base - 12, left + style.size / 2 - narrow, base + 4)
            self._rows.append((ord(char), box, (left, base), self._styles.index(style), apart and number == 0))
        return self

    def lines(self) -> tuple[Line, ...]:
        codes, box, origin, style, apart = zip(*self._rows, strict=True)
        count = len(codes)
        characters = Characters(
            codes=np.array(codes, np.int64),
            box=np.array(box, float),
            origin=np.array(origin, float),
            advance=np.zeros(count),
            style=np.array(style, np.int64),
            starts=np.zeros(count, bool),
            apart=np.array(apart),
            styles=self._styles,
            texts={},
        )
        return lines(line_starts(characters, np.full(count, HEIGHT)))


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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what is infinite has no distance
def test_characters_of_no_size_or_place_are_left_out() -> None:
    nowhere = PLAIN._replace(size=0.0)
    endless = PLAIN._replace(size=float("nan"))
    text = Text().write("a", 100, 50).write("b", 110, 50, nowhere).write("c", 110, 50, endless)
    assert texts(text.write("d", float("inf"), 50).write("e", 110, 50)) == ["ae"]
    assert texts(Text().write("b", 110, 50, nowhere)) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [("한국", "어로"), ("dụ", "ng"), ("हम", "लोग"), ("ﬀ", "after"), ("中文", "Latin"), ("Latin", "中文")],
)
def test_a_gap_is_a_space_in_every_script(first: str, second: str) -> None:
    after = 100 + 10 * len(first)
    assert texts(Text().write(first, 100, 50).write(second, after + 5, 50)) == [f"{first} {second}"]
    assert texts(Text().write(first, 100, 50).write(second, after, 50)) == [first + second]


def test_justified_chinese_gets_no_spaces() -> None:
    assert texts(Text().write("中文，字距AB", 100, 50, step=0.7)) == ["中文，字距AB"]
    assert texts(Text().write("日本，", 100, 50).write("2023", 135, 50)) == ["日本，2023"]


def test_a_tight_line_without_space_characters_has_words() -> None:
    assert texts(Text().write("tight", 100, 50).write("words", 152.7, 50)) == ["tight words"]
    spaced = Text().write("in a ", 100, 50).write("word", 150, 50).write("s", 192.7, 50)
    assert texts(spaced) == ["in a words"], "kerning, as the line has spaces of its own"
    text, x = Text(), 100.0
    for word in ("gaps", "of", "a", "tenth", "of", "the", "letters", "height"):
        text.write(word, x, 50)
        x += 10 * len(word) + 2
    assert texts(text) == ["gaps of a tenth of the letters height"]


def test_a_listing_sets_characters_apart_unevenly() -> None:
    listing = Text().write("install", 100, 50, MONOSPACED, step=0.56).write("-it", 181, 50, MONOSPACED, step=0.56)
    assert texts(listing.write("now", 226, 50, MONOSPACED, step=0.56)) == ["install-it now"]
    assert texts(Text().write("install", 100, 50, MONOSPACED).write("-it", 173.6, 50, MONOSPACED)) == ["install -it"]


def test_letters_set_apart_are_words() -> None:
    assert texts(Text().write("CONTENTS", 100, 50, step=0.7)) == ["CONTENTS"]
    assert texts(Text().write("LETTERS", 100, 50, step=0.7).write("APART", 205, 50, step=0.7)) == ["LETTERS APART"]
    assert texts(Text().write("abcdefgh", 100, 50, step=1.0)) == ["a b c d e f g h"]


@pytest.mark.parametrize(
    ("written", "at", "read"),
    [
        ("´e", (100, 100), "é"), ("´E", (101, 100), "É"), ("c¸", (100, 100), "ç"), ("\u0302a", (100, 99), "â"),
        ("¨ı", (100, 100), "ï"),
        ("´ˆe", (100, 100, 100), "ế"), ("ˆx", (100, 100), "x\u0302"), ("^o", (100, 100), "ô"), ("~a", (100, 110), "~a"),
        ("`a", (100, 110), "`a"), ("´1", (100, 100), "´1"),
    ],
)  # fmt: skip
def test_an_accent_is_put_on_its_letter(written: str, at: tuple[float, ...], read: str) -> None:
    bold = PLAIN._replace(font="Other")
    text = Text().write("m", 90, 50)
    for char, x in zip(written, at, strict=True):
        text.write(char, x, 50, bold if char.isalpha() else PLAIN, apart=True)
    assert texts(text.write("s", at[-1] + 10, 50))[0].replace(" ", "") == f"m{read}s"


@pytest.mark.parametrize("font", ["*SimSun-4867-Identity-H", "Fd123456", "Fd4711-Identity-H"])
def test_letters_traced_from_a_scan_count_as_hidden(font: str) -> None:
    (line,) = Text().write("traced", 100, 50, PLAIN._replace(font=font)).lines()
    assert not line.spans[0].visible


def test_a_font_of_nothing_but_quotes_is_in_t1() -> None:
    font = PLAIN._replace(font="Type3 (29 0 R)")
    assert texts(Text().write("\x13", 0, 100, font).write("mot", 20, 100).write("\x14", 60, 100, font)) == ["« mot »"]
    assert "\ufffd" in texts(Text().write("\x13mot\x14", 0, 100, font))[0], "an accent may stand on its letter"
