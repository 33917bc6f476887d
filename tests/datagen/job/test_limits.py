"""Bounds and reports of a job: dry runs, memory, W&B, standstill, worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.job.isolate import Child, Limits
from datagen.job.job import run_job
from datagen.job.preview import preview_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.watchdog import Watchdog, thread_stacks
from datagen.source import Unit
from tests.datagen.job.test_incremental import SETTINGS, run, write_inputs
from tests.datagen.sources import FaultySource
from varyforge.outcome import Written

SOAK = """
import resource, sys
from pathlib import Path
from datagen.job.job import run_job
from datagen.job.settings import JobSettings
from datagen.job.runner import LocalRunner
from tests.datagen.sources import LinesSource

def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

source = LinesSource(paths=[sys.argv[1]])
seen = []
class Watching(LocalRunner):
    def run(self, task, items, tick):
        for result in super().run(task, items, tick):
            seen.append(rss())
            yield result
run_job(source, Path(sys.argv[2]), JobSettings(units_per_shard=256), Watching())
print(seen[2], max(seen))
"""


@pytest.mark.slow
def test_memory_of_the_parent_stays_flat_over_ten_thousand_units(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for document in range(100):
        lines = "\n".join(f"line {line} of document {document} " + "word " * 20 for line in range(100))
        (tmp_path / "in" / f"{document}.txt").write_text(lines)
    command = [sys.executable, "-c", SOAK, str(tmp_path / "in"), str(tmp_path / "out")]
    early, most = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert most - early < 100, (early, most)  # MiB


PAGES = """
import sys
from pathlib import Path
from datagen.job.job import run_job
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource
from datagen.job.runner import LocalRunner

def resident(path: str) -> float:
    return int(Path(path, "statm").read_text().split()[1]) * 4096 / 2**20

parents, children = [], []
class Watching(LocalRunner):
    def run(self, task, items, tick):
        for result in super().run(task, items, tick):
            parents.append(resident("/proc/self"))
            tree = Path("/proc/self/task")
            pids = [pid for thread in tree.iterdir() for pid in (thread / "children").read_text().split()]
            children.append(sum(resident(f"/proc/{pid}") for pid in pids))
            yield result
source = PdfSource(paths=[sys.argv[1]], short_side_px=512)
run_job(source, Path(sys.argv[2]), JobSettings(units_per_shard=256, limit=10_000), Watching())
print(parents[2], max(parents), children[2], max(children))
"""


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_pages(tmp_path: Path) -> None:
    from tests.datagen.test_bombs import hundred_thousand_pages

    hundred_thousand_pages(tmp_path / "many.pdf")
    command = [sys.executable, "-c", PAGES, str(tmp_path / "many.pdf"), str(tmp_path / "out")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    early, most, child_early, child_most = map(float, said.split())
    assert most - early < 100 and child_most - child_early < 200, said  # MiB


def test_a_child_is_replaced_after_so_many_units() -> None:
    def pid(child: Child) -> int:
        assert isinstance(child.make(unit, []), Written)
        return child._process.pid if child._process else 0

    unit = Unit(id="0", document="d", content="0", payload={"n": 0})
    with Child(FaultySource(), Limits(units_per_child=3)) as child:
        assert len({pid(child) for _ in range(6)}) == 1  # it is too young
    with Child(FaultySource(), Limits(units_per_child=3, seconds_per_child=0)) as child:
        pids = [pid(child) for _ in range(6)]
    assert pids[0] == pids[1] != pids[3] == pids[4]
    assert pids[2] == pids[5] == 0  # ended; the next unit starts a fresh one


def test_a_dry_run_says_what_it_would_cost_and_makes_nothing(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    (tmp_path / "in" / "again.txt").write_text("line 1 of document 3")
    (tmp_path / "in" / "broken.txt").write_bytes(b"\xff")
    preview = preview_job(source, tmp_path / "out", SETTINGS, LocalRunner(), workers=2)
    assert (preview.plan.units, preview.failed_inputs, preview.duplicates) == (42, 1, 1)
    assert len(preview.plan.todo) == len(preview.plan.shards) > 4
    assert preview.tried > 4 and preview.unit_bytes > 500 and preview.seconds > 0
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out", source)
    stricter = replace(SETTINGS, validation_share=0.5)
    after = preview_job(source, tmp_path / "out", stricter, LocalRunner(), workers=2)
    assert (after.plan.todo, after.plan.changes) == ((), ("validation_share 0.2 → 0.5",))


def test_a_watchdog_reports_once_per_standstill() -> None:
    reports: list[str] = []
    with Watchdog(0.2, reports.append) as watchdog:
        time.sleep(0.7)
        assert len(reports) == 1
        assert "test_limits.py" in reports[0] and "time.sleep(0.7)" in reports[0]
        watchdog.reset()
        time.sleep(0.5)
    assert len(reports) == 2
    assert "MainThread" in thread_stacks()


def test_wandb_gets_throughput_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datagen.job import track

    logged: list[dict[str, float]] = []

    class Run:
        def log(self, values: dict[str, float]) -> None:
            logged.append(values)

        def finish(self, exit_code: int) -> None:
            logged.append({"exit": exit_code})

    import wandb

    monkeypatch.setattr(wandb, "init", lambda **_: Run())
    monkeypatch.setattr(track, "_EVERY_S", 0.0)
    source = FaultySource(faults={2: "reject", 3: "raise"})
    with track.Tracker("project", "name", {}) as tracker:
        run_job(source, tmp_path, JobSettings(units_per_shard=4), LocalRunner(), tracker)
    last = logged[-2]
    assert (last["units/written"], last["units/rejected/taste"], last["units/failed/KeyError"]) == (10, 1, 1)
    assert last["units/done"] == 12 and last["units per second"] > 0 and last["bytes"] > 0
    assert logged[-1] == {"exit": 0}


def test_ctrl_c_leaves_a_state_that_resumes(tmp_path: Path) -> None:
    import signal

    from tests.datagen.job.test_job import RUN, hashes

    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "whole")], check=True, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "out")], stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("done/*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(20) != 0
    assert time.monotonic() - started < 10  # does not wait for what is being made
    assert not json.loads((tmp_path / "out" / "job.json").read_text())["inputs"]
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "out")], check=True, stderr=subprocess.DEVNULL)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    assert not [entry for entry in os.listdir("/proc") if entry == str(process.pid)]
