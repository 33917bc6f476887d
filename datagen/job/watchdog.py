"""Notices that nothing moves any more, and says where everyone stands."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path


class Watchdog:
    """Calls `report` with the stacks of all threads when `fed` was not called for `patience_s`. A context manager.

    It reports once per standstill and goes on watching: what stands still may be a slow disk, and is not killed.
    """

    def __init__(self, patience_s: float, report: Callable[[str], None]) -> None:
        self._patience_s = patience_s
        self._report = report
        self._fed = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def fed(self) -> None:
        """Something moved."""
        self._fed = time.monotonic()

    def _watch(self) -> None:
        reported = None
        while not self._ended.wait(min(self._patience_s / 4, 5.0)):
            fed = self._fed
            if time.monotonic() - fed >= self._patience_s and reported != fed:
                reported = fed
                self._report(stacks())


def stacks() -> str:
    """Where each thread of this process stands, innermost call last, a line per call."""
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
