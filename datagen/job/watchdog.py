"""Reports a standstill, with the stack of every thread."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

STALL_MINUTES = 10.0
"""Default time without progress after which a job reports a standstill."""


class Watchdog:
    """Calls `report` with the stacks of all threads after `patience_s` without a call of `reset`. A context manager.

    Each standstill is reported once. The cause may be a slow disk, so nothing is killed.
    """

    def __init__(self, patience_s: float, report: Callable[[str], None]) -> None:
        self._patience_s = patience_s
        self._report = report
        self._last_reset = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def reset(self) -> None:
        """Start the wait anew: there was progress."""
        self._last_reset = time.monotonic()

    def _watch(self) -> None:
        reported = None
        while not self._ended.wait(min(self._patience_s / 4, 5.0)):
            last_reset = self._last_reset
            if time.monotonic() - last_reset >= self._patience_s and reported != last_reset:
                reported = last_reset
                self._report(thread_stacks())


def thread_stacks() -> str:
    """Return the stack of each thread of this process, a line per call, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if names.get(ident) == "watchdog":
            continue
        calls = (
            f"  {Path(entry.filename).name}:{entry.lineno} {entry.name}: {entry.line}"
            for entry in traceback.extract_stack(frame)
        )
        parts.append("\n".join([f"thread {names.get(ident, ident)}:", *calls]))
    return "\n".join(parts)
