"""`python -m datagen.caption`, in each format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.caption.__main__ import main, parser
from datagen.caption.source import FORMAT_OPTIONS
from tests.datagen.caption.test_caption import LLAVA_QUESTION, folder_of_images, sample, write_tar
from tests.datagen.command_lines import answers, run_command
from varyforge.shards import ShardSet


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    return run_command(monkeypatch, main, *words)


def test_tars_with_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = sample("0", "A dog.", top_caption="A dog on a long beach.")
    write_tar(tmp_path / "laion" / "00000.tar", *entries)
    out = tmp_path / "out"
    assert run(monkeypatch, str(tmp_path / "laion"), "--out", str(out), "caption_key=top_caption", "licence=cc0") == 0
    assert answers(out) == {"A dog on a long beach."}
    assert ShardSet(str(out)).table().column("licence").to_pylist() == ["cc0"]


def test_other_formats_beside_a_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = folder_of_images(tmp_path, "a.jpg", "b.jpg")
    record = {"id": "7", "image": "a.jpg", "conversations": [LLAVA_QUESTION, {"from": "gpt", "value": "A red door."}]}
    (tmp_path / "llava.json").write_text(json.dumps([record]))
    coco = {"images": [{"id": 1, "file_name": "b.jpg"}], "annotations": [{"image_id": 1, "caption": "Two cats."}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "own.csv").write_text("path,words\na.jpg,A blue wall.\nb.jpg,A green lawn.\n")
    for option, file, settings, expected in (
        ("--llava", "llava.json", [], {"A red door."}),
        ("--coco", "coco.json", [], {"Two cats."}),
        ("--table", "own.csv", ["image_column=path", "caption_column=words"], {"A blue wall.", "A green lawn."}),
    ):
        out = tmp_path / file.partition(".")[0]
        words = (option, str(tmp_path / file), "--images", images, "--out", str(out), *settings)
        assert run(monkeypatch, *words) == 0
        assert answers(out) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either tars or one of --llava, --coco, --table"),
        (["a.tar", "--coco", "b.json"], "give either tars or one of"),
        (["--coco", "b.json"], "--coco needs the folder of the images; give --images FOLDER"),
        (["--coco", "b.json", "--images", "gone"], "gone: no such folder (--images)"),
        (["a.tar", "gates.min_chars=0"], "min_chars"),
        (["a.tar", "captions_per_image=-1"], "captions_per_image of 0 (all) or more"),
        (["gone.tar"], "gone.tar: no such file or folder"),
    ],
)
def test_user_mistakes_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_one_format_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--coco", "a.json", "--llava", "b.json", "--out", str(tmp_path / "out")) == 2


def test_help_lists_every_format() -> None:
    text = parser.format_help()
    assert all(f"--{name} FILE" in text for name in FORMAT_OPTIONS) and "gates.min_side_px=64" in text
