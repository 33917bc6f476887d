"""A data job's page in Weights & Biases. The only module of `datagen` that imports wandb, and only for `--wandb`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from varyforge.shards import ShardRecord

_EVERY_S = 10.0


class Tracker:
    """Logs throughput, outcomes and causes while the job runs. A context manager."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        import wandb  # noqa: PLC0415  # seconds to import

        self._run: Any = wandb.init(project=project, name=name, job_type="data", config=dict(config))
        self._started = self._logged = time.monotonic()
        self._before = self._shards = self._bytes = 0

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._run.finish(exit_code=0 if kind is None else 1)

    def units(self, done: Mapping[str, int]) -> None:
        """Log the counts of units by cause ("written", "rejected: min_chars" …) since the start, every 10 seconds."""
        now = time.monotonic()
        if now - self._logged >= _EVERY_S:
            self._log(done, now)

    def shard(self, record: ShardRecord) -> None:
        """Count a finished shard."""
        self._shards += 1
        self._bytes += record.tar_bytes

    def end(self, done: Mapping[str, int]) -> None:
        """Log the last counts, and the units per second of the whole job."""
        now = time.monotonic()
        self._before, self._logged = 0, self._started
        self._log(done, now)

    def _log(self, done: Mapping[str, int], now: float) -> None:
        units = sum(done.values())
        values: dict[str, float] = {f"units/{cause.replace(': ', '/')}": count for cause, count in done.items()}
        values |= {"units/done": units, "shards": self._shards, "bytes": self._bytes}
        values["units per second"] = (units - self._before) / max(now - self._logged, 1e-9)
        self._run.log(values)
        self._logged, self._before = now, units
