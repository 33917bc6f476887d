"""Exact ratios for every prefix, and permutations that are ones."""

from __future__ import annotations

import math
import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import order
from trainer.data.order import QuotaSchedule, permute

SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 100, 1000, 4097)

# Of like sizes, or of 1 to a million beside each other; zeros among them.
COUNTS = st.one_of(
    st.lists(st.integers(0, 30), min_size=1, max_size=30),
    st.lists(st.integers(0, 6).map(lambda power: 10**power), min_size=1, max_size=30),
    st.tuples(st.integers(1, 10**9), st.lists(st.integers(0, 9), max_size=29)).map(lambda pair: [pair[0], *pair[1]]),
).filter(any)


def check_prefixes(counts: list[int], positions: int) -> None:
    """Every prefix holds floor or ceil of each source's share; draws count up."""
    source, draw = QuotaSchedule(counts).at(np.arange(positions))
    total = sum(counts)
    for number, count in enumerate(counts):
        is_it = source == number
        due = np.arange(1, positions + 1, dtype=object) * count  # Python's integers: exact
        got = np.cumsum(is_it)
        assert (got >= due // total).all() and (got <= -(-due // total)).all(), (counts, number)
        assert (draw[is_it] == np.arange(is_it.sum())).all()


@given(counts=COUNTS, block=st.sampled_from([1, 7, 64, order.BLOCK]))
@settings(max_examples=60, deadline=None)
def test_every_prefix_keeps_the_ratio(counts: list[int], block: int) -> None:
    with patch.object(order, "BLOCK", block):
        check_prefixes(counts, 3 * min(sum(counts) // math.gcd(*counts), 300) + 5)


@pytest.mark.parametrize(
    "counts",
    [
        [5_000_000, 7],
        [7, *[1] * 28, 1_000_000],
        [4_000_000, 558_000, 1_000_000, 500_000, 50_000, 120_624, 125_000, 112_000, 52_000, 39_463, 28_299],
        [10**12, 10**12 - 1, 1],  # products beyond 64 bits
    ],
)
def test_one_large_and_many_small_sources(counts: list[int]) -> None:
    check_prefixes(counts, 2 * order.BLOCK + 100)  # over the borders of blocks


def test_a_single_source_and_absent_ones() -> None:
    source, draw = QuotaSchedule([0, 10**9, 0]).at(np.array([0, 1, 10**15]))
    assert source.tolist() == [1, 1, 1] and draw.tolist() == [0, 1, 10**15]
    assert QuotaSchedule([0, 10**9, 0]).period == 1  # nothing to compute


def test_any_position_in_any_order() -> None:
    counts = [70_001, 50_000, 7]  # two blocks a period, no common divisor
    positions = np.arange(300_000)
    source, draw = QuotaSchedule(counts).at(positions)
    shuffled = np.random.default_rng(0).permutation(positions)
    again, draws = QuotaSchedule(counts).at(shuffled)
    assert (again == source[shuffled]).all() and (draws == draw[shuffled]).all()
    one, first = QuotaSchedule(counts).at(np.array([250_000]))
    assert (one[0], first[0]) == (source[250_000], draw[250_000])
    assert QuotaSchedule(counts).at(np.array([], np.int64))[0].shape == (0,)


def test_a_hundred_million_samples_take_the_memory_of_a_block() -> None:
    with patch.object(order, "BLOCK", 2048):
        pattern = QuotaSchedule([99_999_000, 993, 7])
        tracemalloc.start()
        for start in range(0, 20 * 2048, 1000):
            pattern.at(np.arange(start, start + 1000))
        permute(np.arange(1000), 10**8, 1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2048 * 300


@pytest.mark.parametrize("size", SIZES)
def test_permute_is_a_permutation(size: int) -> None:
    for key in range(5):
        assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_permute_is_a_permutation_of_any_size(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


def test_a_hundred_million_are_permuted_without_a_table() -> None:
    size = 10**8
    placed = permute(np.arange(200_000), size, 3)
    assert len(np.unique(placed)) == 200_000 and placed.min() >= 0 and placed.max() < size
    assert chi_square(placed * 100 // size, 100) < limit(99)
    assert chi_square(np.diff(placed) % size * 100 // size, 100) < limit(99)  # neighbours do not stay together


def test_a_key_per_index() -> None:
    keys = np.array([5, 6, 5], np.uint64)
    mixed = permute(np.array([0, 0, 1]), 100, keys)
    assert mixed.tolist() == [permute(np.array([index]), 100, key)[0] for index, key in ((0, 5), (0, 6), (1, 5))]


@pytest.mark.parametrize("size", [2, 7, 50, 256])
def test_every_place_is_as_likely(size: int) -> None:
    keys = np.arange(20_000, dtype=np.uint64)  # neighbouring keys are the hardest
    for index in (0, 1, size - 1):
        places = permute(np.full(len(keys), index), size, keys)
        assert chi_square(places, size) < limit(size - 1)
        after = permute(np.full(len(keys), index), size, keys + np.uint64(1))
        assert chi_square((after - places) % size, size) < limit(size - 1)  # the next key says nothing about this one


def test_every_order_of_three_is_as_likely() -> None:
    orders = [permute(np.arange(3), 3, key) @ [9, 3, 1] for key in range(3000)]
    assert chi_square(np.unique(orders, return_inverse=True)[1], 6) < limit(5)


def chi_square(values: np.ndarray, bins: int) -> float:
    counts = np.bincount(values, minlength=bins)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


def limit(freedom: int) -> float:
    """Five standard deviations above the mean; the tests' keys are fixed, so there is no luck in them."""
    return freedom + 5 * math.sqrt(2 * freedom)
