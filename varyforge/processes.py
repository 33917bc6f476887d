"""Child processes that end with their parent, and words for how a process or a call ended."""

from __future__ import annotations

import ctypes
import os
import posixpath
import re
import signal
import sys
import tempfile
from collections.abc import Iterable

_PR_SET_PDEATHSIG = 1  # option of prctl(2)
_OUT_OF_MEMORY = re.compile(
    r"\b(?:m|c|re)alloc\b|bad_?alloc|out of memory|memory allocation|cannot allocate|insufficient memory",
    re.IGNORECASE,
)
_RANDOM_NAME = r"(?:varyforge-|tmp)[a-z0-9_]{8}"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process as soon as its parent ends, whatever either is doing.

    The kernel watches the thread that started this process. On systems other than Linux only a parent that is gone
    already is noticed: this process exits at once where another than `parent` (a process id) has adopted it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the option was set
        os._exit(0)


def describe_exit(code: int) -> str:
    """Return "exit status 1" or "killed by SIGSEGV" for a return code as `subprocess` gives it (negative: a signal)."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def one_line(error: object, characters: int = 200) -> str:
    """Return the text of an exception as one line of at most `characters`."""
    return " ".join(str(error).split())[:characters]


def detail_line(error: object, paths: Iterable[str] = (), characters: int = 200) -> str:
    """Return the text of an exception as one line for a ledger, which must be the same on every machine and run.

    The folders of `paths` (paths and URLs that the text may name), temporary names and addresses in memory are left
    out. Invalid Unicode, which file names may hold, is written with escapes.
    """
    text = str(error)
    for path in paths:
        for form in (path, repr(path)[1:-1], path.partition("://")[2]):
            folder, name = posixpath.split(form)
            if name:
                text = text.replace(form, name)
            if folder.strip("/"):
                text = re.sub(rf"(?<![\w./-]){re.escape(folder)}/", "", text)
    temporary = "|".join(map(re.escape, {tempfile.gettempdir(), os.path.realpath(tempfile.gettempdir())}))
    text = re.sub(rf"(?:{temporary})/+[^/\s'\"<>:,;()]+/?|(?<!\w){_RANDOM_NAME}(?:/|\b)", "", text)
    return one_line(_ADDRESS.sub("", text), characters).encode(errors="backslashreplace").decode()


def is_out_of_memory(error: object) -> bool:
    """Whether an exception, one that it was raised from, or a message says that memory could not be allocated.

    Libraries have no exception in common for that: MuPDF raises its own, with "malloc (8 bytes) failed".
    """
    while isinstance(error, BaseException):
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return isinstance(error, str) and bool(_OUT_OF_MEMORY.search(error))
