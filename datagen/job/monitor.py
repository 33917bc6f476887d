"""Moved from datagen.job.job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from datagen.job.runner import Runner
from datagen.job.settings import JobSettings
from datagen.job.track import Tracker
from datagen.job.watchdog import Watchdog
from varyforge.console import Progress, warn
from varyforge.shards import ShardRecord


class Monitor:
    """Progress on the terminal and in W&B, and the watchdog. A context manager."""

    def __init__(self, runner: Runner, settings: JobSettings, tracker: Tracker | None) -> None:
        self._runner = runner
        self._tracker = tracker
        self._minutes = settings.stall_minutes
        self._watchdog = Watchdog(60 * settings.stall_minutes, self._stalled)
        self._progress: Progress | None = None
        self._done: Counter[str] = Counter()

    def __enter__(self) -> Monitor:
        self._watchdog.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watchdog.__exit__(*error)

    def watch(self, title: str, total: int, unit: str) -> Progress:
        """A progress bar that `tick` moves."""
        self._done.clear()
        self._progress = Progress(title, total=total, unit=unit)
        return self._progress

    def tick(self, done: Mapping[str, int]) -> None:
        """See `datagen.job.runner.Tick`."""
        self._watchdog.fed()
        self._done.update(done)
        assert self._progress is not None
        kinds: Counter[str] = Counter()
        for cause, count in self._done.items():
            kinds[cause.partition(":")[0]] += count
        note = ", ".join(f"{kinds[kind]} {kind}" for kind in ("written", "rejected", "failed") if kinds[kind])
        self._progress.advance(sum(done.values()), note)
        if self._tracker and kinds["scanned"] == 0:
            self._tracker.units(self._done)

    def shard_done(self, record: ShardRecord) -> None:
        """A shard is finished."""
        self._watchdog.fed()
        if self._tracker:
            self._tracker.shard(record)

    def alive(self) -> None:
        """Something moves that no unit counts for."""
        self._watchdog.fed()

    def made(self) -> None:
        """All shards are there."""
        if self._tracker:
            self._tracker.end(self._done)

    def _stalled(self, stacks: str) -> None:
        warn(f"no progress for {self._minutes:g} min; {self._runner.state()}; this process stands here:\n{stacks}")
