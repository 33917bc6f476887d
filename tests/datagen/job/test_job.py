from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.ledger import LedgerSummary
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import split_of
from tests.datagen.sources import FaultySource
from varyforge.errors import UserError
from varyforge.files import sha256_file
from varyforge.shards import ShardSet

SETTINGS = JobSettings(units_per_shard=4, validation_share=0.3, limits=Limits(deadline_s=4, memory_mb=512))
ALL_FAULTS = {1: "sleep", 2: "abort", 4: "eat", 5: "raise", 7: "reject"}
RUN = """
import sys
from pathlib import Path
from datagen.job.job import run_job
from datagen.job.settings import JobSettings
from datagen.job.runner import LocalRunner
from tests.datagen.sources import FaultySource
run_job(FaultySource(nap_s=0.02, units_per_input=20), Path(sys.argv[1]), JobSettings(units_per_shard=4), LocalRunner())
"""


def run(out: Path, source: FaultySource, settings: JobSettings = SETTINGS) -> LedgerSummary:
    return run_job(source, out, settings, LocalRunner())


def hashes(out: Path) -> dict[str, str]:
    """Every file of a shard set that is not a lock."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): sha256_file(path) for path in sorted(files)}


def test_every_unit_has_one_ledger_row(tmp_path: Path) -> None:
    summary = run(tmp_path, FaultySource(faults=ALL_FAULTS))
    assert summary.by_outcome == {"written": 7, "rejected": 1, "failed": 4}
    assert summary.by_cause == {
        ("failed", "timeout"): 1,
        ("failed", "crash"): 1,
        ("failed", "memory"): 1,
        ("failed", "KeyError"): 1,
        ("rejected", "taste"): 1,
    }
    shards = ShardSet(tmp_path)
    ledger = shards.ledger().to_pylist()
    assert sorted(row["unit"] for row in ledger) == [f"u{n:03d}" for n in range(12)]
    (refused,) = (row for row in ledger if row["unit"] == "u007")
    assert (refused["gate"], refused["value"], refused["threshold"]) == ("taste", 7.0, 0.5)
    index = shards.table().to_pylist()
    assert len(index) == 7
    for row in index:
        assert shards.read(row["shard"], row["offset"], row["size"]).key == row["key"]
        assert row["split"] == split_of(row["document"], 0.3)


def test_same_bytes_again_and_nothing_done_twice(tmp_path: Path) -> None:
    run(tmp_path / "a", FaultySource(faults={3: "reject"}))
    run(tmp_path / "b", FaultySource(faults={3: "reject"}))
    first = hashes(tmp_path / "a")
    assert first == hashes(tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.tar")}
    run(tmp_path / "a", FaultySource(faults={3: "reject"}))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.tar")}
    next((tmp_path / "a").glob("*.tar")).write_bytes(b"cut")
    run(tmp_path / "a", FaultySource(faults={3: "reject"}))
    assert hashes(tmp_path / "a") == first


def test_killed_at_random_moments_the_result_is_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "whole")], check=True)
    dice = random.Random(0)
    for _ in range(30):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
        try:
            status = process.wait(dice.uniform(0.4, 1.6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            assert status == 0
            break
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "killed")], check=True)
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path, FaultySource())
    with pytest.raises(UserError, match=r"settings\.units_per_input 6 → 5"):
        run(tmp_path, FaultySource(units_per_input=5))
    with pytest.raises(UserError, match=r"validation_share 0\.3 → 0\.5.* 0 of 5 shards .* --update"):
        run(tmp_path, FaultySource(), replace(SETTINGS, validation_share=0.5))
    patient = replace(SETTINGS, limits=Limits(deadline_s=60))
    run(tmp_path, FaultySource(), patient)  # patience is no part of what the shards are


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "someone.tar").write_bytes(b"")
    with pytest.raises(UserError, match="no job of ours"):
        run(tmp_path, FaultySource())
    with pytest.raises(UserError, match="cannot write there"):
        run(tmp_path / "someone.tar" / "below", FaultySource())


def test_limit_and_empty(tmp_path: Path) -> None:
    assert run(tmp_path / "few", FaultySource(), replace(SETTINGS, limit=5)).units == 5
    units = {row["unit"] for row in ShardSet(tmp_path / "few").ledger().to_pylist()}
    assert units == {f"u{number:03d}" for number in range(5)}
    with pytest.raises(UserError, match="nothing to do"):
        run(tmp_path / "none", FaultySource(units_per_input=0))


def test_two_jobs_do_not_share_a_folder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "job.json").exists():
            time.sleep(0.02)
        with pytest.raises(UserError, match="another process"):
            run(tmp_path, FaultySource())
    finally:
        process.kill()
        process.wait()


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    run(tmp_path, FaultySource())
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"manifest\.jsonl: broken"):
        ShardSet(tmp_path)


def test_a_set_with_a_shard_missing_or_cut_is_not_finished(tmp_path: Path) -> None:
    run(tmp_path, FaultySource())
    tar = sorted(tmp_path.glob("*.tar"))[1]
    data = tar.read_bytes()
    for damage in (lambda: tar.write_bytes(data[:-1]), tar.unlink):
        damage()
        with pytest.raises(UserError, match=f"shard {tar.stem} is missing or cut"):
            ShardSet(tmp_path)
    (tmp_path / "index" / ".old.parquet.1.tmp").write_bytes(b"")
    run(tmp_path, FaultySource())
    assert tar.read_bytes() == data
    assert not list(tmp_path.rglob("*.tmp"))


def test_something_is_left_for_training(tmp_path: Path) -> None:
    run(tmp_path, FaultySource(), replace(SETTINGS, validation_share=0.999))
    assert ShardSet(tmp_path).table().column("split").to_pylist().count("train") == 1


def test_settings_out_of_range() -> None:
    with pytest.raises(UserError, match="validation share 7"):
        JobSettings(validation_share=7)
    with pytest.raises(UserError, match="deadline -1"):
        Limits(deadline_s=-1)


@pytest.mark.parametrize("workers", [2, 8])
def test_workers_do_not_show_in_the_bytes(tmp_path: Path, workers: int) -> None:
    source = FaultySource(faults={2: "abort", 7: "reject"}, units_per_input=20)
    run(tmp_path / "one", source)
    run_job(source, tmp_path / "more", SETTINGS, LocalRunner(workers))
    assert hashes(tmp_path / "more") == hashes(tmp_path / "one")


@pytest.mark.slow
def test_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    from datagen.job.ray_runner import RayRunner

    source = FaultySource(faults={2: "abort", 7: "reject"})
    run(tmp_path / "local", source)
    with RayRunner(workers=2) as runner:
        run_job(source, tmp_path / "ray", SETTINGS, runner)
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")
    job = json.loads((tmp_path / "ray" / "job.json").read_text())
    assert job["plan"]["units"] == 12
    assert "RAY_ADDRESS" not in os.environ
