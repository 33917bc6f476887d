from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.job.isolate import Child, Limits, child_of
from datagen.source import Unit, UnitView
from tests.datagen.job.test_scan import CountingSource
from tests.datagen.sources import FaultySource
from varyforge.errors import UserError
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
        ("calloc", "memory", "memory cap"),
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


@pytest.mark.parametrize("file", ["/data/in.pdf", "/tmp/varyforge-abcdefgh/in.pdf", "/da ta/\udcff/in.pdf"])
def test_no_folder_is_in_a_detail(file: str) -> None:
    with Child(FaultySource(faults={0: "path"}), Limits()) as child:
        failed = child.make(replace(unit(0), files=("s3://bucket/in.pdf",)), [file])
    assert failed == Failed(reason="half", detail="cannot open in.pdf, nor more.txt")


def test_the_detail_of_a_crash_is_the_last_line_of_its_own_unit() -> None:
    """Messages of earlier units were removed, and left no NUL bytes in their place."""
    with Child(FaultySource(faults={0: "mutter", 1: "gasp", 2: "gasp"}), Limits(deadline_s=20)) as child:
        assert isinstance(child.make(unit(0), []), Written)
        details = [child.make(unit(number), []) for number in (1, 2)]
    assert details == [Failed(reason="crash", detail="killed by SIGABRT: last words")] * 2


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
        """Processes that live."""
        stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
        return {group for state, _, group, *_ in stats if state != "Z"}

    with Child(FaultySource(faults={1: "fork"}), Limits(deadline_s=20)) as child:
        assert isinstance(child.make(unit(0), []), Written)
        process = child._process
        assert process is not None
        child.make(unit(1), [])
        assert str(process.pid) not in groups()


def pid(child: Child) -> int:
    return child._process.pid if child._process else 0


def test_units_of_an_input_come_in_order_with_signs_of_life_between() -> None:
    with Child(CountingSource(), Limits(deadline_s=20)) as child:
        units = list(child.units("3?", "3?"))
        assert [unit and unit.id for unit in units] == [None, "3?#0", None, "3?#1", None, "3?#2"]  # type: ignore[union-attr]
        assert len(list(child.units("2500", "2500"))) == 2500  # several messages
        assert list(child.units("0", "0")) == []


def test_an_input_that_breaks_ends_with_why_and_the_child_lives() -> None:
    with Child(CountingSource(), Limits(deadline_s=20)) as child:
        *_, last = child.units("2!", "2!")
        assert last == Failed(reason="unreadable", detail="the rest is missing")
        before = pid(child)
        assert len(list(child.units("1", "1"))) == 1 and pid(child) == before != 0


def test_the_rest_of_an_input_that_nobody_wants_costs_the_child() -> None:
    """It would go on cutting, and its answers would be taken for those of the next call."""
    with Child(CountingSource(), Limits(deadline_s=20)) as child:
        units = child.units("50000", "50000")
        next(units)
        units.close()  # type: ignore[attr-defined]  # a generator
        assert pid(child) == 0
        assert [unit.id for unit in child.units("1", "1")] == ["1#0"]  # type: ignore[union-attr]


def test_a_unit_without_a_picture_has_none() -> None:
    with Child(FaultySource(), Limits()) as child:
        assert child.view(unit(0), []) == UnitView()


def test_a_thread_keeps_its_child_from_shard_to_shard() -> None:
    source, limits = FaultySource(), Limits(deadline_s=20)
    child = child_of(source, limits)
    assert child_of(FaultySource(), Limits(deadline_s=20)) is child  # equal settings
    assert child_of(FaultySource(nap_s=0.1), limits) is not child
    with ThreadPoolExecutor(1) as other:
        assert other.submit(child_of, source, limits).result() is not child


@pytest.mark.parametrize("wrong", [{"deadline_s": 0.0}, {"memory_mb": 0}, {"units_per_child": 0}])
def test_limits_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be above 0"):
        Limits(**wrong)  # type: ignore[arg-type]
