"""The check of a shard set names its damage, and the comparison of two sets their differences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.verify.__main__ import main
from pipelines.verify.check import check
from pipelines.verify.diff import compare
from tests.datagen.job.test_incremental import run, write_inputs
from tests.datagen.sources import LengthGates, LinesSource


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    source = write_inputs(root / "in", range(12))
    (root / "in" / "short.txt").write_text("no")
    run(root / "out", source)
    return root


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound / "out", tmp_path / "out")
    return tmp_path / "out"


def test_a_sound_set_is_called_so(sound: Path) -> None:
    findings = check(sound / "out")
    assert findings.problems == []
    assert (findings.units, findings.samples) == (49, 48)
    assert findings.outcomes == {"written": 48, "rejected": 1}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def drop_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def alter(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte in a tar": (lambda out: flip(next(out.glob("*.tar")), 700), r"\.tar: changed since"),
    "a flipped byte in an index": (lambda out: flip(next(out.glob("index/*")), 300), r"index/.*: changed since"),
    "a flipped byte in a ledger": (lambda out: flip(next(out.glob("ledger/*")), 300), r"ledger/.*: changed since"),
    "a cut tar": (lambda out: next(out.glob("*.tar")).open("r+b").truncate(1000), r"\.tar: cut: 1000 of \d+ bytes"),
    "a tar gone": (lambda out: next(out.glob("*.tar")).unlink(), r"\.tar: missing"),
    "an index gone": (lambda out: next(out.glob("index/*")).unlink(), r"index/.*: missing"),
    "a ledger row gone": (lambda out: drop_row(next(out.glob("ledger/*"))), r"ledger/.*: no row for unit \S+\.txt#"),
    "an index row gone": (lambda out: drop_row(next(out.glob("index/*"))), r"not as many samples as the ledger says"),
    "a tar too many": (lambda out: (out / "lines-x.tar").touch(), r"lines-x\.tar: not in the manifest"),
    "another configuration": (
        lambda out: alter(out / "job.json", '"style": "plain"', '"style": "bold"'),
        "other settings",
    ),
    "a manifest of other units": (
        lambda out: alter(out / "manifest.jsonl", '"units_sha256": "', '"units_sha256": "0'),
        "units",
    ),
    "a flipped byte in the plan": (
        lambda out: flip(next(out.glob("plan/*")), 200),
        "inputs cannot be compared|changed",
    ),
    "no plan": (lambda out: shutil.rmtree(out / "plan"), "inputs cannot be compared"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_named(copy: Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    damage(copy)
    problems = check(copy).problems
    assert any(__import__("re").search(expected, problem) for problem in problems), problems


def test_a_broken_sample_is_named_by_key(copy: Path) -> None:
    tar = next(copy.glob("*.tar"))
    key = tar.read_bytes()[:100].rstrip(b"\0").decode().removesuffix(".json")
    flip(tar, 100)  # in the header of the first member
    assert any(f"cannot be read: sample {key}" in problem for problem in check(copy).problems)


def test_a_difference_is_explained_by_document_and_reason(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "in", tmp_path / "in")
    (tmp_path / "in" / "003.txt").unlink()
    (tmp_path / "in" / "005.txt").write_text("tiny\nline 1 of document 5\nline 2 of document 5\nline 3 of document 5")
    (tmp_path / "in" / "new.txt").write_text("a new line")
    source = LinesSource(paths=[str(tmp_path / "in")], gates=LengthGates(min_length=5))
    run(tmp_path / "out", source)
    difference = compare(sound / "out", tmp_path / "out")
    assert ("settings.gates.min_length", "3 → 5") in difference.config
    assert difference.units == {
        ("001.txt", "other group, near duplicate or split"): 4,  # held out since the share gave none; now new.txt is
        ("003.txt", "removed, was written"): 4,
        ("005.txt", "input changed, written → rejected: min_length"): 1,
        ("new.txt", "added, written"): 1,
        ("short.txt", "rejected: min_length (threshold 3 → 5)"): 1,
    }
    assert difference.shards_equal >= 4
    same = compare(sound / "out", sound / "out")
    assert not same.units and not same.config and same.shards_changed == 0


def test_a_sample_made_otherwise_is_seen(sound: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", replace(write_inputs(sound / "in", range(12)), style="bold"))
    difference = compare(sound / "out", tmp_path / "out")
    assert difference.config == (("settings.style", '"plain" → "bold"'),)
    assert not difference.units  # LinesSource does nothing with it


def test_the_command_prints_what_is_wrong_and_ends_with_its_status(
    sound: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["pipelines.verify", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value.code)), capsys.readouterr().err

    assert status("diff", sound / "out", copy)[0] == 0
    tar = next(copy.glob("*.tar"))
    tar.unlink()
    code, text = status("check", copy, sound / "out")  # a bad set does not end the loop
    assert code == 1
    assert f"{tar.name}: missing" in text
    assert f"{sound / 'out'}: sound" in text
    run(copy.parent / "other", LinesSource(paths=[str(sound / "in")], gates=LengthGates(min_length=5)))
    code, text = status("diff", sound / "out", copy.parent / "other")
    assert code == 1
    assert "settings.gates.min_length: 3 → 5" in text
    code, text = status("check", copy.parent / "gone")
    assert (code, "no such shard set" in text) == (2, True)
