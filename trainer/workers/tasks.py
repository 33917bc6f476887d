"""Items to load and what becomes of them; and the simplest way to load them, in the calling thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from trainer.workers.forkserver import costs_one_sample, reason_of


class LoadError(RuntimeError):
    """A defect in the loading function, or a worker that cannot start; with its traceback."""


class Stopped(Exception):
    """`stop` was called while a result was waited for."""


@dataclass(frozen=True, slots=True)
class Task:
    """An item to load."""

    tag: int  # comes back with the result; of no other task that is not yet answered
    item: Any  # what the loading function is given; small
    pixel_bytes: int = 0  # expected of the result's arrays; 0: it needs no shared memory


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task: a value, or the reason why there is none. `free` it when its arrays were copied."""

    tag: int
    value: Any = None
    reason: str | None = None
    slot: int | None = None


class Pool(Protocol):
    """Loads items. A context manager: closed without delay, whatever its state."""

    def submit(self, task: Task) -> None:
        """Adds a task; those added first are begun first."""

    def next(self) -> Result:
        """Waits for a result of a task that was submitted: in any order, exactly one for each.

        Raises:
            UserError: the loading function's.
            LoadError, Stopped
        """

    def tend(self) -> None:
        """Gives the workers more to do, without waiting: for whoever is busy with something else meanwhile."""

    def free(self, result: Result) -> None:
        """The arrays of a result are no longer looked at."""

    def stop(self) -> None:
        """From another thread: `next` raises `Stopped`, now and later."""

    def __enter__(self) -> Pool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess:
    """Loads in the calling thread. No deadline: nobody is there to watch."""

    def __init__(self, load: Callable[[Any], Any], *, key_of: Callable[[int], str]) -> None:
        self._load, self._key_of = load, key_of
        self._tasks: deque[Task] = deque()
        self._stopped = threading.Event()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.clear()

    def submit(self, task: Task) -> None:
        """See `Pool`."""
        self._tasks.append(task)

    def next(self) -> Result:
        """See `Pool`."""
        if self._stopped.is_set():
            raise Stopped
        task = self._tasks.popleft()
        try:
            return Result(task.tag, self._load(task.item))
        except Exception as error:  # the boundary between a bad sample and a defect
            if costs_one_sample(error):
                return Result(task.tag, reason=reason_of(error))
            error.add_note(f"while loading sample {self._key_of(task.tag)}")
            raise

    def tend(self) -> None:
        """See `Pool`; there is nobody to tend."""

    def free(self, result: Result) -> None:
        """See `Pool`; the arrays are their own."""

    def stop(self) -> None:
        """See `Pool`."""
        self._stopped.set()
