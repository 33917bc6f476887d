"""The processes of `trainer.workers.pool`: a server that has imported everything, and the workers that it forks.

The training process has threads and CUDA and must not be forked. A new interpreter takes seconds to import a tokenizer.
So one new interpreter imports everything once, stays single-threaded and forks workers in milliseconds. Workers share
its memory. All of these processes end with the training process, even when `kill -9` ends it.
"""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.workers.channel import Arena, offsets, receive, send
from trainer.workers.tasks import skip_reason
from varyforge.errors import UserError
from varyforge.processes import end_with_parent

STACKS = signal.SIGUSR1
"""A worker that receives this signal writes the stacks of its threads, even from within a C library."""

_SURROUNDINGS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
) | {
    "TOKENIZERS_PARALLELISM": "false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's allocator would start a thread on import
    "CUDA_VISIBLE_DEVICES": "",  # a loader needs no GPU, and a context takes half a gigabyte
}
_FAREWELL_S = 1.0  # for killed workers to end


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's message about one item. Without a tag: the worker has started."""

    tag: int | None = None
    kind: Literal["loaded", "skipped", "user error", "defect"] = "loaded"
    value: Any = None  # with `sizes` pickled; for all kinds but "loaded" the reason, the message or the traceback
    sizes: tuple[int, ...] = ()  # bytes of each of the value's arrays, which are in the item's slot


def _fatal(error: Exception) -> tuple[Literal["user error", "defect"], str]:
    """Return kind and text of an exception that ends the run."""
    if isinstance(error, UserError):
        return "user error", str(error)
    return "defect", "".join(traceback.format_exception(error))


def start_server(arena: Arena) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process that runs `serve`. Return the process and the other end of its `control`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel ties a process to the thread that started it, not to that thread's process.
    tied_to = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    arguments = (theirs.fileno(), arena.file, arena.slot_bytes, tied_to)
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", f"from trainer.workers.forkserver import serve; serve{arguments}"],
        pass_fds=[theirs.fileno(), arena.file],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_SURROUNDINGS, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        start_new_session=True,  # protects it from Ctrl-C and a closed terminal
    )
    theirs.close()
    return server, ours


def serve(control: int, arena: int, slot_bytes: int, tied_to: int) -> None:
    """Receive the loading function, then start and signal workers until the other side closes `control`.

    Args:
        control: descriptor of a socket. It receives the pickled function, then ("start", worker_id) with a socket and
            a file for stacks, or ("signal", worker_id, signal). It sends "ready" or ("failed", kind, text),
            then (worker_id, wait status) whenever a worker has ended.
        arena: descriptor of the shared memory in its final size.
        slot_bytes: size of its slots.
        tied_to: id of the process with which this one ends at once. 0: this process ends when `control` closes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process handles Ctrl-C and ends this one
    if tied_to:
        end_with_parent(tied_to)
    with socket.socket(fileno=control) as channel:
        first = receive(channel)
        if first is None:
            return
        try:
            load = pickle.loads(first[0])
        except Exception as error:
            send(channel, ("failed", *_fatal(error)))
            return
        gc.collect()
        gc.freeze()  # so that a worker's collections do not touch, and so copy, shared memory
        try:
            send(channel, "ready")
            _Server(channel, load, arena, slot_bytes).run()
        except OSError:  # no more processes allowed, or the other side has just closed
            with suppress(OSError):
                send(channel, ("failed", "defect", traceback.format_exc()))
    os._exit(0)  # skips the second that torch's clean-up takes


class _Server:
    def __init__(self, channel: socket.socket, load: Callable[[Any], Any], arena: int, slot_bytes: int) -> None:
        self._channel = channel
        self._load, self._arena, self._slot_bytes = load, arena, slot_bytes
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd → worker id, process id

    def run(self) -> None:
        ready = select.poll()
        ready.register(self._channel, select.POLLIN)
        try:
            while True:
                for descriptor, _ in ready.poll():
                    if descriptor in self._workers:
                        ready.unregister(descriptor)
                        worker_id, process = self._workers.pop(descriptor)
                        _, status = os.waitpid(process, 0)
                        os.close(descriptor)
                        send(self._channel, (worker_id, status))
                    elif (message := receive(self._channel)) is None:
                        return
                    elif (started := self._obey(*message)) is not None:
                        ready.register(started, select.POLLIN)
        finally:
            self._end_all()

    def _obey(self, message: tuple[Any, ...], descriptors: list[int]) -> int | None:
        """Carry out a request. Return the pidfd of a worker that was started."""
        if message[0] == "signal":
            for worker_id, process in self._workers.values():
                if worker_id == message[1]:
                    os.kill(process, message[2])
            return None
        own, server = tuple(descriptors), os.getpid()
        process = os.fork()
        if process == 0:
            self._become_worker(own, server)
        for descriptor in own:
            os.close(descriptor)
        end = os.pidfd_open(process)
        self._workers[end] = (message[1], process)
        return end

    def _become_worker(self, own: tuple[int, ...], server: int) -> None:
        """Run as a worker. Never returns."""
        try:
            end_with_parent(server)
            self._channel.close()
            for descriptor in self._workers:
                os.close(descriptor)
            tasks, stacks = own
            faulthandler.enable(stacks)
            faulthandler.register(STACKS, stacks)
            with suppress(OSError):  # out of memory, the kernel should kill this process, which costs a sample
                Path("/proc/self/oom_score_adj").write_text("500")
            with suppress(OSError), socket.socket(fileno=tasks) as channel:  # closed: nobody waits for a reply
                _work(channel, self._load, self._arena, self._slot_bytes)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _end_all(self) -> None:
        for _, process in self._workers.values():
            os.kill(process, signal.SIGKILL)
        until = time.monotonic() + _FAREWELL_S  # a process that waits in the kernel for a dead disk may never end
        for _, process in self._workers.values():
            while os.waitpid(process, os.WNOHANG)[0] == 0 and time.monotonic() < until:
                time.sleep(0.005)


def _work(channel: socket.socket, load: Callable[[Any], Any], arena: int, slot_bytes: int) -> None:
    """Answer each (tag, item, slot) with a `Reply` until the other side closes the channel."""
    memory = memoryview(mmap.mmap(arena, 0))
    send(channel, Reply())
    while (message := receive(channel)) is not None:
        tag, item, slot = message[0]
        room = None if slot is None else memory[slot * slot_bytes : (slot + 1) * slot_bytes]
        try:
            reply = _packed(tag, load(item), room)
        except Exception as error:  # the boundary between a bad sample and a defect
            reason = skip_reason(error)
            reply = Reply(tag, "skipped", reason) if reason else Reply(tag, *_fatal(error))
        send(channel, reply)


def _packed(tag: int, value: object, room: memoryview | None) -> Reply:
    """Pack a value into a reply. Its arrays go to `room` if they fit."""
    if room is None:
        return Reply(tag, value=value)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = tuple(part.nbytes for part in arrays)
    begins, total = offsets(sizes)
    if not 0 < total <= len(room):
        return Reply(tag, value=value)
    for begin, part in zip(begins, arrays, strict=True):
        room[begin : begin + part.nbytes] = part
    return Reply(tag, value=data, sizes=sizes)
