"""Plan files of inputs: streamed, whole or not at all, in order of position."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.job.isolate import Limits
from datagen.job.runner import LocalRunner
from datagen.job.scan import Batch, Scan, read_runs, read_units
from datagen.source import Source, Unit
from varyforge.outcome import Failed, Outcome
from varyforge.storage import LocalFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingSource(Source):
    """An input called "N" has N units; "N!" breaks after them, "N?" is silent for a while before each."""

    name = "counting"
    locations = ()

    def document(self, path: str) -> str:
        return path

    def inputs(self) -> Iterator[str]:
        yield "1"

    def units(self, path: str, file: str) -> Iterator[Unit | None]:
        for number in range(int(path.rstrip("!?"))):
            if path.endswith("?"):
                yield None
            yield Unit(id=f"{path}#{number}", document=f"{path}#{number}", content=f"{path}#{number}")
        if path.endswith("!"):
            raise ValueError("the rest is missing")

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        return Failed(reason="none")


def scan(folder: Path, *inputs: str, limit: int | None = None) -> tuple[list[Unit], list[dict[str, int]]]:
    """The units of the plan file, run after run, and the ticks."""
    ticks: list[dict[str, int]] = []
    out = LocalFolder(folder)
    batch = Batch(name="plan/all-0.parquet", inputs=inputs, run_units=16, limit=limit)
    name = Scan(CountingSource(), out, Limits(deadline_s=20))(batch, lambda done: ticks.append(dict(done)))
    runs, _, _ = read_runs(out, name)
    assert list(runs.position) == sorted(runs.position)
    found = read_units(out, [(name, row) for row in range(len(runs.position))])
    return [unit for run in found for unit in run], ticks


def test_units_stand_in_order_of_place_whatever_the_order_of_the_inputs(tmp_path: Path) -> None:
    one, _ = scan(tmp_path / "one", "150", "70", "3")
    other, _ = scan(tmp_path / "other", "3", "150", "70")
    assert one == other
    assert len(one) == 223


def test_an_input_that_breaks_leaves_one_failed_unit_and_nothing_else(tmp_path: Path) -> None:
    units, _ = scan(tmp_path, "5", "2500!", "0!", "4")
    by_id = {unit.id: unit.verdict for unit in units}
    assert len(units) == 11
    for name in ("2500!", "0!"):
        assert by_id[name] == Failed(reason="unreadable", detail="the rest is missing")
    assert [unit.id for unit in units if unit.verdict] == [u.id for u in units if u.id in ("2500!", "0!")]


def test_signs_of_life_are_no_units(tmp_path: Path) -> None:
    units, ticks = scan(tmp_path, "5?", "2")
    assert len(units) == 7
    assert ticks.count({}) == 5 and ticks.count({"scanned": 1}) == 2


def test_the_limit_holds_over_inputs(tmp_path: Path) -> None:
    units, _ = scan(tmp_path, "5", "1500", "7", limit=1006)
    assert len(units) == 1006
    assert not any(unit.id.startswith("7#") for unit in units)


def test_a_local_runner_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with LocalRunner(2) as runner:
        assert sorted(runner.run(lambda item, tick: item, [1, 2, 3], lambda done: None)) == [1, 2, 3]
        mine = set(threading.enumerate()) - before
        assert len(mine) == 2
    assert not any(thread.is_alive() for thread in mine)
