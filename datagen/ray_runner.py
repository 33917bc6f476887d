"""The runner on Ray. The only module that imports ray.

What travels is plans (paths and numbers) and manifest lines; pixels stay inside the task that makes and writes them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone

import ray

from datagen.console import say
from datagen.errors import UserError
from datagen.plan import ShardPlan
from datagen.shards import ShardRecord

_OBJECT_STORE_BYTES = 128 << 20  # ample for plans; Ray's default is 30 % of the memory


class RayRunner:
    """Runs tasks on Ray: a cluster at `address` (or RAY_ADDRESS), else one started on this machine. A context manager.

    Args:
        workers: tasks at a time; None: one per CPU that Ray has.
        address: of a running cluster, e.g. "auto" or "ray://head:10001".
    """

    def __init__(self, *, workers: int | None = None, address: str | None = None) -> None:
        self._workers = workers
        self._address = address or os.environ.get("RAY_ADDRESS")

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
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"no Ray cluster at {self._address}: {reason}; start one or leave --address away"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()

    def run(self, task: Callable[[ShardPlan], ShardRecord], plans: Sequence[ShardPlan]) -> Iterator[ShardRecord]:
        """See `datagen.job.Runner`. A task whose worker dies is run again; its shard comes out the same."""
        remote = ray.remote(num_cpus=1, max_retries=3)(_call)
        shared = ray.put(task)  # the source's settings travel once, not with every plan
        at_a_time = self._workers or int(ray.cluster_resources().get("CPU", 1))
        waiting = iter(plans)
        # Twice as many as run: a worker that ends one finds the next already there.
        running = [remote.remote(shared, plan) for plan in islice(waiting, 2 * at_a_time)]
        while running:
            done, running = ray.wait(running, num_returns=1)
            running += [remote.remote(shared, plan) for plan in islice(waiting, 1)]
            yield ray.get(done[0])


def _call(task: Callable[[ShardPlan], ShardRecord], plan: ShardPlan) -> ShardRecord:
    return task(plan)
