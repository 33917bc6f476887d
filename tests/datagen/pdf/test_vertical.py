from __future__ import annotations

from datagen.pdf.page import Line, Span
from datagen.pdf.text.vertical import stacked

TIERS = [["天地玄黄宇宙", "日月盈昃。"], ["寒来暑往秋収", "閏余成歳"]]
"""Columns of two tiers, each from right to left."""
SIZE = 20.0


def character(text: str, x: float, y: float, *, down: bool = False) -> Line:
    box = (x, y, x + SIZE, y + SIZE)
    return Line((Span(text, box, SIZE, "Font", 0, True),), box, (0.0, 1.0) if down else (1.0, 0.0))


def page(tiers: list[list[str]], *, repeats: int = 2, step: float = 32) -> list[Line]:
    """Characters by row of the page, as some programs write vertical text. Points are of a vertical font, too low."""
    characters = []
    for number, columns in enumerate(tiers):
        for place, column in enumerate(columns * repeats):
            for row, text in enumerate(column):
                low = 0.75 * SIZE if text == "。" else 0
                top = 100 + 150 * number + SIZE * row
                characters.append(character(text, 600 - step * place, top + low, down=text == "。"))
    return sorted(characters, key=lambda line: line.box[1])


def test_single_characters_become_columns_from_the_right_by_tier() -> None:
    lines = stacked([*page(TIERS), Line((Span("heading", (0, 0, 99, 20), SIZE, "Font", 0, True),), (0, 0, 99, 20))])
    assert [line.text for line in lines] == [*TIERS[0] * 2, *TIERS[1] * 2, "heading"]
    assert {line.direction for line in lines[:-1]} == {(0.0, 1.0)}


def test_other_pages_stay_as_they_are() -> None:
    label = [character(text, 100, 100 + SIZE * row) for row, text in enumerate("合計")]
    assert stacked(label) is label  # a few characters, as in a table
    grid = page(TIERS, step=SIZE)  # as near beside as below: no direction is clear
    assert stacked(grid) is grid
    text = Line((Span("x" * 90, (0, 0, 900, 20), SIZE, "Font", 0, True),), (0, 0, 900, 20))
    prose = [*page(TIERS), text, text]
    assert stacked(prose) is prose
