"""Processes that end with their parent, and the words for an end."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from varyforge.processes import describe_exit, detail_line, is_out_of_memory, one_line

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


@pytest.mark.parametrize(
    ("text", "paths", "line"),
    [
        ("no file '/data/a/in.pdf'", ["/data/a/in.pdf"], "no file 'in.pdf'"),
        ("no file '/data/a/it\\'s\\n.pdf'", ["/data/a/it's\n.pdf"], "no file 'it\\'s\\n.pdf'"),
        ("/data/a/labels/classes.txt: line 3", ["/data/a/in.pdf"], "labels/classes.txt: line 3"),
        ("bucket/papers/in.pdf is gone", ["s3://bucket/papers/in.pdf"], "in.pdf is gone"),
        ("see memory://data/in.pdf", ["memory://data/in.pdf"], "see in.pdf"),
        (f"{tempfile.gettempdir()}/varyforge-0a1b2c_d/main.typ:3: wrong", [], "main.typ:3: wrong"),
        ("../varyforge-0a1b2c_d/main.typ and tmpabcdefgh", [], "../main.typ and "),
        ("<_io.BytesIO object at 0x7f3c0>", [], "<_io.BytesIO object>"),
        ("data/a/b and 1/2", ["/a/in.pdf"], "data/a/b and 1/2"),
        ("two\n lines \udcff", ["/in.pdf"], "two lines \\udcff"),
    ],
)
def test_a_detail_is_the_same_on_every_machine(text: str, paths: list[str], line: str) -> None:
    assert detail_line(text, paths) == line.strip()


def test_every_way_to_run_out_of_memory_is_recognised() -> None:
    messages = ["malloc (12 bytes) failed", "code=2: calloc (8 x 9 bytes) failed", "std::bad_alloc", "Out of memory"]
    messages += ["memory allocation of 8 bytes failed", "[Errno 12] Cannot allocate memory", "realloc failed"]
    assert all(is_out_of_memory(RuntimeError(message)) and is_out_of_memory(message) for message in messages)
    error = ValueError("no picture")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("a memory, allocated")) and not is_out_of_memory(None)
