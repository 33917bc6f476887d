"""Runners of tasks: threads of this process, each with its own child process, or Ray (`datagen.job.ray_runner`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, Protocol, TypeVar

from typing_extensions import override

LARGE = 2000
"""Units from which a job is worth the seconds that a cluster takes to start."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[Mapping[str, int]], None]
"""Takes counts since the last call, by name: {"written": 1}, {"rejected: min_chars": 1}. Cheap to call."""

Task = Callable[[Item, Tick], Result]


class Runner(Protocol):
    """A way to run tasks."""

    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        """Yield results as they come, in any order, few in memory at a time. Raises what a task raises."""
        ...

    def state(self) -> str:
        """Return a line on where tasks run and what is free there, for the report of a standstill."""
        ...

    def for_units(self, units: int) -> Runner:
        """Return the runner of a step with so many units in all."""
        return self


class LocalRunner(Runner):
    """A runner with `workers` threads of this process. Threads suffice, since their children do the work on units.

    The threads live as long as the runner, and each keeps its child (`datagen.job.isolate.child_of`) from the scan of
    the inputs to the making of the shards. A context manager that closes the runner.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._jobs = queue.SimpleQueue[Callable[[], None] | None]()

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # after Ctrl-C nothing is waited for
            self.close()

    def __del__(self) -> None:
        self._end()

    def close(self) -> None:
        """Wait until the threads and their children have ended.

        Otherwise they end by themselves after the runner. If the interpreter is shutting down by then, that may abort
        the process.
        """
        self._end()
        while self._threads:
            self._threads.pop().join()

    @override
    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        lock, stopped = threading.Lock(), threading.Event()
        waiting, ended = iter(items), queue.SimpleQueue[tuple[bool, Any]]()

        def tick_alone(done: Mapping[str, int]) -> None:
            with lock:
                if stopped.is_set():
                    raise SystemExit  # the run has ended without this task
                tick(done)

        def work() -> None:
            while True:
                with lock:
                    item = next(waiting, None)
                if item is None or stopped.is_set():
                    return
                try:
                    ended.put((True, task(item, tick_alone)))
                except Exception as error:  # raised again in the thread that takes the results
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
            self._jobs.put(None)

    def _ask(self, work: Callable[[], None]) -> None:
        self._jobs.put(work)
        if len(self._threads) < self._workers:
            # Daemon threads, so that Ctrl-C need not wait. Their children die with them.
            name = f"worker {len(self._threads)}"
            thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    @override
    def state(self) -> str:
        return f"{self._workers} threads of this process"


class SizedRunner(Runner):
    """A runner that starts another one, e.g. Ray, for the first large step, and runs small steps in threads.

    A context manager that closes both.
    """

    def __init__(self, small: LocalRunner, large: Callable[[], AbstractContextManager[Runner]]) -> None:
        self._small = small
        self._start = large
        self._large: Runner | None = None
        self._stack = ExitStack()

    def __enter__(self) -> SizedRunner:
        self._stack.enter_context(self._small)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @override
    def for_units(self, units: int) -> Runner:
        if units < LARGE:
            return self._small
        if self._large is None:
            self._large = self._stack.enter_context(self._start())
        return self._large

    @override
    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        return self.for_units(len(items)).run(task, items, tick)

    @override
    def state(self) -> str:
        return (self._large or self._small).state()


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """Run jobs until None comes. A function without a reference to the runner, so that the runner can be collected."""
    while work := jobs.get():
        with suppress(SystemExit):
            work()
        del work  # and what it refers to
