"""A set that changes: what is made again, what is not, and that it equals one made afresh."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.ledger import LedgerSummary
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from pipelines.verify.check import check
from tests.datagen.job.test_job import hashes
from tests.datagen.sources import FaultySource, LengthGates, LinesSource
from varyforge import prompts
from varyforge.errors import UserError
from varyforge.shards import ShardSet

SETTINGS = JobSettings(units_per_shard=8, validation_share=0.2, limits=Limits(deadline_s=5))


def write_inputs(folder: Path, numbers: range, lines: int = 4) -> LinesSource:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        text = "\n".join(f"line {line} of document {number}" for line in range(lines))
        (folder / f"{number:03d}.txt").write_text(text)
    return LinesSource(paths=[str(folder)])


def run(out: Path, source: LinesSource, **changes: object) -> LedgerSummary:
    return run_job(source, out, replace(SETTINGS, **changes), LocalRunner())  # type: ignore[arg-type]


def bytes_of(out: Path) -> dict[str, str]:
    """The shards: everything but where the inputs lie and what was scanned."""
    return {name: sha for name, sha in hashes(out).items() if not name.startswith(("plan/", "job.json"))}


def tars_made_again(out: Path, before: dict[str, int]) -> set[str]:
    return {name for name, time in times(out).items() if before.get(name) != time}


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}


def test_more_inputs_change_few_shards_and_the_result_is_as_made_afresh(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(40))
    run(tmp_path / "out", source)
    before = times(tmp_path / "out")
    write_inputs(tmp_path / "in", range(40, 42))
    with pytest.raises(UserError, match=r"inputs 160 → 168 units\. 5 of 31 shards would be made again: add --update"):
        run(tmp_path / "out", source)
    run(tmp_path / "out", source, update=True)
    assert len(tars_made_again(tmp_path / "out", before)) == 5
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
    (tmp_path / "in" / "007.txt").unlink()
    run(tmp_path / "out", source, update=True)
    run(tmp_path / "less", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "less")


def test_units_of_a_changed_shard_that_did_not_change_are_copied(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "in").mkdir()
    lines = [f"touch {trace} {number}" for number in range(4)]
    (tmp_path / "in" / "a.txt").write_text("\n".join(lines))
    source = LinesSource(paths=[str(tmp_path / "in")])
    run(tmp_path / "out", source)
    (tmp_path / "in" / "b.txt").write_text(f"touch {trace} new")
    run(tmp_path / "out", source, update=True)
    assert sorted(trace.read_text().splitlines()) == sorted([*lines, f"touch {trace} new"])  # each made once
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_a_changed_gate_concerns_the_shards_in_which_a_verdict_changes(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(20))
    (tmp_path / "in" / "short.txt").write_text("tiny one\nno")
    run(tmp_path / "out", source)
    before = times(tmp_path / "out")
    stricter = replace(source, gates=LengthGates(min_length=10))
    with pytest.raises(UserError, match=r"settings\.gates\.min_length 3 → 10\. 1 of \d+ shards"):
        run(tmp_path / "out", stricter)
    summary = run(tmp_path / "out", stricter, update=True)
    assert summary.by_cause == {("rejected", "min_length"): 2}
    assert len(tars_made_again(tmp_path / "out", before)) == 1
    run(tmp_path / "fresh", stricter)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
    unmoved = times(tmp_path / "out")
    run(tmp_path / "out", replace(stricter, gates=LengthGates(min_length=10, max_length=9000)), update=True)
    assert not tars_made_again(tmp_path / "out", unmoved)  # no verdict depends on it
    with pytest.raises(UserError, match=r"settings\.style .* (\d+) of \1 shards"):  # no gate: concerns all
        run(tmp_path / "out", replace(stricter, style="bold"))


def test_a_changed_prompt_list_concerns_the_shards_that_draw_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_inputs(tmp_path / "in", range(20))
    (tmp_path / "in" / "zh.txt").write_text("中文的一行")
    run(tmp_path / "out", source)
    before = times(tmp_path / "out")
    lists = {name: dict(languages) for name, languages in prompts._lists().items()}
    lists["ocr"]["zh"] = ("新的说法",)
    monkeypatch.setattr(prompts, "_lists", lambda: lists)
    with pytest.raises(UserError, match=r"prompts\.ocr\.zh .* 1 of \d+ shards"):
        run(tmp_path / "out", source)
    run(tmp_path / "out", source, update=True)
    assert len(tars_made_again(tmp_path / "out", before)) == 1
    lists["caption"]["en"] = ("not drawn from",)
    run(tmp_path / "out", source)


def test_retry_makes_failed_units_again_and_no_others(tmp_path: Path) -> None:
    flag, trace = tmp_path / "flag", tmp_path / "trace"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(f"touch {trace} a\nwait {flag} patiently\ntouch {trace} b\n")
    source = LinesSource(paths=[str(tmp_path / "in")])
    hasty = replace(SETTINGS, limits=Limits(deadline_s=1))
    assert run_job(source, tmp_path / "out", hasty, LocalRunner()).by_cause == {("failed", "timeout"): 1}
    flag.touch()
    assert run(tmp_path / "out", source).by_outcome["failed"] == 1  # not by itself
    assert run(tmp_path / "out", source, retry="failed:crash").by_outcome["failed"] == 1
    assert run(tmp_path / "out", source, retry="failed:timeout").by_outcome == {
        "written": 3,
        "rejected": 0,
        "failed": 0,
    }
    assert len(trace.read_text().splitlines()) == 2
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
    with pytest.raises(UserError, match="expected failed or failed:REASON"):
        JobSettings(retry="everything")


def test_retry_reads_inputs_again_that_could_not_be_read(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    source = write_inputs(tmp_path / "in", range(3))
    (tmp_path / "in" / "later.txt").write_text(f"needs {flag}\nand a line more")
    (tmp_path / "in" / "broken.txt").write_bytes(b"\xff\xfe")
    assert run(tmp_path / "out", source).by_cause == {("failed", "unreadable"): 2}
    flag.touch()
    assert run(tmp_path / "out", source).by_outcome["failed"] == 2
    assert run(tmp_path / "out", source, retry="failed:timeout").by_outcome["failed"] == 2
    summary = run(tmp_path / "out", source, retry="failed:unreadable")
    assert summary.by_outcome == {"written": 14, "rejected": 0, "failed": 1}
    assert check(tmp_path / "out").problems == []
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_a_retry_is_no_update(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    (tmp_path / "in" / "broken.txt").write_bytes(b"\xff\xfe")
    run(tmp_path / "out", source)
    before = bytes_of(tmp_path / "out")
    for number in range(2, 10):
        (tmp_path / "in" / f"{number:03d}.txt").unlink()
    with pytest.raises(UserError, match="inputs 41 → 9 units"):
        run(tmp_path / "out", source, retry="failed")
    assert bytes_of(tmp_path / "out") == before


def test_a_touched_input_and_a_refused_run_leave_a_sound_set(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    run(tmp_path / "out", source)
    os.utime(tmp_path / "in" / "003.txt", (1, 1))
    with pytest.raises(UserError, match="min_length 3 → 9"):
        run(tmp_path / "out", replace(source, gates=LengthGates(min_length=9)))
    assert check(tmp_path / "out").problems == []
    run(tmp_path / "out", source)
    assert check(tmp_path / "out").problems == []
    assert len(list((tmp_path / "out" / "plan").iterdir())) == 1


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    strange = ["backup.tar", "plan/mine.parquet", "index/mine.parquet", "other/.x.123.tmp", "lines-01x.tar"]
    run(tmp_path / "out", source)
    for name in strange:
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"not ours")
    write_inputs(tmp_path / "in", range(12))
    run(tmp_path / "out", source, update=True)
    assert all((tmp_path / "out" / name).read_bytes() == b"not ours" for name in strange)
    for name in ("index/mine.parquet", "ledger/mine.parquet"):
        (tmp_path / "else" / name).parent.mkdir(parents=True)
        (tmp_path / "else" / name).write_bytes(b"not ours")
    with pytest.raises(UserError, match="no job of ours"):
        run(tmp_path / "else", source)


def test_a_set_of_another_source_is_never_taken_over(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(3))
    run(tmp_path / "out", source)
    with pytest.raises(UserError, match="holds a set made by 'lines'; choose another --out"):
        run_job(FaultySource(), tmp_path / "out", replace(SETTINGS, update=True), LocalRunner())


def test_an_input_named_twice_is_one(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in", range(3))
    twice = LinesSource(paths=[str(tmp_path / "in"), str(tmp_path / "in" / "001.txt")])
    assert run(tmp_path / "out", twice).units == 12


def test_a_set_among_its_own_inputs_is_no_input(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(3))
    run(tmp_path / "in" / "out", source)
    (tmp_path / "in" / "out" / "index" / "notes.txt").write_text("not an input")
    assert run(tmp_path / "in" / "out", source).units == 12


def test_broken_state_is_one_clear_line(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    run(tmp_path / "out", source)
    for below in ("plan", "ledger"):
        file = next((tmp_path / "out" / below).iterdir())
        data = file.read_bytes()
        file.write_bytes(b"PAR1 nothing")
        with pytest.raises(UserError, match=f"{file.name}: broken .* delete it and run the datagen command again"):
            run(tmp_path / "out", source, validation_share=0.5, update=True, retry="failed")
        file.write_bytes(data)


def test_an_interrupted_update_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_inputs(tmp_path / "in", range(30))
    run(tmp_path / "out", source)
    write_inputs(tmp_path / "in", range(30, 60))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("datagen.job.job.assign_splits", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", source, update=True)
    with pytest.raises(UserError, match="its job has not finished"):
        ShardSet(tmp_path / "out")
    run(tmp_path / "out", source)  # job.json says already what is to become of it
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_shards_that_are_planned_no_more_leave_nothing(tmp_path: Path) -> None:
    source = write_inputs(tmp_path / "in", range(30))
    run(tmp_path / "out", source)
    for number in range(1, 30):
        (tmp_path / "in" / f"{number:03d}.txt").unlink()
    run(tmp_path / "out", source, update=True)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1
    run(tmp_path / "fresh", source)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
