"""Differences of configurations, and the shards that a difference concerns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from datagen.job.change import Change, config_of, differences, digest_of, plan_digest
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from tests.datagen.sources import LengthGates, LinesSource
from varyforge.shards import ShardSet


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Three documents of English, Chinese and short lines, each a shard or more."""
    root = tmp_path_factory.mktemp("change")
    (root / "in").mkdir()
    for name, lines in {
        "english": [f"line {n} of some length" for n in range(9)],
        "chinese": [f"第{n}行" for n in range(9)],
        "short": [f"{n}" for n in range(9)],
    }.items():
        (root / "in" / f"{name}.txt").write_text("\n".join(lines))
    run_job(LinesSource(paths=[str(root / "in")]), root / "out", JobSettings(units_per_shard=3), LocalRunner())
    return ShardSet(root / "out")


def source_of(shards: ShardSet, **changes: Any) -> LinesSource:
    return replace(LinesSource(paths=shards.job["inputs"]["paths"]), **changes)


def concerned(shards: ShardSet, source: LinesSource, **new: Any) -> tuple[set[str], set[str]]:
    """Shards that are to be made again, and the others."""
    change = Change(source, shards.job["config"], config_of(source) | new)
    again = {record.name for record in shards.records if change.concerns(shards.folder, record)}
    return again, {record.name for record in shards.records} - again


def shards_with(shards: ShardSet, **values: str) -> set[str]:
    """Names of the shards with a ledger row that has all these values."""
    rows = [row for row in shards.ledger().to_pylist() if all(row[name] == value for name, value in values.items())]
    return {row["shard"].removesuffix(".tar") for row in rows}


def test_nothing_changed_concerns_nothing(shards: ShardSet) -> None:
    assert config_of(source_of(shards)) == shards.job["config"]
    assert concerned(shards, source_of(shards))[0] == set()


def test_where_inputs_lie_is_no_part_of_the_configuration(shards: ShardSet) -> None:
    assert config_of(source_of(shards, paths=["/elsewhere"])) == shards.job["config"]


def test_a_setting_or_a_version_concerns_all(shards: ShardSet) -> None:
    for source, new in ((source_of(shards, style="fancy"), {}), (source_of(shards), {"versions": {"varyforge": "0"}})):
        again, others = concerned(shards, source, **new)
        assert again and not others


def test_a_gate_that_changes_no_verdict_concerns_nothing(shards: ShardSet) -> None:
    again, others = concerned(shards, source_of(shards, gates=LengthGates(max_length=9_999)))
    assert not again and len(others) > 4


def test_a_gate_concerns_the_shards_in_which_a_verdict_changes(shards: ShardSet) -> None:
    again, others = concerned(shards, source_of(shards, gates=LengthGates(max_length=10)))
    assert again == shards_with(shards, document="english.txt") and others


def test_a_threshold_concerns_what_it_has_rejected(shards: ShardSet) -> None:
    """It stays rejected, but by another threshold, which its ledger row says."""
    rejected = shards_with(shards, gate="min_length")
    assert rejected == shards_with(shards, document="short.txt")
    again, others = concerned(shards, source_of(shards, gates=LengthGates(min_length=2)))
    assert again == rejected and others


def test_a_prompt_list_concerns_the_shards_that_draw_from_it(shards: ShardSet) -> None:
    prompts = shards.job["config"]["prompts"]
    again, others = concerned(shards, source_of(shards), prompts=prompts | {"ocr.zh": "another"})
    assert again == shards_with(shards, language="zh", outcome="written") and others


def test_differences_are_named_by_key() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "gone": True}
    new = {"a": {"b": 2, "c": [1, 2]}, "d": {"x": 1}, "new": "é"}
    assert list(differences(old, new)) == [
        ("a.b", "1 → 2"),
        ("d", '"x" → {"x": 1}'),
        ("gone", "true → null"),
        ("new", 'null → "é"'),
    ]
    assert list(differences(old, old)) == []


def test_a_long_difference_is_cut() -> None:
    ((_, text),) = differences({"a": "x" * 200}, {"a": "y"})
    old, new = text.split(" → ")
    assert (len(old), old[-1], new) == (60, "…", '"y"')


def test_digests_depend_on_contents_and_not_on_order() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    shards = [(f"s-{n}", f"{n}") for n in range(3)]
    assert plan_digest(shards) == plan_digest(shards[::-1]) != plan_digest(shards[:2])
    assert plan_digest([("s-0", "other")]) != plan_digest(shards[:1])
