"""Messages with file descriptors between loader processes, and anonymous shared memory."""

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

_LARGEST_MESSAGE = 64 << 10  # bytes of a message through a socket; a larger one travels in an anonymous file
_MOST_DESCRIPTORS = 4  # per message
_INT = array.array("i").itemsize  # bytes of a descriptor in a message
_ALIGNMENT = 64  # bytes; numpy and torch are fastest with aligned arrays
_SLOTS = 1024  # in use at once at most; without a free slot pixels are copied once more


def anonymous_file() -> int:
    """Return the descriptor of an empty file without a name, in memory where the system supports it."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # not allowed in some sandboxes
            return os.memfd_create("varyforge", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return the offsets of arrays of `sizes` bytes in shared memory, and their total size in bytes."""
    begins, end = [], 0
    for size in sizes:
        begins.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return begins, end


class Arena:
    """Shared memory in slots of one size. Slots that were never used take no memory."""

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = -(-max(slot_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.file = anonymous_file()
        os.truncate(self.file, _SLOTS * self.slot_bytes)
        self._memory = memoryview(mmap.mmap(self.file, 0))  # unmapped when no array refers to it
        self._free = list(reversed(range(_SLOTS)))

    def take(self) -> int | None:
        """Take a free slot, preferably a used one; None when all are in use."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int | None) -> None:
        """Make a slot free again. None is ignored."""
        if slot is not None:
            self._free.append(slot)

    def __getitem__(self, slot: int | None) -> memoryview:
        """Return a slot's bytes."""
        assert slot is not None
        return self._memory[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]

    def close(self) -> None:
        """Close the file. The memory stays as long as an array refers to it."""
        os.close(self.file)


def send(to: socket.socket, message: object, descriptors: Sequence[int] = (), *, wait: bool = True) -> None:
    """Send a message, whole or not at all.

    Raises:
        BlockingIOError: `wait` is false and the socket is full.
        OSError: the other side has closed the socket.
    """
    data = pickle.dumps(message, protocol=5)
    flags = 0 if wait else socket.MSG_DONTWAIT
    if len(data) <= _LARGEST_MESSAGE:
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
    """Return the next message and its descriptors; None when the other side has closed the socket.

    Raises:
        BlockingIOError: `wait` is false and there is no message.
    """
    flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
    try:
        data, ancillary, _, _ = of.recvmsg(_LARGEST_MESSAGE, socket.CMSG_LEN(_MOST_DESCRIPTORS * _INT), flags)
    except ConnectionResetError:  # it ended with unread input; its own messages follow this error
        return receive(of, wait=wait)
    descriptors = [number for _, _, part in ancillary for number in array.array("i", part)]
    if not data:
        return None
    if data == b"\0":
        file = descriptors.pop()
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as large:
            os.close(file)
            return pickle.loads(large), descriptors
    return pickle.loads(data), descriptors


def _send(to: socket.socket, data: bytes, descriptors: Sequence[int], flags: int) -> None:
    """Send as `socket.send_fds` does, but with flags, which that function ignores."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    to.sendmsg([data], [rights] if descriptors else [], flags)
