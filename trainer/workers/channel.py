"""What loader processes pass each other: messages with descriptors, and memory without a name."""

from __future__ import annotations

import array
import mmap
import os
import pickle
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

LARGEST_MESSAGE = 64 << 10  # bytes of a message through a socket; larger ones travel in an anonymous file
_MOST_DESCRIPTORS = 4  # with one message …
_INT = array.array("i").itemsize  # … of so many bytes each
_ALIGNMENT = 64  # bytes; what numpy and torch like best
_SLOTS = 1024  # at most in use at once; beyond that pixels are copied once more


def anonymous_file() -> int:
    """Descriptor of an empty file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # some sandboxes
            return os.memfd_create("varyforge", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def contents(file: int, size: int | None = None) -> memoryview:
    """The first `size` bytes of an open file, or all; zeros where it has fewer."""
    data = bytearray(os.fstat(file).st_size if size is None else size)
    view, done = memoryview(data), 0
    while (read := os.preadv(file, [view[done:]], done)) > 0:
        done += read
    return view


def offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where arrays of so many bytes begin in shared memory, and the bytes they take together."""
    begins, end = [], 0
    for size in sizes:
        begins.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return begins, end


class Arena:
    """Shared memory in slots of one size. Only those that were ever in use at once take memory."""

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = -(-max(slot_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.file = anonymous_file()
        os.truncate(self.file, _SLOTS * self.slot_bytes)
        self._memory = memoryview(mmap.mmap(self.file, 0))  # unmapped once no array looks at it
        self._free = list(reversed(range(_SLOTS)))

    def take(self) -> int | None:
        """A slot, one that was used before if there is any; None when all are in use."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int | None) -> None:
        """The slot, if it is one, may be taken again."""
        if slot is not None:
            self._free.append(slot)

    def __getitem__(self, slot: int | None) -> memoryview:
        """A slot's bytes."""
        assert slot is not None
        return self._memory[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]

    def close(self) -> None:
        """The memory stays for as long as an array looks at it."""
        os.close(self.file)


def send(to: socket.socket, message: object, descriptors: Sequence[int] = (), *, wait: bool = True) -> None:
    """Sends a message, whole or not at all.

    Raises:
        BlockingIOError: with `wait=False`, there is no room for it now.
        OSError: the other side has closed.
    """
    data = pickle.dumps(message, protocol=5)
    flags = 0 if wait else socket.MSG_DONTWAIT
    if len(data) <= LARGEST_MESSAGE:
        _send(to, data, descriptors, flags)
        return
    file = anonymous_file()
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(data)
        _send(to, b"\0", [*descriptors, file], flags)
    finally:
        os.close(file)


def receive(of: socket.socket, *, wait: bool = True) -> tuple[Any, list[int]] | None:
    """The next message and the descriptors that came with it; None when the other side has closed.

    Raises:
        BlockingIOError: with `wait=False`, there is none now.
    """
    flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
    try:
        data, ancillary, _, _ = of.recvmsg(LARGEST_MESSAGE, socket.CMSG_LEN(_MOST_DESCRIPTORS * _INT), flags)
    except ConnectionResetError:  # it ended without reading all; what it said before comes after this error
        return receive(of, wait=wait)
    descriptors = [number for _, _, part in ancillary for number in array.array("i", part)]
    if not data:
        return None
    if data == b"\0":
        with os.fdopen(descriptors.pop(), "rb") as file:
            file.seek(0)
            data = file.read()
    return pickle.loads(data), descriptors


def _send(to: socket.socket, data: bytes, descriptors: Sequence[int], flags: int) -> None:
    """As `socket.send_fds`, which takes flags and ignores them."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    to.sendmsg([data], [rights] if descriptors else [], flags)
