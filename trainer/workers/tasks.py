"""Tasks and results of loading, and the simplest pool, which loads in the calling thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from typing_extensions import override

from varyforge.errors import UserError
from varyforge.processes import one_line


class LoadError(RuntimeError):
    """A defect in the loading function, with its traceback, or a worker that cannot start."""


class Stopped(Exception):
    """`stop` was called while another thread waited for a result."""


@dataclass(frozen=True, slots=True)
class Task:
    """An item to load."""

    tag: int  # returned with the result; unique among the tasks without a result
    item: Any  # argument of the loading function; small
    pixel_bytes: int = 0  # expected size of the result's arrays; 0: no shared memory needed


@dataclass(frozen=True, slots=True)
class Result:
    """The value of a task, or the reason why there is none. Call `free` after copying its arrays."""

    tag: int
    value: Any = None
    reason: str | None = None
    slot: int | None = None


def skip_reason(error: Exception) -> str | None:
    """Return the message of an exception that concerns one sample's bytes, as one line; None if it ends the run."""
    if isinstance(error, ValueError | OSError) and not isinstance(error, UserError):
        return one_line(error, 300) or type(error).__name__
    return None


class Pool(ABC):
    """A loader of items. A context manager that closes without delay, whatever its state."""

    def __init__(self, key_of: Callable[[int], str]) -> None:
        """Take the function that returns a sample's key from its tag."""
        self._key_of = key_of
        self._tasks: deque[Task] = deque()  # that nobody loads yet
        self._stopped = threading.Event()

    def submit(self, task: Task) -> None:
        """Add a task. Tasks are started in the order in which they were added."""
        self._tasks.append(task)

    @abstractmethod
    def next(self) -> Result:
        """Wait for a result of a submitted task. Results come in any order, exactly one per task.

        Raises:
            UserError: raised by the loading function.
            LoadError: the loading function has a defect, or the workers cannot start.
            Stopped: `stop` was called.
        """

    def tend(self) -> None:  # noqa: B027  # nothing to do without workers
        """Assign more tasks to the workers, if there are any, without waiting. For a caller with other work to do."""

    def free(self, result: Result) -> None:  # noqa: B027  # nothing to do without shared memory
        """Release the shared memory, if any, of a result's arrays, which are no longer used."""

    def stop(self) -> None:
        """Make `next` raise `Stopped`, now and later. May be called from another thread."""
        self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.clear()


class InProcess(Pool):
    """A pool that loads in the calling thread, without a deadline."""

    def __init__(self, load: Callable[[Any], Any], *, key_of: Callable[[int], str]) -> None:
        super().__init__(key_of)
        self._load = load

    @override
    def next(self) -> Result:
        if self._stopped.is_set():
            raise Stopped
        task = self._tasks.popleft()
        try:
            return Result(task.tag, self._load(task.item))
        except Exception as error:  # the boundary between a bad sample and a defect
            if reason := skip_reason(error):
                return Result(task.tag, reason=reason)
            error.add_note(f"while loading sample {self._key_of(task.tag)}")
            raise
