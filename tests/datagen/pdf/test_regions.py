from __future__ import annotations

import pytest

from datagen.pdf.text.regions import Row, Run, in_order, is_prose, join_drop_caps, parted, rules_of, switch_share
from datagen.pdf.text.rows import rows_of
from tests.datagen.pdf.page_lines import SIZE, row, rows, run, texts_of_rows

PROSE = "a full line of one column of the text"


def merged(*runs: Run) -> list[str]:
    """Texts of the runs of the rows that `runs` make."""
    return texts_of_rows(rows_of(runs)[0])


def test_rows_are_told_by_the_middles_of_their_runs() -> None:
    assert merged(run("low", 300, 307), run("high", 100, 300)) == ["high | low"]
    assert merged(run("low", 300, 309), run("high", 100, 300)) == ["high", "low"]
    assert merged(run("small", 300, 305, size=10), run("large", 100, 300, size=20)) == ["large | small"]
    assert rows_of([]) == ([], 0)


def test_near_runs_are_one() -> None:
    assert merged(run("two", 100, 300), run("words", 135, 300)) == ["two words"]
    assert merged(run("wo", 100, 300), run("rd", 121, 300)) == ["word"]
    assert merged(run("two", 100, 300), run("cells", 145, 300)) == ["two | cells"]
    assert merged(run("end ", 100, 300), run("begin", 145, 300)) == ["end begin"]


@pytest.mark.parametrize("marker", ["•", "–", "(a)", "1.", "iv)", "2.1."])
def test_a_marker_belongs_to_its_item(marker: str) -> None:
    text = run(marker, 100, 300)
    assert merged(text, run("item", text.x1 + 50, 300)) == [f"{marker} item"]


def test_a_number_is_a_cell_where_the_gap_is_wide() -> None:
    assert merged(run("3", 100, 300), run("item", 135, 300)) == ["3 item"]
    assert merged(run("3", 100, 300), run("item", 150, 300)) == ["3 | item"]
    assert merged(run("3", 100, 300), run("17", 135, 300)) == ["3 | 17"]
    assert merged(run("ninechars.", 100, 300), run("item", 240, 300)) == ["ninechars. | item"]


def test_text_that_is_printed_twice_is_counted() -> None:
    (bold,), doubled = rows_of([run("bold", 100, 300), run("bold", 101, 300), run("bold", 102, 301)])
    assert ([part.text for part in bold.runs], doubled) == (["bold"], 2)
    assert rows_of([run("very", 100, 300), run("very", 150, 300)])[1] == 0


def test_merged_runs_remember_their_order_and_the_style_of_the_longer() -> None:
    short, long = run("a", 100, 300, index=7), run("long word", 115, 300, index=3, bold=True)
    ((only,),) = [line.runs for line in rows_of([short, long])[0]]
    assert (only.index, only.last, only.bold, only.x0, only.x1) == (3, 7, True, 100, 205)


def test_a_drop_cap_joins_its_word() -> None:
    beside = [run("nce upon", 140, 300), run("a time", 140, 324), run("there", 100, 360)]
    joined = join_drop_caps([run("O", 100, 298, size=50), *beside], SIZE)
    assert [(each.text, each.x0) for each in joined] == [("Once upon", 100), ("a time", 100), ("there", 100)]


def test_capitals_that_are_no_drop_caps_stay() -> None:
    far = [run("O", 100, 298, size=50), run("far away", 300, 300)]
    assert [each.text for each in join_drop_caps(far, SIZE)] == ["far away", "O"]
    title = [run(letter, 100 + 50 * place, 100, size=50) for place, letter in enumerate("TITLE")]
    assert join_drop_caps(title, SIZE) == title
    assert join_drop_caps([run("word", 0, 0, size=60)], SIZE)[0].text == "word"


def test_the_parts_of_rows_between_gutters() -> None:
    whole, short = row(("left", 100.0), ("right", 500.0)), row(("left", 100.0))
    (left, second), middle, (right, none) = parted([whole, short], [(200.0, 300.0), (400.0, 450.0)])
    assert left is not None and (left.x0, left.x1, left.runs) == (100, 140, whole.runs[:1])
    assert right is not None and right.runs == whole.runs[1:]
    assert (second, middle, none) == (short, [None, None], None)
    assert parted([whole], [(600.0, 700.0)]) == [[whole], [None]]


def columns(lines: int, *, by_rows: bool = False, texts: tuple[str, str] = (PROSE, PROSE)) -> list[Row]:
    """Two columns of text, written one after the other or row by row."""
    stack = []
    for number in range(lines):
        line = row((f"{texts[0]}", 100.0), (f"{texts[1]}", 550.0), y=300 + 24 * number)
        line.runs[0].index, line.runs[1].index = (2 * number, 2 * number + 1) if by_rows else (number, 100 + number)
        stack.append(line)
    return stack


def test_how_often_the_document_changes_sides() -> None:
    apart, together = columns(6), columns(6, by_rows=True)
    for lines, least, most in ((apart, 0, 0), (together, 1.5, 2)):
        lefts, rights = ([part for part in side if part] for side in parted(lines, [(500, 500)]))
        assert least <= switch_share(lefts, rights) <= most
    assert switch_share(rows(["a"], y=100), rows(["b"], y=900)) == 0, "no rows beside each other"


def test_prose_fills_its_column() -> None:
    assert is_prose(rows([PROSE] * 5 + ["the end"]))
    assert not is_prose(rows([PROSE, "short", "lines", "of a list"]))
    assert not is_prose(rows(["12", "13", "14"])), "narrow"
    assert not is_prose(rows([PROSE] * 2)), "too few"


def test_columns_are_regions_and_a_title_is_one_of_its_own() -> None:
    title = row("A title over both columns of the page, as wide as they are together ok", y=200)
    regions = in_order([title, *columns(8)])
    assert [len(region.rows) for region in regions] == [1, 8, 8]
    assert not any(region.is_table for region in regions)
    assert in_order([]) == []


def test_a_table_lies_between_texts() -> None:
    wide = "A line of text across the whole of the page, before the table or behind it"
    cells = [row((f"{n}", 100.0), (f"{n * n}", 400.0), y=400 + 30 * n, index=10 + 2 * n) for n in range(6)]
    regions = in_order([*rows([wide] * 3), *cells, *rows([wide] * 3, y=600)])
    assert [(len(region.rows), region.is_table) for region in regions] == [(3, False), (6, True), (3, False)]
    assert len(regions[1].gutters) == 1
    left, right = regions[1].gutters[0]
    assert 110 <= left < right <= 400


def test_columns_without_prose_are_told_by_the_order_of_writing() -> None:
    names = ("a name", "another name")
    assert [region.is_table for region in in_order(columns(8, texts=names))] == [False, False]
    assert [region.is_table for region in in_order(columns(8, by_rows=True, texts=names))] == [True]
    numbers = ("a name", "17 of them")
    assert [region.is_table for region in in_order(columns(8, texts=numbers))] == [True]


def test_a_space_behind_a_text_is_no_part_of_its_width() -> None:
    words, other = run("words ", 100, 300), run("of another column", 180, 300, index=9)
    assert merged(words, other) == ["words  | of another column"]
    assert words.x1 == 160 - 0.2 * SIZE
    assert merged(words := run("words ", 100, 300), run("of the same", 180, 300, index=1)) == ["words  | of the same"]
    assert words.x1 == 160


def test_runs_written_apart_need_a_smaller_gap_to_be_one() -> None:
    left, right = run("left", 100, 300, index=1), run("right", 149, 300, index=8)
    assert merged(left, right) == ["left | right"]


def test_a_note_in_the_margin_is_read_behind_its_text() -> None:
    note = ["a note in", "the margin", "of it"]
    lines = [row((f"{PROSE} that goes on", 100.0), (text, 700.0), y=300 + 24 * n) for n, text in enumerate(note[:2])]
    lines.append(row(note[2], x=700, y=348))
    for number, line in enumerate(lines):
        line.runs[0].index, line.runs[-1].index = number, 10 + number
    assert [texts_of_rows(region.rows) for region in in_order(lines)] == [[f"{PROSE} that goes on"] * 2, note]


def test_a_title_far_above_columns_is_no_part_of_them() -> None:
    title = row("A title in the middle", x=420, y=100)
    first = row(("Abstract", 100.0), ("goes on at the top of the second one", 550.0), y=300)
    regions = in_order([title, first, *columns(6)[1:]])
    assert [texts_of_rows(region.rows)[0] for region in regions] == [
        "A title in the middle",
        "Abstract",
        "goes on at the top of the second one",
    ]


def test_names_beside_cells_of_prose_are_a_table_if_written_row_by_row() -> None:
    def cells(*, by_rows: bool) -> list[Row]:
        lines = []
        for number in range(12):  # three lines of prose, a name beside the middle of the second and third
            name = run(f"name {number // 3}", 100, 312 + 24 * number, index=4 * number + 3 if by_rows else number)
            text = run(PROSE, 400, 300 + 24 * number, index=4 * number if by_rows else 100 + number)
            lines += [Row([text]), *([Row([name])] if number % 3 == 1 else [])]
        return lines

    assert [len(region.rows) for region in in_order(cells(by_rows=False))] == [1, 4, 11]
    assert [len(region.rows) for region in in_order(cells(by_rows=True))] == [16]


def test_rules_are_thin_and_long() -> None:
    rule, thick, short = (0.0, 10.0, 300.0, 11.0), (0.0, 10.0, 300.0, 30.0), (0.0, 10.0, 20.0, 11.0)
    assert rules_of([rule, thick, short, (0.0, 0.0, 1.0, 300.0)], longest_side=1400) == [rule]
