"""Planning: runs of units → shards. A pure function, in which a new input changes only the shards that it lands in.

The units of a document are cut into runs. The position of a run is a hash of document and number. Shards are the leaves
of a binary tree over positions: each holds at most `units_per_shard` units, and its name is the path of bits to it. So
the plan depends on the set of inputs alone, and a new input changes one leaf per run, or splits that leaf in two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

PLAN = "plan"
"""Folder of the plan files, which `datagen.job.scan` writes."""

RUNS_PER_SHARD = 4
"""The runs of a long document are a quarter of a shard: the document is opened seldom, and shards fill well."""

UnitPosition = tuple[str, int, int]
"""Plan file, row (run) and number within the run of a unit."""

_COLUMNS = ("row", "position", "side", "units", "digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """A shard to make: one task of the job, with the positions of its units instead of the units, which are large."""

    name: str  # without ".tar"
    units: int
    units_sha256: str
    runs: tuple[tuple[str, int], ...]  # (plan file, row) of each, in order
    duplicates: tuple[tuple[UnitPosition, UnitPosition], ...]  # (unit, the first one with its content)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a job as columns of equal length N, about 60 bytes a run, however large the units are."""

    files: tuple[str, ...]  # plan files
    file: np.ndarray  # (N,) int32, into `files`
    row: np.ndarray  # (N,) int32, within the file
    position: np.ndarray  # (N,) uint64
    side: np.ndarray  # (N,) uint64, `datagen.source.split_position` of the document
    units: np.ndarray  # (N,) int32
    digest: np.ndarray  # (N,) 16 bytes: a hash of the units
    contents: np.ndarray  # (sum of units,) uint64: a hash per unit, run after run

    def in_order(self) -> Runs:
        """Return the same runs sorted by position."""
        order = np.argsort(self.position, kind="stable")
        starts, sizes = np.cumsum(self.units) - self.units, self.units[order]
        moves = np.repeat(starts[order] - (np.cumsum(sizes) - sizes), sizes)  # of each unit, to the left
        contents = self.contents[np.arange(len(moves)) + moves]
        columns = {name: getattr(self, name)[order] for name in ("file", *_COLUMNS)}
        return Runs(files=self.files, contents=contents, **columns)


def position_of(document: str, number: int) -> int:
    """Return the position of a document's run: the first 64 bits of a SHA-256."""
    text = f"place\x1f{document}\x1f{number}".encode(errors="backslashreplace")  # as `Unit` writes a name
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


def tree_leaves(positions: np.ndarray, sizes: np.ndarray, capacity: int) -> Iterator[tuple[str, int, int]]:
    """Cut sorted positions into leaves of a binary tree.

    Args:
        positions: (N,) uint64, sorted.
        sizes: (N,) size of each item.
        capacity: largest sum of sizes in a leaf. Only a single item may exceed it.

    Yields:
        (bits, start, stop) of each leaf that is not empty: its path in the tree ("0110") and its range of items.
    """
    total = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    stack = [("", 0, 0, len(positions))]  # bits, lowest position, start, stop
    while stack:
        bits, lowest, start, stop = stack.pop()
        if start == stop:
            continue
        if total[stop] - total[start] <= capacity or stop - start == 1 or len(bits) == 64:
            yield bits, start, stop
            continue
        middle = lowest | (1 << (63 - len(bits)))
        cut = start + int(np.searchsorted(positions[start:stop], np.uint64(middle)))
        stack.append((bits + "1", middle, cut, stop))
        stack.append((bits + "0", lowest, start, cut))


def plan_shards(prefix: str, runs: Runs, units_per_shard: int) -> Iterator[ShardPlan]:
    """Yield the shards, in order of their bits. Of units with the same content all but one are marked as duplicates.

    The unit that stays belongs to the document that is furthest from being held out, so that a copy added later never
    moves content from training to validation.
    """
    runs = runs.in_order()
    starts = np.concatenate(([0], np.cumsum(runs.units, dtype=np.int64)))
    again, firsts = _duplicates(runs.contents, np.repeat(runs.side, runs.units))
    for bits, start, stop in tree_leaves(runs.position, runs.units, units_per_shard):
        low, high = np.searchsorted(again, (starts[start], starts[stop]))
        duplicates = tuple(
            (_position(runs, starts, int(again[n])), _position(runs, starts, int(firsts[n]))) for n in range(low, high)
        )
        digest = hashlib.sha256(runs.digest[start:stop].tobytes())
        for n in range(low, high):  # the ledger names the first unit
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
    """Return the name of the shard at `bits` of the tree, without ".tar"."""
    return f"{prefix}-{bits or 'all'}"


def _duplicates(contents: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the units to mark as duplicates, sorted, and the unit that each repeats: indices (M,) and (M,)."""
    order = np.lexsort((~side, contents))  # of equal contents the highest side first, then the lowest index
    ordered = contents[order]
    new = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(ordered) else np.zeros(0, bool)
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]][~new]
    again = order[~new]
    order = np.argsort(again)
    return again[order], first[order]


def _position(runs: Runs, starts: np.ndarray, unit: int) -> UnitPosition:
    run = _run_of(starts, unit)
    return runs.files[runs.file[run]], int(runs.row[run]), unit - int(starts[run])


def _run_of(starts: np.ndarray, unit: int) -> int:
    return int(np.searchsorted(starts, unit, side="right")) - 1


def join(parts: Sequence[Runs]) -> Runs:
    """Concatenate the runs of several plan files."""
    files = tuple(name for part in parts for name in part.files)
    offsets = np.cumsum([0, *(len(part.files) for part in parts)])
    file = np.concatenate([part.file + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*_COLUMNS, "contents")}
    return Runs(files=files, file=file, **columns)
