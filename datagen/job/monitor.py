"""The progress of a running job: on the terminal, in Weights & Biases, and to the watchdog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from datagen.job.runner import Runner
from datagen.job.track import Tracker
from datagen.job.watchdog import STALL_MINUTES, Watchdog
from varyforge.console import Progress, warn
from varyforge.shards import ShardRecord


class Monitor:
    """Shows and tracks progress, and warns when there is none. A context manager."""

    def __init__(self, runner: Runner, tracker: Tracker | None = None, stall_minutes: float = STALL_MINUTES) -> None:
        self._runner = runner
        self._tracker = tracker
        self._minutes = stall_minutes
        self._watchdog = Watchdog(60 * stall_minutes, self._stalled)
        self._progress: Progress | None = None
        self._done: Counter[str] = Counter()

    def __enter__(self) -> Monitor:
        self._watchdog.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watchdog.__exit__(*error)

    def watch(self, title: str, total: int, unit: str) -> Progress:
        """Return a progress bar that `tick` moves. Its counts start at 0."""
        self._done.clear()
        self._progress = Progress(title, total=total, unit=unit)
        return self._progress

    def tick(self, done: Mapping[str, int]) -> None:
        """Count what got done since the last call: a `datagen.job.runner.Tick`."""
        self._watchdog.reset()
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
        """Count a finished shard."""
        self._watchdog.reset()
        if self._tracker:
            self._tracker.shard(record)

    def alive(self) -> None:
        """Reset the watchdog during work that no unit counts for."""
        self._watchdog.reset()

    def end(self) -> None:
        """Track the counts of the whole job, when all its shards are finished."""
        if self._tracker:
            self._tracker.end(self._done)

    def _stalled(self, stacks: str) -> None:
        warn(f"no progress for {self._minutes:g} min; {self._runner.state()}; the stacks of this process:\n{stacks}")
