"""Progress of a job: on the terminal, in Weights & Biases, and its absence."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from datagen.job import track
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner
from datagen.job.track import Tracker
from datagen.job.watchdog import Watchdog, thread_stacks
from tests.datagen.job.test_workspace import record


class Log:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def units(self, done: Mapping[str, int]) -> None:
        self.calls.append(("units", dict(done)))

    def shard(self, one: Any) -> None:
        self.calls.append(("shard", one.name))

    def end(self, done: Mapping[str, int]) -> None:
        self.calls.append(("end", dict(done)))


def test_ticks_are_counted_by_cause_and_shown_by_outcome(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    with Monitor(LocalRunner(), log) as monitor, monitor.watch("pdf", 4, "unit"):  # type: ignore[arg-type]
        monitor.tick({"written": 2})
        monitor.tick({"rejected: min_chars": 1, "failed: crash": 1})
        monitor.shard_done(record("pdf-0"))
        monitor.end()
    everything = {"written": 2, "rejected: min_chars": 1, "failed: crash": 1}
    assert log.calls == [("units", {"written": 2}), ("units", everything), ("shard", "pdf-0"), ("end", everything)]
    line = capfd.readouterr().err.strip()
    assert line.startswith("pdf: 4/4 units") and line.endswith("2 written, 1 rejected, 1 failed")


def test_scanning_is_shown_and_not_tracked(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    with Monitor(LocalRunner(), log) as monitor:  # type: ignore[arg-type]
        with monitor.watch("planning", 2, "file"):
            monitor.tick({"scanned": 2})
            monitor.tick({})  # a sign of life
        with monitor.watch("pdf", 1, "unit"):
            monitor.tick({"written": 1})  # counts begin anew
    assert log.calls == [("units", {"written": 1})]
    assert "planning: 2/2 files" in capfd.readouterr().err


def test_a_standstill_names_runner_and_code(capfd: pytest.CaptureFixture[str]) -> None:
    with Monitor(LocalRunner(3), stall_minutes=0.2 / 60):
        time.sleep(0.6)
    text = capfd.readouterr().err
    assert "no progress for 0.00333333 min; 3 threads of this process; the stacks of this process:" in text
    assert "test_monitor.py" in text and "time.sleep(0.6)" in text


@pytest.mark.parametrize("sign", ["tick", "alive", "shard_done"])
def test_every_sign_of_progress_counts(sign: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {"tick": ({},), "alive": (), "shard_done": (record("pdf-0"),)}[sign]
    with Monitor(LocalRunner(), stall_minutes=0.6 / 60) as monitor, monitor.watch("pdf", 1, "unit"):
        for _ in range(12):
            time.sleep(0.1)
            getattr(monitor, sign)(*arguments)
    assert "no progress" not in capfd.readouterr().err


def test_a_watchdog_that_has_ended_is_silent() -> None:
    reports: list[str] = []
    with Watchdog(0.05, reports.append) as watchdog:
        watchdog.reset()
    time.sleep(0.2)
    before = len(reports)
    time.sleep(0.2)
    assert len(reports) == before <= 1


def test_stacks_name_every_thread_and_its_calls() -> None:
    go_on = threading.Event()

    def waiting_for_the_event() -> None:
        go_on.wait(20)

    thread = threading.Thread(target=waiting_for_the_event, name="the waiting one")
    thread.start()
    try:
        parts = {part.splitlines()[0]: part for part in thread_stacks().split("\nthread ")}
    finally:
        go_on.set()
        thread.join()
    (waits,) = (part for name, part in parts.items() if "the waiting one" in name)
    assert "waiting_for_the_event: go_on.wait(20)" in waits and "test_monitor.py" in waits
    assert any("MainThread" in name for name in parts) and not any("watchdog" in name for name in parts)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a run of Weights & Biases is told; none is there."""
    calls: list[Any] = []
    run = SimpleNamespace(log=calls.append, finish=lambda exit_code: calls.append(f"exit {exit_code}"))
    module = SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", module)  # type: ignore[arg-type]
    return calls


def test_a_tracker_logs_seldom_and_at_the_end(wandb: list[Any]) -> None:
    with Tracker("papers", "shards/pdf", {"source": "pdf"}) as tracker:
        for done in range(1, 50):
            tracker.units({"written": done})
        tracker.shard(record("pdf-0", tar_bytes=700))
        tracker.shard(record("pdf-1", tar_bytes=300))
        tracker.end({"written": 49, "failed: crash": 1})
    first, last, end = wandb
    assert first == {"project": "papers", "name": "shards/pdf", "job_type": "data", "config": {"source": "pdf"}}
    assert (last["units/written"], last["units/failed/crash"], last["units/done"]) == (49, 1, 50)
    assert (last["shards"], last["bytes"]) == (2, 1000) and last["units per second"] > 0
    assert end == "exit 0"


def test_speed_is_that_since_the_last_time(wandb: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 12.0, 30.0, 40.0])
    monkeypatch.setattr(track.time, "monotonic", lambda: next(clock))
    with Tracker("papers", "pdf", {}) as tracker:
        tracker.units({"written": 24})
        tracker.units({"written": 60})
        tracker.end({"written": 80})
    assert [call["units per second"] for call in wandb[1:4]] == [2.0, 2.0, 2.0]


def test_a_job_that_breaks_is_a_failed_run(wandb: list[Any]) -> None:
    with pytest.raises(ValueError, match="broken"), Tracker("papers", "pdf", {}):
        raise ValueError("broken")
    assert wandb[-1] == "exit 1"
