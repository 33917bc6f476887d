"""Runs, rows and lines of pages for the tests of reading order: 20 pixels high, letters half as wide."""

from __future__ import annotations

from collections.abc import Iterable

from datagen.pdf.text.furniture import Frame
from datagen.pdf.text.regions import Row, Run

SIZE = 20.0
WIDTH, HEIGHT = 1000.0, 1400.0


def width_of(text: str, size: float = SIZE) -> float:
    return sum(size if char > "\u2e7f" else size / 2 for char in text)


def run(text: str, x: float, y: float, *, size: float = SIZE, index: int = 0, **style: bool) -> Run:
    return Run(text, x, y, x + width_of(text, size), y + size, size, index, index, **style)


def row(*cells: str | tuple[str, float], x: float = 100, y: float = 300, size: float = SIZE, index: int = 0) -> Row:
    """A row of cells, each with its x, or of one text at `x`."""
    placed = [cell if isinstance(cell, tuple) else (cell, x) for cell in cells]
    return Row([run(text, left, y, size=size, index=index + number) for number, (text, left) in enumerate(placed)])


def rows(texts: Iterable[str], *, x: float = 100, y: float = 300, step: float = 24, size: float = SIZE) -> list[Row]:
    return [row(text, x=x, y=y + step * number, size=size, index=number) for number, text in enumerate(texts)]


def frame(*rules: tuple[float, float, float, float]) -> Frame:
    return Frame(WIDTH, HEIGHT, SIZE, rules)


def texts_of_rows(some: Iterable[Row]) -> list[str]:
    return [" | ".join(part.text for part in each.runs) for each in some]
