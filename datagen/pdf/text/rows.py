"""Rows of a page: the runs beside each other, those that belong together merged into one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import zip_longest
from operator import attrgetter

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Row, Run

_MARKERS = frozenset("•‣◦▪●○■□✓–—-*·∗†‡§o\uf0b7\uf0a7\uf0d8")  # the last ones are bullets of symbol fonts


def rows_of(runs: Iterable[Run]) -> tuple[list[Row], int]:
    """Return rows from top to bottom, and the number of runs left out because they are printed twice."""
    merged = [_merged(row) for row in beside_each_other(runs)]
    return [Row(runs) for runs, _ in merged], sum(doubled for _, doubled in merged)


def beside_each_other(runs: Iterable[Run]) -> list[list[Run]]:
    """Return the runs of each row, from left to right; rows from top to bottom."""
    rows: list[list[Run]] = []
    runs = list(runs)
    middles = [run.middle for run in runs]
    first, size = 0.0, 0.0
    for number in sorted(range(len(runs)), key=middles.__getitem__):
        run, middle = runs[number], middles[number]
        if rows and middle - first <= limits.SAME_ROW * min(run.size, size):
            rows[-1].append(run)
        else:
            rows.append([run])
            first, size = middle, run.size
    for row in rows:
        row.sort(key=attrgetter("x0"))
    return rows


def _merged(row: list[Run]) -> tuple[list[Run], int]:
    merged, doubled = row[:1], 0
    for run in row[1:]:
        last = merged[-1]
        gap, size = run.x0 - last.x1, max(run.size, last.size)
        widest = limits.ONE_RUN if run.index == last.last + 1 else limits.ONE_RUN_APART
        widest = limits.ONE_RUN_OF_CODE if run.mono and last.mono else widest
        if run.text == last.text and abs(run.x0 - last.x0) < limits.DOUBLED * size:
            doubled += 1  # bold or a shadow made by printing twice
        elif gap < widest * size or gap < _marker_gap(last.text, run.text) * size:
            _append(last, run, gap)
        else:
            merged.append(run)
    if len(merged) > 1 and _is_numbered_code(*merged):
        _append(merged[0], merged.pop(1), math.inf)
        merged[0].mono = True
    for run, after in zip_longest(merged, merged[1:]):
        if run.text.endswith(" ") and (after is None or after.index != run.last + 1):  # else the space is between words
            run.x1 -= limits.TRAILING_SPACE * run.size
    return merged, doubled


def _is_numbered_code(number: Run, *code: Run) -> bool:
    """Whether a row is the number of a line and code. The first cell of a table of code has its size and font."""
    near = code[0].x0 - number.x1 < limits.CODE_NUMBER_GAP * code[0].size
    other = len(code) == 1 or not number.mono or number.size < limits.LINE_NUMBER_SIZE * code[0].size
    return near and other and all(run.mono for run in code) and number.text.strip().isdecimal()


def _append(last: Run, run: Run, gap: float) -> None:
    spaced = gap > limits.SPACE * run.size and not last.text.endswith(" ") and not run.text.startswith(" ")
    if len(run.text) > len(last.text):
        last.size, last.bold, last.mono, last.y0, last.y1 = run.size, run.bold, run.mono, run.y0, run.y1
    last.joints += ((len(last.text), last.x1, run.x0),)
    last.text += (" " if spaced else "") + run.text
    last.x1 = max(last.x1, run.x1)
    last.index, last.last = min(last.index, run.index), max(last.last, run.last)


def _marker_gap(text: str, after: str) -> float:
    """Return the widest gap, in font sizes, between a bullet or item number and its text; 0 for any other text."""
    text = text.strip()
    if text in _MARKERS:
        return limits.MARKER_GAP
    number = text.strip("().")
    if len(text) > limits.MARKER_CHARS or not number.replace(".", "").isalnum() or not after.lstrip()[:1].isalpha():
        return 0
    if text[-1] in ").":
        return limits.MARKER_GAP
    return limits.NUMBER_GAP if number[0].isdigit() else 0
