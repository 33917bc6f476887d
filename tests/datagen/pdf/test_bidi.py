from __future__ import annotations

import pymupdf
import pytest

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.text.bidi import Glyph, is_leftward, reordered
from datagen.pdf.text.reading_order import read_text


def row(printed: str, *, y: float = 100, left: float = 100, line: int = 0, size: float = 20) -> list[Glyph]:
    """Glyphs half as wide as high, from left to right as on the page; a space is a gap."""
    places = enumerate(printed)
    return [
        Glyph(text, left + size / 2 * x, left + size / 2 * (x + 1), y, size, line) for x, text in places if text != " "
    ]


def read(*glyphs: Glyph) -> list[str]:
    """Return the lines of the glyphs."""
    reading = reordered(glyphs, [True] * len(glyphs))
    if reading is None:
        return []
    lines: list[str] = []
    for number in reading.order:
        text = reading.texts.get(number, glyphs[number].text)
        lines[len(lines) :] = [text] if number in reading.starts else [lines.pop() + text]
    return lines


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (".םלוע םולש", "שלום עולם."),
        ("2024 תנש", "שנת 2024"),
        ("35% לש הילע", "עליה של 35%"),
        ("12/05/2020 ךיראת", "תאריך 12/05/2020"),
        ("2 1", "2 1"),  # no letter tells
        ("ב 10 א", "א 10 ב"),
        (".Windows 10 םע דבוע", "עובד עם Windows 10."),
        ("C++ תפש", "שפת C++"),
        ("f(x) לש ךרע", "ערך של f(x)"),
        (")הרעה( טסקט", "טקסט (הערה)"),
        ("(הרעה) טסקט", "טקסט (הערה)"),  # brackets stored as they are read
        ("The word םולש means peace", "The word שלום means peace"),
        ("ﻝﺎﻋ", "عال"),  # presentation forms
        ("ﻡﻼﺳ", "سلام"),
        ("٢٠٢٤ ماع", "عام ٢٠٢٤"),
    ],
)
@pytest.mark.parametrize("stored", ["as_printed", "as_read", "in_pieces"])
def test_a_line_is_read_as_its_positions_say(printed: str, text: str, stored: str) -> None:
    glyphs = row(printed.translate(str.maketrans("()", ")(")) if text.startswith("טקסט") else printed)
    if stored == "as_read":
        glyphs.reverse()
    if stored == "in_pieces":
        middle = len(glyphs) // 2
        glyphs = [glyph._replace(line=1) for glyph in glyphs[middle:]] + glyphs[:middle]
    assert read(*glyphs) in ([text], [] if text.isascii() else [text])


def test_letters_of_a_ligature_come_in_their_order() -> None:
    meem, lam, alef = (
        Glyph(text, x0, x1, 100, 20, 0) for text, x0, x1 in (("م", 100, 110), ("ل", 110, 122), ("ا", 122, 122))
    )
    assert read(meem, lam, alef) == ["لام"]  # the glyph of two letters comes first, then its second letter
    assert read(alef, lam, meem) == ["لام"]  # the library has turned the line around
    assert read(meem, Glyph("ال", 110, 122, 100, 20, 0)) == ["لام"]  # the document has them in the wrong order
    assert read(Glyph("ﷲ", 110, 122, 100, 20, 0)) == ["الله"]


def test_marks_follow_their_letter() -> None:
    ba, kasra, seen = (
        Glyph(text, x0, x1, 100, 20, 0) for text, x0, x1 in (("ب", 120, 130), ("ِ", 120, 120), ("س", 110, 120))
    )
    assert read(ba, kasra, seen) == ["بِس"]
    assert read(seen, kasra, ba) == ["بِس"]
    assert read(kasra, ba, seen, *row("ا", left=300)) == ["بِس", "ا"]


def test_a_narrow_space_character_breaks_the_forms_of_persian_letters() -> None:
    space, second = Glyph(" ", 100, 110, 100, 20, 0), row("مور", left=70)[::-1]
    assert read(*row("یم")[::-1], space, *second) == ["می\u200cروم"]
    assert read(*row("ور")[::-1], space, *second) == ["روروم"]  # its letters have the same forms


def test_wide_gaps_part_columns_and_other_lines_stay() -> None:
    assert read(*row("א", left=300), *row("ב"), *row("abc", y=200, line=1), *row("def", y=240, line=2)) == [
        "א",
        "ב",
        "abc",
        "def",
    ]
    hidden = [*row("א"), *row("ב", y=200, line=1)]
    reading = reordered(hidden, [True, False])
    assert reading is not None and reading.texts == {0: "א"}
    assert reordered(row("abc"), [True] * 3) is None


def test_twice_printed_letters_count_once() -> None:
    assert read(*row("בא"), *(glyph._replace(x0=glyph.x0 + 1, x1=glyph.x1 + 1, line=1) for glyph in row("בא"))) == [
        "אב"
    ]


def test_direction_of_a_text() -> None:
    assert is_leftward("שלום abc")
    assert not is_leftward("abc של")
    assert not is_leftward("123")


def test_a_page_is_read_from_the_right() -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=300)
        table = '<table dir="rtl"><tr><td>שם</td><td>גיל</td></tr><tr><td>דן</td><td>30</td></tr></table>'
        page.insert_htmlbox(pymupdf.Rect(20, 20, 380, 280), f'<p dir="rtl">שלום (עולם) של Python 3.</p>{table}')
        data = document.tobytes()
    with open_document(data) as opened:
        text = read_text(opened.page(0, short_side_px=600, long_side_px=4000)).text
    assert text.split("\n")[0] == "שלום (עולם) של Python 3."
