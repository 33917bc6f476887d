from __future__ import annotations

from collections.abc import Sequence

import pytest

from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.paragraphs import paragraphs, printed_lines, table_lines
from datagen.pdf.text.regions import Region, Row
from tests.datagen.pdf.page_lines import row, rows, run

FULL = "a line that goes as far as the margin"


def joined(*lines: Row) -> list[str]:
    return paragraphs(Region(list(lines)), Joiner(str))


def styled(text: str, y: float, x: float = 100, **style: bool) -> Row:
    return Row([run(text, x, y, **style)])


def test_printed_lines_keep_wide_gaps_as_tabs() -> None:
    lines = [row(("left", 100.0), ("near", 160.0), ("far", 300.0)), row("alone")]
    assert printed_lines(Region(lines)) == ["left near\tfar", "alone"]
    assert printed_lines(Region([])) == []


def test_a_short_line_ends_a_paragraph() -> None:
    assert joined(*rows([FULL, "and ends.", FULL, FULL])) == [f"{FULL} and ends.", f"{FULL} {FULL}"]


def test_a_line_whose_next_word_did_not_fit_goes_on() -> None:
    almost, long = FULL[:-7], "extraordinarily long words follow it."
    assert joined(*rows([FULL, almost, long, FULL])) == [f"{FULL} {almost} {long} {FULL}"]


def test_an_indent_begins_a_paragraph() -> None:
    lines = [*rows([FULL, FULL]), row(FULL[:-3], x=130, y=348), *rows([FULL], y=372)]
    assert joined(*lines) == [f"{FULL} {FULL}", f"{FULL[:-3]} {FULL}"]


def test_a_wider_distance_or_another_size_begins_a_stack() -> None:
    assert joined(*rows([FULL, FULL]), *rows([FULL], y=380)) == [f"{FULL} {FULL}", FULL]
    large = [row("A heading", y=270, size=28), *rows([FULL, FULL])]
    assert joined(*large) == ["A heading", f"{FULL} {FULL}"]


def test_bold_text_is_apart_unless_it_goes_on_in_small_letters() -> None:
    heading = [styled("A heading in bold letters, to the margin", 300, bold=True), styled("The text below it", 324)]
    assert joined(*heading) == ["A heading in bold letters, to the margin", "The text below it"]
    words = [styled("Bold words begin a paragraph that goes on", 300, bold=True), styled("in plain letters here", 324)]
    assert joined(*words) == ["Bold words begin a paragraph that goes on in plain letters here"]


def test_code_is_not_joined() -> None:
    assert joined(*[styled(FULL, 300 + 24 * number, mono=True) for number in range(3)]) == [FULL] * 3


def test_centred_lines_stay_lines_and_a_centred_heading_is_one() -> None:
    verse = [
        row(text, x=500 - 5 * len(text), y=300 + 24 * number) for number, text in enumerate(("one", FULL, "three"))
    ]
    assert joined(*verse) == ["one", FULL, "three"]
    heading = [
        styled(text, 300 + 24 * number, 500 - 5 * len(text), bold=True)
        for number, text in enumerate(("A heading that is longer than", "a line of it"))
    ]
    assert joined(*heading) == ["A heading that is longer than a line of it"]


def test_items_begin_paragraphs_and_their_lines_go_on() -> None:
    item = f"1. {FULL}"
    lines = [row(item, y=300), row(FULL, x=130, y=324), row(f"2. {FULL}", y=348), row("ends.", x=130, y=372)]
    assert joined(*lines) == [f"{item} {FULL}", f"2. {FULL} ends."]


def test_leaders_end_a_line_of_contents() -> None:
    lines = rows(["Introduction . . . . . . . . . . . . 1", "Methods . . . . . . . . . . . . . . 12"])
    assert joined(*lines) == ["Introduction . . . . . . . . . . . . 1", "Methods . . . . . . . . . . . . . . 12"]


GUTTER = (180.0, 300.0)
RULES = [(90.0, y, 700.0, y + 1) for y in (295.0, 325.0, 375.0, 425.0)]


def table(*lines: Sequence[tuple[str, float] | str], steps: Sequence[float]) -> Region:
    """A table of two columns, written cell by cell in the order of the rows."""
    made = [row(*line, y=y, index=10 * number) for number, (line, y) in enumerate(zip(lines, steps, strict=True))]
    return Region(made, [GUTTER])


def test_cells_are_separated_by_tabs() -> None:
    region = table([("a", 100.0), ("one", 310.0)], [("two", 310.0)], steps=(300, 350))
    assert table_lines(region, [], Joiner(str)) == ["a\tone", "two"]


def test_rules_put_the_lines_of_a_cell_together() -> None:
    region = table(
        [("Key", 100.0), ("Meaning", 310.0)], [("alpha", 100.0), ("the first", 310.0)], [("letter", 310.0)],
        [("beta", 100.0), ("the second", 310.0)], steps=(300, 330, 352, 390),
    )  # fmt: skip
    assert table_lines(region, RULES, Joiner(str)) == ["Key\tMeaning", "alpha\tthe first letter", "beta\tthe second"]


def test_two_rules_do_not_separate_rows() -> None:
    region = table([("a", 100.0), ("one", 310.0)], [("b", 100.0), ("two", 310.0)], steps=(300, 350))
    assert table_lines(region, RULES[:2], Joiner(str)) == ["a\tone", "b\ttwo"]


def test_borders_of_cells_count_as_rules() -> None:
    region = table(
        [("Key", 100.0), ("Meaning", 310.0)], [("alpha", 100.0), ("the first", 310.0)], [("letter", 310.0)],
        [("beta", 100.0), ("the second", 310.0)], steps=(300, 330, 352, 390),
    )  # fmt: skip
    pairs = ((295.0, 325.0), (325.0, 375.0), (375.0, 425.0))
    boxes = [(x0, y0, x1, y1) for y0, y1 in pairs for x0, x1 in ((90.0, 300.0), (300.0, 700.0))]
    assert table_lines(region, boxes, Joiner(str)) == ["Key\tMeaning", "alpha\tthe first letter", "beta\tthe second"]


@pytest.mark.parametrize(("step", "lines"), [(24, 1), (32, 2)])
def test_without_rules_near_lines_in_the_order_of_writing_are_one_row(step: float, lines: int) -> None:
    first = row(("alpha", 100.0), ("the first", 310.0), y=300, index=0)
    second = row(("letter", 310.0), y=300 + step, index=2)
    key = row(("beta", 100.0), ("the second", 310.0), y=380, index=3)
    got = table_lines(Region([first, second, key], [GUTTER]), [], Joiner(str))
    assert got[-1] == "beta\tthe second"
    assert len(got) == lines + 1


def test_a_table_written_by_columns_keeps_its_rows() -> None:
    lines = [row(("a", 100.0), ("one", 310.0), y=300 + 24 * number) for number in range(4)]
    for number, line in enumerate(lines):
        line.runs[0].index = line.runs[0].last = number
        line.runs[1].index = line.runs[1].last = 10 + number
    assert table_lines(Region(lines, [GUTTER]), [], Joiner(str)) == ["a\tone"] * 4


def test_a_joiner_counts_the_hyphens_that_it_removes() -> None:
    joiner = Joiner(lambda: "some text")
    assert joiner.join("exam-", "ple") == "example"
    assert joiner.join("soft\u00ad", "ened") == "softened"
    assert joiner.join("GPT-", "4") == "GPT-4"
    assert joiner.join("", "word") == "word"
    assert joiner.join("word", "  ") == "word"
    assert joiner.hyphens == 2
