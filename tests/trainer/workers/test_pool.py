"""The pool with real processes that hang, crash and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.loads import CannotStart, DoAsTold
from trainer.workers.pool import WorkerPool
from trainer.workers.tasks import InProcess, LoadError, Result, Stopped, Task
from varyforge.errors import UserError

SLOT = 20_000  # bytes
ROOT = Path(__file__).parents[3]


@pytest.fixture
def open_pool(tmp_path: Path) -> Iterator[Callable[..., WorkerPool]]:
    def opened(load: Any = None, **changes: Any) -> WorkerPool:
        settings = {"workers": 2, "prefetch": 3, "deadline_s": 30.0} | changes
        key_of = "key/{}".format
        return WorkerPool(load or DoAsTold(), slot_bytes=SLOT, key_of=key_of, stuck=tmp_path / "stuck", **settings)

    yield opened


def load_all(pool: WorkerPool | InProcess, items: Iterable[tuple[str, Any]]) -> list[Result]:
    """Results in order of their tasks; slots are given back."""
    count = 0
    for count, item in enumerate(items, start=1):
        pool.submit(Task(count - 1, item, item[1] if item[0] == "pixels" else 0))
    results = []
    for _ in range(count):
        results.append(pool.next())
        if results[-1].reason is None and isinstance(results[-1].value, dict) and "first" in results[-1].value:
            size = count and items[results[-1].tag][1]  # type: ignore[index]
            assert (results[-1].value["first"] == size % 251).all()
            assert len(results[-1].value["first"]) == size // 2
            assert results[-1].value["ids"].tolist() == [0, 1, 2]
        pool.free(results[-1])
    assert sorted(result.tag for result in results) == list(range(count))
    return sorted(results, key=lambda result: result.tag)


def reasons(results: list[Result]) -> dict[int, str]:
    return {result.tag: result.reason for result in results if result.reason is not None}


def stuck_files(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "stuck").glob("*")}


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():  # the test's own time limit ends it
        time.sleep(0.02)


# --- values


def test_values_come_back_whole_whatever_their_size(open_pool: Callable[..., WorkerPool]) -> None:
    items = [("pixels", size) for size in (10, SLOT, 3 * SLOT, 500 * SLOT)] * 10
    items += [("text", 5), ("text", 200_000), ("no_pixels", 7)]
    with open_pool() as pool:
        results = load_all(pool, items)
        assert len(pool._arena._free) == len(set(pool._arena._free)) == 1024
    assert not reasons(results)
    assert results[-3].value == list(range(5))
    assert results[-2].value == list(range(200_000))
    assert [array.shape for array in results[-1].value] == [(0, 7, 3), (2,)]


def test_pixels_are_not_copied_and_their_place_is_kept_until_freed(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(workers=1) as pool:
        held = []
        for size in (1000, 2000, 3000):
            pool.submit(Task(size, ("pixels", size), size))
            held.append(pool.next())
        assert len({result.slot for result in held}) == 3
        array = held[0].value["first"]
        assert np.shares_memory(array, np.frombuffer(pool._arena[held[0].slot], np.uint8))
        for result in held:
            assert (result.value["first"] == result.tag % 251).all()
            pool.free(result)
        pool.submit(Task(4000, ("pixels", 4000), 4000))
        assert pool.next().slot in {result.slot for result in held}


def test_slots_that_run_out_stop_nothing(open_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.workers.channel._SLOTS", 2)
    with open_pool() as pool:
        for tag in range(20):
            pool.submit(Task(tag, ("pixels", SLOT), SLOT))
        results = [pool.next() for _ in range(20)]  # none is freed
        assert sum(result.slot is not None for result in results) == 2
        assert all((result.value["first"] == SLOT % 251).all() for result in results)


def test_workers_share_the_work_and_have_one_thread_and_no_gpu(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(workers=3, prefetch=1) as pool:
        results = load_all(pool, [("spin", 0.05)] * 12)
        (about,) = load_all(pool, [("surroundings", 0)])
    assert len({result.value[0] for result in results}) == 3
    assert about.value["cuda"] == ""
    assert about.value["threads"] == "1"
    assert is_gone(about.value["pid"])
    assert is_gone(about.value["server"])


# --- samples that are bad, hang or crash


def test_a_bad_sample_is_a_reason(open_pool: Callable[..., WorkerPool]) -> None:
    items = [("text", 1), ("raise_value_error", "no\n good"), ("text", 2)]
    with open_pool() as pool:
        assert reasons(load_all(pool, items)) == {1: "no good"}
    with InProcess(DoAsTold(), key_of=str) as in_process:
        assert reasons(load_all(in_process, items)) == {1: "no good"}


def test_a_stuck_sample_costs_one_sample(
    open_pool: Callable[..., WorkerPool], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [("pixels", 100)] * 3 + [("wait_for_ever", 0)] + [("pixels", 100)] * 20
    with open_pool(deadline_s=0.7) as pool:
        results = load_all(pool, items)
        wait_until(lambda: _slots_are_back(pool))
    assert reasons(results) == {3: "no answer within 0.7 s"}
    (name, text), *others = stuck_files(tmp_path).items()
    assert not others
    assert name == "key_3.txt"
    assert "in wait_for_ever" in text
    assert "key/3" in text
    message = capfd.readouterr().err
    assert "key/3" in message
    assert "stuck/key_3.txt" in message


def _slots_are_back(pool: WorkerPool) -> bool:
    """Slots of a killed worker are used again once it is gone, which is heard of while waiting for something."""
    load_all(pool, [("text", 1)])
    return len(pool._arena._free) == 1024


def test_time_that_nobody_looked_is_not_the_workers(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(workers=1, deadline_s=0.5, prefetch=8) as pool:
        load_all(pool, [("text", 1)])
        for tag in range(8):
            pool.submit(Task(tag, ("text", 100_000)))  # more than fits into a socket
        time.sleep(1.0)
        assert not reasons([pool.next() for _ in range(8)])


def test_many_that_hang_at_once(open_pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    items = [("wait_for_ever", 0) if number % 3 == 0 else ("text", number) for number in range(15)]
    with open_pool(deadline_s=0.3) as pool:
        assert set(reasons(load_all(pool, items))) == {0, 3, 6, 9, 12}
    assert len(stuck_files(tmp_path)) == 5


def test_a_crash_costs_one_sample_and_is_named(open_pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    items: list[tuple[str, Any]] = [("pixels", 100)] * 12
    items[2] = ("abort", 0)
    items[5] = ("kill", signal.SIGSEGV)
    items[7] = ("kill", signal.SIGKILL)
    items[8] = ("wait_once", str(tmp_path / "was here"))
    with open_pool() as pool:
        results = load_all(pool, items)
        assert len(pool._arena._free) == 1024
    assert reasons(results) == {
        2: "its loader worker was killed by SIGABRT",
        5: "its loader worker was killed by SIGSEGV",
        7: "its loader worker was killed by SIGKILL (out of memory?)",
        8: "its loader worker ended with exit status 7",
    }
    files = stuck_files(tmp_path)
    assert set(files) == {"key_2.txt", "key_5.txt"}  # the others had no chance to say where they were
    assert "in abort" in files["key_2.txt"]
    assert "in kill" in files["key_5.txt"]


def test_a_worker_killed_while_idle_costs_nothing(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(workers=1) as pool:
        (about,) = load_all(pool, [("surroundings", 0)])
        os.kill(about.value["pid"], signal.SIGKILL)
        wait_until(lambda: is_gone(about.value["pid"]))
        (other,) = load_all(pool, [("surroundings", 0)])
    assert about.value["pid"] != other.value["pid"]


# --- defects


@pytest.mark.parametrize("workers", [0, 1])
def test_a_defect_ends_the_run_with_its_traceback(open_pool: Callable[..., WorkerPool], workers: int) -> None:
    pool = open_pool(workers=workers) if workers else InProcess(DoAsTold(), key_of="key/{}".format)
    with pool:
        pool.submit(Task(4, ("raise_key_error", "oops")))
        with pytest.raises((LoadError, KeyError)) as caught:
            pool.next()
        message = f"{caught.value} {getattr(caught.value, '__notes__', '')}"
        assert "key/4" in message
        assert "oops" in message
        assert "in raise_key_error" in message or workers == 0
        pool.submit(Task(5, ("raise_user_error", "raise max_length")))
        with pytest.raises(UserError, match="raise max_length"):
            pool.next()


def test_workers_that_cannot_start_are_an_error_at_once(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(CannotStart()) as pool:
        pool.submit(Task(0, ("text", 1)))
        with pytest.raises(LoadError, match=r"(?s)cannot start.*in __setstate__.*no such tokenizer"):
            pool.next()


def test_a_worker_killed_before_it_is_ready_costs_nothing(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool() as pool:
        for tag in range(6):
            pool.submit(Task(tag, ("text", tag)))
        for _ in range(4):  # as when the server says so
            pool._replace(next(iter(pool._workers.values())), "killed")
        assert sorted(pool.next().value for _ in range(6)) == [list(range(n)) for n in range(6)]
        pool._replace(next(iter(pool._workers.values())), "killed")  # not the fifth in a row


def test_workers_that_never_get_ready_end_the_run(
    open_pool: Callable[..., WorkerPool], capfd: pytest.CaptureFixture[str]
) -> None:
    with open_pool() as pool:
        os.truncate(pool._arena.file, 0)  # which they cannot map
        pool.submit(Task(0, ("text", 1)))
        with pytest.raises(LoadError, match=r"5 loader workers in a row did not start; .* ended with exit status 1"):
            pool.next()
    assert "cannot mmap" in capfd.readouterr().err


def test_without_the_process_that_starts_workers_the_run_ends(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool() as pool:
        (about,) = load_all(pool, [("surroundings", 0)])
        pool._server.kill()
        pool.submit(Task(1, ("wait_for_ever", 0)))
        with pytest.raises(LoadError, match="has ended, with status -9"):
            pool.next()
        wait_until(lambda: is_gone(about.value["pid"]))


def test_a_pool_that_still_starts_closes_at_once(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool(CannotStart(sleep_s=1e6)) as pool:
        server = pool._server
    assert server.returncode == -signal.SIGKILL


def test_stop_ends_waiting_and_close_waits_for_that(open_pool: Callable[..., WorkerPool]) -> None:
    raised: list[type[BaseException]] = []

    def wait() -> None:
        try:
            pool.next()
        except BaseException as error:
            raised.append(type(error))

    with open_pool() as pool:
        pool.submit(Task(0, ("wait_for_ever", 0)))
        thread = threading.Thread(target=wait)
        thread.start()
    thread.join()
    assert raised == [Stopped]


# --- the parent

PARENT = """
import sys
from pathlib import Path
from tests.trainer.loads import CannotStart, DoAsTold
from trainer.workers.pool import WorkerPool
from trainer.workers.tasks import Task

load = CannotStart(sleep_s=1e6) if sys.argv[1] == "starting" else DoAsTold()
with WorkerPool(
    load, workers=2, prefetch=3, deadline_s=1e6, slot_bytes=1_000_000, key_of=str, stuck=Path(sys.argv[2])
) as pool:
    if sys.argv[1] == "starting":
        pool.submit(Task(0, ("text", 1)))
        print(pool._server.pid, flush=True)
    else:
        for tag in range(8):
            pool.submit(Task(tag, ("spin", 0.1)))
        print(*{number for _ in range(8) for number in pool.next().value}, flush=True)
        for tag in range(8):
            pool.submit(Task(tag, ("pixels", 900_000), 900_000) if tag % 2 else Task(tag, ("spin", 1e6)))
    pool.next() and pool.next() and pool.next()
    print("not reached")
"""


def start_parent(how: str, tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, how, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    return parent, [int(number) for number in parent.stdout.readline().split()]


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    names = sorted(os.listdir("/dev/shm"))
    for _ in range(10):
        parent, others = start_parent("busy", tmp_path)
        assert len(others) == 3
        parent.kill()
        wait_until(lambda others=others: all(map(is_gone, others)))
        parent.communicate()
    assert sorted(os.listdir("/dev/shm")) == names


def test_nor_when_it_is_killed_while_the_pool_starts(tmp_path: Path) -> None:
    parent, others = start_parent("starting", tmp_path)
    assert not is_gone(others[0])
    parent.kill()
    wait_until(lambda: is_gone(others[0]))
    parent.communicate()


def test_ctrl_c_is_one_traceback(tmp_path: Path) -> None:
    parent, others = start_parent("busy", tmp_path)
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate()
    assert "not reached" not in out
    assert Counter(err.split())["Traceback"] == 1
    assert "KeyboardInterrupt" in err
    wait_until(lambda: all(map(is_gone, others)))


def test_memory_is_flat(open_pool: Callable[..., WorkerPool]) -> None:
    with open_pool() as pool:

        def memory() -> int:
            """KiB of all three, shared memory counted where it is mapped."""
            (about,) = load_all(pool, [("surroundings", 0)])
            pids = [os.getpid(), about.value["pid"], about.value["server"]]
            status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
            return sum(int(text.split("VmRSS:")[1].split()[0]) for text in status)

        items = [("pixels", SLOT), ("pixels", 4 * SLOT), ("text", 3000), ("raise_value_error", "bad")] * 25
        for _ in range(10):
            load_all(pool, items)
        before = memory()
        for _ in range(30):
            load_all(pool, items)
        assert memory() - before < 3 * 1024  # 3,000 samples
