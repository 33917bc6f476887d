"""Sentences that go on from one printed line to the next: they tell which lines are read after one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datagen.pdf.text import thresholds as limits

if TYPE_CHECKING:
    from datagen.pdf.text.regions import Row, Run

Pair = tuple["Run", "Run"]


def sentences(rows: Sequence[Row]) -> list[Pair]:
    """Return pairs of printed lines, one below the other, of which the second goes on with a sentence of the first."""
    runs = [run for row in rows for run in row.runs]
    pairs = []
    for number, run in enumerate(runs):
        text = run.text.rstrip()
        if not text or text[-1] in ".!?:;。！？：；" or run.x1 - run.x0 < limits.PROSE_WIDTH * run.size:
            continue
        below = _below(run, runs, number)
        first = below.text.lstrip()[:1] if below else ""
        if below and first.isalpha() and (text[-1] in "-\u2010\u00ad" or not first.isupper()):
            pairs.append((run, below))
    return pairs


def _below(run: Run, runs: Sequence[Run], number: int) -> Run | None:
    """Return the line below `run`, which begins at nearly the same x, has the same size and is near."""
    for position in range(number + 1, len(runs)):
        other = runs[position]
        if other.middle > run.middle + limits.LINE_BELOW * run.size:
            break
        alike = abs(other.size - run.size) <= limits.ALIKE_SIZE * run.size
        if alike and other.y0 > run.middle and abs(other.x0 - run.x0) < limits.LINE_SHIFT * run.size:
            return other
    return None
