"""Tasks and results of loading, and the simplest pool, which loads in the calling thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

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


def costs_one_sample(error: Exception) -> bool:
    """Whether an exception concerns one sample's bytes, which is counted. All others stop the run."""
    return isinstance(error, ValueError | OSError) and not isinstance(error, UserError)


def reason_of(error: Exception) -> str:
    """Return an exception's message as one line of at most 300 characters, for the list of skipped samples."""
    return one_line(error, 300) or type(error).__name__


class Pool(Protocol):
    """A loader of items. A context manager that closes without delay, whatever its state."""

    def submit(self, task: Task) -> None:
        """Add a task. Tasks are started in the order in which they were added."""

    def next(self) -> Result:
        """Wait for a result of a submitted task. Results come in any order, exactly one per task.

        Raises:
            UserError: raised by the loading function.
            LoadError: the loading function has a defect, or the workers cannot start.
            Stopped: `stop` was called.
        """

    def tend(self) -> None:
        """Assign more tasks to the workers, if there are any, without waiting. For a caller with other work to do."""
        return

    def free(self, result: Result) -> None:
        """Release the shared memory, if any, of a result's arrays, which are no longer used."""
        return

    def stop(self) -> None:
        """Make `next` raise `Stopped`, now and later. May be called from another thread."""

    def __enter__(self) -> Pool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess(Pool):
    """A pool that loads in the calling thread, without a deadline."""

    def __init__(self, load: Callable[[Any], Any], *, key_of: Callable[[int], str]) -> None:
        self._load, self._key_of = load, key_of
        self._tasks: deque[Task] = deque()
        self._stopped = threading.Event()

    @override
    def __enter__(self) -> InProcess:
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._tasks.clear()

    @override
    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    @override
    def next(self) -> Result:
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

    @override
    def stop(self) -> None:
        self._stopped.set()
