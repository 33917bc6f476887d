"""The text of pages: of pages made of lines, and of PDFs that are rendered and read back."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Line, Page, PdfError, Rect, Span
from datagen.pdf.text.glyphs import Joiner, cleaner
from datagen.pdf.text.reading_order import PageText, TextPolicy, read_text

SIZE = 20.0  # of the type, pixels
WIDTH, HEIGHT = 1000, 1400


def line(text: str, x: float, y: float, *, size: float = SIZE, **style: object) -> Line:
    """A line whose glyphs are half as wide as high; Chinese ones square."""
    box = (x, y, x + width_of(text, size), y + size)
    span = Span(text=text, box=box, size=size, font=str(style.pop("font", "Serif")), color=0, visible=True, **style)  # type: ignore[arg-type]
    return Line(spans=(span,), box=box)


def width_of(text: str, size: float = SIZE) -> float:
    return sum(size if char > "\u2e7f" else size / 2 for char in text)


def page_of(lines: Iterable[Line], **more: tuple[Rect, ...]) -> Page:
    return Page(picture=PIL.Image.new("RGB", (WIDTH, HEIGHT), "white"), lines=tuple(lines), **more)


def text_of(lines: Iterable[Line], **policy: str) -> str:
    return read_text(page_of(lines), TextPolicy(**policy)).text  # type: ignore[arg-type]


def stack(texts: Iterable[str], x: float = 100, y: float = 300, **style: object) -> list[Line]:
    return [line(text, x, y + 24 * number, **style) for number, text in enumerate(texts)]


def pdf_page(path: Path, draw: Callable[[pymupdf.Page], object], *, short_side_px: int = 800, **size: float) -> Page:
    with pymupdf.open() as made:
        draw(made.new_page(**({"width": 400, "height": 560} | size)))
        made.save(path)
    with open_document(str(path)) as opened:
        return opened.page(0, short_side_px=short_side_px, long_side_px=8 * short_side_px)


# --- the policy: one page, each switch

FIGURE = (500.0, 500.0, 800.0, 600.0)


def whole_page() -> Page:
    body = [
        "The ﬁrst line of the body goes as far as the right margin does,",
        "the second is about as long and breaks a word in two: exam-",
        "ple. Ｎｏ．１ ends here.",
    ]
    lines = [
        line("Running head", 100, 30, size=16),
        line("7", 880, 30, size=16),
        *stack(body),
        line("In the figure", 600, 540),
        line("Contents . . . . . . . . . . 12", 100, 700),
        line("1 A note of small type.", 100, 1200, size=14),
        line("- 7 -", 480, 1350, size=16),
    ]
    return page_of(lines, rasters=(FIGURE,), drawings=((100.0, 1180.0, 300.0, 1181.0),))


EXPECTED = {
    "head": "Running head\t7",
    "body": "The first line of the body goes as far as the right margin does, the second is about as long and breaks a "
    "word in two: example. Ｎｏ．１ ends here.",
    "figure": "In the figure",
    "contents": "Contents\t12",
    "note": "1 A note of small type.",
    "foot": "- 7 -",
}


@pytest.mark.parametrize(
    ("switch", "changed"),
    [
        ({}, {}),
        ({"headers": "drop"}, {"head": None, "foot": None}),
        ({"footnotes": "drop"}, {"note": None}),
        ({"figures": "drop"}, {"figure": None}),
        (
            {"paragraphs": "lines"},
            {
                "body": "The first line of the body goes as far as the right margin does,\n"
                "the second is about as long and breaks a word in two: exam-\nple. Ｎｏ．１ ends here."
            },
        ),
        ({"leaders": "keep"}, {"contents": "Contents . . . . . . . . . . 12"}),
        ({"ligatures": "keep"}, {"body": EXPECTED["body"].replace("first", "ﬁrst")}),
        ({"fullwidth": "ascii"}, {"body": EXPECTED["body"].replace("Ｎｏ．１", "No．1")}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_one_page_each_switch(switch: dict[str, str], changed: dict[str, str | None]) -> None:
    read = read_text(whole_page(), TextPolicy(**switch))  # type: ignore[arg-type]
    assert read.text.split("\n") == "\n".join(text for text in (EXPECTED | changed).values() if text).split("\n")


def test_what_is_left_out_is_counted() -> None:
    policy = TextPolicy(headers="drop", footnotes="drop", figures="drop")
    assert read_text(whole_page(), policy).notes == {
        "header_lines": 1,
        "footer_lines": 1,
        "footnote_lines": 1,
        "figure_lines": 1,
        "joined_hyphens": 1,
        "leaders": 1,
    }


def test_small_type_without_mark_or_rule_is_no_footnote() -> None:
    small = [
        "Small type of the methods goes on to the end",
        "of the column, as long as it may be; and in",
        "(1998) there was more of it.",
    ]
    lines = [*stack(["The text above it is of the usual size and long,"] * 4), *stack(small, y=900, size=14)]
    assert read_text(page_of(lines), TextPolicy(footnotes="drop")).notes == {}


def test_an_unknown_word_of_a_policy_is_named() -> None:
    with pytest.raises(ValueError, match="headers is one of keep, drop, not 'maybe'"):
        TextPolicy(headers="maybe")  # type: ignore[arg-type]


# --- characters


def test_what_is_seen_survives_cleaning() -> None:
    clean = cleaner("letters", "keep")
    assert clean("x² ½ ① ，。（）ＡＢ Ⅳ ㎏") == "x² ½ ① ，。（）ＡＢ Ⅳ ㎏"
    assert clean("ﬁ ﬂ ﬀ ﬃ ﬄ") == "fi fl ff ffi ffl"
    assert clean("⼀⽂\u200bA\u00a0B\u3000C") == "一文A B C"
    assert clean("می\u200cروم") == "می\u200cروم"  # the joiner shapes the letters


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("an exam-", "ple", "an example"),
        ("state-of-the-", "art", "state-of-the-art"),
        ("a well-", "known fact", "a well-known fact"),
        ("the co-", "operation", "the co-operation"),  # as elsewhere on the page
        ("non-suc-", "cessive", "non-successive"),
        ("GPT-", "4", "GPT-4"),
        ("Anglo-", "Saxon", "Anglo-Saxon"),
        ("pages 10-", "12", "pages 10-12"),
        ("this -", "a dash", "this - a dash"),
        ("soft\u00ad", "ened", "softened"),
        ("two", "words", "two words"),
        ("中文", "文本", "中文文本"),
        ("中文，", "English", "中文，English"),
        ("中文", "English", "中文 English"),
        ("English", "中文", "English 中文"),
        ("한국어", "문장", "한국어 문장"),
        ("ประเทศ", "ไทย", "ประเทศไทย"),
        ("日本の", "ひらがな", "日本のひらがな"),
    ],
)
def test_lines_are_joined(before: str, after: str, joined: str) -> None:
    page = "The co-operation of successive words. 用 Python 写"
    assert Joiner(lambda: page).join(before, after) == joined


def test_chinese_and_latin_meet_as_elsewhere_on_the_page() -> None:
    assert Joiner(lambda: "用Python写").join("中文", "English") == "中文English"


# --- order


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(count)]


def prose(rng: random.Random, x: float, y: float, width: float, rows: int) -> list[Line]:
    """Justified lines of one column."""
    lines = []
    for row in range(rows):
        text = ""
        while width_of(text) < width - 6 * SIZE:
            text += " ".join(words(rng, 1)) + " "
        text = f"{text}{'z' * round((width - width_of(text)) / (SIZE / 2))}"
        lines.append(line(text, x, y + 24 * row))
    return lines


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    columns=st.integers(1, 3),
    rows=st.integers(4, 30),
    gutter=st.floats(18, 80),
    shift=st.floats(0, 20),
    written=st.sampled_from(["in order", "backwards", "row by row"]),
    titled=st.booleans(),
)
def test_columns_are_read_one_after_the_other(
    seed: int, columns: int, rows: int, gutter: float, shift: float, written: str, titled: bool
) -> None:
    rng = random.Random(seed)
    width = (800 - gutter * (columns - 1)) / columns
    width -= width % (SIZE / 2)
    lines = prose(rng, 100, 200, 800, 2) if titled else []
    for column in range(columns):
        lines += prose(rng, 100 + column * (width + gutter), 300 + column * shift, width, rows)
    expected = [text.text for text in lines]
    if written == "backwards":
        lines.reverse()
    elif written == "row by row":
        lines.sort(key=lambda text: text.box[1])
    assert text_of(lines, paragraphs="lines").split("\n") == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 20),
    widths=st.lists(st.integers(2, 9), min_size=2, max_size=6),
    by_columns=st.booleans(),
)
def test_tables_are_read_row_by_row(seed: int, rows: int, widths: list[int], by_columns: bool) -> None:
    rng = random.Random(seed)
    cells = [["".join(rng.choices("0123456789", k=rng.randint(2, width))) for width in widths] for _ in range(rows)]
    lines = [
        (column if by_columns else row, line(cell, 100 + sum(widths[:column]) * 10 + 50 * column, 300 + 30 * row))
        for row, texts in enumerate(cells)
        for column, cell in enumerate(texts)
    ]
    lines.sort(key=lambda item: item[0])
    assert text_of([text for _, text in lines]) == "\n".join("\t".join(texts) for texts in cells)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("abcdefg 中文字，。hij-", min_size=1, max_size=30),
            st.integers(0, 900),
            st.integers(0, 1350),
            st.sampled_from([12, 20, 28]),
            st.sampled_from([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (-1.0, 0.0), (0.7, 0.7)]),
        ),
        max_size=60,
    )
)
def test_nothing_visible_is_lost_or_doubled(pieces: list[tuple[str, int, int, int, tuple[float, float]]]) -> None:
    lines = []
    for number, (text, x, y, size, direction) in enumerate(pieces):
        made = line(f"{text}{number}", x, y, size=size)
        lines.append(Line(spans=made.spans, box=made.box, direction=direction))

    def printed(text: str) -> list[str]:
        return sorted(char for char in text if not char.isspace() and char != "-")

    assert printed(text_of(lines)) == printed("".join(text.text for text in lines))


def test_cells_of_several_lines_between_rules() -> None:
    lines = [
        line("Key", 100, 300), line("Meaning", 300, 300),
        line("alpha", 100, 340), line("the first letter of", 300, 330), line("the alphabet", 300, 354),
        line("beta", 100, 400), line("the second letter of", 300, 390), line("the alphabet", 300, 414),
        line("gamma", 100, 450), line("the third", 300, 450),
    ]  # fmt: skip
    rules = tuple((90.0, y, 600.0, y + 1) for y in (295.0, 325.0, 382.0, 442.0, 475.0))
    expected = ["Key\tMeaning", "alpha\tthe first letter of the alphabet", "beta\tthe second letter of the alphabet"]
    assert read_text(page_of(lines, drawings=rules)).text.split("\n") == [*expected, "gamma\tthe third"]


def test_cells_of_several_lines_without_rules() -> None:
    lines = [
        line("Key", 100, 300), line("Meaning", 300, 300),
        line("alpha", 100, 324), line("the first letter of", 300, 324), line("the alphabet", 300, 348),
        line("beta", 100, 372), line("the second letter of", 300, 372), line("the alphabet", 300, 396),
    ]  # fmt: skip
    expected = "Key\tMeaning\nalpha\tthe first letter of the alphabet\nbeta\tthe second letter of the alphabet"
    assert text_of(lines) == expected


def test_a_caption_stays_with_its_figure_and_a_note_at_the_end_of_its_column() -> None:
    rng = random.Random(1)
    left, right = prose(rng, 100, 300, 380, 12), prose(rng, 520, 300, 380, 20)
    caption = [line("Fig. 1. What is seen above.", 120, 620)]
    below, note = prose(rng, 100, 670, 380, 4), [line("1 A note of the left column.", 100, 800, size=14)]
    expected = [text.text for text in [*left, *caption, *below, *note, *right]]
    assert text_of([*right, *note, *below, *caption, *left], paragraphs="lines").split("\n") == expected


def test_what_stands_above_or_below_columns_at_one_side_is_read_there() -> None:
    rng = random.Random(2)
    date, heading = line("1 May 2020", 780, 300), line("What follows", 100, 800)
    left, right = prose(rng, 100, 380, 380, 12), prose(rng, 520, 380, 380, 12)
    below = prose(rng, 100, 840, 800, 3)
    expected = [text.text for text in [date, *left, *right, heading, *below]]
    assert text_of([date, *left, *right, heading, *below], paragraphs="lines").split("\n") == expected


# --- paragraphs


def test_paragraphs_begin_at_indents_gaps_items_and_after_short_lines() -> None:
    full = "a line that goes as far as the margin"
    lines = [
        *stack([full, full, "and ends.", full, "and ends as well here."], y=100),
        *stack([full, full], x=100, y=240), line(f"Indented {full[:-9]}", 130, 288), *stack([full], y=312),
        *stack([f"• {full[2:]}", f"• {full[2:]}", "  goes on here"], y=380),
    ]  # fmt: skip
    expected = [
        f"{full} {full} and ends.", f"{full} and ends as well here.",
        f"{full} {full}", f"Indented {full[:-9]} {full}",
        f"• {full[2:]}", f"• {full[2:]} goes on here",
    ]  # fmt: skip
    assert text_of(lines).split("\n") == expected


def test_references_hang_and_addresses_stay_lines() -> None:
    references = [
        line("[1] A. Author and an early book", 100, 100), line("of many pages, Paris, 1912.", 140, 124),
        line("[2] B. Author and a longer one", 100, 148), line("with pictures that are large,", 140, 172),
        line("Berlin, 1920.", 140, 196),
    ]  # fmt: skip
    address = [line("A. Company Limited", 720, 400), line("12 Road", 830, 424), line("Town", 860, 448)]
    assert text_of([*references, *address]).split("\n") == [
        "[1] A. Author and an early book of many pages, Paris, 1912.",
        "[2] B. Author and a longer one with pictures that are large, Berlin, 1920.",
        "A. Company Limited",
        "12 Road",
        "Town",
    ]


def test_lines_of_code_stay_lines() -> None:
    code = ["def f(x):", "return x + 1  # as long as", "print(f(2), f(3), f(4), 5)"]
    assert text_of(stack(code, font="DejaVuSansMono")) == "\n".join(code)


def test_a_drop_cap_begins_its_word() -> None:
    full = "a line that goes as far as the margin"
    lines = [line("O", 100, 300, size=64), *stack(["nce upon a time there were,", "as it is, many of them who"], x=136)]
    assert text_of([*lines, *stack([full[:30]], y=348)]) == (
        f"Once upon a time there were, as it is, many of them who {full[:30]}"
    )


def test_text_printed_twice_is_read_once() -> None:
    read = read_text(page_of([line("A bold title", 100, 100), line("A bold title", 101, 100)]))
    assert read == PageText("A bold title", {"doubled_runs": 1})


# --- directions and scripts


def test_vertical_chinese_is_read_from_the_right() -> None:
    columns = ["春眠不觉晓", "处处闻啼鸟", "夜来风雨声", "花落知多少"]
    lines = []
    for number, text in enumerate(columns):
        box = (800.0 - 30 * number, 100.0, 820.0 - 30 * number, 100.0 + width_of(text))
        span = Span(text=text, box=box, size=SIZE, font="Serif", color=0, visible=True)
        lines.append(Line(spans=(span,), box=box, direction=(0.0, 1.0)))
    assert text_of(lines, paragraphs="lines").split("\n") == columns
    assert text_of(lines) == "".join(columns)


def test_hidden_text_is_no_part_of_a_label() -> None:
    seen, hidden = line("Seen", 100, 100), line("hidden words", 150, 100)
    veiled = Span(text="hidden words", box=hidden.box, size=SIZE, font="Serif", color=0, visible=False)
    page = page_of([Line(spans=(*seen.spans, veiled), box=(100, 100, 270, 120)), Line(spans=(veiled,), box=hidden.box)])
    assert read_text(page) == PageText("Seen", {"hidden_spans": 2})
    assert read_text(page_of([])) == PageText("", {})


def test_right_to_left_letters_are_reported() -> None:
    assert read_text(page_of([line("שלום", 100, 100), line("abc", 100, 130)])).notes["rtl_letters"] == 4


# --- the PyMuPDF backend

SENTENCE = "The quick brown fox jumps over the lazy dog"


def dark_share(page: Page, box: Rect) -> float:
    pixels = np.asarray(page.picture.convert("L").crop(tuple(round(v) for v in box)))
    return float((pixels < 128).mean())


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("cropped", [False, True])
def test_text_lies_on_its_ink(tmp_path: Path, rotation: int, cropped: bool) -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((60, 100), "HHHHHHHH", fontsize=16)
        page.insert_text((60, 200), "HHHHHHHH HHH", fontsize=16)
        if cropped:
            page.set_cropbox(pymupdf.Rect(30, 50, 350, 500))
        page.set_rotation(rotation)

    page = pdf_page(tmp_path / "a.pdf", draw)
    assert [text.text for text in page.lines] == ["HHHHHHHH", "HHHHHHHH HHH"]
    assert read_text(page).text == "HHHHHHHH\nHHHHHHHH HHH"
    ink = np.asarray(page.picture.convert("L")) < 128
    for text in page.lines:
        assert dark_share(page, text.box) > 0.1
        x0, y0, x1, y1 = (round(v) for v in text.box)
        ink[y0 : y1 + 1, x0 : x1 + 1] = False
    assert not ink.any()  # all ink is in the boxes


def test_annotations_and_filled_fields_are_seen_and_read(tmp_path: Path) -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((60, 100), "Name:", fontsize=12)
        field = pymupdf.Widget()
        field.rect, field.field_type = pymupdf.Rect(100, 88, 300, 106), pymupdf.PDF_WIDGET_TYPE_TEXT
        field.field_name, field.field_value, field.text_fontsize = "name", "Ada Lovelace", 12
        page.add_widget(field)
        page.add_freetext_annot(pymupdf.Rect(60, 200, 300, 230), "A remark", fontsize=14)

    path = tmp_path / "a.pdf"
    page = pdf_page(path, draw)
    assert read_text(page).text == "Name: Ada Lovelace\nA remark"
    assert all(dark_share(page, text.box) > 0.02 for text in page.lines)
    with pymupdf.open(path) as document:
        shown = document[0].get_pixmap(matrix=pymupdf.Matrix(2, 2), alpha=False)
    assert shown.samples == page.picture.convert("RGB").tobytes()


def test_pictures_and_rules_are_known(tmp_path: Path) -> None:
    def draw(page: pymupdf.Page) -> None:
        picture = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8), False)
        picture.clear_with(90)
        page.insert_image(pymupdf.Rect(50, 50, 150, 150), pixmap=picture)
        page.draw_line((50, 300), (350, 300))

    page = pdf_page(tmp_path / "a.pdf", draw)
    assert [tuple(round(v) for v in box) for box in page.rasters] == [(100, 100, 300, 300)]
    assert len(page.drawings) == 1
    assert page.drawings[0][0] == pytest.approx(100, abs=2)
    assert page.drawings[0][3] == pytest.approx(600, abs=3)


@pytest.mark.parametrize(("size", "reason"), [((10, 3000), "page_size"), ((14400, 14400), None), ((200, 300), None)])
def test_a_page_is_sharp_or_refused(tmp_path: Path, size: tuple[float, float], reason: str | None) -> None:
    with pymupdf.open() as made:
        made.new_page(width=size[0], height=size[1])
        made.save(tmp_path / "a.pdf")
    with open_document(str(tmp_path / "a.pdf")) as opened:
        if reason:
            with pytest.raises(PdfError, match="give 14 x 4096 pixels") as refused:
                opened.page(0, short_side_px=1024, long_side_px=4096)
            assert refused.value.reason == reason
        else:
            assert min(opened.page(0, short_side_px=1024, long_side_px=4096).picture.size) == 1024


def test_chinese_paragraphs_of_a_pdf(tmp_path: Path) -> None:
    text = "春天来了，公园里的花都开了，孩子们在草地上奔跑，老人们坐在长椅上晒太阳，大家都觉得日子过得很慢很舒服。"

    def draw(page: pymupdf.Page) -> None:
        page.insert_textbox(pymupdf.Rect(50, 60, 350, 300), text, fontname="china-s", fontsize=12)

    assert read_text(pdf_page(tmp_path / "a.pdf", draw)).text == text


def test_two_columns_and_a_table_of_a_pdf(tmp_path: Path) -> None:
    rng = random.Random(3)
    left, right = (" ".join(words(rng, 90)) for _ in range(2))
    rows = [["Item", "Count", "Price"], ["Apples", "3", "1.20"], ["Pears", "12", "0.80"]]

    def draw(page: pymupdf.Page) -> None:
        page.insert_text((60, 60), "A heading across the page", fontsize=16)
        for text, x in ((left, 40), (right, 210)):
            page.insert_textbox(pymupdf.Rect(x, 90, x + 150, 400), text, fontsize=9, align=pymupdf.TEXT_ALIGN_JUSTIFY)
        for number, cells in enumerate(rows):
            for x, cell in zip((60, 160, 260), cells, strict=True):
                page.insert_text((x, 450 + 14 * number), cell, fontsize=10)

    table = "\n".join("\t".join(cells) for cells in rows)
    assert read_text(pdf_page(tmp_path / "a.pdf", draw)).text == f"A heading across the page\n{left}\n{right}\n{table}"


# --- cost


def test_the_work_grows_with_the_page_and_not_with_its_square() -> None:
    def calls(rows: int) -> int:
        rng = random.Random(5)
        lines = [
            line(" ".join(words(rng, 2)), 10 + 200 * column, 4 + 1.3 * row, size=1.2)
            for row in range(rows)
            for column in range(5)
        ]
        rng.shuffle(lines)
        page, count = page_of(lines), itertools.count()
        sys.setprofile(lambda *_: next(count))
        try:
            read_text(page)
        finally:
            sys.setprofile(None)
        return next(count)

    assert calls(800) < 6 * calls(200)
