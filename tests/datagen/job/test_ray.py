"""Behaviour on a Ray cluster: traffic, dying workers and nodes, an existing cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.ray_runner import RayRunner
from datagen.job.runner import Item, LocalRunner, Result, Task, Tick
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource
from tests.datagen.job.test_job import hashes
from tests.datagen.sources import FaultySource, LinesSource
from varyforge.errors import UserError

SETTINGS = JobSettings(units_per_shard=4, limits=Limits(deadline_s=30))


class Weighing(LocalRunner):
    """Adds up what Ray would have to carry: tasks' arguments and results."""

    def __init__(self) -> None:
        super().__init__(2)
        self.bytes = 0

    def run(self, task: Task[Item, Result], items: list[Item], tick: Tick) -> Iterator[Result]:  # type: ignore[override]
        self.bytes += len(cloudpickle.dumps(task)) + sum(len(cloudpickle.dumps(item)) for item in items)
        for result in super().run(task, items, tick):
            self.bytes += len(cloudpickle.dumps(result))
            yield result


def test_little_travels_per_page(tmp_path: Path, documents: Path) -> None:
    runner = Weighing()
    settings = replace(SETTINGS, units_per_shard=64)
    summary = run_job(PdfSource(paths=[str(documents)], short_side_px=128), tmp_path, settings, runner)
    assert summary.units >= 10
    assert runner.bytes / summary.units < 1000  # paths and numbers; promised are 10 kB


@contextmanager
def killing(pattern: bytes, every_s: float) -> Iterator[list[int]]:
    """Kills a process of this user whose command line holds `pattern`, again and again."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.wait(every_s):
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdigit() and pattern in (entry / "cmdline").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
                        killed.append(int(entry.name))
                        break
                except OSError:
                    continue

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_killed_workers_do_not_show_in_the_bytes(tmp_path: Path) -> None:
    source = FaultySource(units_per_input=20, nap_s=0.05)
    run_job(source, tmp_path / "whole", SETTINGS, LocalRunner(2))
    with RayRunner(workers=2) as runner, killing(b"ray::_call", every_s=2.5) as killed:
        run_job(source, tmp_path / "killed", SETTINGS, runner)
    assert killed
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


@pytest.mark.slow
def test_a_task_that_stands_still_reports_its_stacks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(f"wait {tmp_path / 'flag'}")
    source = LinesSource(paths=[str(tmp_path / "in")])

    def end_the_wait() -> None:
        while not (tmp_path / "out" / "job.json").exists():
            time.sleep(0.1)
        time.sleep(7)
        (tmp_path / "flag").touch()

    threading.Thread(target=end_the_wait).start()
    settings = replace(SETTINGS, stall_minutes=3 / 60)
    with RayRunner(workers=1, stall_minutes=2 / 60) as runner:
        assert run_job(source, tmp_path / "out", settings, runner).samples == 1
    said = capfd.readouterr().err
    assert "in a task, pid" in said and "isolate.py" in said  # of the worker
    assert "the stacks of this process" in said and "of 1 CPUs free" in said  # of the driver


def full_disk(item: int, tick: Tick) -> None:
    raise OSError(28, "No space left on device", "/out/x.tar")


def users_mistake(item: int, tick: Tick) -> None:
    raise UserError("one line")


def stamp(item: Path, tick: Tick) -> float:
    item.touch()
    time.sleep(0.5)
    running = len(list(item.parent.iterdir()))
    item.unlink()
    return running


@pytest.mark.slow
def test_errors_come_as_they_were_raised_and_workers_are_not_exceeded(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        with pytest.raises(OSError) as raised:
            list(runner.run(full_disk, [1], lambda _: None))
        assert raised.value.filename == "/out/x.tar"
        with pytest.raises(UserError, match=r"^one line$"):
            list(runner.run(users_mistake, [1], lambda _: None))
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        tasks = [tmp_path / str(number) for number in range(8)]
        assert max(RayRunner(workers=2).run(stamp, tasks, lambda _: None)) <= 2
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_node_that_dies_costs_nothing(tmp_path: Path) -> None:
    source = FaultySource(units_per_input=60, nap_s=0.1)
    run_job(source, tmp_path / "whole", SETTINGS, LocalRunner(2))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    failures = []

    def kill_one() -> None:
        while len(list((tmp_path / "killed").glob("done/*.json"))) < 4:
            time.sleep(0.1)
        try:
            cluster.remove_node(nodes[0], allow_graceful=False)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        with RayRunner(address=cluster.address) as runner:
            run_job(source, tmp_path / "killed", SETTINGS, runner)
            assert sum(bool(node["Alive"]) for node in ray.nodes()) == 2
    finally:
        thread.join()
        cluster.shutdown()
    assert not failures
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
