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
    return [part for region in joined for part in (_refined(region) if region.is_table else [region])]


def _continues(above: Region, below: Region, between: Region | None = None) -> bool:
    """Whether two tables, with a row between them or none, stand close together and share a gutter."""
    rows = [above.rows[-1], *(between.rows if between else ()), below.rows[0]]
    near = all(b.y0 - a.y1 < limits.TABLE_JOIN * b.size for a, b in pairwise(rows))
    return near and any(a[0] < b[1] and b[0] < a[1] for a in above.gutters for b in below.gutters)


def _joined(above: Region, below: Region) -> Region:
    return Region(above.rows + below.rows, above.gutters if len(above.gutters) >= len(below.gutters) else below.gutters)


def _refined(region: Region) -> list[Region]:
    """Return a table with the gutters of most of its rows; several tables where rows far apart have more gutters."""
    rows = region.rows
    far = [n for n, (a, b) in enumerate(pairwise(rows), 1) if b.y0 - a.y1 > limits.TABLE_JOIN * b.size]
    parts = [rows[begin:end] for begin, end in pairwise([0, *far, len(rows)])]
    whole, apart = _gutters(rows), [_gutters(part) for part in parts]
    if len(parts) == 1 or max(map(len, apart)) <= max(len(whole), len(region.gutters)):
        return [_with(rows, whole, region.gutters)]
    return [_with(part, gutters, region.gutters) for part, gutters in zip(parts, apart, strict=True)]


def _with(rows: Sequence[Row], gutters: list[Interval], before: list[Interval]) -> Region:
    """Return a table with `gutters`, and its runs cut where a joint lies in one; with those from `before` if more."""
    if len(gutters) < len(before) or not gutters:
        return Region(list(rows), before)
    return Region([_cut(row, gutters) for row in rows], gutters)


def _gutters(rows: Sequence[Row]) -> list[Interval]:
    """Return the strips between texts that at most one in `CROSSING` of the rows with several runs covers."""
    rows = [row for row in rows if len(row.runs) > 1]
    if len(rows) < limits.TABLE_ROWS:
        return []
    edges: list[tuple[float, int]] = []
    for row in rows:
        for x0, x1 in _pieces(row):
            edges += [(x0, 1), (x1, -1)]
    most = len(rows) // limits.CROSSING
    least = limits.TIGHT_GUTTER * sorted(row.size for row in rows)[len(rows) // 2]
    edges.sort()
    strips: list[Interval] = []
    depth, seen, begin = 0, False, 0.0
    for x, change in edges:
        was, depth = depth, depth + change
        if was > most >= depth:
            begin, seen = x, True
        elif seen and was <= most < depth and x - begin >= least:
            strips.append((begin, x))
    return strips


def _pieces(row: Row) -> Iterator[Interval]:
    """Yield the extents of the parts of a row between its gaps, also those within runs."""
    for run in row.runs:
        begin = run.x0
        for _, end, start in run.joints:
            if start - end >= limits.TIGHT_GUTTER * run.size and not run.mono:  # code aligns its signs with spaces
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
