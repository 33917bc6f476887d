from __future__ import annotations

from itertools import pairwise

import pymupdf
import pytest

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.text.columns import with_columns
from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.reading_order import TextPolicy, read_text
from datagen.pdf.text.regions import Region
from datagen.pdf.text.table_text import TableCell, written
from datagen.pdf.text.tables import region_cells
from tests.datagen.pdf.page_lines import row

XS, YS = (80, 200, 320, 440), (100, 140, 180, 220)


def label(
    texts: dict[tuple[float, float], str],
    rules: list[tuple[float, float, float, float]],
    tables: str = "tabs",
    *,
    boxes: bool = False,
) -> list[str]:
    """The lines of a page with texts at points, and rules or the borders of cells; a paragraph stands below."""
    document = pymupdf.open()
    page = document.new_page(width=600, height=800)
    for x0, y0, x1, y1 in rules:
        if boxes:
            page.draw_rect((x0, y0, x1, y1), width=0.5)
        else:
            page.draw_line((x0, y0), (x1, y1), width=0.5)
    for (x, y), text in texts.items():
        page.insert_text((x, y), text, fontsize=11)
    page.insert_text((80, 400), "A paragraph of the page below the table.", fontsize=11)
    with open_document(document.tobytes()) as opened:
        read = read_text(opened.page(0, short_side_px=900, long_side_px=1200), TextPolicy(tables=tables))  # type: ignore[arg-type]
    lines = read.text.split("\n")
    assert lines.pop() == "A paragraph of the page below the table."
    return lines


def grid(*missing: tuple[float, float, float, float]) -> list[tuple[float, float, float, float]]:
    """The rules of three rows and columns, each as long as a cell, but for the missing ones."""
    flat = [(x0, y, x1, y) for y in YS for x0, x1 in pairwise(XS)]
    upright = [(x, y0, x, y1) for x in XS for y0, y1 in pairwise(YS)]
    return [rule for rule in flat + upright if rule not in missing]


ROW_SPAN, COLUMN_SPAN = (80, 180, 200, 180), (320, 100, 320, 140)
CELLS = {(85, 125): "Kind", (205, 125): "Numbers of two years", (85, 185): "Birds", (205, 165): "12", (325, 165): "15"}
SPANS = CELLS | {(205, 205): "7", (325, 205): "9 < 10 | 11"}


def test_cells_span_rows_and_columns_where_a_rule_is_missing() -> None:
    rules = grid(ROW_SPAN, COLUMN_SPAN)
    assert label(SPANS, rules) == ["Kind\tNumbers of two years", "Birds\t12\t15", "\t7\t9 < 10 | 11"]
    assert label(SPANS, rules, "markdown") == [
        "| Kind | Numbers of two years |  |",
        "| --- | --- | --- |",
        "| Birds | 12 | 15 |",
        "|  | 7 | 9 < 10 \\| 11 |",
    ]
    assert label(SPANS, rules, "html") == [
        "<table>",
        '<tr><td>Kind</td><td colspan="2">Numbers of two years</td></tr>',
        '<tr><td rowspan="2">Birds</td><td>12</td><td>15</td></tr>',
        "<tr><td>7</td><td>9 &lt; 10 | 11</td></tr>",
        "</table>",
    ]


def test_borders_of_cells_are_a_grid() -> None:
    boxes = [(x, y, x + 119, y + 39) for x in XS[:3] for y in YS[:3]]
    texts = {(x + 5, y + 25): f"cell {x} {y}" for x in XS[:3] for y in YS[:3]}
    assert label(texts, boxes, boxes=True)[1] == "cell 80 140\tcell 200 140\tcell 320 140"


def test_a_line_across_a_rule_is_cut_at_a_space() -> None:
    texts = {(85, 125): "The first and all", (85, 165): "one cell with text         another one", (205, 205): "alone"}
    assert label(texts, grid())[:2] == ["The first and all", "one cell with text\tanother one"]


def test_lines_of_a_cell_are_joined_between_rules() -> None:
    texts = {(85, 115): "alpha", (205, 115): "the first", (205, 130): "letter", (85, 165): "beta", (205, 165): "second"}
    assert label(texts, grid()) == ["alpha\tthe first letter", "beta\tsecond"]


def test_rows_without_rules_are_told_by_the_order_of_writing() -> None:
    rules = [(x, 100, x, 220) for x in XS] + [(80, y, 440, y) for y in (100, 140, 220)]
    heads = {(x + 5, 125): f"head {x}" for x in XS[:3]}
    by_rows = {(x + 5, y): f"{x} {y}" for y in (155, 172, 189, 206) for x in XS[:3]}
    assert label(heads | by_rows, rules)[2:4] == ["80 172\t200 172\t320 172", "80 189\t200 189\t320 189"]
    by_cells = {(x + 5, y): f"part of {x}" for x in XS[:3] for y in (155, 172, 189)}
    assert label(heads | by_cells, rules)[1:] == ["\t".join(" ".join([f"part of {x}"] * 3) for x in XS[:3])]


@pytest.mark.parametrize(
    ("rules", "texts"),
    [
        ([(80, 100, 440, 100), (80, 220, 440, 220), (80, 100, 80, 220), (440, 100, 440, 220)], {(90, 150): "framed"}),
        (grid(), {(90, 150): "one text in nine cells"}),
    ],
    ids=["a frame", "an empty grid"],
)
def test_other_rules_are_no_table(
    rules: list[tuple[float, float, float, float]], texts: dict[tuple[float, float], str]
) -> None:
    assert label(texts, rules, "html")[0] != "<table>"


def lines_of(*rows: object) -> list[str]:
    (region,) = with_columns([Region(list(rows), [(170.0, 300.0)])])  # type: ignore[arg-type]
    return written(region_cells(region, [], Joiner(str)), "tabs")


def test_columns_are_those_of_most_rows_although_a_row_spans_them() -> None:
    body = [row((f"k{n}", 100.0), (f"{n}0", 310.0), (f"{n}1", 340.0), y=360 + 30 * n, index=3 * n) for n in range(1, 8)]
    head = row(("Kind", 100.0), ("Two years", 305.0), y=360)
    assert lines_of(head, *body)[:2] == ["Kind\tTwo years", "k1\t10\t11"]


def test_runs_joined_over_a_tight_gutter_are_cut() -> None:
    body = [row((f"k{n}", 100.0), (f"{n}0 {n}1", 310.0), y=300 + 30 * n, index=2 * n) for n in range(4)]
    for line in body:
        line.runs[1].joints = ((2, 330.0, 338.0),)
    assert lines_of(*body)[1] == "k1\t10\t11"


def test_parts_of_a_table_around_a_spanning_row_are_one_table() -> None:
    above, below = ([row((f"k{n}", 100.0), (f"{n}", 310.0), y=y + 30 * n) for n in range(2)] for y in (300, 390))
    between = Region([row("A title across both of the columns", y=360)])
    regions = with_columns([Region(above, [(120.0, 310.0)]), between, Region(below, [(120.0, 310.0)])])
    assert [len(region.rows) for region in regions] == [5]


def test_leaders_do_not_make_a_column_of_prose() -> None:
    document = pymupdf.open()
    page = document.new_page(width=600, height=800)
    names = ["Algeria", "Angola", "Benin", "Botswana", "Burundi", "Chad", "Congo", "Gabon"]
    for number, name in enumerate(names):
        page.insert_text((80, 100 + 16 * number), name + " ." * (90 - 2 * len(name)), fontsize=10)
    for number in range(len(names)):
        page.insert_text((420, 100 + 16 * number), f"{number + 1} 500", fontsize=10)
    with open_document(document.tobytes()) as opened:
        text = read_text(opened.page(0, short_side_px=900, long_side_px=1200)).text
    assert text.split("\n") == [f"{name}\t{number} 500" for number, name in enumerate(names, 1)]


def test_a_row_of_one_cell_has_no_tabs() -> None:
    assert written([TableCell("a", 0, 0), TableCell("b", 0, 2), TableCell("alone", 1, 1)], "tabs") == [
        "a\t\tb",
        "alone",
    ]


def test_a_frame_around_the_page_is_no_table() -> None:
    rules = [(60, 60, 540, 60), (60, 360, 540, 360), (60, 60, 60, 360), (540, 60, 540, 360)]
    rules += [(60, 330, 540, 330), (300, 330, 300, 360)]  # the title block of a drawing
    starts = [100 + 14 * number + (40 if number > 2 else 0) for number in range(6)]
    text = {(80, y): f"Line {number} of the text that stands in the frame of a page" for number, y in enumerate(starts)}
    lines = label({**text, (80, 350): "Drawn by", (310, 350): "Sheet 1"}, rules)
    assert [line[:6] for line in lines] == ["Line 0", "Line 3", "Drawn "]  # paragraphs, not a cell


def test_a_frame_with_a_title_on_its_edge_is_no_table() -> None:
    frame = [(80.0, 110.0, 520.0, 200.0), (90.0, 98.0, 200.0, 122.0), (470.0, 94.0, 510.0, 130.0)]
    text = "A text in a frame goes on below the title from its left side to the right"
    lines = label({(95, 114): "A title", (90, 145): text, (90, 160): text}, frame, boxes=True)
    assert lines == ["A title", f"{text} {text}"]
