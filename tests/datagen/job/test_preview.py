"""The preview of a job: a few units are tried, and their costs extrapolated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.preview import JobPreview, preview_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from tests.datagen.sources import FaultySource
from varyforge.errors import UserError
from varyforge.shards import ShardSet

SETTINGS = JobSettings(units_per_shard=4, limits=Limits(deadline_s=5))


def preview(out: Path, source: FaultySource, settings: JobSettings = SETTINGS, workers: int = 1) -> JobPreview:
    return preview_job(source, out, settings, LocalRunner(), workers)


def test_costs_are_those_of_the_units_tried_times_all(tmp_path: Path) -> None:
    source = FaultySource(units_per_input=30, nap_s=0.05)
    one, four = preview(tmp_path, source), preview(tmp_path, source, workers=4)
    assert (one.tried, one.plan.units_todo, four.workers) == (12, 60, 4)
    assert one.unit_seconds > 0.05 and one.seconds == pytest.approx(60 * one.unit_seconds)
    assert four.seconds == pytest.approx(60 * four.unit_seconds / 4)
    run_job(source, tmp_path, SETTINGS, LocalRunner())
    assert one.bytes == pytest.approx(sum(ShardSet(tmp_path).table(["size"]).column("size").to_pylist()), rel=0.05)


def test_the_units_tried_are_spread_over_the_shards(tmp_path: Path) -> None:
    """Those that hang are noticed, as they come from all over the set."""
    quick = preview(tmp_path, FaultySource(units_per_input=60))
    slow = dict.fromkeys(range(60, 120), "raise")  # the second input
    faulty = preview(tmp_path / "faulty", FaultySource(units_per_input=60, faults=slow))
    assert quick.tried == faulty.tried == 12
    assert 0.2 * quick.unit_bytes < faulty.unit_bytes < 0.8 * quick.unit_bytes  # half of them gave nothing


def test_small_sets_are_tried_whole(tmp_path: Path) -> None:
    assert preview(tmp_path, FaultySource(units_per_input=3)).tried == 6


def test_a_finished_set_costs_nothing(tmp_path: Path) -> None:
    run_job(FaultySource(), tmp_path, SETTINGS, LocalRunner())
    again = preview(tmp_path, FaultySource())
    assert (again.tried, again.seconds, again.bytes, again.plan.changes) == (0, 0, 0, ())
    assert len(again.plan.finished) == len(again.plan.shards) == len(ShardSet(tmp_path).records)


def test_the_limit_and_a_retry_are_previewed(tmp_path: Path) -> None:
    source = FaultySource(faults={2: "raise"})
    run_job(source, tmp_path, SETTINGS, LocalRunner())
    retry = preview(tmp_path, source, replace(SETTINGS, retry="failed"))
    assert retry.plan.changes == () and retry.plan.units == 12
    limited = preview(tmp_path / "few", source, replace(SETTINGS, limit=5))
    assert (limited.plan.units, limited.tried) == (5, 5)


def test_nothing_to_do_is_an_error_as_for_the_job(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to do"):
        preview(tmp_path, FaultySource(units_per_input=0))
    run_job(FaultySource(), tmp_path / "out", SETTINGS, LocalRunner())
    (tmp_path / "out" / "job.json").write_text('{"source": "pdf", "config": {}}')
    with pytest.raises(UserError, match="holds a set made by 'pdf'"):
        preview(tmp_path / "out", FaultySource())
