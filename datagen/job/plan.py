"""Planning: runs of units → shards. Pure, and local: adding an input changes only the shards that it lands in.

Units that belong to one document are cut into runs. A run's place is a hash of document and number; shards are the
leaves of a binary tree over places, each holding at most so many units, and named by the bits that lead there. So the
plan depends on the set of inputs alone, and an input more changes one leaf per run, or splits it in two.

All runs are held as numpy columns: about 60 bytes each, whatever the units carry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

PLAN = "plan"
"""Folder of the plan files, which `datagen.job.scan` writes."""

RUNS_PER_SHARD = 4
"""A long document's runs are a quarter of a shard: long enough to open it seldom, short enough to fill shards well."""

Where = tuple[str, int, int]
"""A unit: plan file, row (run), number within the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard to be: one task of the job. Holds places, not units, so that little travels."""

    name: str  # without ".tar"
    units: int
    units_sha256: str
    runs: tuple[tuple[str, int], ...]  # (plan file, row), in order
    duplicates: tuple[tuple[Where, Where], ...]  # (unit, the first one with its content)


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a job as columns of equal length N."""

    files: tuple[str, ...]  # plan files
    file: np.ndarray  # (N,) int32, into `files`
    row: np.ndarray  # (N,) int32, within the file
    place: np.ndarray  # (N,) uint64
    side: np.ndarray  # (N,) uint64, `datagen.source.split_position` of the document
    units: np.ndarray  # (N,) int32
    digest: np.ndarray  # (N,) 16 bytes: what the units are
    contents: np.ndarray  # (sum of units,) uint64: a hash per unit, run after run

    def in_order(self) -> Runs:
        """The same runs sorted by place."""
        order = np.argsort(self.place, kind="stable")
        starts = np.concatenate(([0], np.cumsum(self.units)))
        gather = np.repeat(starts[:-1][order], self.units[order])
        first = np.concatenate(([0], np.cumsum(self.units[order])))[:-1]
        within = np.arange(len(gather)) - np.repeat(first, self.units[order])
        return Runs(
            files=self.files,
            file=self.file[order],
            row=self.row[order],
            place=self.place[order],
            side=self.side[order],
            units=self.units[order],
            digest=self.digest[order],
            contents=self.contents[gather + within],
        )


def position_of(document: str, number: int) -> int:
    """The place of a document's `number`-th run: the first 64 bits of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"place\x1f{document}\x1f{number}".encode()).digest()[:8])


def tree_leaves(places: np.ndarray, sizes: np.ndarray, capacity: int) -> Iterator[tuple[str, int, int]]:
    """Cuts sorted places into leaves of a binary tree that hold at most `capacity` (or one item that is larger).

    Args:
        places: (N,) uint64, sorted.
        sizes: (N,) what each item counts for.
        capacity: most that a leaf holds.

    Yields:
        (bits, start, stop): the leaf's address ("0110") and which items it has; none is empty.
    """
    total = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    stack = [("", 0, 0, len(places))]  # bits, lowest place, start, stop
    while stack:
        bits, lowest, start, stop = stack.pop()
        if start == stop:
            continue
        if total[stop] - total[start] <= capacity or stop - start == 1 or len(bits) == 64:
            yield bits, start, stop
            continue
        middle = lowest | (1 << (63 - len(bits)))
        cut = start + int(np.searchsorted(places[start:stop], np.uint64(middle)))
        stack.append((bits + "1", middle, cut, stop))
        stack.append((bits + "0", lowest, start, cut))


def plan_shards(prefix: str, runs: Runs, units_per_shard: int) -> Iterator[ShardPlan]:
    """The shards, in order of their bits; of units with the same content all but one are marked as duplicates.

    The one that stays is of the document that is furthest from being held out: a copy that is added later never takes
    to validation what was trained on.
    """
    runs = runs.in_order()
    starts = np.concatenate(([0], np.cumsum(runs.units, dtype=np.int64)))
    again, firsts = _duplicates(runs.contents, np.repeat(runs.side, runs.units))
    for bits, start, stop in tree_leaves(runs.place, runs.units, units_per_shard):
        low, high = np.searchsorted(again, (starts[start], starts[stop]))
        duplicates = tuple(
            (_where(runs, starts, int(again[n])), _where(runs, starts, int(firsts[n]))) for n in range(low, high)
        )
        digest = hashlib.sha256(runs.digest[start:stop].tobytes())
        for n in range(low, high):  # the ledger names the first one
            run = _run_of(starts, int(firsts[n]))
            digest.update(b"%d %d" % (again[n] - starts[start], firsts[n] - starts[run]) + runs.digest[run].tobytes())
        yield ShardPlan(
            name=shard_name(prefix, bits),
            units=int(starts[stop] - starts[start]),
            units_sha256=digest.hexdigest(),
            runs=tuple((runs.files[runs.file[n]], int(runs.row[n])) for n in range(start, stop)),
            duplicates=duplicates,
        )


def shard_name(prefix: str, bits: str) -> str:
    """Name of the shard at `bits` of the tree, without ".tar"."""
    return f"{prefix}-{bits or 'all'}"


def _duplicates(contents: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Units that repeat a content, and the unit of that content that stays; both (M,) positions, the former sorted."""
    order = np.lexsort((~side, contents))  # of equal contents the highest side first, then the lowest position
    ordered = contents[order]
    new = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, bool)
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]][~new]
    again = order[~new]
    by_position = np.argsort(again)
    return again[by_position], first[by_position]


def _where(runs: Runs, starts: np.ndarray, position: int) -> Where:
    run = _run_of(starts, position)
    return runs.files[runs.file[run]], int(runs.row[run]), position - int(starts[run])


def _run_of(starts: np.ndarray, position: int) -> int:
    return int(np.searchsorted(starts, position, side="right")) - 1


def join(parts: Sequence[Runs]) -> Runs:
    """The runs of several plan files together."""
    files = tuple(name for part in parts for name in part.files)
    offsets = np.cumsum([0, *(len(part.files) for part in parts)])
    file = np.concatenate([part.file + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    columns = ("row", "place", "side", "units", "digest", "contents")
    return Runs(
        files=files, file=file, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    )
