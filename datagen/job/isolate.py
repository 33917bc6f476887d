"""A child process in which a source's code may hang, crash or eat memory without harm to anyone else.

The child is a fresh interpreter (never a fork: Ray workers and torch have threads), gets the source once, and then
answers one call at a time over a pipe. It dies with its parent, and is replaced after so many units, so that what a
library leaks is given back.
"""

from __future__ import annotations

import faulthandler
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
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from datagen.source import Source, Unit, under_licence
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed, Outcome, check_outcome
from varyforge.processes import describe_exit, end_with_parent, one_line
from varyforge.sample import Image

_START_ALLOWANCE_S = 60  # a cold interpreter on a loaded machine
_WHOLE_FILE = 10  # cutting a file into units reads all of it; each batch may take so many times a unit's deadline
_UNITS_PER_MESSAGE = 1000
_END = ()  # of the messages with units
_COMPLAINTS = 64 << 10  # bytes of stderr that are looked at, from its end
_FILE_SIZE = 1 << 30  # bytes that a child may write to one file, stderr among them
_STARTS = 3
_FRAME = re.compile(r'File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a unit may use."""

    deadline_s: float = 60.0  # wall clock per unit
    memory_mb: int = 4096  # address space of the child, MiB
    units_per_child: int = 1000  # then a fresh one …
    seconds_per_child: float = 30.0  # … but not sooner than this: starting one takes as long as 300 small images

    def __post_init__(self) -> None:
        if not (self.deadline_s > 0 and self.memory_mb > 0 and self.units_per_child > 0):
            raise UserError(
                f"deadline {self.deadline_s} s, memory {self.memory_mb} MiB and "
                f"{self.units_per_child} units per child must be above 0"
            )


class _Broken(Exception):
    """The child gave no answer; `failure` says why. It has been ended."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failed(reason=reason, detail=detail)


class Child:
    """A killable child for one source; starts on the first call and again after a death. A context manager."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._end = -1  # descriptor that is ready when the process has ended
        self._ready = select.poll()  # both of these
        self._stderr = tempfile.TemporaryFile(mode="a+b")  # appended to, so that it can be emptied in between
        self._made = 0
        self._started = 0.0  # monotonic clock

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._stderr.close()

    def __del__(self) -> None:
        if self._process is not None:  # a worker's own child (see `child_of`) ends with the worker's thread
            try:
                self._kill()
            except (TypeError, AttributeError):  # the interpreter ends, and modules are half gone; so is the child soon
                pass

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """`source.make(unit, files)`, or `Failed`: timeout, memory, crash, or the exception's name."""
        (outcome,) = self.run_units([(unit, files)])
        return outcome

    def run_units(self, work: Sequence[tuple[Unit, Sequence[str]]]) -> Generator[Outcome, None, None]:
        """What `make` gives for each unit and its files, in order; the child goes on while the caller has the last one.

        A crash is tried once more in a fresh child: the kernel may have killed the first one for someone else's hunger.
        """
        left, crashed = list(work), False
        try:
            while left:
                try:
                    self._send("make", *left)
                    for _ in tuple(left):
                        answer: Outcome = self._receive(self._limits.deadline_s)
                        del left[0]
                        crashed = False
                        self._made += 1
                        yield answer
                except _Broken as error:
                    crashed = error.failure.reason == "crash" and not crashed
                    if not crashed:
                        del left[0]
                        yield error.failure
        finally:
            old = time.monotonic() - self._started > self._limits.seconds_per_child
            if left or (old and self._made >= self._limits.units_per_child):
                self._kill()

    def picture(self, unit: Unit, files: Sequence[str]) -> Image | Failed | None:
        """`source.picture(unit, files)`, or `Failed`."""
        try:
            self._send("picture", (unit, files))
            answer: Image | Failed | None = self._receive(self._limits.deadline_s)
        except _Broken as error:
            return error.failure
        return answer

    def units(self, path: str, file: str) -> Iterator[Unit | Failed | None]:
        """What `source.units(path, file)` gives; a `Failed` comes last and says that the whole input is no good."""
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
        except _Broken as error:
            in_answer = False
            yield error.failure
        finally:
            if in_answer:  # nobody wants the rest of it
                self._kill()

    def _send(self, method: str, *calls: tuple[object, object]) -> None:
        """Asks for a call of `method` with each of the pairs of arguments. The child has answered all it was asked."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        self._stderr.truncate(0)
        try:
            self._pipe.send((method, calls))
        except OSError:
            raise _Broken("crash", self._kill()) from None

    def _receive(self, deadline_s: float) -> Any:
        assert self._pipe is not None
        try:
            ready = dict(self._ready.poll(1000 * deadline_s))
            if self._pipe.fileno() in ready:
                return self._pipe.recv()  # which does not wait for ever either: half an answer may have come
            if ready:
                raise EOFError
        except BlockingIOError:
            pass
        except Exception:  # closed, or no answer of ours: whatever was made of it cannot be trusted
            raise _Broken("crash", self._kill()) from None
        from varyforge.console import say  # noqa: PLC0415  # not for the child, which starts quicker without

        say(f"{self._source.name}: no result after {deadline_s:g} s{self._where()}")
        self._kill()
        raise _Broken("timeout", f"no result after {deadline_s:g} s")

    def _where(self) -> str:
        """The code that the child is stuck in, innermost first. Not for the ledger: next time it may be elsewhere."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)  # faulthandler writes the stack even from within a C library
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.3)
        frames = _FRAME.findall(self._complaints())
        return ", in " + " < ".join(f"{file}:{line} {name}" for file, line, name in frames[:3]) if frames else ""

    def _start(self) -> None:
        """Starts the child.

        Raises:
            UserError: it does not start, in several tries.
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
                start_new_session=True,  # what it starts ends with it
            )
            theirs.close()
            self._pipe, self._end = ours, os.pidfd_open(self._process.pid)
            self._made, self._started = 0, time.monotonic()
            self._ready.register(ours, select.POLLIN)
            self._ready.register(self._end, select.POLLIN)  # too: what it forked may hold the pipe open
            try:
                ours.send((self._source, self._limits.memory_mb))
                if ours.poll(_START_ALLOWANCE_S) and ours.recv() == "ready":
                    _set_timeout(ours, self._limits.deadline_s)
                    return
            except (EOFError, OSError):
                pass
            ended = self._kill()
            if attempt == _STARTS - 1:
                raise UserError(f"the process that makes units of {self._source.name!r} does not start: {ended}")

    def _kill(self) -> str:
        """Ends the child, if there is one, with all it started; says how it ended and its last line on stderr."""
        if self._process is None or self._pipe is None:
            return "no process"
        for descriptor in (self._pipe, self._end):
            self._ready.unregister(descriptor)
        self._pipe.close()
        os.close(self._end)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # it may be dying by itself: keep its own signal
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._process = self._pipe = None
        lines = self._complaints().strip().splitlines()
        ended = describe_exit(status)
        return f"{ended}: {lines[-1][:200]}" if lines else ended

    def _complaints(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(end - _COMPLAINTS, 0))
        return self._stderr.read().decode(errors="replace")


def _set_timeout(pipe: Connection, seconds: float) -> None:
    """A read that waits longer raises BlockingIOError. `Pipe` gives sockets."""
    with socket.socket(fileno=os.dup(pipe.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))


_own = threading.local()


def child_of(source: Source, limits: Limits) -> Child:
    """This worker's child for `source`: the same for one shard after the other, since starting one takes a while."""
    wanted = (repr(source), limits)
    if getattr(_own, "of", None) != wanted:
        _own.of, _own.child = wanted, Child(source, limits)
    child: Child = _own.child
    return child


def _serve(pipe: Connection, parent: int) -> None:
    """The child's side: take the source, then answer calls until the pipe closes."""
    end_with_parent(parent)
    faulthandler.register(signal.SIGUSR1)
    source, memory_mb = pipe.recv()
    gc.freeze()  # what was imported stays: no collection need go through it
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))
    pipe.send("ready")
    while True:
        try:
            method, calls = pipe.recv()
        except EOFError:
            return
        for arguments in calls:
            for answer in _answers(source, method, arguments):
                pipe.send(answer)


def _answers(source: Source, method: str, arguments: Sequence[Any]) -> Iterator[Any]:
    try:
        answer = getattr(source, method)(*arguments)
        if method == "make":
            check_outcome(answer)
            answer = under_licence(source, answer)
        if method != "units" or isinstance(answer, Failed):
            yield answer
            return
        batch: list[Unit | None] = []
        for unit in answer:
            batch.append(unit)
            if unit is None or len(batch) == _UNITS_PER_MESSAGE:
                yield tuple(batch)
                batch.clear()
        yield from (tuple(batch), _END) if batch else (_END,)
    except MemoryError:
        yield Failed(reason="memory", detail="over the memory cap")
    except Exception as error:  # the boundary: whatever a unit raises is its ledger row
        detail = one_line(error).encode(errors="backslashreplace").decode()
        yield Failed(reason=_reason(error), detail=detail)


def _reason(error: Exception) -> str:
    """`wrong_form` or `unreadable` for what an input can be blamed for, else the exception's name: likely a defect."""
    if isinstance(error, WrongFormat):
        return "wrong_form"
    return "unreadable" if isinstance(error, OSError | ValueError) else type(error).__name__


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
