"""`python -m datagen.detection`, in each format."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.detection.__main__ import main, parser
from datagen.detection.source import READERS
from tests.datagen.boxed_images import WRITERS, Truth, write_image
from tests.datagen.command_lines import answers, run_command
from varyforge.shards import ShardSet

TRUTHS = [
    Truth(name="one", size=(200, 100), boxes=[(0, (0.1, 0.2, 0.5, 0.6)), (2, (0.6, 0.1, 0.9, 0.9))]),
    Truth(name="two", size=(120, 160), boxes=[(1, (0.0, 0.0, 1.0, 0.5))]),
]
OPTIONS = {
    "coco": ["--coco", "instances.json", "--images", "images"],
    "objects": ["--parquet", "data", "--classes", "classes.txt"],
    "openimages": ["--openimages", "boxes.csv", "--classes", "classes.csv", "--images", "images"],
    "voc": ["--voc", ".", "--images", "images"],
    "yolo": ["--yolo", "."],
}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    return run_command(monkeypatch, main, *words)


@pytest.mark.parametrize("format", READERS)
def test_every_format_gives_the_same_answers(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for truth in TRUTHS:
        write_image(tmp_path / "images" / f"{truth.name}.jpg", truth.size)
    WRITERS[format](tmp_path, TRUTHS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.yaml").write_text("ant: null\nbee: honey bee\n")
    words = [*OPTIONS[format], "--map-classes", "names.yaml", "--out", "out"]
    assert run(monkeypatch, *words, "licence=cc0") == 0
    one, two = sorted(answers(tmp_path / "out"))
    assert one.startswith("honey bee:") and "ant" not in one
    assert two.startswith("tv old:")
    assert set(ShardSet("out").table().column("licence").to_pylist()) == {"cc0"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coco", "a.json"], "--coco needs the folder of the images; give --images FOLDER"),
        (["--openimages", "a.csv", "--images", "."], "give --classes class-descriptions-boxable.csv"),
        (["--yolo", "."], "with the class names here; give --classes FILE"),
        (["--voc", ".", "image_set=train"], "ImageSets/Main/train.txt: no such file (image_set=train)"),
        (["--voc", ".", "convention=cxcywh"], "convention is 'cxcywh', expected one of"),
        (["--yolo", ".", "convention=xyxy_px"], "convention is 'xyxy_px', expected one of ''"),
        (["--voc", ".", "leave_out=[crowd,small]"], "leave_out is 'small', expected one of"),
        (["--voc", ".", "max_boxes=0"], "max_boxes of 1 or more"),
        (["--voc", ".", "gates.max_objects=-1"], "max_objects of 0"),
        (["--voc", ".", "--map-classes", "gone.yaml"], "gone.yaml: No such file or directory"),
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
    assert run(monkeypatch, *words, "--out", "out") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_exactly_one_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--out", str(tmp_path / "out")) == 2
    assert run(monkeypatch, "--voc", ".", "--yolo", ".", "--out", str(tmp_path / "out")) == 2


def test_every_format_is_an_option() -> None:
    text = parser.format_help()
    assert all(f"--{format} " in text for format in READERS)
