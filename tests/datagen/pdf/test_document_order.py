"""Which order of a page is taken: by the layout, or the document's own."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.pdf.text.document_order import as_written, best_order, faults
from datagen.pdf.text.regions import Region, Row, in_order
from datagen.pdf.text.sentences import sentences
from tests.datagen.pdf.page_lines import row, rows, texts_of_rows

FULL = "a line of a sentence that goes on and"


def texts(regions: Sequence[Region]) -> list[str]:
    return [text for region in regions for text in texts_of_rows(region.rows)]


def tight() -> list[Row]:
    """Two columns without a gutter: lines of the left one end where the right one begins."""
    left = [f"{FULL} {'a' * (number % 4)}" for number in range(8)]
    return [row((text, 100.0), (FULL, 515.0), y=300 + 24 * number) for number, text in enumerate(left)]


def test_a_sentence_goes_on_in_the_next_line() -> None:
    lines = rows([FULL, FULL, "Of capitals begins a line that ends", "without a point.", "a new one"])
    assert [(above.text, below.text) for above, below in sentences(lines)] == [
        (FULL, FULL),
        ("Of capitals begins a line that ends", "without a point."),
    ]
    hyphen = rows(["the last syllables of the name Ander-", "Sen are below it"])
    assert len(sentences(hyphen)) == 1
    assert not sentences(rows(["short", "lines", "of a list"])), "too narrow to be a text"
    assert not sentences(rows([FULL, FULL], step=60)), "too far apart"
    assert len(sentences(rows(["一行中文的文字写到这里还没有完", "接着写下去"]))) == 1


def test_torn_sentences_and_jumps_upwards_are_faults() -> None:
    left, right = rows([FULL] * 3), rows([FULL] * 3, x=600)
    pairs = [*sentences(left), *sentences(right)]
    assert len(pairs) == 4
    assert faults([Region(left), Region(right)], pairs) == 1, "the jump to the second column"
    by_rows = [Region([Row([*a.runs, *b.runs]) for a, b in zip(left, right, strict=True)])]
    assert faults(by_rows, pairs) == 4


def test_the_documents_order_is_taken_where_ours_is_worse() -> None:
    lines = tight()
    for number, line in enumerate(lines):
        line.runs[0].index, line.runs[1].index = number, 10 + number
    regions, by_document = best_order(lines)
    assert ([len(region.rows) for region in regions], by_document) == ([8, 8], True)
    assert texts(in_order(lines)) != texts(regions)


def test_a_document_without_order_changes_nothing() -> None:
    lines = tight()
    for number, line in enumerate(lines):
        line.runs[0].index, line.runs[1].index = 40 - 2 * number, 39 - 2 * number
    regions, by_document = best_order(lines)
    assert (texts(regions), by_document) == (texts(in_order(tight())), False)


def test_a_table_that_is_written_by_columns_stays_a_table() -> None:
    cells = [row((f"name {n}", 100.0), (f"{n * n}", 500.0), y=300 + 30 * n) for n in range(6)]
    for n, line in enumerate(cells):
        line.runs[0].index, line.runs[1].index = n, 10 + n
    regions, by_document = best_order(cells)
    assert ([region.is_table for region in regions], by_document) == ([True], False)
    assert [len(region.rows) for region in as_written(cells)] == [6, 6]


def test_columns_are_told_by_a_measure_and_not_by_the_document() -> None:
    columns = [Row([*a.runs, *b.runs]) for a, b in zip(rows([FULL] * 8), rows([FULL] * 8, x=600), strict=True)]
    for number, line in enumerate(columns):  # written row by row, as some converters do
        line.runs[0].index, line.runs[1].index = 2 * number, 2 * number + 1
    regions, by_document = best_order(columns)
    assert ([len(region.rows) for region in regions], by_document) == ([8, 8], False)
