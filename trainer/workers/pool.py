"""Processes that load samples, of which any may hang, crash or be killed at the cost of one sample.

Pixels come through anonymous shared memory and are not copied on the way; all else through sockets. Nothing has a
name, so nothing is left behind. `trainer.workers.forkserver` is the other side.
"""

from __future__ import annotations

import os
import pickle
import re
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.workers.channel import Arena, anonymous_file, contents, offsets, receive, send
from trainer.workers.forkserver import STACKS, Answer, start_server
from trainer.workers.tasks import LoadError, Result, Stopped, Task
from varyforge.console import warn
from varyforge.errors import UserError
from varyforge.processes import describe_exit

_START_S = 300.0  # for imports from a slow network disk
_STARTS = 5  # in a row may fail: when memory is short, a new worker may be killed before it has begun
_GLANCE_S = 0.2  # how often to look at deadlines, and whether to stop
_STACKS_S = 0.5  # for a stuck worker to write its stacks


@dataclass(slots=True)
class _Worker:
    number: int  # of no other, before or after
    channel: socket.socket
    stacks: int  # descriptor of the file it writes them to
    hand: deque[tuple[Task, int | None]] = field(default_factory=deque)  # what it was given, with slots; first: is on
    ready: bool = False
    heard: float = field(default_factory=time.monotonic)  # when it last answered, or was given something to do


class WorkerPool:
    """Loads in processes of their own; see `trainer.workers.tasks.Pool`."""

    def __init__(
        self,
        load: Callable[[Any], Any],
        *,
        workers: int,
        prefetch: int,
        deadline_s: float,
        slot_bytes: int,
        key_of: Callable[[int], str],
        stuck: Path,
    ) -> None:
        """Returns at once; the workers start meanwhile.

        Args:
            load: item → value. Picklable, and unpickled once for all workers, so set-up belongs there. ValueError and
                OSError cost the sample and are its reason; anything else, UserError too, ends the run.
            workers: number of processes.
            prefetch: tasks that each has in hand.
            deadline_s: for one task; a worker that takes longer is replaced, and the task skipped.
            slot_bytes: pixels of a usual sample; larger ones work as well, a little slower.
            key_of: a sample's key from its tag.
            stuck: folder for the stacks of workers that hung or crashed.
        """
        self._prefetch, self._deadline_s, self._key_of, self._stuck = prefetch, deadline_s, key_of, stuck
        self._arena = Arena(slot_bytes)
        self._tasks: deque[Task] = deque()  # not yet given to a worker
        self._results: deque[Result] = deque()
        self._workers: dict[int, _Worker] = {}
        self._orphans: dict[int, list[int]] = {}  # slots of killed workers until these are gone
        self._last_number = 0
        self._stopped = threading.Event()
        self._watching = threading.Lock()
        self._events = selectors.DefaultSelector()
        self._server_ready = False
        self._failed_starts = 0  # since a worker last was ready
        function = pickle.dumps(load)
        self._server, self._control = start_server(self._arena)
        self._events.register(self._control, selectors.EVENT_READ)
        send(self._control, function)
        for _ in range(workers):
            self._start_worker()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        with self._watching:  # until a thread that waits for a result has heard of it
            self._events.close()
            for worker in self._workers.values():
                _close(worker)
            self._control.close()  # upon which it ends its workers and itself …
            try:
                self._server.wait(2 if self._server_ready else 0)
            except subprocess.TimeoutExpired:  # … unless it is busy; then they end with it
                self._server.kill()
                self._server.wait()
            self._arena.close()

    def submit(self, task: Task) -> None:
        """See `trainer.workers.tasks.Pool`."""
        self._tasks.append(task)
        with self._watching:
            if not self._stopped.is_set():
                self._hand_out()

    def next(self) -> Result:
        """See `trainer.workers.tasks.Pool`."""
        while not self._results:
            with self._watching:
                if self._stopped.is_set():
                    raise Stopped
                assert self._tasks or any(worker.hand for worker in self._workers.values()), "nothing to wait for"
                self._hear_all(_GLANCE_S)
                self._check_deadlines()
                self._hand_out()
        return self._results.popleft()

    def tend(self) -> None:
        """See `trainer.workers.tasks.Pool`."""
        with self._watching:
            if not self._stopped.is_set():
                self._hear_all(0)
                self._hand_out()

    def free(self, result: Result) -> None:
        """See `trainer.workers.tasks.Pool`."""
        self._arena.give_back(result.slot)

    def stop(self) -> None:
        """See `trainer.workers.tasks.Pool`."""
        self._stopped.set()

    def _hand_out(self) -> None:
        """Gives waiting tasks to the workers that have the least to do."""
        while self._tasks:
            worker = min(self._workers.values(), key=lambda worker: len(worker.hand))
            if len(worker.hand) >= self._prefetch:
                return
            task = self._tasks[0]
            fits = 0 < task.pixel_bytes <= self._arena.slot_bytes
            slot = self._arena.take() if fits else None
            try:
                send(worker.channel, (task.tag, task.item, slot), wait=False)
            except OSError:  # its pipe is full, or it has just died, of which we shall hear
                self._arena.give_back(slot)
                return
            if not worker.hand:
                worker.heard = time.monotonic()
            worker.hand.append((self._tasks.popleft(), slot))

    def _hear_all(self, wait_s: float) -> None:
        """Takes in what has been said, or waits until something is."""
        for key, _ in self._events.select(wait_s):
            self._hear(key.data)

    def _hear(self, worker: _Worker | None) -> None:
        """Takes in all that a worker (None: the server) has said."""
        if worker is None:
            self._hear_server()
        elif worker.number in self._workers and not self._take_answers(worker):
            self._events.unregister(worker.channel)  # how it ended the server will say

    def _take_answers(self, worker: _Worker) -> bool:
        """False: there will be no more."""
        while True:
            try:
                message = receive(worker.channel, wait=False)
            except BlockingIOError:
                return True
            if message is None:
                return False
            answer, files = message
            worker.heard = time.monotonic()
            if answer.tag is None:
                worker.ready, self._failed_starts = True, 0
                continue
            task, slot = worker.hand.popleft()
            assert task.tag == answer.tag, "a worker answers in order"
            self._results.append(self._result(answer, slot, files))

    def _result(self, answer: Answer, slot: int | None, files: Sequence[int]) -> Result:
        """An answer with its arrays: views of the slot, which stays taken, or copies."""
        assert answer.tag is not None
        if answer.kind == "fatal":
            where = f"sample {self._key_of(answer.tag)}"
            raise UserError(f"{where}: {answer.text}") if answer.users else LoadError(f"{where}:\n{answer.text}")
        begins, total = offsets(answer.sizes)
        arrays: list[Any] = list(answer.inline)
        in_slot = slot is not None and answer.sizes and not (arrays or files)
        if in_slot or files:
            memory = self._arena[slot] if in_slot else contents(files[0], total)
            arrays = [memory[begin : begin + size] for begin, size in zip(begins, answer.sizes, strict=True)]
        for file in files:
            os.close(file)
        if not in_slot:
            self._arena.give_back(slot)
        if answer.kind == "skipped":
            return Result(answer.tag, reason=answer.text)
        return Result(answer.tag, pickle.loads(answer.data, buffers=arrays), slot=slot if in_slot else None)

    def _hear_server(self) -> None:
        message = receive(self._control)
        if message is None:
            status = self._server.wait()
            raise LoadError(f"the process that starts loader workers has ended, with status {status}")
        match message[0]:
            case "ready":
                self._server_ready = True
                for worker in self._workers.values():
                    worker.heard = time.monotonic()
            case ("failed", text, users):
                raise UserError(text) if users else LoadError(f"loader workers cannot start:\n{text}")
            case (number, status):
                for slot in self._orphans.pop(number, []):
                    self._arena.give_back(slot)
                if number in self._workers:
                    self._take_answers(self._workers[number])
                    self._bury(self._workers[number], f"its loader worker {_ended(status)}")

    def _check_deadlines(self) -> None:
        for worker in list(self._workers.values()):
            waited_s = time.monotonic() - worker.heard
            if not worker.ready:
                if waited_s > _START_S:
                    raise LoadError(f"a loader worker is not ready after {_START_S:g} s")
            elif worker.hand and waited_s > self._deadline_s:
                self._replace_if_stuck(worker)

    def _replace_if_stuck(self, worker: _Worker) -> None:
        stuck = worker.hand[0]
        send(self._control, ("signal", worker.number, STACKS))
        _wait_for_stacks(worker.stacks)
        self._take_answers(worker)
        if not worker.hand or worker.hand[0] is not stuck:  # it has answered after all
            os.truncate(worker.stacks, 0)
            os.lseek(worker.stacks, 0, os.SEEK_SET)
            return
        send(self._control, ("signal", worker.number, signal.SIGKILL))
        # A process that waits in the kernel for a dead disk is not gone before the disk is back: no waiting for that,
        # but its slots rest until then.
        self._orphans[worker.number] = [slot for _, slot in worker.hand if slot is not None]
        worker.hand = deque((task, None) for task, _ in worker.hand)
        self._bury(worker, f"no answer within {self._deadline_s:g} s")

    def _bury(self, worker: _Worker, reason: str) -> None:
        """Puts another in a worker's place. The task it was on is skipped; the others it had in hand are not."""
        stacks = contents(worker.stacks).tobytes().decode(errors="replace")
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise LoadError(f"{_STARTS} loader workers in a row did not start; the last: {reason}\n{stacks}")
        for _, slot in worker.hand:
            self._arena.give_back(slot)
        if worker.ready and worker.hand:
            task, _ = worker.hand.popleft()
            self._results.append(Result(task.tag, reason=reason))
            self._report(self._key_of(task.tag), reason, stacks)
        self._tasks.extendleft(task for task, _ in reversed(worker.hand))
        if worker.channel in self._events.get_map():
            self._events.unregister(worker.channel)
        _close(self._workers.pop(worker.number))
        self._start_worker()

    def _report(self, key: str, reason: str, stacks: str) -> None:
        said = f"sample {key} skipped: {reason}"
        if stacks:
            self._stuck.mkdir(parents=True, exist_ok=True)
            file = self._stuck / f"{re.sub(r'[^A-Za-z0-9_-]', '_', key)[:100]}.txt"
            file.write_text(f"{said}\n\n{stacks}", encoding="utf-8")
            said += f"; where it was: {file}"
        warn(said)

    def _start_worker(self) -> None:
        self._last_number += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = _Worker(self._last_number, ours, anonymous_file())
        send(self._control, ("start", worker.number), [theirs.fileno(), worker.stacks])
        theirs.close()
        self._events.register(ours, selectors.EVENT_READ, worker)
        self._workers[worker.number] = worker


def _wait_for_stacks(file: int) -> None:
    """Until what was written is there whole, as far as one can tell."""
    until, before = time.monotonic() + _STACKS_S, -1
    while time.monotonic() < until:
        time.sleep(0.03)
        size = os.fstat(file).st_size
        if size and size == before:
            return
        before = size


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    words = f"{'ended with' if code >= 0 else 'was'} {describe_exit(code)}"
    return f"{words} (out of memory?)" if code == -signal.SIGKILL else words


def _close(worker: _Worker) -> None:
    worker.channel.close()
    os.close(worker.stacks)
