"""Where tasks run: here in threads, each with its own child process, or on Ray (`datagen.ray_runner`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[Mapping[str, int]], None]
"""Told what got done since the last call, by name: {"written": 1}, {"rejected: blank": 1}. Cheap to call."""

Task = Callable[[Item, Tick], Result]


class Runner(Protocol):
    """Runs tasks somewhere."""

    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        """Yields results as they come, in any order; raises what a task raised. Holds few results at a time."""
        ...

    def state(self) -> str:
        """A line on where tasks run and what is free there, for the report of a job that stands still."""
        ...


class LocalRunner:
    """Tasks in `workers` threads of this process; the units' work is done by their children, so threads suffice."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        """See `Runner`."""
        lock, stopped = threading.Lock(), threading.Event()
        waiting, ended = iter(items), queue.SimpleQueue[tuple[bool, Any]]()

        def tick_alone(done: Mapping[str, int]) -> None:
            with lock:
                if stopped.is_set():
                    raise SystemExit  # nobody waits for this task any more; ends the thread
                tick(done)

        def work() -> None:
            while True:
                with lock:
                    item = next(waiting, None)
                if item is None or stopped.is_set():
                    return
                try:
                    ended.put((True, task(item, tick_alone)))
                except Exception as error:  # raised again where the results are taken
                    ended.put((False, error))

        for number in range(min(self._workers, len(items))):
            # Daemons: Ctrl-C need not wait for them. Their children die with them.
            threading.Thread(target=work, name=f"worker {number}", daemon=True).start()
        try:
            for _ in items:
                good, result = ended.get()
                if not good:
                    raise result
                yield result
        finally:
            stopped.set()

    def state(self) -> str:
        """See `Runner`."""
        return f"{self._workers} threads of this process"
