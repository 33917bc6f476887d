"""Processes that end with their parent, and the words for an end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from varyforge.processes import describe_exit, one_line

_PARENT = """
import os, subprocess, sys
child = "import os, sys, time; from varyforge.processes import end_with_parent; end_with_parent(int(sys.argv[1]));"
child += "print(os.getpid(), flush=True); time.sleep(60)"
subprocess.run([sys.executable, "-c", child, str(os.getpid())])
"""


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        until = time.monotonic() + 20
        while _runs(child) and time.monotonic() < until:
            time.sleep(0.02)
        assert not _runs(child)


def test_a_child_whose_parent_is_gone_exits_at_once() -> None:
    code = "from varyforge.processes import end_with_parent; end_with_parent(1 << 30); print('still there')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit status 0"), (3, "exit status 3"), (-signal.SIGKILL, "killed by SIGKILL"), (-99, "killed by signal 99")],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_an_error_of_many_lines_becomes_one_short_line() -> None:
    assert one_line(ValueError("no\n  such\tthing")) == "no such thing"
    assert one_line(ValueError("x" * 500)) == "x" * 200


def _runs(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
