"""Columns of tables without vertical rules: strips that most rows leave free.

A band of rows ends at each row across its gutters. Here its parts become one table again, and the gutters are those of
most rows, so that a row that spans several columns costs none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Interval, Region, Row, Run


def with_columns(regions: Sequence[Region]) -> list[Region]:
    """Return the regions with the parts of a table joined, and with the columns that most of its rows have."""
    joined: list[Region] = []
    for region in regions:
        if not region.is_table:
            joined.append(region)
        elif joined and _continues(joined[-1], region):
            joined[-1] = _joined(joined[-1], region)
        elif len(joined) > 1 and len(joined[-1].rows) == 1 and _continues(joined[-2], region, joined[-1]):
            spanning = joined.pop()
            joined[-1] = _joined(_joined(joined[-1], spanning), region)
        else:
            joined.append(region)
    return [_refined(region) if region.is_table else region for region in joined]


def _continues(above: Region, below: Region, between: Region | None = None) -> bool:
    """Whether two tables, with a row between them or none, stand close together and share a gutter."""
    rows = [above.rows[-1], *(between.rows if between else ()), below.rows[0]]
    near = all(b.y0 - a.y1 < limits.TABLE_JOIN * b.size for a, b in pairwise(rows))
    return near and any(a[0] < b[1] and b[0] < a[1] for a in above.gutters for b in below.gutters)


def _joined(above: Region, below: Region) -> Region:
    return Region(above.rows + below.rows, above.gutters if len(above.gutters) >= len(below.gutters) else below.gutters)


def _refined(region: Region) -> Region:
    """Return a table with the gutters of most rows, and with its runs cut where a joint lies in a gutter."""
    several = [row for row in region.rows if len(row.runs) > 1]
    gutters = list(_gutters(several))
    if len(gutters) < len(region.gutters) or not gutters:
        return region
    return Region([_cut(row, gutters) for row in region.rows], gutters)


def _gutters(rows: Sequence[Row]) -> Iterator[Interval]:
    """Yield the strips that at most one in `CROSSING` rows covers, with text on both sides in two rows or more."""
    if len(rows) < limits.TABLE_ROWS:
        return
    edges: list[tuple[float, int]] = []
    for row in rows:
        for x0, x1 in _pieces(row):
            edges += [(x0, 1), (x1, -1)]
    most = len(rows) // limits.CROSSING
    least = limits.TIGHT_GUTTER * sorted(row.size for row in rows)[len(rows) // 2]
    edges.sort()
    depth, seen, begin = 0, False, 0.0
    for (x, change), (_, after) in pairwise([*edges, (0.0, 0)]):
        was, depth = depth, depth + change
        if was > most >= depth:
            begin, seen = x, True
        elif seen and was <= most < depth and x - begin >= least:
            yield (begin, x)


def _pieces(row: Row) -> Iterator[Interval]:
    """Yield the extents of the parts of a row between its gaps, also those within runs."""
    for run in row.runs:
        begin = run.x0
        for _, end, start in run.joints:
            if start - end >= limits.TIGHT_GUTTER * run.size:
                yield (begin, end)
                begin = start
        yield (begin, run.x1)


def _cut(row: Row, gutters: Sequence[Interval]) -> Row:
    runs = [piece for run in row.runs for piece in _cut_run(run, gutters)]
    return Row(runs) if len(runs) > len(row.runs) else row


def _cut_run(run: Run, gutters: Sequence[Interval]) -> Iterator[Run]:
    """Yield the parts of a run between the joints that lie in gutters."""
    begin, x0 = 0, run.x0
    for place, end, start in run.joints:
        if any(left < (end + start) / 2 < right for left, right in gutters):
            yield replace(run, text=run.text[begin:place], x0=x0, x1=end, joints=())
            begin, x0 = place, start
    yield replace(run, text=run.text[begin:], x0=x0, joints=()) if begin else run
