"""The other side of `trainer.workers.pool`: a process that has imported everything, and the workers that it forks.

The training process has threads and CUDA and must not be forked; a fresh interpreter takes seconds to import a
tokenizer. So one fresh interpreter imports all once, stays single-threaded, and forks workers in milliseconds, which
share its memory. All of them end with the training process, also when that is killed with -9.
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

from trainer.workers.channel import LARGEST_MESSAGE, Arena, anonymous_file, offsets, receive, send
from varyforge.errors import UserError
from varyforge.processes import end_with_parent, one_line

STACKS = signal.SIGUSR1
"""A worker that gets this signal writes where each of its threads is, even from within a C library."""

_SURROUNDINGS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
) | {
    "TOKENIZERS_PARALLELISM": "false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a thread that Arrow's allocator starts on import
    "CUDA_VISIBLE_DEVICES": "",  # a loader has no business there, and a context takes half a gigabyte
}
_FAREWELL_S = 1.0  # for killed workers to be gone


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker has to say about one item; without a tag: that it has started."""

    tag: int | None = None
    kind: Literal["loaded", "skipped", "fatal"] = "loaded"
    text: str = ""  # the reason, or the traceback
    data: bytes = b""  # the pickled value
    sizes: tuple[int, ...] = ()  # bytes of each of its arrays; they lie in the item's slot, unless …
    inline: tuple[bytes, ...] = ()  # … they are here, or in a file that came with this message
    users: bool = False  # a fatal error that the user can mend


def costs_one_sample(error: Exception) -> bool:
    """Whether an exception is about a sample's bytes, which is counted. Any other stops the run."""
    return isinstance(error, ValueError | OSError) and not isinstance(error, UserError)


def reason_of(error: Exception) -> str:
    """An exception as a line for a list of skipped samples."""
    return one_line(error, 300) or type(error).__name__


def _told(error: Exception) -> tuple[str, bool]:
    """What to say of an exception that ends the run, and whether the user can mend it."""
    users = isinstance(error, UserError)
    return str(error) if users else "".join(traceback.format_exception(error)), users


def start_server(arena: Arena) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a process that runs `serve`; the process, and the other end of its `control`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel ties a process to the thread that started it, not to that thread's process.
    tied_to = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    arguments = (theirs.fileno(), arena.file, arena.slot_bytes, tied_to)
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", f"from trainer.workers.forkserver import serve; serve{arguments}"],
        pass_fds=[theirs.fileno(), arena.file],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_SURROUNDINGS, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        start_new_session=True,  # Ctrl-C and a closed terminal are not for it
    )
    theirs.close()
    return server, ours


def serve(control: int, arena: int, slot_bytes: int, tied_to: int) -> None:
    """Takes the loading function, then starts and signals workers until the other side of `control` closes.

    Args:
        control: descriptor of a socket. Comes: the pickled function; then ("start", number) with a socket and a file
            for stacks, or ("signal", number, signal). Goes: "ready" or ("failed", what, whether a user can mend it);
            then (number, wait status) when a worker has ended.
        arena: descriptor of the shared memory, as large as it will ever be.
        slot_bytes: size of its slots.
        tied_to: process with which this one ends at once, or 0: only when `control` closes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, which ends this one
    if tied_to:
        end_with_parent(tied_to)
    with socket.socket(fileno=control) as channel:
        first = receive(channel)
        if first is None:
            return
        try:
            load = pickle.loads(first[0])
        except Exception as error:
            send(channel, ("failed", *_told(error)))
            return
        gc.collect()
        gc.freeze()  # no collection of a worker's touches, and so copies, what all of them share
        try:
            send(channel, "ready")
            _Server(channel, load, arena, slot_bytes).run()
        except OSError:  # no more processes, or the other side has just closed
            with suppress(OSError):
                send(channel, ("failed", traceback.format_exc(), False))
    os._exit(0)  # nothing here needs the second that taking torch apart takes


class _Server:
    def __init__(self, channel: socket.socket, load: Callable[[Any], Any], arena: int, slot_bytes: int) -> None:
        self._channel = channel
        self._load, self._arena, self._slot_bytes = load, arena, slot_bytes
        self._workers: dict[int, tuple[int, int]] = {}  # by descriptor that is ready when it ended: number, process

    def run(self) -> None:
        ready = select.poll()
        ready.register(self._channel, select.POLLIN)
        try:
            while True:
                for descriptor, _ in ready.poll():
                    if descriptor in self._workers:
                        ready.unregister(descriptor)
                        self._ended(descriptor)
                    elif (message := receive(self._channel)) is None:
                        return
                    elif (started := self._obey(*message)) is not None:
                        ready.register(started, select.POLLIN)
        finally:
            self._end_all()

    def _obey(self, message: tuple[Any, ...], descriptors: list[int]) -> int | None:
        """Does as told; the descriptor that tells the end of a worker just started."""
        if message[0] == "signal":
            for number, process in self._workers.values():
                if number == message[1]:
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
        """Never returns."""
        try:
            end_with_parent(server)
            self._channel.close()
            for descriptor in self._workers:
                os.close(descriptor)
            tasks, stacks = own
            faulthandler.enable(stacks)
            faulthandler.register(STACKS, stacks)
            with suppress(OSError):  # when memory runs out, better this process, which costs a sample
                Path("/proc/self/oom_score_adj").write_text("500")
            with suppress(OSError), socket.socket(fileno=tasks) as channel:  # closed: nobody waits for an answer
                _work(channel, self._load, self._arena, self._slot_bytes)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _ended(self, descriptor: int) -> None:
        number, process = self._workers.pop(descriptor)
        _, status = os.waitpid(process, 0)
        os.close(descriptor)
        send(self._channel, (number, status))

    def _end_all(self) -> None:
        for _, process in self._workers.values():
            os.kill(process, signal.SIGKILL)
        until = time.monotonic() + _FAREWELL_S  # one that waits in the kernel for a dead disk may never be gone
        for _, process in self._workers.values():
            while os.waitpid(process, os.WNOHANG)[0] == 0 and time.monotonic() < until:
                time.sleep(0.005)


def _work(channel: socket.socket, load: Callable[[Any], Any], arena: int, slot_bytes: int) -> None:
    """A worker's life: (tag, item, slot) comes, an `Answer` goes, until the other side closes."""
    memory = memoryview(mmap.mmap(arena, 0))
    send(channel, Answer())
    while (message := receive(channel)) is not None:
        tag, item, slot = message[0]
        room = None if slot is None else memory[slot * slot_bytes : (slot + 1) * slot_bytes]
        try:
            answer, file = _packed(tag, load(item), room)
        except Exception as error:  # the boundary between a bad sample and a defect
            if costs_one_sample(error):
                answer, file = Answer(tag, "skipped", reason_of(error)), None
            else:
                text, users = _told(error)
                answer, file = Answer(tag, "fatal", text, users=users), None
        send(channel, answer, [] if file is None else [file])
        if file is not None:
            os.close(file)


def _packed(tag: int, value: object, room: memoryview | None) -> tuple[Answer, int | None]:
    """The answer with a value whose arrays lie in `room`, or in a file where they do not fit or there is none."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    sizes = tuple(part.nbytes for part in arrays)
    begins, total = offsets(sizes)
    if room is not None and 0 < total <= len(room):
        for begin, part in zip(begins, arrays, strict=True):
            room[begin : begin + part.nbytes] = part
        return Answer(tag, data=data, sizes=sizes), None
    if total <= LARGEST_MESSAGE // 2:
        return Answer(tag, data=data, sizes=sizes, inline=tuple(part.tobytes() for part in arrays)), None
    file = anonymous_file()
    for begin, part in zip(begins, arrays, strict=True):
        written = 0
        while written < part.nbytes:
            written += os.pwrite(file, part[written:], begin + written)
    return Answer(tag, data=data, sizes=sizes), file
