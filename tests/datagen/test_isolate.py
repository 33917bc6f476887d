from __future__ import annotations

import pytest

from datagen.isolate import Child, Limits
from datagen.unit import Failed, Unit, Written
from tests.datagen.sources import FaultySource


def unit(number: int) -> Unit:
    return Unit(id=str(number), document="g", content=str(number), payload={"n": number})


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ("sleep", "timeout", "4 s, in sources.py:"),
        ("abort", "crash", "SIGABRT"),
        ("exit", "crash", "exit status 3"),
        ("eat", "memory", "memory cap"),
        ("raise", "KeyError", "a defect"),
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
