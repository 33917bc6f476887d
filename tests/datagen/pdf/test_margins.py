from __future__ import annotations

from pathlib import Path

import pymupdf
import pytest

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.text.margins import without_line_numbers
from datagen.pdf.text.reading_order import read_text
from datagen.pdf.text.regions import Run
from tests.datagen.pdf.page_lines import run

TEXT = "some words of a text that goes on"


def numbered(texts: list[str], *, first: int = 1, step: int = 1, size: float = 12, x: float = 60) -> list[Run]:
    """Lines with a number beside each."""
    lines = [run(text, 100, 300 + 24 * number) for number, text in enumerate(texts)]
    return lines + [run(f"{first + step * number}", x, 304 + 24 * number, size=size) for number in range(len(texts))]


@pytest.mark.parametrize(("first", "step", "x"), [(1, 1, 60), (96, 1, 60), (5, 5, 60), (1, 1, 900)])
def test_line_numbers_are_a_line_of_their_own(first: int, step: int, x: float) -> None:
    rest, lines = without_line_numbers(numbered([TEXT] * 8, first=first, step=step, x=x))
    assert [each.text for each in rest] == [TEXT] * 8
    assert lines == [" ".join(str(first + step * number) for number in range(8))]


def test_each_column_has_its_numbers() -> None:
    left = numbered([TEXT] * 6)
    right = [run(each.text, each.x0 + 500, each.y0, size=each.size) for each in numbered([TEXT] * 6, first=7)]
    rest, lines = without_line_numbers([*left, *right])
    assert (len(rest), lines) == (12, ["1 2 3 4 5 6", "7 8 9 10 11 12"])


@pytest.mark.parametrize(
    "runs",
    [
        numbered([TEXT] * 3),
        numbered(["Names begin with capitals in a table"] * 8),
        numbered(
            ["短的", "一行中文的标题在目录里面写得很长很长", "一行中文的标题在目录里面", "一行中文的标题写得"] * 2,
            size=20,
        ),
        numbered([TEXT] * 8, step=0),
        [run(TEXT, 100, 300 + 24 * number) for number in range(8)],
    ],
    ids=["few", "table", "contents", "equal", "none"],
)
def test_other_numbers_stay(runs: list[Run]) -> None:
    assert without_line_numbers(runs) == (runs, [])


def test_a_paragraph_of_a_draft_is_read_without_its_line_numbers(tmp_path: Path) -> None:
    words = "The lines of a draft are numbered in the margin so that a reviewer can name them and nobody has to count."
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=400)
        page.insert_textbox((80, 60, 220, 300), words, fontsize=10)
        tops = sorted({round(word[1]) for word in page.get_text("words")})
        for number, top in enumerate(tops, 1):
            page.insert_text((60, top + 9), str(number), fontsize=6)
        document.save(tmp_path / "draft.pdf")
    with open_document(str(tmp_path / "draft.pdf")) as opened:
        label = read_text(opened.page(0, short_side_px=800, long_side_px=1600))
    count = len(tops)
    assert label.text == f"{words}\n{' '.join(str(number) for number in range(1, count + 1))}"
    assert label.notes == {"line_numbers": count}
