"""Plausible random numbers for charts, rounded to a precision that can be read, and their axes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from datagen.chart.data import READABLE, Numbers, Scale, decimals_of, linear_ticks, log_ticks

Column = tuple[float, ...]

_LEAST_SLICE = 0.03  # share of a pie
_MOST_RATIO = 8.0  # largest value of a chart ÷ smallest, so that both can be compared
_LEAST_COUNT = 20.0  # least top of an axis of counts, so that a step of 1 is small
_LOG_ROOM = 1.3  # factor left free at each end of a logarithmic axis
_LOG_RATIO = 40.0  # least high ÷ low of a range with a logarithmic axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured quantity with its unit and range of values."""

    unit: str
    low: float
    high: float
    whole: bool  # counted in whole numbers

    @property
    def spans_decades(self) -> bool:
        """Whether a logarithmic axis suits the range."""
        return self.low > 0 and self.high >= _LOG_RATIO * self.low


def columns(
    rng: random.Random, quantity: Quantity, *, count: int, length: int, is_time: bool, log: bool
) -> list[Column]:
    """Return raw values of `count` series. Neighbouring values in time differ little."""
    low, high = (quantity.low, quantity.high) if log else _window(rng, quantity)
    shapes = [_walk(rng, length) if is_time else [rng.random() for _ in range(length)] for _ in range(count)]
    if log:
        return [tuple(low * (high / low) ** part for part in shape) for shape in shapes]
    return [tuple(low + (high - low) * part for part in shape) for shape in shapes]


def _window(rng: random.Random, quantity: Quantity) -> tuple[float, float]:
    """Return low and high end of one chart's values within the quantity's range."""
    low, high = quantity.low, quantity.high
    if low <= 0:
        size = rng.uniform(0.4, 1)
        return low * size, high * size
    least = min(max(low * 3, _LEAST_COUNT if quantity.whole else 0), high)
    top = math.exp(rng.uniform(math.log(least), math.log(high)))
    return max(low, top / rng.uniform(2, _MOST_RATIO)), top


def _walk(rng: random.Random, length: int) -> list[float]:
    """Return a random walk with drift that is reflected at 0 and 1."""
    level, drift, noise = rng.random(), rng.uniform(-0.08, 0.12), rng.uniform(0.05, 0.15)
    walk = []
    for _ in range(length):
        level = abs(level + drift + rng.gauss(0, noise)) % 2
        level = min(level, 2 - level)
        walk.append(level)
    return walk


def growth(raw: Sequence[Column]) -> Column:
    """Return the change of the columns' sum from each row to the next, in percent."""
    sums = [sum(row) for row in zip(*raw, strict=True)]
    return tuple(100 * (after / before - 1) for before, after in pairwise(sums))


def shares(values: Sequence[float], decimals: int) -> Column:
    """Return values as percentages that add up to 100. The largest remainders are rounded up."""
    unit = 10.0**decimals
    exact = [100 * unit * value / sum(values) for value in values]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda n: (parts[n] - exact[n], n))
    for n in by_remainder[: round(100 * unit) - sum(parts)]:
        parts[n] += 1
    return tuple(round(part / unit, decimals) for part in parts)


def slices(rng: random.Random, count: int) -> Column:
    """Return raw values of a pie's slices, all wide enough to be seen."""
    sizes = [rng.uniform(0.15, 1) ** 2 for _ in range(count)]
    least = _LEAST_SLICE * sum(sizes) * 1.2
    return tuple(max(size, least) for size in sizes)


def printed_decimals(rng: random.Random, largest: float) -> int:
    """Return the number of decimals for printed values up to `largest`."""
    if largest >= 1000:
        return 0
    if largest >= 100:
        return rng.choice((0, 0, 1))
    return rng.choice((0, 1, 1, 2)) if largest >= 10 else rng.choice((1, 2, 2))


def fit_scale(
    rng: random.Random,
    raw: Sequence[Column],
    quantity: Quantity,
    *,
    printed: bool,
    from_zero: bool,
    log: bool = False,
    room: tuple[float, float] = (0.0, 0.0),
) -> tuple[Scale, list[Column]]:
    """Return an axis for raw values, one column per series, and the values rounded to a precision that can be read.

    Values that are not `printed` beside their marks are rounded to a tenth of the tick distance. Bars need `from_zero`.
    `room` is the free space below and above the values, as shares of the values' span.
    """
    flat = [value for column in raw for value in column]
    low, high = min(flat), max(flat)
    if from_zero or high - low < 0.05 * abs(high):
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low
    if log:
        ticks = log_ticks(low / _LOG_ROOM, high * _LOG_ROOM)
    else:
        ticks = linear_ticks(low - room[0] * span, high + room[1] * span)
    step = ticks[1] - ticks[0]
    if printed:
        decimals = 0 if quantity.whole else printed_decimals(rng, max(abs(low), abs(high)))
        quantum = 10.0**-decimals
    else:
        quantum = max(step / READABLE, 1.0) if quantity.whole else step / READABLE
        decimals = decimals_of(quantum)
    separator = max(map(abs, ticks)) >= 1000 and rng.random() < 0.6
    percent = quantity.unit == "%" and rng.random() < 0.6
    scale = Scale(
        ticks=ticks,
        tick_numbers=Numbers(decimals=decimals_of(ticks[0] if log else step), separator=separator, percent=percent),
        numbers=Numbers(decimals=decimals, separator=separator, percent=percent),
        printed=printed,
        log=log,
    )
    return scale, [tuple(round(round(value / quantum) * quantum, decimals) + 0.0 for value in column) for column in raw]
