"""The runner on Ray. The only module that imports ray.

Only plans (paths and numbers) and shard records travel. Pixels stay inside the task that makes and writes them.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from typing_extensions import override

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent

import ray

from datagen.job.runner import Item, Result, Runner, Task, Tick
from datagen.job.watchdog import STALL_MINUTES, Watchdog
from varyforge.console import say, warn
from varyforge.errors import UserError
from varyforge.processes import one_line

_OBJECT_STORE_BYTES = 128 << 20  # enough for plans; Ray's default is 30 % of the memory
_REPORT_EVERY_S = 1.0
_RETRIES = 20  # per task whose worker or node died


class RayRunner(Runner):
    """Runs tasks on a Ray cluster: at `address` or RAY_ADDRESS, else one started on this machine. A context manager.

    Args:
        workers: tasks at a time; None: one per CPU of the cluster.
        address: of a running cluster, e.g. "auto" or "ray://head:10001".
        stall_minutes: time without progress after which a task reports its stacks.
    """

    def __init__(
        self, *, workers: int | None = None, address: str | None = None, stall_minutes: float = STALL_MINUTES
    ) -> None:
        self._workers = workers
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._stall_s = 60 * stall_minutes

    def __enter__(self) -> RayRunner:
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if not self._address:
            cpus = self._workers or len(os.sched_getaffinity(0))
            quiet |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
            ray.init(address="local", num_cpus=cpus, **quiet)
            return self
        say(f"connecting to Ray at {self._address}")
        try:
            ray.init(address=self._address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--address {self._address}: cannot join that Ray cluster: {one_line(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    @override
    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        """Also run a task again whose worker or node died. Its shard has the same bytes then."""
        progress: Any = ray.remote(_ProgressActor).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)
        shared = ray.put(task)  # the source's settings travel once, not with every plan
        waiting = iter(items)
        running: list[Any] = []
        while True:
            # Without a number of workers, submit two tasks per CPU, so that a worker never waits for its next one.
            room = (self._workers or 2 * int(ray.cluster_resources().get("CPU", 1))) - len(running)
            running += [remote.remote(shared, item, progress, self._stall_s) for item in islice(waiting, max(room, 0))]
            if not running:
                break
            done, running = ray.wait(running, num_returns=1, timeout=_REPORT_EVERY_S)
            self._report(progress, tick)
            for result in done:
                yield _result(result)
        self._report(progress, tick)  # the actor ends with its last handle

    @override
    def state(self) -> str:
        free, total = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
        alive = sum(bool(node["Alive"]) for node in ray.nodes())
        return f"Ray: {alive} nodes alive, {free:g} of {total:g} CPUs free"

    def _report(self, progress: Any, tick: Tick) -> None:
        try:
            done, stalls = ray.get(progress.take.remote(), timeout=_REPORT_EVERY_S)
        except ray.exceptions.RayError:  # its node is gone or busy; the counts are only shown, the records count
            return
        if done:
            tick(done)
        for stall in stalls:
            warn(stall)


def _result(reference: Any) -> Any:
    """Return a task's result. Raises what the task raised, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        times = f"a worker died {_RETRIES + 1} times over one shard, probably out of memory"
        raise UserError(f"{times}; lower --workers or --memory: {one_line(error)}") from error


class _ProgressActor:
    """The progress of all tasks: an actor, since the result of a task comes only when its shard is finished."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._stalls: list[str] = []

    def add(self, done: Mapping[str, int]) -> None:
        self._done.update(done)

    def stalled(self, report: str) -> None:
        self._stalls.append(report)

    def take(self) -> tuple[dict[str, int], list[str]]:
        done, stalls = dict(self._done), self._stalls
        self._done, self._stalls = Counter(), []
        return done, stalls


def _call(task: Task[Item, Result], item: Item, progress: Any, stall_s: float) -> Result:
    done: Counter[str] = Counter()
    last_report = time.monotonic()

    def report(stacks: str) -> None:
        process = f"pid {os.getpid()} on {socket.gethostname()}"
        progress.stalled.remote(f"no progress for {stall_s / 60:g} min in a task, {process}:\n{stacks}")

    with Watchdog(stall_s, report) as watchdog:

        def tick(more: Mapping[str, int]) -> None:
            nonlocal last_report
            watchdog.reset()
            done.update(more)
            if time.monotonic() - last_report > _REPORT_EVERY_S:
                last_report = time.monotonic()
                progress.add.remote(dict(done))
                done.clear()

        result = task(item, tick)
    progress.add.remote(dict(done))
    return result
