"""Line numbers in the margin of a text, which belong to no sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from statistics import median

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Run


def without_line_numbers(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs without line numbers, and a line of numbers for each column that has them."""
    strips = _line_numbers(runs)
    left_out = {id(run) for strip in strips for run in strip}
    return [run for run in runs if id(run) not in left_out], [
        " ".join(run.text.strip() for run in strip) for strip in strips
    ]


def _line_numbers(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the line numbers beside each column of text, from top to bottom.

    They stand below one another, count upwards in even steps, and each belongs to a line of a text. The numbers of a
    list or of the rows of a table do not: the lines beside them begin with capitals or figures.
    """
    numbers = [run for run in runs if len(run.text) < limits.LINE_NUMBER_CHARS and run.text.strip().isdecimal()]
    if len(numbers) < limits.LINE_NUMBERS:
        return []
    texts = sorted((run for run in runs if run.x1 - run.x0 > limits.PROSE_WIDTH * run.size), key=attrgetter("middle"))
    return [
        strip
        for strip in _strips(numbers)
        if _counts(strip) and _lines_beside(strip, texts) >= limits.LINE_NUMBERS_IN_TEXT * len(strip)
    ]


def _strips(numbers: Iterable[Run]) -> list[list[Run]]:
    """Return numbers whose right or left edges are below one another, from top to bottom."""
    strips: list[list[Run]] = []
    edges: list[tuple[float, float]] = []  # of the last number of each
    for run in sorted(numbers, key=attrgetter("middle")):
        near, x0, x1 = limits.LINE_NUMBER_SHIFT * run.size, run.x0, run.x1
        for position, (left, right) in enumerate(edges):
            if -near < right - x1 < near or -near < left - x0 < near:
                strips[position].append(run)
                edges[position] = x0, x1
                break
        else:
            strips.append([run])
            edges.append((x0, x1))
    return strips


def _counts(strip: Sequence[Run]) -> bool:
    """Whether numbers grow by the same step; where a page of notes begins, they may begin again."""
    steps = [int(below.text) - int(above.text) for above, below in pairwise(strip)]
    usual = max(set(steps), key=steps.count, default=0)
    even = len(steps) >= limits.LINE_NUMBERS - 1 and steps.count(usual) >= limits.LINE_NUMBERS_EVEN * len(steps)
    return even and usual > 0


def _lines_beside(strip: Sequence[Run], texts: Sequence[Run]) -> int:
    """Count the numbers beside which a line goes on with a sentence; 0 if the lines do not fill a column."""
    lines: list[Run] = []
    begin = 0
    for run in strip:
        while begin < len(texts) and texts[begin].y1 < run.middle:
            begin += 1
        lines += [text for text in texts[begin : begin + limits.COLUMN_ROWS] if text.y0 < run.middle < text.y1][:1]
    widths = [line.x1 - line.x0 for line in lines]
    if not lines or median(widths) < limits.LINE_NUMBERS_FILL * max(widths):
        return 0
    small = strip[0].size < limits.LINE_NUMBER_SIZE * median(line.size for line in lines)
    starts = [line.text.lstrip()[:1] for line in lines]
    return sum(start.islower() or (small and start.isalpha() and not start.isupper()) for start in starts)
