"""Processes that load samples. Each may hang, crash or be killed at the cost of one sample.

Pixels travel through anonymous shared memory, without a copy, and everything else through sockets. Neither has a name
in the file system, so nothing is left behind. `trainer.workers.forkserver` has the code of the processes.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from trainer.workers.channel import Arena, anonymous_file, offsets, receive, send
from trainer.workers.forkserver import STACKS, Reply, start_server
from trainer.workers.tasks import LoadError, Pool, Result, Stopped, Task
from varyforge.console import warn
from varyforge.errors import UserError
from varyforge.processes import describe_exit

_START_S = 300.0  # for imports from a slow network disk
_STARTS = 5  # failed starts in a row; if memory is short, a new worker may be killed before it is ready
_GLANCE_S = 0.2  # between two looks at deadlines and `stop`
_STACKS_S = 0.5  # for a stuck worker to write its stacks


@dataclass(slots=True)
class _Worker:
    worker_id: int  # never reused
    channel: socket.socket
    stacks: int  # descriptor of the file for its stacks
    assigned: deque[tuple[Task, int | None]] = field(default_factory=deque)  # (task, slot); the first is in progress
    ready: bool = False
    active_at: float = field(default_factory=time.monotonic)  # time of its last reply, or of a task after idling


class WorkerPool(Pool):
    """A pool of worker processes."""

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
        """Return at once, while the workers start.

        Args:
            load: item → value. It is pickled, and unpickled once for all workers, so set-up belongs there. ValueError
                and OSError skip the sample, with the message as reason. All others, UserError too, end the run.
            workers: number of processes.
            prefetch: number of tasks assigned to each worker.
            deadline_s: for one task; a worker that takes longer is replaced, and the task skipped.
            slot_bytes: size of a usual sample's pixels; larger samples are a little slower.
            key_of: returns a sample's key from its tag.
            stuck: folder for the stacks of workers that hung or crashed.
        """
        super().__init__(key_of)
        self._prefetch, self._deadline_s, self._stuck = prefetch, deadline_s, stuck
        self._arena = Arena(slot_bytes)
        self._results: deque[Result] = deque()
        self._workers: dict[int, _Worker] = {}
        self._orphans: dict[int, list[int]] = {}  # slots of killed workers that have not ended yet
        self._last_id = 0
        self._watching = threading.Lock()
        self._events = selectors.DefaultSelector()
        self._server_ready = False
        self._failed_starts = 0  # since a worker was last ready
        function = pickle.dumps(load)
        self._server, self._control = start_server(self._arena)
        self._events.register(self._control, selectors.EVENT_READ)
        send(self._control, function)
        for _ in range(workers):
            self._start_worker()

    @override
    def __exit__(self, *_: object) -> None:
        self.stop()
        with self._watching:  # wait for a thread that waits for a result
            self._events.close()
            for worker in self._workers.values():
                _close(worker)
            self._control.close()  # the server then ends its workers and itself
            try:
                self._server.wait(2 if self._server_ready else 0)
            except subprocess.TimeoutExpired:  # the server is busy; its workers end with it
                self._server.kill()
                self._server.wait()
            self._arena.close()

    @override
    def submit(self, task: Task) -> None:
        super().submit(task)
        with self._watching:
            if not self._stopped.is_set():
                self._assign()

    @override
    def next(self) -> Result:
        while not self._results:
            with self._watching:
                if self._stopped.is_set():
                    raise Stopped
                assert self._tasks or any(worker.assigned for worker in self._workers.values()), "nothing to wait for"
                self._receive_all(_GLANCE_S)
                self._check_deadlines()
                self._assign()
        return self._results.popleft()

    @override
    def tend(self) -> None:
        with self._watching:
            if not self._stopped.is_set():
                self._receive_all(0)
                self._assign()

    @override
    def free(self, result: Result) -> None:
        self._arena.give_back(result.slot)

    def _assign(self) -> None:
        """Assign waiting tasks to the workers with the fewest tasks."""
        while self._tasks:
            worker = min(self._workers.values(), key=lambda worker: len(worker.assigned))
            if len(worker.assigned) >= self._prefetch:
                return
            task = self._tasks[0]
            fits = 0 < task.pixel_bytes <= self._arena.slot_bytes
            slot = self._arena.take() if fits else None
            try:
                send(worker.channel, (task.tag, task.item, slot), wait=False)
            except OSError:  # its socket is full, or it has just died, which the server will report
                self._arena.give_back(slot)
                return
            if not worker.assigned:
                worker.active_at = time.monotonic()
            worker.assigned.append((self._tasks.popleft(), slot))

    def _receive_all(self, wait_s: float) -> None:
        """Process all messages; wait up to `wait_s` seconds for the first."""
        for key, _ in self._events.select(wait_s):
            worker: _Worker | None = key.data
            if worker is None:
                self._receive_from_server()
            elif worker.worker_id in self._workers and not self._take_replies(worker):
                self._events.unregister(worker.channel)  # the server will report its end

    def _take_replies(self, worker: _Worker) -> bool:
        """Process a worker's replies. False when its channel is closed."""
        while True:
            try:
                message = receive(worker.channel, wait=False)
            except BlockingIOError:
                return True
            if message is None:
                return False
            reply: Reply = message[0]
            worker.active_at = time.monotonic()
            if reply.tag is None:
                worker.ready, self._failed_starts = True, 0
                continue
            task, slot = worker.assigned.popleft()
            assert task.tag == reply.tag, "a worker answers in order"
            self._results.append(self._result(reply.tag, reply, slot))

    def _result(self, tag: int, reply: Reply, slot: int | None) -> Result:
        """Unpack a reply. Its arrays are views of the slot, which stays taken, or copies."""
        if reply.kind == "user error":
            raise UserError(f"sample {self._key_of(tag)}: {reply.value}")
        if reply.kind == "defect":
            raise LoadError(f"sample {self._key_of(tag)}:\n{reply.value}")
        if reply.sizes:
            memory = self._arena[slot]
            begins, _ = offsets(reply.sizes)
            arrays = [memory[begin : begin + size] for begin, size in zip(begins, reply.sizes, strict=True)]
            return Result(tag, pickle.loads(reply.value, buffers=arrays), slot=slot)
        self._arena.give_back(slot)
        return Result(tag, reason=reply.value) if reply.kind == "skipped" else Result(tag, reply.value)

    def _receive_from_server(self) -> None:
        message = receive(self._control)
        if message is None:
            status = self._server.wait()
            raise LoadError(f"the process that starts loader workers has ended, with status {status}")
        match message[0]:
            case "ready":
                self._server_ready = True
                for worker in self._workers.values():
                    worker.active_at = time.monotonic()
            case ("failed", kind, text):
                raise UserError(text) if kind == "user error" else LoadError(f"loader workers cannot start:\n{text}")
            case (worker_id, status):
                for slot in self._orphans.pop(worker_id, []):
                    self._arena.give_back(slot)
                if worker_id in self._workers:
                    self._take_replies(self._workers[worker_id])
                    self._replace(self._workers[worker_id], f"its loader worker {_ended(status)}")

    def _check_deadlines(self) -> None:
        for worker in list(self._workers.values()):
            waited_s = time.monotonic() - worker.active_at
            if not worker.ready:
                if waited_s > _START_S:
                    raise LoadError(f"a loader worker is not ready after {_START_S:g} s; lower data.workers")
            elif worker.assigned and waited_s > self._deadline_s:
                self._replace_if_stuck(worker)

    def _replace_if_stuck(self, worker: _Worker) -> None:
        stuck = worker.assigned[0]
        send(self._control, ("signal", worker.worker_id, STACKS))
        _wait_for_stacks(worker.stacks)
        self._take_replies(worker)
        if not worker.assigned or worker.assigned[0] is not stuck:  # it has replied after all
            os.truncate(worker.stacks, 0)
            os.lseek(worker.stacks, 0, os.SEEK_SET)
            return
        send(self._control, ("signal", worker.worker_id, signal.SIGKILL))
        # A process that waits in the kernel for a dead disk ends when the disk is back. The run does not wait for it,
        # but its slots stay taken until then.
        self._orphans[worker.worker_id] = [slot for _, slot in worker.assigned if slot is not None]
        worker.assigned = deque((task, None) for task, _ in worker.assigned)
        self._replace(worker, f"no answer within {self._deadline_s:g} s")

    def _replace(self, worker: _Worker, reason: str) -> None:
        """Replace a worker that has ended. Its task in progress is skipped; its other tasks are assigned again."""
        stacks = os.pread(worker.stacks, os.fstat(worker.stacks).st_size, 0).decode(errors="replace")
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise LoadError(f"{_STARTS} loader workers in a row did not start; the last: {reason}\n{stacks}")
        for _, slot in worker.assigned:
            self._arena.give_back(slot)
        if worker.ready and worker.assigned:
            task, _ = worker.assigned.popleft()
            self._results.append(Result(task.tag, reason=reason))
            self._report(self._key_of(task.tag), reason, stacks)
        self._tasks.extendleft(task for task, _ in reversed(worker.assigned))
        if worker.channel in self._events.get_map():
            self._events.unregister(worker.channel)
        _close(self._workers.pop(worker.worker_id))
        self._start_worker()

    def _report(self, key: str, reason: str, stacks: str) -> None:
        line = f"sample {key} skipped: {reason}"
        if stacks:
            self._stuck.mkdir(parents=True, exist_ok=True)
            file = self._stuck / f"{re.sub(r'[^A-Za-z0-9_-]', '_', key)[:100]}.txt"
            file.write_text(f"{line}\n\n{stacks}", encoding="utf-8")
            line += f"; its stacks are in {file}"
        warn(line)

    def _start_worker(self) -> None:
        self._last_id += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = _Worker(self._last_id, ours, anonymous_file())
        send(self._control, ("start", worker.worker_id), [theirs.fileno(), worker.stacks])
        theirs.close()
        self._events.register(ours, selectors.EVENT_READ, worker)
        self._workers[worker.worker_id] = worker


def _wait_for_stacks(file: int) -> None:
    """Wait until the file has content that no longer grows, at most `_STACKS_S` seconds."""
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
