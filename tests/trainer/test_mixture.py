from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from datagen.errors import UserError
from trainer.mixture import Mixture, MixtureSource


def mixture(*sizes: tuple[int, int], seed: int = 0, repeats: int = 1) -> Mixture:
    return Mixture(
        [
            MixtureSource(name=f"s{n}", available=available, asked=asked, max_repeats=repeats)
            for n, (available, asked) in enumerate(sizes)
        ],
        seed,
    )


def test_an_epoch_holds_what_was_asked_for() -> None:
    mixed = mixture((100, 60), (7, 7), (50, 0), (10, 20), repeats=2)
    drawn = [mixed.at(position) for position in range(mixed.per_epoch)]
    assert Counter(source for source, _ in drawn) == {0: 60, 1: 7, 3: 20}
    rows = {n: [row for source, row in drawn if source == n] for n in range(4)}
    assert len(set(rows[0])) == 60  # none twice
    assert sorted(rows[1]) == list(range(7))
    assert sorted(rows[3]) == sorted([*range(10), *range(10)])  # each exactly twice


def test_sources_are_spread_evenly() -> None:
    sizes = ((1000, 800), (1000, 150), (1000, 50))
    mixed = mixture(*sizes)
    seen: Counter[int] = Counter()
    for position in range(mixed.per_epoch):
        seen[mixed.at(position)[0]] += 1
        for number, (_, asked) in enumerate(sizes):
            assert abs(seen[number] - asked / 1000 * (position + 1)) <= 1


def test_pure_in_seed_epoch_and_position() -> None:
    one, two = mixture((50, 50), (30, 20)), mixture((50, 50), (30, 20))
    backwards = {position: two.at(position) for position in reversed(range(140))}
    assert {position: one.at(position) for position in range(140)} == backwards
    first, second = ([one.at(position + start) for position in range(70)] for start in (0, 70))
    assert first != second
    assert first != [mixture((50, 50), (30, 20), seed=1).at(position) for position in range(70)]


def test_the_same_in_every_process() -> None:
    code = "from tests.trainer.test_mixture import mixture; print([mixture((9, 9)).at(n) for n in range(20)])"
    out = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert out[0] == out[1] != b""


def test_running_dry_is_an_error_before_the_start() -> None:
    with pytest.raises(UserError, match=r"data\.sources\.s0: 11 samples asked per epoch, 10 available"):
        mixture((10, 11))
    with pytest.raises(UserError, match="no source is asked"):
        mixture((10, 0))
