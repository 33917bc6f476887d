"""What one epoch of a mixture holds, counted from its order. Arrays only; knows no files and no tables on a screen.

Shape legend: S sources; R rows of a source (its samples after filters); E edges of a histogram.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from varyforge.lengths import EDGES

Ints = NDArray[np.int64]

CHUNK = 1 << 18  # positions at a time
DEVIATION_POSITIONS = 1_000_000
"""So far into the epoch are its prefixes compared with the ratios."""


class Order(Protocol):
    """As much of `trainer.data.mixture.Mixture` as is needed to count."""

    @property
    def per_epoch(self) -> int:
        """Positions of an epoch."""
        ...

    def at(self, positions: Ints) -> tuple[NDArray[np.int16], Ints]:
        """Number of the source, and row of it, at each position."""
        ...


class Coded(NamedTuple):
    """A column of names."""

    names: tuple[str, ...]  # "" where unknown
    codes: Ints  # (R,) into `names`


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the index says of a source's samples."""

    tokens: Ints  # (R,) of all turns, estimated; without images
    answer_tokens: Ints  # (R,) of them supervised
    images: Ints  # (R,)
    languages: Coded
    licences: Coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What was met on the way through an epoch."""

    drawn: tuple[NDArray[np.int32], ...]  # S × (R,) how often each row occurs
    deviation: float  # the largest |count − ratio · N| of any source, over prefixes of N positions
    deviation_at: tuple[int, int]  # (N, number of the source) where that was
    deviation_positions: int  # so many prefixes were looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Samples of a source (or of all) in one epoch."""

    samples: int
    tokens: int  # of all kinds, images' among them
    supervised: int
    repeats: tuple[int, float, int]  # how often a sample that is there occurs: least, mean, most
    lengths: tuple[int, ...]  # (E,) samples of EDGES[e] tokens to less than EDGES[e + 1]
    longest: int  # tokens
    cut: int  # samples of more than `max_length` tokens
    cut_tokens: int  # by which these are longer
    languages: dict[str, int]  # samples, most frequent first
    licences: dict[str, int]


def walk(order: Order, rows: Sequence[int], alive: Callable[[int], None] = lambda count: None) -> Walk:
    """Goes through one epoch.

    Args:
        order: the mixture.
        rows: (S,) of each source.
        alive: told how many positions were passed since the last call.
    """
    drawn = [np.zeros(count, np.int32) for count in rows]
    total, compared = order.per_epoch, min(order.per_epoch, DEVIATION_POSITIONS)
    head = np.empty(compared, np.int16)
    for first in range(0, total, CHUNK):
        positions = np.arange(first, min(first + CHUNK, total))
        source, row = order.at(positions)
        head[first : first + len(positions)] = source[: max(compared - first, 0)]
        for number, count in enumerate(rows):
            drawn[number] += np.bincount(row[source == number], minlength=count).astype(np.int32)
        alive(len(positions))
    worst, where = _deviation(head, [int(counts.sum()) / total for counts in drawn])
    return Walk(drawn=tuple(drawn), deviation=worst, deviation_at=where, deviation_positions=compared)


def _deviation(head: NDArray[np.int16], ratios: Sequence[float]) -> tuple[float, tuple[int, int]]:
    """The largest |count − ratio · N| and (N, source) where it is, for N = 1 … len(head)."""
    worst, where, prefix = 0.0, (0, 0), np.arange(1, len(head) + 1)
    for number, ratio in enumerate(ratios):
        off = np.abs(np.cumsum(head == number) - ratio * prefix)
        place = int(off.argmax())
        if off[place] > worst:
            worst, where = float(off[place]), (place + 1, number)
    return worst, where


def count(of: Columns, drawn: NDArray[np.int32], *, image_tokens: int, max_length: int) -> Counts:
    """Sums over a source's samples, each as often as it occurs.

    Args:
        of: the source's index.
        drawn: (R,) how often each sample occurs.
        image_tokens: of one image, its marks among them.
        max_length: tokens that a sample may have.
    """
    lengths = of.tokens + image_tokens * of.images
    bins = np.searchsorted(EDGES, lengths, side="right") - 1
    beyond = np.maximum(lengths - max_length, 0)
    met = drawn > 0
    return Counts(
        samples=int(drawn.sum()),
        tokens=int((lengths * drawn).sum()),
        supervised=int((of.answer_tokens * drawn).sum()),
        repeats=(int(drawn.min()), float(drawn.mean()), int(drawn.max())) if len(drawn) else (0, 0.0, 0),
        lengths=tuple(np.bincount(bins, weights=drawn, minlength=len(EDGES)).astype(int).tolist()),
        longest=int(lengths[met].max(initial=0)),
        cut=int(drawn[beyond > 0].sum()),
        cut_tokens=int((beyond * drawn).sum()),
        languages=_by_name(of.languages, drawn),
        licences=_by_name(of.licences, drawn),
    )


def together(counts: Sequence[Counts]) -> Counts:
    """The sums over several sources."""
    samples = sum(one.samples for one in counts)
    rows = sum(one.samples / one.repeats[1] for one in counts if one.samples)
    return Counts(
        samples=samples,
        tokens=sum(one.tokens for one in counts),
        supervised=sum(one.supervised for one in counts),
        repeats=(
            min((one.repeats[0] for one in counts), default=0),
            samples / rows if rows else 0.0,
            max((one.repeats[2] for one in counts), default=0),
        ),
        lengths=tuple(sum(column) for column in zip(*(one.lengths for one in counts), strict=True)),
        longest=max((one.longest for one in counts), default=0),
        cut=sum(one.cut for one in counts),
        cut_tokens=sum(one.cut_tokens for one in counts),
        languages=_added(one.languages for one in counts),
        licences=_added(one.licences for one in counts),
    )


def _by_name(column: Coded, drawn: NDArray[np.int32]) -> dict[str, int]:
    counts = np.bincount(column.codes, weights=drawn, minlength=len(column.names)).astype(int).tolist()
    return _added([dict(zip(column.names, counts, strict=True))])


def _added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part)
    return {name: number for name, number in sorted(found.items(), key=lambda item: (-item[1], item[0])) if number}
