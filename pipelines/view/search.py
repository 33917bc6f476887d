"""Search for rows that pass the filters: one shard's parquet files after the other, until a page is full."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.view.data import Library, RowId, Shard, conversation
from pipelines.view.filters import Condition, Filters, Words
from varyforge.errors import UserError
from varyforge.storage import is_url

Rows = npt.NDArray[np.int64]
"""Numbers of rows in a shard."""

_TEXTS_AT_ONCE = 64  # texts read between two checks of the time
_pool = ThreadPoolExecutor(16, thread_name_prefix="texts")  # reads behind a URL wait for the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """The rows of one page."""

    rows: list[RowId]  # ascending
    previous: RowId | None  # the previous page ends before this row; None at the start
    next: RowId | None  # the next page starts here; None at the end
    in_time: bool  # False: the time budget ended the search; `next` (or `previous`) continues it


def find(
    library: Library, filters: Filters, start: RowId, *, limit: int, forward: bool = True, budget_s: float = 2.0
) -> Matches:
    """Return up to `limit` matching rows: the first from `start` on, or (not `forward`) the last before `start`.

    After `budget_s` seconds the search stops; a link continues it. A rare word among a million samples takes 15 s
    (`benchmarks/viewer.py`), which no browser should wait for without an answer.

    Raises:
        UserError: there is no such set or measure, or an index or ledger cannot be read.
    """
    if filters.measure not in ("", *library.measures()):
        raise UserError(f"measure={filters.measure}: no such number here; there is {', '.join(library.measures())}")
    ends = library.span(filters.set)
    deadline = time.monotonic() + budget_s
    matches: list[RowId] = []
    continue_at: RowId | None = None
    in_time = True
    for reached, hits in _steps(library, filters, start, limit + 1, forward):
        matches += hits
        if len(matches) > limit:
            continue_at = matches[limit] if forward else matches[limit - 1]
            break
        if filters.id and filters.set and matches and not reached.row:
            break  # a set has a key or a unit once, in one shard
        if time.monotonic() > deadline and library.offset(reached) not in ends:
            continue_at, in_time = reached, False
            break
    rows = matches[:limit]
    if forward:
        before = start if library.offset(start) > ends[0] else None
        return Matches(rows=rows, previous=before, next=continue_at, in_time=in_time)
    return Matches(rows=rows[::-1], previous=continue_at, next=start, in_time=in_time)


def _steps(
    library: Library, filters: Filters, start: RowId, enough: int, forward: bool
) -> Iterator[tuple[RowId, list[RowId]]]:
    """Yield for each piece searched the row reached and up to `enough` matches."""
    words = Words(filters.text) if filters.text else None
    last = start.shard if start.row else start.shard - 1  # a shard has no row before its first
    for number in range(start.shard, len(library.shards)) if forward else range(last, -1, -1):
        if filters.set not in ("", library.shards[number].name):
            continue
        rows = _passing(library, number, filters)
        if number == start.shard:
            rows = rows[rows >= start.row] if forward else rows[rows < start.row]
        rows = rows if forward else rows[::-1]
        end = RowId(number + 1, 0) if forward else RowId(number, 0)
        if words is None:
            yield end, [RowId(number, int(row)) for row in rows[:enough]]
            continue
        index = library.table(number, "index", ["offset", "shard", "size"]) if len(rows) else None
        for first in range(0, len(rows), _TEXTS_AT_ONCE):
            piece = [int(row) for row in rows[first : first + _TEXTS_AT_ONCE]]
            hits = [RowId(number, row) for row in _rows_with_words(library.shards[number], index, piece, words)]
            yield RowId(number, piece[-1] + 1 if forward else piece[-1]), hits
        yield end, []


def _passing(library: Library, number: int, filters: Filters) -> Rows:
    """Return the rows of a shard, ascending, that pass all filters except the search in conversations."""
    record = library.shards[number].record
    rows: Rows = np.zeros(0, np.int64)
    conditions = filters.for_samples()
    if conditions is not None and record.samples:
        rows = _met(library, number, "index", conditions, record.samples)
    conditions = filters.for_units()
    counts = {"rejected": record.rejected, "failed": record.failed}
    if conditions is not None and counts.get(filters.outcome, sum(counts.values())):
        units = _met(library, number, "ledger", conditions, sum(counts.values()))
        rows = np.concatenate([rows, units + record.samples])
    return rows


def _met(library: Library, number: int, kind: str, conditions: list[Condition], rows: int) -> Rows:
    """Return row numbers in the index, or among the ledger's units without samples, that meet all conditions."""
    if not conditions:
        return np.arange(rows)  # no file is read
    columns = {name for condition in conditions for name in condition.columns}
    if not columns <= library.columns[library.shards[number].name][kind]:
        return np.zeros(0, np.int64)  # this set has no such measure
    table = library.table(number, kind, sorted(columns))
    passed = reduce(pc.and_, (condition.passed(table) for condition in conditions))
    return np.asarray(pc.indices_nonzero(passed), np.int64)


def _rows_with_words(shard: Shard, index: pa.Table, rows: list[int], words: Words) -> list[int]:
    """Return the rows whose conversation holds the words. Units pass: their detail was searched before."""
    samples = [row for row in rows if row < shard.record.samples]
    cells = index.take(pa.array(samples, pa.int64())).to_pylist()
    each: Callable[..., Iterable[bool]] = _pool.map if is_url(shard.name) else map
    matches = dict(zip(samples, each(lambda cell: _has_words(shard, cell, words), cells), strict=True))
    return [row for row in rows if matches.get(row, True)]


def _has_words(shard: Shard, cells: dict[str, Any], words: Words) -> bool:
    try:
        return words.are_in(conversation(shard, cells))
    except (OSError, ValueError):
        return False  # the page shows a broken sample where it stands
