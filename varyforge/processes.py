"""Child processes that end with their parent, and words for how a process or a call ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # option of prctl(2)


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
