from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from datagen.detection.__main__ import _read_class_map, _warn_of_unused, main
from datagen.detection.annotations.coco import CocoReader
from datagen.detection.annotations.yolo import YoloReader
from datagen.detection.source import DetectionGates, DetectionSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import Unit
from pipelines.verify.check import check
from tests.datagen.boxed_images import Truth, write_image, write_yolo
from varyforge.boxes import parse_boxes
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.shards import ShardSet

SIZE = (200, 100)


def coco(
    folder: Path, boxes: list[tuple[int, list[float]]], settings: dict[str, Any] | None = None, **changes: Any
) -> DetectionSource:
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
    where = {"annotations": str(folder / "instances.json"), "images": str(folder / "images")}
    return DetectionSource(format="coco", **where, **(settings or {}))


def units(source: DetectionSource) -> list[Unit]:
    return [unit for unit in source.units(source.annotations, source.annotations) if unit]


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
    assert made.notes == {"clipped_boxes": 1, "degenerate_boxes": 1, "outside_boxes": 1, "crowd_boxes": 1}


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
        places = [sample.turns[0].text.index(label) for label in dict.fromkeys(item.label for item in found)]
        assert places == sorted(places)  # the answer follows the question
        assert all(label in sample.turns[0].text for label in asked)
        assert not any(label in sample.turns[0].text for label in {"zebra", "ant red", "bee"} - asked)


def test_a_class_too_large_to_ask_for(tmp_path: Path) -> None:
    crowd = [(0, [6.0 * n, 10.0, 5.0, 20.0]) for n in range(31)]
    assert outcome(coco(tmp_path, crowd)) == Rejected(gate="boxes_per_class", value=31, threshold=30)
    made = outcome(coco(tmp_path, [*crowd, (3, [0, 0, 50, 50])]))
    assert isinstance(made, Written)
    assert [sample.answer for sample in made.samples] == ["cat: [000, 000, 250, 500]."]
    assert made.notes == {"boxes_of_large_classes": 31}


def test_images_with_more_objects_than_are_wanted(tmp_path: Path) -> None:
    """The paper's COCO row: images with fewer objects, all asked for at once."""
    few, many = ([(n % 4, [2.0 * n, 10.0, 5.0, 20.0]) for n in range(count)] for count in (9, 33))
    crowd = [(0, box) for _, box in many]
    images, annotations = [], []
    for number, boxes in enumerate((few, many, crowd)):
        images.append({"id": number, "file_name": f"{'abc'[number]}.jpg", "width": SIZE[0], "height": SIZE[1]})
        annotations += [{"image_id": number, "category_id": c, "bbox": box} for c, box in boxes]
    source = coco(tmp_path, [], images=images, annotations=annotations)
    for name in ("b.jpg", "c.jpg"):
        shutil.copy(tmp_path / "images" / "a.jpg", tmp_path / "images" / name)
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    assert set(ShardSet(tmp_path / "out").table().column("task").to_pylist()) == {"detection", "referring"}
    fewer = replace(source, gates=DetectionGates(max_objects=30))
    with pytest.raises(UserError, match=r"settings\.gates\.max_objects 0 → 30\. 1 of 1 shards"):
        run_job(fewer, tmp_path / "out", JobSettings(), LocalRunner())
    run_job(fewer, tmp_path / "out", JobSettings(update=True), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    assert shards.table().column("task").to_pylist() == ["detection"]
    rows = {row["unit"]: (row["gate"], row["value"], row["objects"]) for row in shards.ledger().to_pylist()}
    assert rows == {
        "a.jpg#0": ("", 0, 9),
        "b.jpg#1": ("max_objects", 33, 33),
        "c.jpg#2": ("boxes_per_class", 33, None),
    }
    with pytest.raises(ValueError, match="max_objects"):
        DetectionGates(max_objects=-1)


@pytest.mark.parametrize("most", [8, 10])
def test_a_gate_before_that_of_licences_is_asked_first_after_an_update_too(tmp_path: Path, most: int) -> None:
    source = coco(tmp_path, [(0, [2.0 * n, 10.0, 5.0, 20.0]) for n in range(9)], {"licences": ["CC0-1.0"]})
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    fewer = replace(source, gates=DetectionGates(max_objects=most))
    run_job(fewer, tmp_path / "out", JobSettings(update=True), LocalRunner())
    run_job(fewer, tmp_path / "fresh", JobSettings(), LocalRunner())
    (row,) = ShardSet(tmp_path / "out").ledger().to_pylist()
    assert [row] == ShardSet(tmp_path / "fresh").ledger().to_pylist()
    assert (row["gate"], row["objects"]) == ("max_objects" if most < 9 else "licences", 9)


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
        ({"categories": [{"id": 1}]}, "categories[0]: expected an object with id and name"),
        ({"images": {}}, "'images'"),
    ],
)
def test_wrong_form_is_named(tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    source = coco(tmp_path, [(0, [0, 0, 9, 9])], **changes)
    with pytest.raises(WrongFormat, match=re.escape(place)):
        units(source)


def test_a_wrong_annotation_costs_itself_alone(tmp_path: Path) -> None:
    annotations: list[object] = [
        {"image_id": 7, "category_id": 0, "bbox": [0, 0, 100, 50]},
        {"image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "category_id": 0, "bbox": [0, 0, 1]},
        {"image_id": 7, "category_id": 0, "bbox": [0, float("nan"), 1, 1]},
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 100, 50]},
        {"image_id": 8, "category_id": 0, "bbox": [0, 0, 1, 1]},
        {"image_id": "7", "category_id": 0, "bbox": [0, 0, 1, 1]},
        "prose",
    ]
    source = coco(tmp_path, [], annotations=annotations)
    listed, *unlisted = sorted(units(source), key=lambda unit: unit.id)
    assert {unit.id: unit.verdict.detail for unit in unlisted if isinstance(unit.verdict, Failed)} == {
        "annotations of image 8": "1 annotations, no entry in images",
        "annotations of image '7'": "1 annotations, no entry in images",
        "annotations of image without an id": "1 annotations, no entry in images",
    }
    made = source.make(listed, listed.files)
    assert isinstance(made, Written)
    (sample,) = made.samples  # asks for bees alone: of the zebras two are not read
    assert (sample.task, sample.answer) == ("referring", "bee: [000, 000, 500, 500].")
    assert made.notes == {"malformed_annotations": 2, "boxes_of_unknown_classes": 1, "boxes_of_unread_classes": 1}


@pytest.mark.parametrize(
    ("annotation", "answers", "notes"),
    [
        ({"category_id": 2}, {"detection": "bee: [500, 000, 1000, 1000];\nzebra: [000, 000, 500, 500]."}, {}),
        ({"category_id": 2, "bbox": None}, {"referring": "zebra: [000, 000, 500, 500]."}, {"malformed_annotations": 1}),
        (
            {"category_id": 2, "bbox": [], "segmentation": {"counts": [1, 2]}},
            {"referring": "zebra: [000, 000, 500, 500]."},
            {"malformed_annotations": 1},
        ),
        (
            {"category_id": 2, "bbox": None, "segmentation": [[100, 0, 200, 50], [150, 100, 120, 30]]},
            {"detection": "bee: [500, 000, 1000, 1000];\nzebra: [000, 000, 500, 500]."},
            {"boxes_around_polygons": 1},
        ),
        (
            {"category_id": 2, "bbox": [200, 100, -100, -100]},
            {"detection": "bee: [500, 000, 1000, 1000];\nzebra: [000, 000, 500, 500]."},
            {"swapped_boxes": 1},
        ),
        ({"category_id": None}, {}, {}),
        (
            {"category_id": 9},
            {"referring": "zebra: [000, 000, 500, 500]."},
            {"boxes_of_unknown_classes": 1},
        ),
        (
            {"category_id": 2, "bbox": [110, 40, 80, 20], "attributes": {"rotation": 90.0}},
            {"detection": "bee: [700, 100, 800, 900];\nzebra: [000, 000, 500, 500]."},
            {"turned_boxes": 1},
        ),
        ({"category_id": 2, "ignore": 1}, {"detection": "zebra: [000, 000, 500, 500]."}, {"crowd_boxes": 1}),
        ({"category_id": 2, "iscrowd": True}, {"detection": "zebra: [000, 000, 500, 500]."}, {"crowd_boxes": 1}),
    ],
)
def test_all_objects_are_asked_for_where_all_are_read(
    tmp_path: Path, annotation: dict[str, Any], answers: dict[str, str], notes: dict[str, int]
) -> None:
    zebra = {"image_id": 7.0, "category_id": 0.0, "bbox": [0, 0, 100, 50]}
    made = outcome(coco(tmp_path, [], annotations=[zebra, {"image_id": 7, "bbox": [100, 0, 100, 100]} | annotation]))
    if not answers:
        assert isinstance(made, Rejected) and made.gate == "unread_objects"
        return
    assert isinstance(made, Written)
    assert {sample.task: sample.answer for sample in made.samples} == answers
    assert made.notes == notes


def test_a_file_that_is_listed_several_times_is_one_image(tmp_path: Path) -> None:
    def unit_of(*images: dict[str, Any]) -> list[Unit]:
        annotations = [
            {"image_id": 1, "category_id": 0, "bbox": [0, 0, 100, 50]},
            {"image_id": 2, "category_id": 2, "bbox": [100, 0, 100, 100]},
        ]
        return units(coco(tmp_path, [], annotations=annotations, images=list(images)))

    entry = {"file_name": "a.jpg", "width": 200, "height": 100}
    (joined,) = unit_of(entry | {"id": 1}, entry | {"id": 2, "file_name": "./a.jpg"}, entry | {"id": 1})
    assert (joined.id, len(joined.payload["boxes"])) == ("a.jpg#1", 2)
    assert joined.payload["left_out"] == {"repeated_entries": 2}
    (failed,) = unit_of(entry | {"id": 1}, entry | {"id": 2, "width": 50})
    assert isinstance(failed.verdict, Failed) and "listed 2 times, with different sizes" in failed.verdict.detail
    same_id = unit_of(
        entry | {"id": 1}, entry | {"id": 1, "file_name": "b.jpg"}, entry | {"id": 2, "file_name": "c.jpg"}
    )
    assert [unit.id for unit in same_id if isinstance(unit.verdict, Failed)] == ["a.jpg#1", "b.jpg (entry 2)#1"]


def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    PIL.Image.new("RGB", SIZE).save(tmp_path / "secret.jpg")
    image = {"id": 7, "file_name": "../secret.jpg", "width": SIZE[0], "height": SIZE[1]}
    failed = outcome(coco(tmp_path, [(0, [0, 0, 9, 9])], images=[image]))
    assert isinstance(failed, Failed) and failed.reason == "outside"


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file or folder"):
        list(DetectionSource(format="coco", annotations=str(tmp_path / "x.json"), images=str(tmp_path)).inputs())
    source = coco(tmp_path, [])
    with pytest.raises(UserError, match=r"no such folder \(--images\)"):
        list(replace(source, images=str(tmp_path / "gone")).inputs())


def test_the_seed_chooses_the_classes(tmp_path: Path) -> None:
    boxes = [(n % 4, [6.0 * n, 10.0, 5.0, 20.0]) for n in range(33)]

    def asked(seed: int) -> list[str]:
        made = outcome(coco(tmp_path, boxes, {"seed": seed, "max_boxes": 17}))
        assert isinstance(made, Written)
        return [sample.answer for sample in made.samples]

    assert asked(1) == asked(1)
    assert len({tuple(asked(seed)) for seed in range(10)}) > 1


def test_an_image_that_exif_turns(tmp_path: Path) -> None:
    """The size tells the two apart where the image is turned by 90 degrees; what it tells is said, not guessed."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    for stored, declared in (("stored", "seen"), ("seen", "stored")):
        source = coco(tmp_path, [(0, [0, 0, 100, 50])], {"boxes_of": stored})
        size = SIZE if declared == "stored" else SIZE[::-1]
        PIL.Image.new("RGB", size, "white").save(tmp_path / "images" / "a.jpg", exif=exif)
        (unit,) = units(source)
        failed = source.make(unit, unit.files)
        assert isinstance(failed, Failed)
        assert failed.detail.endswith(f"which it is as {declared}: boxes_of={declared}")
        right = replace(source, boxes_of=declared)
        made = right.make(unit, unit.files)
        assert isinstance(made, Written)
        corner = "[000, 000, 500, 500]" if declared == "seen" else "[500, 000, 1000, 500]"
        assert made.samples[0].answer == f"zebra: {corner}."
        assert made.notes == {"rotated_images": 1}


def test_class_names_are_mapped_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco(tmp_path, [(0, [0, 0, 100, 50]), (1, [0, 0, 50, 50]), (2, [0, 0, 20, 50])])
    (tmp_path / "map.yaml").write_text("zebra: horse\n'ant: red': null\n")
    words = ["x", "--coco", source.annotations, "--images", source.images, "--runner", "local"]
    out = str(tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*words, "--map-classes", str(tmp_path / "map.yaml"), "--out", out])
        assert main.__wrapped__() == 0
    shards = ShardSet(out)
    (row,) = shards.table().to_pylist()
    sample = shards.read(row["shard"], row["offset"], row["size"])
    assert sample.answer == "bee: [000, 000, 100, 500];\nhorse: [000, 000, 500, 500]."
    (ledger,) = shards.ledger().to_pylist()
    assert json.loads(ledger["notes"]) == {"boxes_of_dropped_classes": 1, "renamed_boxes": 1}


@pytest.mark.parametrize(
    ("text", "said"), [("- zebra", "expected class names"), ("{", "not YAML"), ("a: [b]", "expected")]
)
def test_a_wrong_map_of_classes(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        _read_class_map(tmp_path / "map.yaml")
    with pytest.raises(UserError, match="No such file"):
        _read_class_map(tmp_path / "gone.yaml")


def test_words_of_a_class_map_stay_words_and_unused_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.yaml").write_text('\ufeffno: yes\n007: 1e3\nnull: on\nx: null\ny: "null"\n', encoding="utf-8")
    names = _read_class_map(tmp_path / "map.yaml")
    assert names == {"no": "yes", "007": "1e3", "null": "on", "x": None, "y": "null"}
    (tmp_path / "a.json").write_text(json.dumps({"categories": [{"id": 1, "name": "no"}, {"id": 2, "name": "x"}]}))
    _warn_of_unused(names, CocoReader(annotations=str(tmp_path / "a.json"), images=""), "map.yaml")
    assert "map.yaml: no class is called '007', 'null', 'y'; the first of 2 are no, x" in capsys.readouterr().err
    (tmp_path / "data.yaml").write_text("names: [no, null, 007, x, y]")
    _warn_of_unused(names, YoloReader(annotations=str(tmp_path), images=str(tmp_path)), "map.yaml")
    assert not capsys.readouterr().err


def test_a_file_that_ends_early_fails_whole_and_others_go_on(tmp_path: Path) -> None:
    source = coco(tmp_path, [(0, [0, 0, 100, 50])])
    whole = (tmp_path / "instances.json").read_text()
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "whole.json").write_text(whole)
    (tmp_path / "sets" / "cut.json").write_text(whole[:-1])
    run_job(replace(source, annotations=str(tmp_path / "sets")), tmp_path / "out", JobSettings(), LocalRunner())
    rows = {row["unit"]: row for row in ShardSet(tmp_path / "out").ledger().to_pylist()}
    assert {name: (row["outcome"], row["reason"]) for name, row in rows.items()} == {
        "whole.json#a.jpg#7": ("written", ""),
        "cut.json": ("failed", "wrong_form"),
    }


def test_files_about_one_image_are_units_of_their_own(tmp_path: Path) -> None:
    """instances_train2017.json and person_keypoints_train2017.json lie in one folder and list the same images."""
    source = coco(tmp_path, [(0, [0, 0, 100, 50])])
    other = coco(tmp_path, [(1, [0, 0, 100, 50])]).annotations
    (tmp_path / "sets").mkdir()
    for number, label in enumerate(["zebra", "zebra", "bee"]):
        form = json.loads(Path(other).read_text())
        form["annotations"] = [{"image_id": 7, "category_id": 0, "bbox": [0, 0, 100, 50]}]
        form["annotations"].append({"image_id": 8, "category_id": 0, "bbox": [0, 0, 100, 50]})
        form["categories"] = [{"id": 0, "name": label}]
        (tmp_path / "sets" / f"{number}.json").write_text(json.dumps(form))
    run_job(replace(source, annotations=str(tmp_path / "sets")), tmp_path / "out", JobSettings(), LocalRunner())
    rows = ShardSet(tmp_path / "out").ledger().to_pylist()
    about = ("a.jpg#7", "annotations of image 8")
    assert {row["unit"] for row in rows} == {f"{n}.json#{what}" for n in range(3) for what in about}
    assert Counter(row["gate"] or row["outcome"] for row in rows) == {"written": 2, "duplicate": 1, "failed": 3}
    assert not check(tmp_path / "out").problems


def test_another_list_of_class_names_is_another_input(tmp_path: Path) -> None:
    source = write_yolo(tmp_path, [Truth(name="a", size=SIZE, boxes=[(0, (0.0, 0.0, 1.0, 1.0))])])
    write_image(tmp_path / "images" / "a.jpg", SIZE)
    out, settings = tmp_path / "out", JobSettings()
    run_job(source, out, settings, LocalRunner())
    (tmp_path / "data.yaml").write_text("names: [wasp]")
    with pytest.raises(UserError, match="inputs have other contents"):
        run_job(source, out, settings, LocalRunner())
    run_job(source, out, replace(settings, update=True), LocalRunner())
    (row,) = ShardSet(out).table().to_pylist()
    assert ShardSet(out).read(row["shard"], row["offset"], row["size"]).answer.startswith("wasp:")


def test_names_that_no_file_can_have_and_labels_that_are_no_words(tmp_path: Path) -> None:
    names = ["a.jpg", "\0.jpg", "half \ud800.jpg", "x" * 5000, "a.jpg/b.jpg", ".", "/etc/passwd"]
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in enumerate(names)]
    boxes = [[0, 0, 100, 50 + n] for n in range(4)]
    labels = ["</s> <image>", "half \udc00", " ;, ", "<|im_end|>"]
    annotations = [{"image_id": n, "category_id": n % 4, "bbox": boxes[n % 4]} for n in range(len(names))]
    annotations.append({"image_id": 0, "category_id": 3, "bbox": boxes[3]})
    categories = [{"id": n, "name": name} for n, name in enumerate(labels)]
    source = coco(tmp_path, [], images=images, annotations=annotations, categories=categories)
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    rows = {row["unit"].rpartition("#")[2]: (row["outcome"], row["reason"]) for row in shards.ledger().to_pylist()}
    assert rows.pop("0") == ("written", "")
    assert set(rows) == set("123456") and {outcome for outcome, _ in rows.values()} == {"failed"}
    assert rows["6"] == ("failed", "outside")
    assert rows["4"] == ("failed", "missing_image")
    assert not any(str(tmp_path) in row["detail"] for row in shards.ledger().to_pylist())  # it may lie elsewhere
    (row,) = shards.table().to_pylist()
    sample = shards.read(row["shard"], row["offset"], row["size"])
    assert sample.answer == "<\u2060/s> <\u2060image>: [000, 000, 500, 500];\n<\u2060|im_end|>: [000, 000, 500, 530]."
