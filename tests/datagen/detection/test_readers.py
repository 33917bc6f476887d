"""Readers of annotations on broken files: whatever a file holds, it costs itself and raises nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.detection.annotations.reader import FLAGS, AnnotatedImage, Reader
from datagen.detection.source import READERS, DetectionSource
from datagen.source import Unit
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed

KEYS = st.sampled_from("id image_id category_id bbox file_name width height name license iscrowd url".split())
SCALARS = st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=True) | st.text(max_size=6)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
ITEMS = st.dictionaries(KEYS, VALUES | st.lists(st.integers(0, 90), min_size=4, max_size=4), max_size=6)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reader(format: str, folder: Path, **more: Any) -> Reader:
    return READERS[format](annotations=str(folder), images=str(folder / "images"), **more)


def records(one: Reader, path: Path) -> list[AnnotatedImage]:
    """The records of a file, checked; none of a file in another format."""
    try:
        images = [record for record in one.records(str(path), str(path)) if record is not None]
    except WrongFormat as error:
        assert str(error) and "\n" not in str(error)
        return []
    for image in images:
        assert image.name and isinstance(image.failed, Failed | None)
        assert all(count > 0 for count in image.notes.values())
        assert all(label and len(numbers) == 4 for label, numbers, _ in image.boxes)
        assert not (image.failed and image.boxes)
    return images


@FUZZ
@given(st.fixed_dictionaries({key: st.lists(ITEMS, max_size=4) for key in ("images", "annotations", "categories")}))
def test_coco_with_any_items(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    images = records(reader("coco", tmp_path), path)
    listed = [image for image in images if not image.name.startswith("annotations of image")]
    entries = len(listed) + sum(image.notes.get("repeated_entries", 0) for image in listed)
    assert entries in (0, len(content["images"]))  # 0 where a category made the file unusable


@FUZZ
@given(VALUES)
def test_coco_that_is_any_json(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    records(reader("coco", tmp_path), tmp_path / "a.json")


@FUZZ
@given(st.lists(st.lists(st.sampled_from(["0", "1", "9", "0.5", "-1", "nan", "x", "1e400"]), max_size=9), max_size=5))
def test_yolo_with_any_lines(tmp_path: Path, lines: list[list[str]]) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "a.txt").write_text("\n".join(" ".join(words) for words in lines))
    (image,) = records(reader("yolo", tmp_path), tmp_path / "a.txt")
    assert len(image.boxes) + sum(image.notes.values()) == sum(1 for words in lines if words)


@FUZZ
@given(st.binary(max_size=60) | st.text("<>/annotation object&;!?[ \n", max_size=80).map(str.encode))
def test_voc_that_is_any_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.xml").write_bytes(data)
    records(reader("voc", tmp_path), tmp_path / "a.xml")


@FUZZ
@given(st.lists(st.lists(st.sampled_from(["a", "/m/1", "0.5", "0", "1", "", '"', "é"]), max_size=12), max_size=6))
def test_openimages_with_any_rows(tmp_path: Path, rows: list[list[str]]) -> None:
    (tmp_path / "classes.csv").write_text("/m/1,cat\n")
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    (tmp_path / "a.csv").write_text("\n".join([header, *map(",".join, rows)]), encoding="utf-8")
    one = reader("openimages", tmp_path, class_names=str(tmp_path / "classes.csv"), leave_out=frozenset(FLAGS))
    images = records(one, tmp_path / "a.csv")
    assert len({image.name for image in images}) == len(images)


@pytest.mark.parametrize("format", READERS)
def test_a_file_that_is_no_text(format: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("/m/1,cat\n")
    (tmp_path / "data.yaml").write_text("names: [cat]")
    path = (
        tmp_path
        / {"coco": "a.json", "openimages": "a.csv", "voc": "a.xml", "yolo": "a.txt", "objects": "a.jsonl"}[format]
    )
    path.write_bytes(bytes(range(256)) * 4)
    images = records(reader(format, tmp_path, class_names=str(tmp_path / "classes.csv")), path)
    assert all(not image.boxes for image in images)


def test_units_carry_what_a_record_has(tmp_path: Path) -> None:
    source = DetectionSource(format="coco", annotations=str(tmp_path / "a.json"), images=str(tmp_path), strip_folders=1)
    content = {
        "images": [{"id": 3, "file_name": "train/a.jpg", "width": 40, "height": 30, "license": 1}, {"file_name": 5}],
        "annotations": [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4.123456789]}],
        "categories": [{"id": 1, "name": "Cat"}],
        "licenses": [{"id": 1, "url": "https://example.org/by"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    path = str(tmp_path / "a.json")
    units: dict[str, Unit] = {unit.id: unit for unit in source.units(path, path) if unit}
    good, wrong = units["train/a.jpg#3"], units["images[1]#images[1]"]
    assert good.files == (str(tmp_path / "a.jpg"),) and good.verdict is None
    assert good.payload["boxes"] == [["Cat", 1.0, 2.0, 3.0, 4.123457]] and good.payload["size"] == (40, 30)
    assert good.payload["licence"] == "https://example.org/by"
    assert isinstance(wrong.verdict, Failed) and wrong.files == ()
