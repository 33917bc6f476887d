"""`python -m datagen.referring`."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.referring.__main__ import main
from tests.datagen.command_lines import run_command
from tests.datagen.referring.test_referring import annotation, lines, published, ref
from varyforge.shards import ShardSet

RECORD = {"image": "a.jpg", "phrase": "the left door", "bbox": [10, 10, 90, 60]}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    return run_command(monkeypatch, main, *words)


def questions(out: Path) -> list[str]:
    shards = ShardSet(str(out))
    samples = [shards.read(row["shard"], row["offset"], row["size"]) for row in shards.table().to_pylist()]
    return sorted(sample.answer for sample in samples)


def test_published_sets_and_lines_in_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = published(tmp_path, [ref(1, "left man")], [annotation(1, [0, 0, 60, 60])])
    lines(Path(source.images), RECORD)
    out = tmp_path / "out"
    words = ["--refs", *source.refs, "--jsonl", f"{source.images}/own.jsonl", "--images", source.images]
    assert run(monkeypatch, *words, "--out", str(out), "convention=xyxy_px", "reverse=only", "split_by=[unc]") == 0
    assert questions(out) == ["left man", "the left door"]


def test_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lines(tmp_path, RECORD)
    out = tmp_path / "out"
    words = ["--jsonl", *source.jsonl, "--images", source.images, "--out", str(out), "convention=xyxy_px"]
    assert run(monkeypatch, *words, "reverse=also") == 0
    box, phrase = questions(out)
    assert phrase == "the left door" and box.startswith("[")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to read; give --refs or --jsonl"),
        (["--jsonl", "own.jsonl"], "--jsonl needs convention=…"),
        (["--refs", "gone"], "gone: no folder with refs(….p) and instances.json (--refs)"),
        (["--jsonl", "own.jsonl", "convention=corners"], "convention"),
    ],
)
def test_user_mistakes_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines(tmp_path, RECORD)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words, "--images", str(tmp_path), "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_folder_of_the_images_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--jsonl", "own.jsonl", "--out", str(tmp_path / "out")) == 2
