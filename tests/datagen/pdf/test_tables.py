from __future__ import annotations

from collections.abc import Sequence

import pytest

from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.regions import Region
from datagen.pdf.text.table_text import written
from datagen.pdf.text.tables import region_cells
from tests.datagen.pdf.page_lines import row

Box = tuple[float, float, float, float]
GUTTER = (180.0, 300.0)
RULES = [(90.0, y, 700.0, y + 1) for y in (295.0, 325.0, 375.0, 425.0)]


def table(*lines: Sequence[tuple[str, float] | str], steps: Sequence[float]) -> Region:
    """A table of two columns, written cell by cell in the order of the rows."""
    made = [row(*line, y=y, index=10 * number) for number, (line, y) in enumerate(zip(lines, steps, strict=True))]
    return Region(made, [GUTTER])


def table_lines(region: Region, edges: Sequence[Box], joiner: Joiner) -> list[str]:
    return written(region_cells(region, edges, joiner), "tabs")


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


def test_a_table_of_contents_has_entries_and_pages() -> None:
    rows = [
        row(("1", 100.0), ("Overview", 130.0), ("3", 600.0), y=300),
        row(("1.1", 100.0), ("Install", 150.0), (". . . . . . .", 300.0), ("12", 600.0), y=330),
        row(("An entry of two lines", 100.0), y=360),
    ]
    lines = table_lines(Region(rows, [(115.0, 128.0), (280.0, 290.0), (500.0, 590.0)]), [], Joiner(str))
    assert lines == ["1 Overview\t3", "1.1 Install . . . . . . .\t12", "An entry of two lines"]
    cells = row(("Angola . . . . .", 100.0), ("15", 300.0), ("16", 400.0))
    assert table_lines(Region([cells], [(270.0, 290.0), (330.0, 390.0)]), [], Joiner(str)) == [
        "Angola . . . . .\t15\t16"
    ]
