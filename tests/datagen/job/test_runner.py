"""Tasks in threads: results as they come, errors as they are, no thread left over."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from datagen.job.runner import LARGE, LocalRunner, SizedRunner, Tick


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    with LocalRunner(3) as runner:
        yield runner


def nothing(done: object) -> None:
    pass


def test_each_item_once(runner: LocalRunner) -> None:
    assert sorted(runner.run(lambda item, tick: item * item, range(50), nothing)) == [n * n for n in range(50)]
    assert list(runner.run(lambda item, tick: item, [], nothing)) == []


def test_results_come_when_they_are_there(runner: LocalRunner) -> None:
    slow = threading.Event()

    def task(item: str, tick: Tick) -> str:
        if item == "slow":
            assert slow.wait(20)
        return item

    results = runner.run(task, ["slow", "fast", "faster"], nothing)
    assert {next(results), next(results)} == {"fast", "faster"}
    slow.set()
    assert list(results) == ["slow"]


def test_no_more_tasks_at_a_time_than_workers(runner: LocalRunner) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def task(item: int, tick: Tick) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    assert len(list(runner.run(task, range(12), nothing))) == 12
    assert most == 3


def test_ticks_are_not_interleaved(runner: LocalRunner) -> None:
    counts: Counter[str] = Counter()
    inside = threading.Lock()

    def tick(done: object) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.001)
        counts.update(done)  # type: ignore[call-overload]
        inside.release()

    def task(item: int, tick: Tick) -> None:
        for _ in range(5):
            tick({"written": 1})

    assert len(list(runner.run(task, range(9), tick))) == 9
    assert counts == {"written": 45}


def test_an_error_is_raised_as_it_is(runner: LocalRunner) -> None:
    def task(item: int, tick: Tick) -> int:
        if item == 2:
            raise KeyError("of the task")
        return item

    with pytest.raises(KeyError, match="of the task"):
        list(runner.run(task, range(5), nothing))
    assert sorted(runner.run(lambda item, tick: item, range(5), nothing)) == [0, 1, 2, 3, 4]  # it goes on


def test_who_stops_listening_stops_the_tasks(runner: LocalRunner) -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def task(item: int, tick: Tick) -> int:
        begun.append(item)
        if item:
            assert go_on.wait(20)
            tick({})  # ends the task: nobody waits for it
            begun.append(-1)
        return item

    results = runner.run(task, range(100), nothing)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]  # a generator
    go_on.set()
    runner.close()
    assert -1 not in begun and len(begun) <= 4


def test_threads_are_used_again(runner: LocalRunner) -> None:
    def task(item: int, tick: Tick) -> int:
        time.sleep(0.01)
        return threading.get_ident()

    first = set(runner.run(task, range(9), nothing))
    second = set(runner.run(task, range(9), nothing))
    assert len(first) == 3 and second == first
    assert runner.state() == "3 threads of this process"


def test_few_items_need_few_threads() -> None:
    with LocalRunner(50) as runner:
        before = threading.active_count()
        assert list(runner.run(lambda item, tick: item, [1], nothing)) == [1]
        assert threading.active_count() == before + 1


def test_ctrl_c_waits_for_nobody() -> None:
    go_on = threading.Event()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), LocalRunner(1) as runner:
        results = runner.run(lambda item, tick: go_on.wait(20), [1], nothing)
        threading.Thread(target=lambda: next(results, None), daemon=True).start()
        raise KeyboardInterrupt
    assert time.monotonic() - started < 10
    go_on.set()


def test_only_large_steps_start_the_large_runner() -> None:
    started: list[LocalRunner] = []

    def large() -> LocalRunner:
        started.append(LocalRunner(2))
        return started[-1]

    with SizedRunner(LocalRunner(1), large) as runner:
        assert runner.for_units(LARGE - 1).state() == runner.state() == "1 threads of this process"
        assert not started
        assert runner.for_units(LARGE) is runner.for_units(9 * LARGE) is started[0] and len(started) == 1
        assert runner.state() == "2 threads of this process"
