"""Where tasks run: here in threads, each with its own child process, or on Ray (`datagen.job.ray_runner`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[Mapping[str, int]], None]
"""Told what got done since the last call, by name: {"written": 1}, {"rejected: min_chars": 1}. Cheap to call."""

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
    """Tasks in `workers` threads of this process; the units' work is done by their children, so threads suffice.

    The threads live as long as the runner, and with each its child (see `datagen.job.isolate.child_of`): what scans the
    inputs goes on to make the shards. A context manager, which closes it.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._asked = queue.SimpleQueue[Callable[[], None] | None]()

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # Ctrl-C waits for nobody
            self.close()

    def __del__(self) -> None:
        self._end()

    def close(self) -> None:
        """Waits until the threads and their children are gone.

        Without, they go by themselves after the runner; at the interpreter's end that may be in the middle of its own
        taking down, which aborts the process.
        """
        self._end()
        while self._threads:
            self._threads.pop().join()

    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        """See `Runner`."""
        lock, stopped = threading.Lock(), threading.Event()
        waiting, ended = iter(items), queue.SimpleQueue[tuple[bool, Any]]()

        def tick_alone(done: Mapping[str, int]) -> None:
            with lock:
                if stopped.is_set():
                    raise SystemExit  # nobody waits for this task any more
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

        for _ in range(min(self._workers, len(items))):
            self._ask(work)
        try:
            for _ in items:
                good, result = ended.get()
                if not good:
                    raise result
                yield result
        finally:
            stopped.set()

    def _end(self) -> None:
        for _ in self._threads:
            self._asked.put(None)

    def _ask(self, work: Callable[[], None]) -> None:
        self._asked.put(work)
        if len(self._threads) < self._workers:
            # Daemons: Ctrl-C need not wait for them. Their children die with them.
            name = f"worker {len(self._threads)}"
            thread = threading.Thread(target=_do, args=(self._asked,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def state(self) -> str:
        """See `Runner`."""
        return f"{self._workers} threads of this process"


def _do(asked: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """What a thread does: no reference to the runner, so that it can go."""
    while work := asked.get():
        with suppress(SystemExit):
            work()
        del work  # and what it refers to
