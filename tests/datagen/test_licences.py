"""Licences travel with each sample and can be filtered by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.chat.source import ChatSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import under_licence
from varyforge.outcome import Rejected, Written
from varyforge.sample import Sample, Turn
from varyforge.shards import ShardSet

TURNS = (Turn(role="user", text="a"), Turn(role="assistant", text="b"))


def written(*licences: str) -> Written:
    """A sample for each licence; "" says none."""
    origins: list[dict[str, str]] = [{"licence": one} if one else {} for one in licences]
    samples = (
        Sample(key=f"s{number}", task="text", turns=TURNS, source="chat", origin=origin)
        for number, origin in enumerate(origins)
    )
    return Written(samples=tuple(samples))


def licensed(outcome: Written, licence: str = "", keep: tuple[str, ...] = ()) -> list[object] | Rejected:
    made = under_licence(ChatSource(paths=[], licence=licence, licences=list(keep)), outcome)
    return [sample.origin.get("licence") for sample in made.samples] if isinstance(made, Written) else made


def test_a_sample_says_its_own_licence_or_that_of_the_set() -> None:
    assert licensed(written("", "CC0")) == [None, "CC0"]
    assert licensed(written("", "CC0"), "MIT") == ["MIT", "CC0"]


def test_others_than_those_to_keep_are_refused() -> None:
    assert licensed(written("MIT", "CC0"), keep=("MIT", "CC0")) == ["MIT", "CC0"]
    for outcome, detail in ((written("MIT", "GPL"), "licence 'GPL'"), (written(""), "no licence is stated")):
        assert licensed(outcome, keep=("MIT",)) == Rejected(gate="licences", value=0, threshold=1, detail=detail)


@pytest.mark.parametrize(("keep", "samples"), [([], 2), (["MIT"], 2), (["CC0"], 0)])
def test_in_index_and_ledger(tmp_path: Path, keep: list[str], samples: int) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": str(n), "output": "b"} for n in range(2)]))
    source = ChatSource(paths=[str(tmp_path / "a.json")], licence="MIT", licences=keep)
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    assert shards.table(["licence"]).column("licence").to_pylist() == ["MIT"] * samples
    assert set(shards.ledger().column("gate").to_pylist()) == ({""} if samples else {"licences"})
