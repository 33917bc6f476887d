from __future__ import annotations

from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.paragraphs import paragraphs
from datagen.pdf.text.regions import Region, Row
from datagen.pdf.text.tables import region_cells
from datagen.pdf.text.terms import terms_apart
from tests.datagen.pdf.page_lines import row, rows, run

PROSE = [
    "The text of a manual goes on from line to",
    "line, and the names of its commands stand",
    "in the margin beside it.",
]
STEP = 24


def written(lines: list[Row]) -> list[str]:
    return "\n".join(paragraphs(Region(terms_apart(lines)), Joiner(str))).split("\n")


def manual(*names: str, x: float = 60) -> list[Row]:
    """A text of three paragraphs; `names` stand in the margin from the second one on, a line each."""
    lines = [row(text, x=300, y=300 + STEP * number) for number, text in enumerate(3 * PROSE)]
    for number, name in enumerate(names, len(PROSE)):
        lines[number] = Row([run(name, x, lines[number].y0), *lines[number].runs])
    return lines


def test_the_text_beside_a_name_goes_on_below_it() -> None:
    text = " ".join(PROSE)
    assert written(manual(r"\name")) == [text, rf"\name{chr(9)}{text}", text]


def test_names_beside_one_text_stand_before_it() -> None:
    text = " ".join(PROSE)
    assert written(manual(r"\name", r"\othername")) == [text, r"\name", r"\othername", text, text]


def test_a_name_on_a_line_of_its_own_stands_above_its_text() -> None:
    lines = manual()
    lines.insert(3, row("name", x=200, y=lines[3].y0 - STEP / 2))
    assert written(lines)[1] == "name"


def test_a_name_beside_the_middle_of_a_text_does_not_break_it() -> None:
    lines = manual()
    lines[4] = Row([run("note", 200, lines[4].y0), *lines[4].runs])
    assert written(lines) == [" ".join(PROSE), "note", " ".join(PROSE), " ".join(PROSE)]


def test_the_keys_of_a_table_are_no_names() -> None:
    lines = manual()
    for number in (3, 5):
        y = lines[number].y0
        lines[number] = Row([run("key", 200, y), run("a cell", 300, y), run("another cell", 600, y)])
    assert terms_apart(lines) == lines


def test_numbers_and_many_first_cells_are_no_names() -> None:
    assert terms_apart(lines := manual("1", "II", "3.")) == lines
    assert terms_apart(lines := manual("one", "two", "three", "four", "five")) == lines


def test_a_name_before_a_table_is_a_line_of_its_own() -> None:
    table = Region([row(("a", 300.0), ("b", 500.0)), row(("c", 300.0), ("d", 500.0), y=330)], [(320.0, 490.0)])
    table.rows[1].runs[0].lead = "name\n"
    cells = region_cells(table, (), Joiner(str))
    assert [(cell.text, cell.row) for cell in cells] == [("a", 0), ("b", 0), ("name", 1), ("c", 2), ("d", 2)]


def test_text_without_a_margin_is_left_alone() -> None:
    assert terms_apart(lines := rows(3 * PROSE)) == lines
