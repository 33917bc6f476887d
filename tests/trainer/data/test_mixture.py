from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import order
from trainer.data.mixture import Mixture, MixtureSource, SourceSize, recipe_key, resolve, sources_of
from trainer.settings import DataSettings, MixtureSettings, SourceSettings
from varyforge.config import load
from varyforge.errors import UserError


def mixture(*sizes: tuple[int, int], seed: int = 0) -> Mixture:
    """Make a mixture of sources s0, s1, … with (available, asked)."""
    return Mixture([MixtureSource(name=f"s{n}", available=a, asked=c) for n, (a, c) in enumerate(sizes)], seed)


def drawn(mixed: Mixture, first: int, last: int) -> list[tuple[int, int]]:
    source, row = mixed.at(np.arange(first, last))
    return list(zip(source.tolist(), row.tolist(), strict=True))


def epoch(mixed: Mixture, number: int, source: int = 0) -> list[int]:
    """Rows of one source in one epoch."""
    start = number * mixed.per_epoch
    return [row for which, row in drawn(mixed, start, start + mixed.per_epoch) if which == source]


@given(sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 90)), min_size=1, max_size=6), seed=st.integers(0))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_what_was_asked_for(sizes: list[tuple[int, int]], seed: int) -> None:
    mixed = mixture(*sizes, seed=seed)
    assert mixed.per_epoch == sum(draws for _, draws in sizes)
    for number in (0, 1, 5):
        for source, (available, draws) in enumerate(sizes):
            times = Counter(epoch(mixed, number, source))
            assert sum(times.values()) == draws and set(times) <= set(range(available))
            assert all(times[row] in (draws // available, -(-draws // available)) for row in range(available))


@pytest.mark.parametrize("block", [7, order.BLOCK])
@pytest.mark.parametrize("position", [0, 1, 13, 14, 180, 500])
def test_what_was_drawn_before_a_position(position: int, block: int) -> None:
    mixed = mixture((7, 20), (40, 3), (90, 67))
    with patch.object(order, "BLOCK", block):
        counts = mixed.drawn(position)
    mixed = mixture((7, 20), (40, 3), (90, 67))
    met = Counter(f"s{source}" for source, _ in drawn(mixed, 0, position))
    assert counts == {source.name: met[source.name] for source in mixed.sources}


def test_seven_samples_beside_many_and_a_single_source() -> None:
    mixed = mixture((1_000_000, 100_000), (7, 7))
    assert sorted(epoch(mixed, 0, 1)) == list(range(7)) and len(set(epoch(mixed, 0, 0))) == 100_000
    assert sorted(epoch(mixture((7, 7)), 3)) == list(range(7))


def test_successive_epochs_go_through_the_rest() -> None:
    mixed = mixture((10, 3), (5, 5))
    three = [row for number in range(3) for row in epoch(mixed, number)]
    assert len(set(three)) == 9  # of one permutation
    assert [epoch(mixed, number + 3) for number in range(3)] != [epoch(mixed, number) for number in range(3)]
    assert len({row for number in range(3, 6) for row in epoch(mixed, number)}) == 9
    assert len({tuple(epoch(mixed, number, 1)) for number in range(6)}) == 6  # another order each


def test_epochs_and_passes_differ() -> None:
    mixed = mixture((1000, 3000))
    passes = [tuple(epoch(mixed, number)[1000 * n : 1000 * (n + 1)]) for number in range(3) for n in range(3)]
    assert all(sorted(rows) == list(range(1000)) for rows in passes)
    for number, rows in enumerate(passes):
        assert all(sum(a == b for a, b in zip(rows, other, strict=True)) < 10 for other in passes[:number])


def test_pure_in_seed_epoch_and_position() -> None:
    sizes = ((50, 50), (30, 20), (3, 40))
    forward = drawn(mixture(*sizes), 0, 440)
    one_by_one = mixture(*sizes)
    assert [drawn(one_by_one, n, n + 1)[0] for n in reversed(range(440))] == forward[::-1]
    assert forward[:110] != forward[110:220]
    assert forward != drawn(mixture(*sizes, seed=1), 0, 440)


def test_the_same_in_every_process() -> None:
    code = "from tests.trainer.data.test_mixture import mixture, drawn; print(drawn(mixture((9, 9), (4, 30)), 0, 200))"
    out = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout.decode()
        for seed in ("1", "2")
    ]
    assert out[0] == out[1] == f"{drawn(mixture((9, 9), (4, 30)), 0, 200)}\n"


def test_the_order_never_changes_unnoticed() -> None:
    """A checkpoint's position means these samples; another order needs another name in `Corpus.sha256`."""
    assert drawn(mixture((9, 6), (4, 3), seed=5), 0, 8) == [
        (0, 0),
        (0, 2),
        (1, 0),
        (0, 8),
        (0, 1),
        (1, 3),
        (0, 7),
        (0, 3),
    ]


def source(**changes: object) -> SourceSettings:
    return SourceSettings(**{"shards": "somewhere"} | changes)  # type: ignore[arg-type]


def draws_of(mixed: MixtureSettings, **holdings: tuple[int, int]) -> dict[str, int]:
    """Samples asked per epoch; holdings are (samples, supervised tokens), `__` in a name stands for /."""
    DataSettings(mixture=mixed)  # valid
    held = {name.replace("__", "/"): SourceSize(samples=n, tokens=tokens) for name, (n, tokens) in holdings.items()}
    return {s.name: s.asked for s in resolve(mixed, held).sources}


def test_numbers_of_samples_tokens_and_everything() -> None:
    mixed = MixtureSettings(
        sources={
            "some": source(samples=30),
            "words": source(tokens=1000),
            "all": source(),
            "thrice": source(repeat="times", times=3),
            "again": source(samples=25, repeat="as_needed", times=3),
            "none": SourceSettings(samples=0),
            "never": SourceSettings(weight=0),
            "nothing": SourceSettings(tokens=0, repeat="times", times=2, samples=4),
        }
    )
    holdings = {name: (n, 15 * n) for name, n in (("some", 40), ("words", 80), ("all", 7), ("thrice", 5), ("again", 9))}
    assert list(sources_of(mixed)) == list(holdings)
    assert draws_of(mixed, **holdings) == {"some": 30, "words": 67, "all": 7, "thrice": 15, "again": 25}


def test_weights_are_exact_decimals_and_the_epoch_whole_periods() -> None:
    mixed = MixtureSettings(sources={"a": source(weight=0.1), "b": source(weight=0.2), "c": source(weight=0.7)})
    assert draws_of(mixed, a=(100, 0), b=(31, 0), c=(1000, 0)) == {"a": 15, "b": 30, "c": 105}  # b runs dry first
    again = MixtureSettings(
        sources={"a": source(weight=0.1, repeat="as_needed", times=2), "b": source(weight=0.2, repeat="times", times=3)}
    )
    with pytest.raises(ValueError, match="as_needed"):
        draws_of(again)
    again = MixtureSettings(
        sources={f"s{n}": source(weight=n + 1, repeat="as_needed", times=3) for n in range(3)}, samples=100
    )
    assert draws_of(again, s0=(100, 0), s1=(100, 0), s2=(20, 0)) == {"s0": 16, "s1": 32, "s2": 48}


def test_an_epoch_shorter_than_a_period_rounds_the_largest_remainders() -> None:
    mixed = MixtureSettings(sources={"a": source(weight=0.123), "b": source(weight=0.877)}, samples=100)
    assert draws_of(mixed, a=(99, 0), b=(99, 0)) == {"a": 12, "b": 88}


@given(
    weights=st.lists(st.decimals("0.25", "9", places=2), min_size=1, max_size=8),
    available=st.integers(1000, 10_000),
    samples=st.none() | st.integers(500, 1000),
)
@settings(max_examples=60, deadline=None)
def test_counts_are_the_weights_in_whole_samples(weights: list[object], available: int, samples: int | None) -> None:
    mixed = MixtureSettings(
        sources={f"s{n}": source(weight=float(str(w))) for n, w in enumerate(weights)}, samples=samples
    )
    counts = draws_of(mixed, **{f"s{n}": (available, 0) for n in range(len(weights))})
    total = sum(Fraction(str(weight)) for weight in weights)
    size = sum(counts.values())
    assert size <= (samples or available * len(weights)) and max(counts.values()) <= available
    assert all(abs(counts[f"s{n}"] - Fraction(str(weight)) / total * size) < 1 for n, weight in enumerate(weights))


def test_weights_in_supervised_tokens() -> None:
    mixed = MixtureSettings(sources={"long": source(weight=1), "short": source(weight=3)}, unit="tokens", samples=700)
    assert draws_of(mixed, long=(1000, 200_000), short=(1000, 100_000)) == {"long": 100, "short": 600}


def test_a_mixture_in_a_mixture_keeps_its_proportions() -> None:
    inner = MixtureSettings(sources={"x": source(samples=20), "y": source(samples=10, repeat="as_needed", times=2)})
    outer = MixtureSettings(sources={"in": SourceSettings(mixture=inner, samples=99), "own": source(samples=100)})
    holdings = {"in__x": (70, 700), "in__y": (20, 800), "own": (100, 1000)}
    assert list(sources_of(outer)) == ["in/x", "in/y", "own"]
    assert draws_of(outer, **holdings) == {"in/x": 66, "in/y": 33, "own": 100}
    whole = MixtureSettings(sources={"in": SourceSettings(mixture=inner, repeat="times", times=2), "own": source()})
    assert draws_of(whole, **holdings) == {"in/x": 40, "in/y": 20, "own": 100}
    tokens = MixtureSettings(sources={"in": SourceSettings(mixture=inner, tokens=600)})  # 20 · 10 + 10 · 40: 20 each
    assert draws_of(tokens, **holdings) == {"in/x": 20, "in/y": 10}
    weights = MixtureSettings(sources={"in": SourceSettings(mixture=inner, weight=0.6), "own": source(weight=0.4)})
    assert draws_of(weights, **holdings) == {"in/x": 70, "in/y": 35, "own": 70}
    deep = MixtureSettings(sources={"o": SourceSettings(mixture=outer, repeat="times", times=1)})
    assert draws_of(deep, **{f"o__{name}": held for name, held in holdings.items()}) == {
        "o/in/x": 66,
        "o/in/y": 33,
        "o/own": 100,
    }
    assert recipe_key("o/in/x") == "data.mixture.sources.o.mixture.sources.in.mixture.sources.x"


def test_ten_epochs_are_one_epoch_of_ten_times() -> None:
    once = MixtureSettings(sources={"a": source(), "b": source()})
    tenfold = MixtureSettings(sources={name: source(repeat="times", times=10) for name in "ab"})
    holdings = {"a": SourceSize(samples=30, tokens=0), "b": SourceSize(samples=7, tokens=0)}
    short, long = resolve(once, holdings), resolve(tenfold, holdings)
    assert long.per_epoch == 10 * short.per_epoch == 370
    assert Counter(drawn(short, 0, 370)) == Counter(drawn(long, 0, 370))
    assert set(Counter(drawn(long, 0, 370)).values()) == {10}


def in_mixture(**changes: object) -> MixtureSettings:
    return MixtureSettings(sources={"in": SourceSettings(mixture=MixtureSettings(sources={"x": source(**changes)}))})


ROUNDED_AWAY = MixtureSettings(
    sources={"deep": SourceSettings(mixture=MixtureSettings(sources={"x": source(), "y": source()}), samples=1)}
)


@pytest.mark.parametrize(
    ("mixed", "message"),
    [
        (
            MixtureSettings(sources={"x": source(samples=11)}),
            "data.mixture.sources.x: 11 samples asked per epoch, 10 available, each at most once; "
            "ask for fewer, make more, or allow repeats: repeat: as_needed, times: 2",
        ),
        (
            MixtureSettings(sources={"x": source(samples=35, repeat="as_needed", times=3)}),
            "data.mixture.sources.x: 35 samples asked per epoch, 10 available, each at most 3 times; "
            "ask for fewer, make more, or allow repeats: repeat: as_needed, times: 4",
        ),
        (MixtureSettings(sources={"x": source(weight=1)}, samples=11), "x: 11 samples asked per epoch, 10 available"),
        (MixtureSettings(sources={"x": source(tokens=101)}), "x: its index counts no supervised token"),
        (MixtureSettings(sources={"x": source(weight=1)}, unit="tokens"), "x: its index counts no supervised token"),
        (MixtureSettings(sources={"empty": source()}), "data.mixture.sources.empty: no sample passes task and where"),
        (
            MixtureSettings(sources={"x": source(weight=1), "y": source(weight=1e-9)}),
            "data.mixture.sources.y: its share of an epoch of 10 samples is less than one",
        ),
        (
            MixtureSettings(sources={"x": source(repeat="times", times=10**12)}),
            "data.mixture.sources: an epoch has 10000000000000 samples, more than 1000000000000",
        ),
        (  # so little is asked of the inner mixture that one of its sources has none of it
            MixtureSettings(sources={"in": SourceSettings(mixture=ROUNDED_AWAY, weight=1)}),
            "data.mixture.sources.in.mixture.sources.deep.mixture.sources.y: its share of an epoch",
        ),
        (in_mixture(samples=11), "data.mixture.sources.in.mixture.sources.x: 11 samples asked per epoch, 10 available"),
        (in_mixture(tokens=11), "data.mixture.sources.in.mixture.sources.x: its index counts no supervised token"),
    ],
)
def test_what_cannot_be_given_is_said_before_the_run(mixed: MixtureSettings, message: str) -> None:
    DataSettings(mixture=mixed)
    holding = SourceSize(samples=10, tokens=0)
    holdings = dict.fromkeys(("x", "y", "in/x", "in/deep/x", "in/deep/y"), holding) | {
        "empty": SourceSize(samples=0, tokens=0)
    }
    with pytest.raises(UserError) as error:
        resolve(mixed, holdings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "sources: no source is used"),
        ("{x: {samples: 0}, y: {weight: 0}}", "sources: no source is used"),
        ("{x: {samples: 5}}", "sources.x.shards: missing"),
        ("{x: {shards: a, mixture: {sources: {z: {shards: b}}}}}", "sources.x.shards: not together with mixture"),
        ("{x: {shards: a, samples: -5}}", "sources.x.samples: -5, expected 0 or more"),
        ("{x: {shards: a, weight: -0.5}}", "sources.x.weight: -0.5, expected 0 or more"),
        ("{x: {shards: a, weight: .inf}}", "sources.x.weight: inf, expected 0 or more"),
        ("{x: {shards: a, weight: .nan}}", "sources.x.weight: nan, expected 0 or more"),
        ("{x: {shards: a, tokens: -1}}", "sources.x.tokens: -1, expected 0 or more"),
        ("{x: {shards: a, repeat: times, times: 0}}", "sources.x.times: 0, expected 1 or more"),
        ("{x: {shards: a, times: 2}}", "sources.x.times: only with repeat: times or repeat: as_needed"),
        ("{x: {shards: a, repeat: times, times: 2, samples: 5}}", "sources.x.repeat: times is for all samples"),
        (
            "{x: {shards: a, samples: 5, tokens: 7}}",
            "sources.x.samples and tokens: at most one of them; set the others to null",
        ),
        ("{x: {shards: a, weight: 5}, y: {shards: b, samples: 3}}", "sources.y.weight: missing, while other sources"),
        ("{x: {shards: a, weight: 5}, y: {shards: b}}", "sources.y.weight: missing, while other sources have one"),
        ("{a/b: {shards: a}}", "sources.a/b: no empty name, no '/' in one"),
        ("{x: {mixture: {sources: {'': {shards: a}}}}}", "sources.x.mixture.sources.: no empty name"),
        ("{x: {task: ocr, mixture: {sources: {z: {shards: b}}}}}", "sources.x.task: is for shards"),
        ("{x: {where: {language: zh}, mixture: {sources: {z: {shards: b}}}}}", "sources.x.where: is for shards"),
        ("{x: {mixture: {sources: {z: {samples: 5}}}}}", "sources.x.mixture.sources.z.shards: missing"),
        ("{x: {mixture: {sources: {z: {samples: 0}}}}}", "sources.x.mixture.sources: no source is used"),
        ("{x: {shards: a}}\n  samples: 5", "samples: only with weights"),
        ("{x: {shards: a}}\n  unit: tokens", "unit: only with weights"),
        ("{x: {shards: a, weight: 1}}\n  samples: 0", "samples: 0, expected 1 or more"),
    ],
)
def test_settings_that_no_shards_could_meet(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.yaml").write_text(f"mixture:\n  sources: {text}\n")
    with pytest.raises(UserError) as error:
        load(DataSettings, tmp_path / "data.yaml")
    assert f"data.yaml: data.mixture.{message}" in str(error.value)


def test_the_guides_example_is_valid(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "mixtures.md").read_text()
    by_count, by_weight = (
        block for block in re.findall(r"```yaml\n(.+?)```", page, re.DOTALL) if "\nsources:" in block
    )
    for example, source in ((by_count, "old/laion_coco"), (by_weight, "rest/talk")):
        path = tmp_path / "example.yaml"
        path.write_text(example.replace("base: ", f"base: {root}/recipes/"))
        assert source in sources_of(DataSettings(mixture=load(MixtureSettings, path)).mixture)
