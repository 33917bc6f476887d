from __future__ import annotations

import pytest

from datagen.pdf.page import inside
from datagen.pdf.text.furniture import _PAGE_NUMBER, body_size, figure_boxes, furniture_of
from tests.datagen.pdf.page_lines import HEIGHT, frame, row, rows, run, texts_of_rows

BODY = [f"A line of the text with number {number} in it" for number in range(20)]
FULL_RULE = (100.0, 0.0, 900.0, 0.0)


def edges(*top: object, bottom: tuple[object, ...] = (), rules: tuple[tuple[float, ...], ...] = ()) -> tuple[int, int]:
    """Rows of header and footer of a page with twenty lines of text."""
    furniture = furniture_of([*top, *rows(BODY), *bottom], frame(*rules))  # type: ignore[list-item, arg-type]
    return len(furniture.header), len(furniture.footer)


def test_a_header_stands_apart_in_the_outermost_tenth() -> None:
    assert edges(row("Running head", y=60)) == (1, 0)
    assert edges(row("First line", y=276)) == (0, 0)  # as near as a line
    assert edges(row("A large title", y=60, size=30)) == (0, 0)
    assert edges(row("Head", y=150)) == (0, 0)  # below the tenth, without a mark


def test_in_the_outermost_seventh_a_header_needs_a_mark() -> None:
    assert edges(row(("Head", 100.0), ("right", 800.0), y=150)) == (1, 0)
    assert edges(row("17", y=150)) == (1, 0)
    assert edges(row("Head", y=150), rules=((100, 180, 900, 181),)) == (1, 0)
    assert edges(row(("17", 100.0), ("right", 800.0), y=220)) == (0, 0)  # beyond the seventh


def test_a_page_number_alone_may_stand_far_from_the_edge() -> None:
    assert edges(bottom=(row("17", y=1140),)) == (0, 1)  # a small page in the middle of a large sheet
    assert edges(bottom=(row("17", y=1080),)) == (0, 0)
    assert edges(bottom=(row("17 apples", y=1140),)) == (0, 0)


def test_a_footer_mirrors_a_header() -> None:
    assert edges(bottom=(row("Page 3 of 9", y=1340),)) == (0, 1)
    assert edges(row("Head", y=60), bottom=(row("Foot", y=1330), row("- 7 -", y=1354))) == (1, 2)
    assert edges(bottom=(row("1 A note below its rule.", y=1300),), rules=((100, 1290, 300, 1291),)) == (0, 0)


def test_a_long_block_at_the_edge_is_no_header() -> None:
    block = [row(f"line {number}", y=10 + 16 * number, size=14) for number in range(8)]
    assert edges(*block) == (0, 0)


def test_a_page_of_furniture_alone_keeps_its_text() -> None:
    furniture = furniture_of([row("Head", y=20), row("3", y=1370)], frame())
    assert (furniture.header, furniture.footer) == ([], [])
    assert [texts_of_rows(region.rows) for region in furniture.regions] == [["Head", "3"]]
    assert furniture_of([], frame()) == ([], [], [], [], False)


@pytest.mark.parametrize(
    "text",
    ["3", "- 7 -", "xii", "Page 3 of 9", "p. 12", "No 26", "Seite 4", "стр. 7", "A-4", "B12.3", "第 3 页", "3 / 12"],
)
def test_page_numbers(text: str) -> None:
    assert _PAGE_NUMBER.match(text)


@pytest.mark.parametrize("text", ["12345", "Table 3", "3 apples", "", "1. Introduction"])
def test_texts_that_are_no_page_numbers(text: str) -> None:
    assert not _PAGE_NUMBER.match(text)


def notes_of(*small: str, rules: tuple[tuple[float, ...], ...] = (), y: float = 1000, size: float = 14) -> list[int]:
    """Footnotes of the one region of a page that ends with small type."""
    last = [row(text, y=y + 18 * number, size=size) for number, text in enumerate(small)]
    return furniture_of([*rows(BODY), *last], frame(*rules)).footnotes  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", ["1 ", "* ", "† ", "[3] ", "注 ", "① ", "a "])
def test_a_footnote_has_a_mark(mark: str) -> None:
    assert notes_of(f"{mark}A note of the text,", "which goes on here.") == [2]


def test_a_footnote_without_a_mark_has_a_short_rule_above() -> None:
    assert notes_of("Received in May.", "Printed in June.") == [0]
    assert notes_of("Received in May.", "Printed in June.", rules=((100, 990, 300, 991),)) == [2]
    assert notes_of("Received in May.", rules=((100, 990, 900, 991),)) == [0], "a rule across the page"
    assert notes_of("Received in May.", rules=((400, 990, 600, 991),)) == [0], "a rule elsewhere"


def test_large_type_and_the_top_of_the_page_have_no_footnotes() -> None:
    assert notes_of("1 As large as the text.", size=20) == [0]
    high = [*rows(BODY[:3], y=200), row("1 A note of a figure.", y=400, size=14)]
    assert furniture_of(high, frame()).footnotes == [0]


def test_each_column_has_its_own_footnotes() -> None:
    wide = "a full line of one column of the text"
    lines = [row((f"{wide}", 100.0), (f"{wide}", 550.0), y=300 + 24 * number) for number in range(20)]
    for number, line in enumerate(lines):
        line.runs[0].index, line.runs[1].index = number, 100 + number
    note = row("1 A note of the left column here.", x=100, y=800, size=14, index=50)
    furniture = furniture_of([*lines, note], frame())
    assert [len(region.rows) for region in furniture.regions] == [21, 20]
    assert furniture.footnotes == [1, 0]


def test_a_table_has_no_footnotes() -> None:
    cells = [row((f"{n}", 100.0), (f"{n * n}", 400.0), y=900 + 30 * n, size=14, index=2 * n) for n in range(6)]
    furniture = furniture_of([*rows(BODY, step=20), *cells], frame())
    assert furniture.regions[-1].is_table
    assert furniture.footnotes[-1] == 0


def test_the_body_size_is_that_of_most_characters() -> None:
    assert body_size([run("a title", 0, 0, size=40), run("the text of the page", 0, 0, size=20.1)]) == 20
    assert body_size([]) == 0


def test_a_picture_of_most_of_the_page_is_no_figure() -> None:
    small, paper = (100.0, 100.0, 400.0, 500.0), (0.0, 0.0, 1000.0, HEIGHT)
    assert figure_boxes([small, paper], 1000, HEIGHT) == [small]
    assert inside((300, 300, 480, 320), [small])  # its middle is
    assert not inside((350, 300, 480, 320), [small])
    assert not inside((350, 300, 360, 320), [])
