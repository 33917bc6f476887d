from __future__ import annotations

from pathlib import Path

import pytest

from datagen.job.isolate import Child, Limits
from datagen.source import Unit
from tests.datagen.sources import FaultySource
from varyforge.outcome import Failed, Written


def unit(number: int) -> Unit:
    return Unit(id=str(number), document="g", content=str(number), payload={"n": number})


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ("sleep", "timeout", "no result after 4 s"),
        ("abort", "crash", "SIGABRT"),
        ("exit", "crash", "exit status 3"),
        ("eat", "memory", "memory cap"),
        ("raise", "KeyError", "a defect"),
        ("nothing", "TypeError", "make gave a NoneType"),
        ("no text", "unreadable", "surrogates not allowed"),
        ("no answer", "unreadable", "an assistant turn is empty: nothing to learn from"),
        ("no number", "TypeError", "'much' for a number"),
        ("garbage", "crash", ""),
        ("half", "timeout", "4 s"),
        ("chatter", "crash", "SIGABRT: last words"),
        ("fork", "crash", "SIGABRT"),
    ],
)
def test_a_fault_costs_one_unit(fault: str, reason: str, detail: str) -> None:
    with Child(FaultySource(faults={1: fault}), Limits(deadline_s=4, memory_mb=512)) as child:
        assert isinstance(child.make(unit(0), []), Written)
        failed = child.make(unit(1), [])
        assert isinstance(failed, Failed)
        assert failed.reason == reason
        assert detail in failed.detail
        assert isinstance(child.make(unit(2), []), Written)


@pytest.mark.parametrize("fault", ["sleep", "abort", "eat", "raise", "garbage"])
def test_units_given_together_end_each_for_itself(fault: str) -> None:
    work: list[tuple[Unit, list[str]]] = [(unit(number), []) for number in range(6)]
    with Child(FaultySource(faults={1: fault, 2: fault, 5: fault}), Limits(deadline_s=2, memory_mb=512)) as child:
        outcomes = list(child.run_units(work))
        assert [isinstance(outcome, Failed) for outcome in outcomes] == [False, True, True, False, False, True]
        written = [outcome.samples[0].answer[:2] for outcome in outcomes if isinstance(outcome, Written)]
        assert written == ["0!", "3!", "4!"]


def test_units_that_nobody_waits_for_are_given_up() -> None:
    with Child(FaultySource(faults={2: "sleep"}), Limits(deadline_s=4)) as child:
        outcomes = child.run_units([(unit(number), []) for number in range(4)])
        assert isinstance(next(outcomes), Written)
        outcomes.close()
        made = child.make(unit(3), [])
        assert isinstance(made, Written) and made.samples[0].answer.startswith("3!")


def test_a_killed_child_costs_nothing_when_the_next_one_lives() -> None:
    with Child(FaultySource(), Limits()) as child:
        assert isinstance(child.make(unit(0), []), Written)
        process = child._process
        assert process is not None
        process.kill()
        assert isinstance(child.make(unit(1), []), Written)


def test_a_source_that_cannot_be_imported_is_a_clear_error() -> None:
    class Local(FaultySource):
        pass

    with Child(Local(), Limits()) as child, pytest.raises((AttributeError, RuntimeError)):
        child.make(unit(0), [])


def test_where_a_unit_hangs_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with Child(FaultySource(faults={1: "sleep"}), Limits(deadline_s=1)) as child:
        child.make(unit(1), [])
    assert "no result after 1 s, in sources.py:" in capfd.readouterr().err


def test_what_a_unit_starts_ends_with_its_child() -> None:
    def groups() -> set[str]:
        """Of processes that live."""
        stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
        return {group for state, _, group, *_ in stats if state != "Z"}

    with Child(FaultySource(faults={1: "fork"}), Limits(deadline_s=20)) as child:
        assert isinstance(child.make(unit(0), []), Written)
        process = child._process
        assert process is not None
        child.make(unit(1), [])
        assert str(process.pid) not in groups()
