"""The document's own order of a page, and the measure that compares an order of text with another.

Writers of PDF mostly paint a text from its beginning to its end. Where the layout misleads the rules of `regions`, the
order of painting is better. Both orders get the same measure: sentences that an order tears apart, and jumps upwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Region, Row, Run, in_order
from datagen.pdf.text.rows import beside_each_other
from datagen.pdf.text.sentences import Pair, sentences


def best_order(rows: Sequence[Row]) -> tuple[list[Region], bool]:
    """Return the regions of `rows` in reading order, and whether that is the document's own order.

    The document's order is taken where it has clearly fewer faults by the measure that both orders get. It loses tables
    whose cells are written column by column, so that a page with tables needs more of a difference.
    """
    regions = in_order(rows)
    if len(regions) == 1 and all(len(row.runs) == 1 for row in rows):
        return regions, False
    pairs = sentences(rows)
    least = limits.FAULTS[any(region.is_table for region in regions)]
    ours = faults(regions, pairs)
    if ours < least:
        return regions, False
    written = as_written(rows)
    better = ours - faults(written, pairs) >= max(least, limits.FEWER_FAULTS * ours)
    return (written, True) if better else (regions, False)


def faults(regions: Sequence[Region], pairs: Sequence[Pair]) -> int:
    """Count the pairs of `sentences` that an order of regions tears apart, and its jumps upwards."""
    order = [run for region in regions for row in region.rows for run in row.runs]
    position = {id(run): number for number, run in enumerate(order)}
    torn = sum(_torn(pair, order, position) for pair in pairs)
    return torn + sum(_upwards(above, run) for above, run in pairwise(order))


def _torn(pair: Pair, order: Sequence[Run], position: Mapping[int, int]) -> bool:
    """Whether an order goes to another column between two lines."""
    above, below = pair
    begin, end = position[id(above)], position[id(below)]
    x0, x1 = min(above.x0, below.x0), max(above.x1, below.x1)
    return end < begin or any(not x0 < (run.x0 + run.x1) / 2 < x1 for run in order[begin + 1 : end])


def _upwards(above: Run, run: Run) -> bool:
    return run.middle < above.middle - limits.UPWARDS * max(run.size, above.size)


def as_written(rows: Sequence[Row]) -> list[Region]:
    """Return regions in the document's own order. A region ends where the document goes up or to another column."""
    pieces: list[list[Run]] = []
    x0 = x1 = 0.0
    for run in sorted((run for row in rows for run in row.runs), key=attrgetter("index")):
        if pieces and _goes_on(pieces[-1][-1], run, x0, x1):
            pieces[-1].append(run)
            x0, x1 = min(x0, run.x0), max(x1, run.x1)
        else:
            pieces.append([run])
            x0, x1 = run.x0, run.x1
    return [region for piece in pieces for region in in_order([Row(row) for row in beside_each_other(piece)])]


def _goes_on(last: Run, run: Run, x0: float, x1: float) -> bool:
    if _upwards(last, run):
        return False
    return (run.x0 < x1 and run.x1 > x0) or run.y0 < last.y1
