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


def boxes(count: int) -> list[Row]:
    """Boxes one below the other: a title at the left, and below it a text that begins further to the right."""
    lines: list[Row] = []
    for number in range(count):
        top = 200.0 + 200 * number
        lines += [
            row(f"Tip {number}", x=100, y=top),
            *rows([f"{number} {FULL}", FULL, "ends here."], x=180, y=top + 40),
        ]
    return lines


def written(lines: Sequence[Row], order: Sequence[int]) -> list[Row]:
    """Rows which the document writes in an order of their numbers."""
    for index, number in enumerate(order):
        for run in lines[number].runs:
            run.index = run.last = index
    return list(lines)


def test_a_sentence_goes_on_in_the_next_line() -> None:
    lines = rows([FULL, FULL, "Of capitals begins a line that ends", "without a point.", "a new one"])
    assert [(above.text, below.text) for above, below in sentences(lines)] == [(FULL, FULL)] + [
        ("Of capitals begins a line that ends", "without a point.")
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
    lines = written(boxes(3), range(12))
    ours = in_order(lines)
    assert [text[:3] for text in texts(ours)][:3] == ["Tip"] * 3
    regions, by_document = best_order(lines)
    assert by_document
    assert texts(regions) == [run.text for line in boxes(3) for run in line.runs]


def test_a_document_without_order_changes_nothing() -> None:
    backwards = written(boxes(3), range(11, -1, -1))
    expected = texts(in_order(boxes(3)))
    regions, by_document = best_order(backwards)
    assert (texts(regions), by_document) == (expected, False)
    assert [run.text for line in backwards for run in line.runs] == [run.text for line in boxes(3) for run in line.runs]


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
