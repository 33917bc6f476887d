from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from datagen.boxes import parse_boxes
from datagen.detection import DetectionSource
from datagen.errors import UserError
from datagen.unit import Failed, Outcome, Rejected, Unit, Written

SIZE = (200, 100)


def coco(folder: Path, boxes: list[tuple[int, list[float]]], **changes: Any) -> DetectionSource:
    """One image with boxes of (category, x y w h)."""
    (folder / "images").mkdir(exist_ok=True)
    PIL.Image.new("RGB", SIZE, "white").save(folder / "images" / "a.jpg")
    form = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [{"id": n, "image_id": 7, "category_id": c, "bbox": box} for n, (c, box) in enumerate(boxes)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(["zebra", "ant: red", "bee", "cat"])],
    }
    form.update(changes)
    (folder / "instances.json").write_text(json.dumps(form))
    return DetectionSource(coco=str(folder / "instances.json"), images=str(folder / "images"))


def units(source: DetectionSource) -> list[Unit]:
    made = source.units(source.coco, source.coco)
    assert isinstance(made, list)
    return made


def outcome(source: DetectionSource) -> Outcome:
    unit = units(source)[0]
    return source.make(unit, unit.files)


def test_all_objects_in_documented_order(tmp_path: Path) -> None:
    source = coco(tmp_path, [(0, [100, 50, 100, 50]), (1, [0, 10, 20, 20]), (1, [50, 0, 20, 10])])
    made = outcome(source)
    assert isinstance(made, Written)
    (sample,) = made.samples
    assert sample.task == "detection"
    assert sample.answer == "ant red: [250, 000, 350, 100], [000, 100, 100, 300];\nzebra: [500, 500, 1000, 1000]."
    assert sample.images[0].data == (tmp_path / "images" / "a.jpg").read_bytes()
    assert made.notes == {}


def test_crowds_degenerate_and_clipped_boxes_are_counted(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "category_id": 2, "bbox": [190, 90, 50, 50]},  # leaves the image
        {"image_id": 7, "category_id": 2, "bbox": [10, 10, 0, 5]},  # no width
        {"image_id": 7, "category_id": 2, "bbox": [300, 10, 5, 5]},  # outside
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ]
    made = outcome(coco(tmp_path, [], annotations=annotations))
    assert isinstance(made, Written)
    assert made.samples[0].answer == "bee: [950, 900, 1000, 1000]."
    assert made.notes == {"clipped_boxes": 1, "degenerate_boxes": 2, "crowd_boxes": 1}


@pytest.mark.parametrize("count", [30, 31])
def test_the_thirty_box_rule(tmp_path: Path, count: int) -> None:
    boxes = [(n % 3, [6.0 * n, 10.0, 5.0, 20.0]) for n in range(count)]
    made = outcome(coco(tmp_path, boxes))
    assert isinstance(made, Written)
    assert outcome(coco(tmp_path, boxes)) == made  # random classes, but the same ones each time
    answers = [parse_boxes(sample.answer) for sample in made.samples]
    assert all(len(found) <= 30 and not refused for found, refused in answers)
    assert sum(len(found) for found, _ in answers) == count
    if count == 30:
        assert [sample.task for sample in made.samples] == ["detection"]
        return
    assert len(made.samples) == 2
    assert len({sample.key for sample in made.samples}) == 2
    for sample, (found, _) in zip(made.samples, answers, strict=True):
        assert sample.task == "referring"
        asked = {item.label for item in found}
        assert all(label in sample.turns[0].text for label in asked)
        assert not any(label in sample.turns[0].text for label in {"zebra", "ant red", "bee"} - asked)


def test_a_class_too_large_to_ask_for(tmp_path: Path) -> None:
    crowd = [(0, [6.0 * n, 10.0, 5.0, 20.0]) for n in range(31)]
    assert outcome(coco(tmp_path, crowd)) == Rejected(gate="boxes_per_class", value=31, threshold=30)
    made = outcome(coco(tmp_path, [*crowd, (3, [0, 0, 50, 50])]))
    assert isinstance(made, Written)
    assert [sample.answer for sample in made.samples] == ["cat: [000, 000, 250, 500]."]
    assert made.notes == {"boxes_of_large_classes": 31}


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    source = coco(tmp_path, [(0, [0, 0, 9, 9])])
    (unit,) = units(source)
    image = tmp_path / "images" / "a.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert isinstance(failed := source.make(unit, unit.files), Failed) and failed.reason == "broken_image"
    PIL.Image.new("RGB", (100, 200)).save(image)
    assert isinstance(failed := source.make(unit, unit.files), Failed) and failed.reason == "image_size"
    image.unlink()
    assert isinstance(failed := source.make(unit, unit.files), Failed) and failed.reason == "missing_image"
    assert outcome(coco(tmp_path, [])) == Rejected(gate="boxes", value=0, threshold=1)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"annotations": None}, "'annotations'"),
        ({"categories": [{"id": 1}]}, "categories: KeyError: 'name'"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}]}, "images[0]: KeyError: 'width'"),
    ],
)
def test_wrong_form_is_named(tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    source = coco(tmp_path, [(0, [0, 0, 9, 9])], **changes)
    failed = source.units(source.coco, source.coco)
    assert isinstance(failed, Failed)
    assert (failed.reason, place in failed.detail) == ("wrong_form", True)


def test_a_wrong_annotation_costs_itself_alone(tmp_path: Path) -> None:
    annotations: list[object] = [
        {"image_id": 7, "category_id": 0, "bbox": [0, 0, 100, 50]},
        {"image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "category_id": 0, "bbox": [0, 0, 1]},
        {"image_id": 7, "category_id": 0, "bbox": [0, float("nan"), 1, 1]},
        {"image_id": 8, "category_id": 0, "bbox": [0, 0, 1, 1]},
        {"image_id": "7", "category_id": 0, "bbox": [0, 0, 1, 1]},
        "prose",
    ]
    source = coco(tmp_path, [], annotations=annotations)
    *unlisted, listed = units(source)
    assert {unit.id: unit.verdict.detail for unit in unlisted if isinstance(unit.verdict, Failed)} == {
        "annotations of image 8": "1 annotations, no entry in images",
        "annotations of image '7'": "1 annotations, no entry in images",
        "annotations of image None": "1 annotations, no entry in images",
    }
    made = source.make(listed, listed.files)
    assert isinstance(made, Written)
    assert made.samples[0].answer == "zebra: [000, 000, 500, 500]."
    assert made.notes == {"malformed_annotations": 3}


def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    PIL.Image.new("RGB", SIZE).save(tmp_path / "secret.jpg")
    image = {"id": 7, "file_name": "../secret.jpg", "width": SIZE[0], "height": SIZE[1]}
    failed = outcome(coco(tmp_path, [(0, [0, 0, 9, 9])], images=[image]))
    assert isinstance(failed, Failed) and failed.reason == "outside"


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file or folder"):
        list(DetectionSource(coco=str(tmp_path / "x.json"), images=str(tmp_path)).inputs())
    source = coco(tmp_path, [])
    with pytest.raises(UserError, match=r"no such folder \(--images\)"):
        list(DetectionSource(coco=source.coco, images=str(tmp_path / "gone")).inputs())
