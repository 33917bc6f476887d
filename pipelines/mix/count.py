"""Counts of samples, tokens and repeats in one epoch of a mixture, from arrays alone.

Shape legend: S sources, R rows of a source (its samples after filters), E edges of a histogram.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.mixture import Mixture
from varyforge.lengths import EDGES

Ints = NDArray[np.int64]

CHUNK = 1 << 18  # positions in memory
_DEVIATION_POSITIONS = 1_000_000  # prefixes of an epoch that are compared with the mixture's ratios


class Coded(NamedTuple):
    """A column of names, stored as codes."""

    names: tuple[str, ...]  # "" where unknown
    codes: Ints  # (R,) into `names`


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of a source's index."""

    tokens: Ints  # (R,) estimated tokens of all turns; images not counted
    answer_tokens: Ints  # (R,) the supervised ones among them
    images: Ints  # (R,)
    languages: Coded
    licences: Coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The result of one pass through an epoch."""

    drawn: tuple[NDArray[np.int32], ...]  # S × (R,) occurrences of each row
    deviation: float  # the largest |count − ratio · N| of any source, over prefixes of N positions
    deviation_at: tuple[int, int]  # (N, number of the source) of this deviation
    deviation_positions: int  # number of prefixes compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The samples of one source, or of all sources, in one epoch."""

    samples: int
    tokens: int  # images included
    supervised: int
    repeats: tuple[int, float, int]  # occurrences of a sample: smallest, mean, largest
    lengths: tuple[int, ...]  # (E,) samples with EDGES[e] ≤ tokens < EDGES[e + 1]
    longest: int  # tokens
    cut: int  # samples with more than `max_length` tokens
    cut_tokens: int  # tokens beyond `max_length`
    languages: dict[str, int]  # name → samples, largest first
    licences: dict[str, int]


def walk(mixture: Mixture, rows: Sequence[int], alive: Callable[[int], None] = lambda count: None) -> Walk:
    """Pass through one epoch and count the occurrences of each row. `rows` are the (S,) numbers of rows per source.

    `alive` is called with the number of positions since its last call.
    """
    drawn = [np.zeros(count, np.int32) for count in rows]
    total, compared = mixture.per_epoch, min(mixture.per_epoch, _DEVIATION_POSITIONS)
    head = np.empty(compared, np.int16)
    for first in range(0, total, CHUNK):
        positions = np.arange(first, min(first + CHUNK, total))
        source, row = mixture.at(positions)
        head[first : first + len(positions)] = source[: max(compared - first, 0)]
        for number, count in enumerate(rows):
            drawn[number] += np.bincount(row[source == number], minlength=count).astype(np.int32)
        alive(len(positions))
    worst, at = _deviation(head, [int(counts.sum()) / total for counts in drawn])
    return Walk(drawn=tuple(drawn), deviation=worst, deviation_at=at, deviation_positions=compared)


def _deviation(head: NDArray[np.int16], ratios: Sequence[float]) -> tuple[float, tuple[int, int]]:
    """Return the largest |count − ratio · N| for N = 1 … len(head), and its (N, number of the source)."""
    worst, at, prefix = 0.0, (0, 0), np.arange(1, len(head) + 1)
    for number, ratio in enumerate(ratios):
        off = np.abs(np.cumsum(head == number) - ratio * prefix)
        last = int(off.argmax())
        if off[last] > worst:
            worst, at = float(off[last]), (last + 1, number)
    return worst, at


def count(of: Columns, drawn: NDArray[np.int32], *, image_tokens: int, max_length: int) -> Counts:
    """Sum over a source's samples, weighted by their (R,) occurrences. `image_tokens` includes an image's two marks."""
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
    """Add up the counts of several sources."""
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
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return {name: number for name, number in sorted(total.items(), key=lambda item: (-item[1], item[0])) if number}
