"""Random numbers of charts: within their range, readable, and what axes show of them."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.chart.data import READABLE, Numbers, decimals_of, log_ticks
from datagen.chart.values import Quantity, columns, fit_scale, growth, printed_decimals, shares, slices

SEEDS = st.integers(0, 10_000)
PRICES = Quantity(unit="USD", low=5.0, high=800.0, whole=False)
ORDERS = Quantity(unit="", low=1.0, high=5000.0, whole=True)
CHANGES = Quantity(unit="%", low=-30.0, high=45.0, whole=False)


@given(SEEDS, st.sampled_from([PRICES, ORDERS, CHANGES]), st.booleans())
def test_values_lie_in_the_quantitys_range(seed: int, quantity: Quantity, is_time: bool) -> None:
    raw = columns(random.Random(seed), quantity, count=3, length=8, is_time=is_time, log=False)
    assert [len(column) for column in raw] == [8, 8, 8]
    assert all(quantity.low <= value <= quantity.high for column in raw for value in column)


@given(SEEDS)
def test_positive_values_can_be_compared_in_one_chart(seed: int) -> None:
    flat = [
        v
        for column in columns(random.Random(seed), PRICES, count=2, length=6, is_time=False, log=False)
        for v in column
    ]
    assert max(flat) / min(flat) <= 8


@given(SEEDS)
def test_a_logarithmic_axis_takes_the_whole_range(seed: int) -> None:
    raw = columns(random.Random(seed), PRICES, count=1, length=60, is_time=False, log=True)
    assert all(PRICES.low <= value <= PRICES.high for value in raw[0])
    below_the_mean = sum(value < (PRICES.low + PRICES.high) / 2 for value in raw[0])
    assert below_the_mean > 30  # evenly spread over orders of magnitude, and so mostly small


def test_neighbours_in_time_differ_less_than_neighbouring_categories() -> None:
    def roughness(is_time: bool) -> float:
        steps = []
        for seed in range(40):
            (column,) = columns(random.Random(seed), PRICES, count=1, length=12, is_time=is_time, log=False)
            span = max(column) - min(column)
            steps += [abs(b - a) / span for a, b in pairwise(column)]
        return sum(steps) / len(steps)

    assert roughness(is_time=True) < 0.75 * roughness(is_time=False)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(5, 800, True), (5, 100, False), (-3, 900, False), (0, 900, False), (1, 40, True)]
)
def test_ranges_for_a_logarithmic_axis(low: float, high: float, expected: bool) -> None:
    assert Quantity(unit="", low=low, high=high, whole=False).spans_decades is expected


def test_growth_is_that_of_the_sum() -> None:
    assert growth([(1.0, 2.0, 2.0), (3.0, 4.0, 1.0)]) == pytest.approx((50.0, -50.0))


@given(SEEDS, st.integers(2, 9))
def test_no_slice_is_too_thin(seed: int, count: int) -> None:
    sizes = slices(random.Random(seed), count)
    assert len(sizes) == count and min(sizes) / sum(sizes) >= 0.03 * 0.99


@pytest.mark.parametrize(("largest", "allowed"), [(25_000, {0}), (300, {0, 1}), (42, {0, 1, 2}), (0.7, {1, 2})])
def test_large_numbers_have_few_decimals(largest: float, allowed: set[int]) -> None:
    assert {printed_decimals(random.Random(seed), largest) for seed in range(50)} == allowed


@given(SEEDS, st.booleans(), st.sampled_from([PRICES, ORDERS, CHANGES]))
def test_a_scale_encloses_its_values_and_they_can_be_read(seed: int, printed: bool, quantity: Quantity) -> None:
    rng = random.Random(seed)
    raw = columns(rng, quantity, count=2, length=5, is_time=False, log=False)
    scale, values = fit_scale(rng, raw, quantity, printed=printed, from_zero=True)
    flat = [value for column in values for value in column]
    assert scale.ticks[0] - 1e-9 <= min(*flat, 0.0) and max(*flat, 0.0) <= scale.ticks[-1] + 1e-9
    step = scale.ticks[1] - scale.ticks[0]
    error = max(abs(a - b) for old, new in zip(raw, values, strict=True) for a, b in zip(old, new, strict=True))
    if printed:
        assert error <= 0.5 * 10.0**-scale.numbers.decimals + 1e-9
    else:
        division = max(step / READABLE, 1.0) if quantity.whole else step / READABLE
        assert error <= division / 2 + 1e-9
    if quantity.whole:
        assert all(float(value).is_integer() for value in flat)


@given(SEEDS)
def test_numbers_read_back_as_the_values(seed: int) -> None:
    rng = random.Random(seed)
    scale, (column,) = fit_scale(
        rng, columns(rng, PRICES, count=1, length=4, is_time=False, log=False), PRICES, printed=True, from_zero=True
    )
    texts = [scale.numbers.text(value) for value in column]
    assert [float(text.replace(",", "").removesuffix("%")) for text in texts] == pytest.approx(list(column), abs=1e-9)


@given(SEEDS)
def test_bars_of_nearly_one_height_start_at_zero(seed: int) -> None:
    scale, _ = fit_scale(random.Random(seed), [(100.0, 100.5)], PRICES, printed=True, from_zero=False)
    assert scale.ticks[0] == 0


@given(st.floats(1e-3, 1e5), st.floats(1.5, 1e4))
def test_log_ticks_are_powers_of_ten_around_the_values(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert ticks[0] <= low * (1 + 1e-9) and low * ratio <= ticks[-1] * (1 + 1e-9)
    assert all(b / a == pytest.approx(10) for a, b in pairwise(ticks))


@pytest.mark.parametrize(("step", "expected"), [(5, 0), (20, 0), (0.5, 1), (0.2, 1), (0.05, 2), (0.001, 3), (1000, 0)])
def test_decimals_of_round_steps(step: float, expected: int) -> None:
    assert decimals_of(step) == expected


@pytest.mark.parametrize(
    ("numbers", "value", "text"),
    [
        (Numbers(decimals=0), 1234.4, "1234"),
        (Numbers(decimals=0, separator=True), 1234567, "1,234,567"),
        (Numbers(decimals=2, percent=True), 12.345, "12.35%"),
        (Numbers(decimals=1), -0.04, "0.0"),
        (Numbers(decimals=1), -2.26, "-2.3"),
    ],
)
def test_number_formats(numbers: Numbers, value: float, text: str) -> None:
    assert numbers.text(value) == text


def test_shares_round_up_the_largest_remainders() -> None:
    assert shares((1, 1, 1), 0) == (34.0, 33.0, 33.0)
    assert shares((2, 1), 1) == (66.7, 33.3)
    assert math.isclose(sum(shares((1, 2, 3, 4, 5, 6, 7), 2)), 100)
