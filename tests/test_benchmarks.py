"""Every benchmark runs, at sizes at which its figures mean nothing, and has a place for its report."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from benchmarks import bench, mix_stream, model_step, pair
from benchmarks.bench import Miss, Table
from benchmarks.released import ToySizes
from varyforge.errors import UserError

PARTS = {"bench", "clocks", "inputs", "make_letters", "pair", "released", "released_images", "pdf_labels"}
"""Modules of benchmarks/ that are no benchmarks."""
NAMES = sorted({path.stem for path in bench.README.parent.glob("*.py")} - PARTS)
SLOW = {"learn_ocr", "loader", "model_step toy", "model_step sam", "model_step tiny"}
"""Sections that train, or start processes that import torch."""


def cases(name: str) -> tuple[str, ...]:
    """Arguments without which a benchmark does not run: its case, where it has several."""
    return getattr(bench.load(name), "CASES", ("",))


def tiny_runs() -> Iterator[object]:
    for section in (f"{name} {case}".strip() for name in NAMES for case in cases(name)):
        marks = [pytest.mark.slow] if section in SLOW else [pytest.mark.gpu] if section == "model_step gpu" else []
        yield pytest.param(section, marks=marks)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("section", tiny_runs())
def test_a_benchmark_runs_tiny_and_records_nothing(
    section: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails by itself where two sides that have to compute the same do not."""
    monkeypatch.setattr(bench, "write_text", lambda path, text: pytest.fail(f"{path} was written"))
    name, *words = section.split()
    arguments = bench.parse(name, [*words, "--tiny"])
    pieces = list(bench.load(name).measure(arguments))
    tables = [piece for piece in pieces if isinstance(piece, Table)]
    assert tables
    for table in tables:
        assert table.rows, table.title
        assert all(len(row) == len(table.head) for row in table.rows), table.markdown()
        assert all(isinstance(cell, str) and cell for row in table.rows for cell in row), table.markdown()
    assert not capsys.readouterr().out  # the report is yielded, messages go to stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_help_sizes_and_marks_in_the_readme(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        bench.parse(name, ["--help"])
    usage = capsys.readouterr().out
    assert end.value.code == 0 and f"python -m benchmarks.{name}" in usage
    readme, case = bench.README.read_text(encoding="utf-8"), cases(name)[0]
    arguments = vars(bench.parse(name, case.split()))
    assert set(bench.load(name).TINY) <= set(arguments), "TINY names no option"
    for section in (f"{name} {case}".strip() for case in cases(name)):
        begin, end_mark = bench.marks(section)
        assert readme.count(begin) == readme.count(end_mark) == 1, section
        assert readme.index(begin) < readme.index(end_mark), section


def test_the_smallest_sizes_are_defaults_that_a_word_overrides() -> None:
    assert bench.parse("packing", ["--tiny"]).steps == 1
    assert bench.parse("packing", ["--tiny", "--steps", "2"]).steps == 2
    assert bench.parse("packing", []).steps == 50


def test_a_benchmark_without_inputs_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="no inputs are named"):
        list(bench.load("sources").measure(bench.parse("sources", [])))


def test_a_report_replaces_what_stands_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\n<!-- a: begin -->\nold\n<!-- a: end -->\n\n<!-- a b: begin --><!-- a b: end -->\nend\n")
    bench.record("a", "new", readme)
    bench.record("a b", "other", readme)
    assert readme.read_text() == (
        "# A\n\n<!-- a: begin -->\n\nnew\n\n<!-- a: end -->\n\n<!-- a b: begin -->\n\nother\n\n<!-- a b: end -->\nend\n"
    )
    bench.record("a", "newer", readme)
    assert "new\n" not in readme.read_text()


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- a: end -->\n<!-- a: begin -->\n")
    with pytest.raises(UserError, match="no marks"):
        bench.record("a", "new", readme)
    assert readme.read_text() == "<!-- a: end -->\n<!-- a: begin -->\n"


class _Fake:
    """A benchmark that misses an aim."""

    __doc__ = "Measure nothing."
    TINY: ClassVar = {"size": 1}

    def options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--size", type=int, default=100)
        parser.add_argument("--folder", type=Path)

    def measure(self, arguments: argparse.Namespace) -> Iterator[Table | str]:
        yield Table(title="Rows.", head=("size", "s"), rows=[(str(arguments.size), "0.5")])
        yield Miss("0.5 s, the aim is 0.4.")


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench, "load", lambda name: _Fake())
    path = tmp_path / "README.md"
    path.write_text("<!-- fake: begin --><!-- fake: end -->")
    record = bench.record
    monkeypatch.setattr(bench, "record", lambda section, text: record(section, text, path))
    return path


def test_a_run_prints_and_records_its_report(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run("fake", ["--size", "7", "--folder", "/some/where/photographs"]) == 1  # an aim was missed
    table, missed = "| size | s |\n|---|---|\n| 7 | 0.5 |", "**Missed:** 0.5 s, the aim is 0.4."
    text = readme.read_text()
    assert "`python -m benchmarks.fake --size 7 --folder photographs`" in text, "folders of a machine are cut"
    assert f"Rows.\n\n{table}\n\n{missed}" in text
    assert "commit" in text and "CPU cores" in text and "load" in text
    assert table in capsys.readouterr().out


def test_a_tiny_run_prints_and_records_nothing(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = readme.read_text()
    assert bench.run("fake", ["--tiny"]) == 0
    assert bench.run("fake", ["--no-record"]) == 1
    assert readme.read_text() == before
    tiny, whole = capsys.readouterr().out.split("Rows.")[1:]
    assert "| 1 | 0.5 |" in tiny and "Missed" not in tiny and "**Missed:**" in whole


@pytest.mark.parametrize(("case", "sides"), [("toy", 2), ("sam", 2), ("tiny", 4)])
def test_a_step_is_timed_and_weighed_on_both_sides(case: str, sides: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is made up, as each side's would take a fresh process; `test_a_benchmark_runs_tiny` takes that."""

    def weigh(work: object, job: model_step.Job) -> model_step.Weighed:
        return model_step.Weighed(extra=(8 if job.released else 2) << 30, gradients=1 << 30, loss=1.0)

    monkeypatch.setattr(model_step, "in_fresh_process", weigh)
    (table,) = model_step.measure(bench.parse("model_step", [case, "--tiny"]))
    assert isinstance(table, Table) and len(table.rows) == sides
    released, ours = (dict(zip(table.head, row, strict=True)) for row in (table.rows[0], table.rows[-1]))
    assert float(released["wall s"]) > 0 and float(ours["wall s"]) > 0
    assert (released["step GiB"], ours["step GiB"]) == ("8.00", "2.00")
    assert table.rows[-1][-4:-1] == ["0.250", "1.00", "0.143"]  # of released; beyond gradients, of released


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(UserError, match="gpu: torch sees no CUDA device"):
        list(bench.load("model_step").measure(bench.parse("model_step", ["gpu", "--tiny"])))


def test_different_losses_are_no_result() -> None:
    with pytest.raises(AssertionError, match="different losses"):
        pair.agree({"released": 2.0, "ours": 2.001})


def test_packed_rows_cost_less_than_padded_batches_whatever_the_machine() -> None:
    sizes = mix_stream.stream(512, np.random.default_rng(0))
    ours, released = mix_stream.flops(pair.ours(ToySizes(), device="meta"), sizes)
    assert released / ours > 1.7
