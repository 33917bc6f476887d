"""The rows that pass a filter, a page at a time: one shard's parquet after the other until there are enough."""

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

from pipelines.view.data import Library, Place, Shard, conversation
from pipelines.view.filters import Condition, Filters, Words
from varyforge.errors import UserError
from varyforge.storage import is_url

Rows = npt.NDArray[np.int64]
"""Numbers of rows in a shard."""

_TEXTS_AT_ONCE = 64  # read between two looks at the clock
_pool = ThreadPoolExecutor(16, thread_name_prefix="texts")  # behind a URL each read waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The rows of one page."""

    places: list[Place]  # ascending
    previous: Place | None  # the previous page ends before this row; None at the start
    next: Place | None  # the next page starts here; None at the end
    in_time: bool  # False: the search stopped because its time was over; `next` (or `previous`) goes on with it


def find(
    library: Library, filters: Filters, start: Place, *, limit: int, forward: bool = True, budget_s: float = 2.0
) -> Found:
    """Up to `limit` rows that pass: the first from `start` on, or (not `forward`) the last before it.

    Args:
        library: where to look.
        filters: what to look for.
        start: the row to start at.
        limit: most rows.
        forward: direction.
        budget_s: seconds after which the search stops where it is.

    Raises:
        UserError: there is no such set or measure, or an index or ledger cannot be read.
    """
    if filters.measure not in ("", *library.measures()):
        raise UserError(f"measure={filters.measure}: no such number here; there is {', '.join(library.measures())}")
    ends = library.span(filters.set)
    deadline = time.monotonic() + budget_s
    found: list[Place] = []
    go_on: Place | None = None
    in_time = True
    for reached, hits in _steps(library, filters, start, limit + 1, forward):
        found += hits
        if len(found) > limit:
            go_on = found[limit] if forward else found[limit - 1]
            break
        if filters.id and filters.set and found and not reached.row:
            break  # a set has a key or a unit once, in one shard
        if time.monotonic() > deadline and library.offset(reached) not in ends:
            go_on, in_time = reached, False
            break
    places = found[:limit]
    if forward:
        before = start if library.offset(start) > ends[0] else None
        return Found(places=places, previous=before, next=go_on, in_time=in_time)
    return Found(places=places[::-1], previous=go_on, next=start, in_time=in_time)


def _steps(
    library: Library, filters: Filters, start: Place, enough: int, forward: bool
) -> Iterator[tuple[Place, list[Place]]]:
    """Searched pieces in order: how far it got, and the (first `enough`) rows that passed there."""
    words = Words(filters.text) if filters.text else None
    last = start.shard if start.row else start.shard - 1  # nothing of a shard is before its first row
    for number in range(start.shard, len(library.shards)) if forward else range(last, -1, -1):
        if filters.set not in ("", library.shards[number].name):
            continue
        rows = _passing(library, number, filters)
        if number == start.shard:
            rows = rows[rows >= start.row] if forward else rows[rows < start.row]
        rows = rows if forward else rows[::-1]
        end = Place(number + 1, 0) if forward else Place(number, 0)
        if words is None:
            yield end, [Place(number, int(row)) for row in rows[:enough]]
            continue
        index = library.table(number, "index", ["offset", "shard", "size"]) if len(rows) else None
        for first in range(0, len(rows), _TEXTS_AT_ONCE):
            piece = [int(row) for row in rows[first : first + _TEXTS_AT_ONCE]]
            hits = [Place(number, row) for row in _saying(library.shards[number], index, piece, words)]
            yield Place(number, piece[-1] + 1 if forward else piece[-1]), hits
        yield end, []


def _passing(library: Library, number: int, filters: Filters) -> Rows:
    """A shard's rows that pass all but the search in conversations, ascending."""
    record = library.shards[number].record
    found: Rows = np.zeros(0, np.int64)
    conditions = filters.for_samples()
    if conditions is not None and record.samples:
        found = _met(library, number, "index", conditions, record.samples)
    conditions = filters.for_units()
    counts = {"rejected": record.rejected, "failed": record.failed}
    if conditions is not None and counts.get(filters.outcome, sum(counts.values())):
        units = _met(library, number, "ledger", conditions, sum(counts.values()))
        found = np.concatenate([found, units + record.samples])
    return found


def _met(library: Library, number: int, kind: str, conditions: list[Condition], rows: int) -> Rows:
    """Row numbers in the index, or among the ledger's units without samples, that meet all conditions."""
    if not conditions:
        return np.arange(rows)  # no file is read
    wanted = {name for condition in conditions for name in condition.columns}
    if not wanted <= library.columns[library.shards[number].name][kind]:
        return np.zeros(0, np.int64)  # a measure that this set does not have
    table = library.table(number, kind, sorted(wanted))
    passed = reduce(pc.and_, (condition.passed(table) for condition in conditions))
    return np.asarray(pc.indices_nonzero(passed), np.int64)


def _saying(shard: Shard, index: pa.Table, rows: list[int], words: Words) -> list[int]:
    """The rows among `rows` whose conversation holds the words. Units were searched by their detail."""
    samples = [row for row in rows if row < shard.record.samples]
    cells = index.take(pa.array(samples, pa.int64())).to_pylist()
    each: Callable[..., Iterable[bool]] = _pool.map if is_url(shard.name) else map
    said = dict(zip(samples, each(lambda cell: _says(shard, cell, words), cells), strict=True))
    return [row for row in rows if said.get(row, True)]


def _says(shard: Shard, cells: dict[str, Any], words: Words) -> bool:
    try:
        return words.are_in(conversation(shard, cells))
    except (OSError, ValueError):
        return False  # a broken sample is seen where it stands, not in a search
