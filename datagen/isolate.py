"""A child process in which a source's code may hang, crash or eat memory without harm to anyone else.

The child is a fresh interpreter (never a fork: Ray workers and torch have threads), gets the source once, and then
answers one call at a time over a pipe. It dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal

from datagen.errors import UserError
from datagen.unit import Failed, Source

_DEATH_SIGNAL_OPTION = 1  # PR_SET_PDEATHSIG of prctl(2)
_START_ALLOWANCE_S = 60  # a cold interpreter on a loaded machine
_WHOLE_FILE = 10  # cutting a file into units reads all of it and may take so many times a unit's deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a unit may use."""

    deadline_s: float = 60.0  # wall clock per unit
    memory_mb: int = 4096  # address space of the child, MiB

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.memory_mb > 0):
            raise UserError(f"deadline {self.deadline_s} s and memory {self.memory_mb} MiB must be above 0")


class Child:
    """A killable child for one source. A context manager; starts on the first call and again after a death."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._stderr = tempfile.TemporaryFile()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._stderr.close()

    def call(self, method: Literal["units", "make"], argument: object) -> Any:
        """`source.method(argument)` from the child, or `Failed`: timeout, memory, crash, or the exception's name.

        A crash is tried once more in a fresh child: the kernel may have killed the first one for someone else's hunger.
        """
        answer = self._call(method, argument)
        if isinstance(answer, Failed) and answer.reason == "crash":
            answer = self._call(method, argument)
        return answer

    def _call(self, method: str, argument: object) -> Any:
        if self._process is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send((method, argument))
            deadline_s = self._limits.deadline_s * (_WHOLE_FILE if method == "units" else 1)
            if not self._pipe.poll(deadline_s):
                self._kill()
                return Failed(reason="timeout", detail=f"no result after {deadline_s:g} s")
            return self._pipe.recv()
        except (EOFError, OSError):
            return Failed(reason="crash", detail=self._kill())

    def _start(self) -> None:
        ours, theirs = Pipe()
        self._stderr.seek(0)
        self._stderr.truncate()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "datagen.isolate", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        theirs.close()
        self._pipe = ours
        try:
            ours.send((self._source, self._limits.memory_mb))
            if ours.poll(_START_ALLOWANCE_S) and ours.recv() == "ready":
                return
        except (EOFError, OSError):
            pass
        raise RuntimeError(f"the child process for {self._source.name!r} did not start: {self._kill()}")

    def _kill(self) -> str:
        """Ends the child, if there is one; says how it ended and its last line on stderr."""
        if self._process is None or self._pipe is None:
            return "no process"
        self._pipe.close()
        try:
            status = self._process.wait(0.2)  # it may be dying by itself: keep its own signal
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process = self._pipe = None
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return f"{ended}: {lines[-1][:200]}" if lines else ended


def _serve(pipe: Connection, parent: int) -> None:
    """The child's side: take the source, then answer calls until the pipe closes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL_OPTION, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the option was set
            return
    source, memory_mb = pipe.recv()
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    pipe.send("ready")
    while True:
        try:
            method, argument = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(source, method, argument))


def _answer(source: Source, method: str, argument: Any) -> Any:
    try:
        return getattr(source, method)(argument)
    except MemoryError:
        return Failed(reason="memory", detail="over the memory cap")
    except Exception as error:  # the boundary: whatever a unit raises is its ledger row
        return Failed(reason=_reason(error), detail=" ".join(str(error).split())[:200])


def _reason(error: Exception) -> str:
    """`unreadable` for what an input can be blamed for, else the exception's name: likely a defect of ours."""
    return "unreadable" if isinstance(error, OSError | ValueError) else type(error).__name__


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
