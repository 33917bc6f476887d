"""A child process in which a source's code may hang, crash or exhaust memory without harm to the job.

The child is a fresh interpreter, never a fork, because Ray workers and torch have threads. The source is sent to the
child once, then calls over a pipe. The child dies with its parent, and is replaced after a number of units, which frees
what libraries leak.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

from datagen.source import Source, Unit, UnitView, under_licence
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed, Outcome, check_outcome
from varyforge.processes import describe_exit, detail_line, end_with_parent, is_out_of_memory

_START_ALLOWANCE_S = 60  # for a cold interpreter on a loaded machine
_WHOLE_FILE = 10  # unit deadlines per batch of units: cutting a file into units reads all of it
_UNITS_PER_MESSAGE = 1000
_END = ()  # the last message with units
_STDERR_BYTES = 64 << 10  # read from the end of stderr
_FILE_SIZE = 1 << 30  # bytes that a child may write to one file, stderr included
_STARTS = 3
_DETAIL_CHARACTERS = 1000  # of a failure that a source returns
_FRAME = re.compile(r'File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a unit, and of the child that makes it."""

    deadline_s: float = 60.0  # wall clock per unit
    memory_mb: int = 4096  # address space of the child, in MiB
    units_per_child: int = 1000  # the child is replaced after so many …
    seconds_per_child: float = 30.0  # … and so long: a start takes as long as 300 small images

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.memory_mb > 0 and self.units_per_child > 0):
            raise UserError(
                f"deadline {self.deadline_s} s, memory {self.memory_mb} MiB and "
                f"{self.units_per_child} units per child must be above 0"
            )


class _Broken(Exception):
    """Raised when the child gave no answer or ran out of memory, and was killed."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = "memory" if reason == "crash" and is_out_of_memory(detail) else reason

    def failure(self, files: Sequence[str]) -> Failed:
        """Return the outcome of the unit or input that the child worked on."""
        return Failed(reason=self.reason, detail=detail_line(self, files))


class Child:
    """A killable child process for one source, started by the first call and after each death. A context manager."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._end = -1  # a descriptor that becomes ready when the process has ended
        self._ready = select.poll()  # waits for `_pipe` and `_end`
        self._stderr = tempfile.TemporaryFile()
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)  # else a write after `truncate` lands behind NUL bytes
        self._units = 0  # made by this process, and inputs cut into units
        self._started = 0.0  # monotonic clock
        self._peak_kib = 0  # peak memory of the process when it was ready; Linux counts the parent's before `exec`

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._stderr.close()

    def __del__(self) -> None:
        if self._process is not None:  # a child from `child_of` ends with its worker's thread
            try:
                self._kill()
            except (TypeError, AttributeError, ImportError):  # the interpreter is ending, and the child with it
                pass

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Return `source.make(unit, files)`, or `Failed`: timeout, memory, crash, or the exception's name."""
        (outcome,) = self.run_units([(unit, files)])
        return outcome

    def run_units(self, work: Sequence[tuple[Unit, Sequence[str]]]) -> Generator[Outcome, None, None]:
        """Yield the outcome of `source.make` for each (unit, files), in order.

        The child makes the next unit while the caller handles this one. After a crash the unit is retried once in a
        new child, because the kernel may have killed the first one for memory that another process used. So it is
        where memory ran out in a child that had worked before, whose libraries may have kept some.
        """
        left, retried = list(work), False
        try:
            while left:
                try:
                    self._send("make", *left)
                    for _ in tuple(left):
                        answer: Outcome = self._receive(self._limits.deadline_s)
                        if isinstance(answer, Failed) and answer.reason == "memory":
                            self._kill()  # the next unit would have less
                            raise _Broken("memory", answer.detail)
                        del left[0]
                        retried = False
                        self._units += 1
                        yield answer
                except _Broken as error:
                    again = error.reason == "crash" or (error.reason == "memory" and self._units > 0)
                    retried = again and not retried
                    if not retried:
                        yield error.failure(left.pop(0)[1])
        finally:
            old = time.monotonic() - self._started > self._limits.seconds_per_child
            if left or (old and self._units >= self._limits.units_per_child):
                self._kill()

    def view(self, unit: Unit, files: Sequence[str]) -> UnitView | Failed:
        """Return `source.view(unit, files)`, or `Failed`."""
        try:
            self._send("view", (unit, files))
            answer: UnitView | Failed = self._receive(self._limits.deadline_s)
        except _Broken as error:
            return error.failure(files)
        return answer

    def units(self, path: str, file: str) -> Iterator[Unit | Failed | None]:
        """Yield the units of `source.units(path, file)`. A `Failed` comes last and concerns the whole input."""
        in_answer = True
        try:
            self._send("units", (path, file))
            while (message := self._receive(_WHOLE_FILE * self._limits.deadline_s)) != _END:
                if isinstance(message, Failed):
                    in_answer = False
                    yield message
                    return
                yield from message
            in_answer = False
            self._units += 1
        except _Broken as error:
            in_answer = False
            yield error.failure([path, file])
        finally:
            if in_answer:  # the caller has stopped, the child has not
                self._kill()

    def _send(self, method: str, *calls: tuple[object, object]) -> None:
        """Send calls of `method`, each with a pair of arguments. All earlier calls have been answered."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        self._stderr.truncate(0)
        try:
            self._pipe.send((method, calls))
        except OSError:
            raise _Broken("crash", self._end_of_crash()) from None

    def _receive(self, deadline_s: float) -> Any:
        assert self._pipe is not None
        try:
            ready = dict(self._ready.poll(1000 * deadline_s))
            if self._pipe.fileno() in ready:
                return self._pipe.recv()  # has a timeout of its own, for half an answer
            if ready:
                raise EOFError
        except BlockingIOError:
            pass
        except Exception:  # closed, or bytes that are no answer: nothing from this child can be trusted
            raise _Broken("crash", self._end_of_crash()) from None
        from varyforge.console import say  # noqa: PLC0415  # the child imports this module too and starts faster

        say(f"{self._source.name}: no result after {deadline_s:g} s{self._stack()}")
        self._kill()
        raise _Broken("timeout", f"no result after {deadline_s:g} s")

    def _stack(self) -> str:
        """Return the innermost calls of the stuck child. Not for the ledger: they may differ from run to run."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)  # faulthandler writes the stack, even within a C library
        select.select([self._end], [], [], 0.3)
        frames = _FRAME.findall(self._last_stderr())
        return ", in " + " < ".join(f"{file}:{line} {name}" for file, line, name in frames[:3]) if frames else ""

    def _start(self) -> None:
        """Start the child.

        Raises:
            UserError: the child did not start in three attempts.
        """
        for attempt in range(_STARTS):
            ours, theirs = Pipe()
            self._stderr.truncate(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "datagen.job.isolate", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,  # so that its own children can be killed with it
            )
            theirs.close()
            self._pipe, self._end = ours, os.pidfd_open(self._process.pid)
            self._units, self._started = 0, time.monotonic()
            self._ready.register(ours, select.POLLIN)
            self._ready.register(self._end, select.POLLIN)  # its own children may hold the pipe open
            try:
                ours.send((self._source, self._limits.memory_mb))
                if ours.poll(_START_ALLOWANCE_S):
                    self._peak_kib = ours.recv()
                    _set_timeout(ours, self._limits.deadline_s)
                    return
            except (EOFError, OSError):
                pass
            ended = self._end_of_crash()
            if attempt == _STARTS - 1:
                raise UserError(f"the process that makes units of {self._source.name!r} does not start: {ended}")

    def _end_of_crash(self) -> str:
        """Return how a child ended that may be dying of a signal, which the ledger should name."""
        if self._process is not None:
            select.select([self._end], [], [], 0.2)
        return self._kill()

    def _kill(self) -> str:
        """Kill the child and its own children. Return how it ended and its last line on stderr."""
        if self._process is None or self._pipe is None:
            return "no process"
        for descriptor in (self._pipe, self._end):
            self._ready.unregister(descriptor)
        self._pipe.close()
        os.close(self._end)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        ended, lines = describe_exit(self._process.returncode), self._last_stderr().strip().splitlines()
        if self._process.returncode < 0 and usage.ru_maxrss > max(self._limits.memory_mb << 9, self._peak_kib):
            ended += ", probably out of memory"  # PDFium aborts without a word; it asks for twice what it has
        self._process = self._pipe = None
        return f"{ended}: {lines[-1]}" if lines else ended

    def _last_stderr(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(end - _STDERR_BYTES, 0))
        return self._stderr.read().decode(errors="replace")


def _set_timeout(pipe: Connection, seconds: float) -> None:
    """Make reads that wait longer raise BlockingIOError. The pipe is a socket."""
    with socket.socket(fileno=os.dup(pipe.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


_own = threading.local()


def child_of(source: Source, limits: Limits) -> Child:
    """Return the calling thread's child for `source`, which is reused from shard to shard: a start takes a while."""
    key = (repr(source), limits)
    if getattr(_own, "key", None) != key:
        _own.key, _own.child = key, Child(source, limits)
    child: Child = _own.child
    return child


def _serve(pipe: Connection, parent: int) -> None:
    """Run the child's side: receive the source, then answer calls until the pipe closes."""
    end_with_parent(parent)
    faulthandler.register(signal.SIGUSR1)
    source, memory_mb = pipe.recv()
    gc.freeze()  # no collection need visit the imported modules
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # "ready"
    while True:
        try:
            method, calls = pipe.recv()
        except EOFError:
            return
        for arguments in calls:
            for answer in _answers(source, method, arguments):
                pipe.send(answer)


def _answers(source: Source, method: str, arguments: Sequence[Any]) -> Iterator[Any]:
    unit, files = arguments
    paths = [unit, files] if method == "units" else [*unit.files, *files]
    try:
        answer = _plain(getattr(source, method)(*arguments), paths)
        if method == "make":
            check_outcome(answer)
            answer = under_licence(source, answer)
        if method != "units" or isinstance(answer, Failed):
            yield answer
            return
        batch: list[Unit | None] = []
        for unit in answer:
            batch.append(replace(unit, verdict=_plain(unit.verdict, paths)) if unit and unit.verdict else unit)
            if unit is None or len(batch) == _UNITS_PER_MESSAGE:
                yield tuple(batch)
                batch.clear()
        yield from (tuple(batch), _END) if batch else (_END,)
    except Exception as error:  # the boundary: an exception becomes the unit's ledger row
        if is_out_of_memory(error):
            yield Failed(reason="memory", detail="over the memory cap")
            return
        reason = "unreadable" if isinstance(error, OSError | ValueError) else type(error).__name__  # likely a defect
        also = [str(error.filename)] if isinstance(error, OSError) and error.filename else []
        detail = detail_line(error, [*paths, *also])
        yield Failed(reason="wrong_form" if isinstance(error, WrongFormat) else reason, detail=detail)


def _plain(answer: Any, paths: Sequence[str]) -> Any:
    """Return an answer of the source; a failure without the folders of `paths` and temporary names in its detail."""
    if not isinstance(answer, Failed):
        return answer
    return replace(answer, detail=detail_line(answer.detail, paths, _DETAIL_CHARACTERS))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
