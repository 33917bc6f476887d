"""What each reader of annotations makes of input in its published form, and of hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.detection.annotations import buckets
from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, to_boxes
from datagen.detection.annotations.reader import counterpart
from datagen.detection.annotations.yolo_lines import read_label_lines
from datagen.detection.source import DetectionSource
from tests.datagen.boxed_images import Truth, voc_xml, write_coco, write_image, write_openimages, write_voc, write_yolo
from varyforge.boxes import parse_boxes
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed, Outcome, Rejected, Written

SIZE = (200, 100)
WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT = (0.0, 0.0, 0.5, 1.0)


def truth(name: str = "a", *boxes: tuple[int, tuple[float, float, float, float]]) -> Truth:
    return Truth(name=name, size=SIZE, boxes=boxes or [(0, LEFT)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.jpg", SIZE)
    return tmp_path


def outcomes(source: DetectionSource) -> dict[str, Outcome]:
    """By unit, without the name of a file in a folder; what ends an input is called "input"."""
    found: dict[str, Outcome] = {}
    for path in source.inputs():
        try:
            for unit in filter(None, source.units(path, path)):
                name = unit.id.removeprefix(f"{source.document(path)}#")
                assert name not in found
                found[name] = unit.verdict or source.make(unit, unit.files)
        except WrongFormat as error:
            found["input"] = Failed(reason="wrong_form", detail=str(error))
    return found


def answers(source: DetectionSource) -> dict[str, str]:
    return {name: made.samples[0].answer for name, made in outcomes(source).items() if isinstance(made, Written)}


def notes(made: Outcome) -> dict[str, int]:
    assert isinstance(made, Written), made
    return dict(made.notes)


def gate(made: Outcome) -> tuple[str, str]:
    assert isinstance(made, Rejected), made
    return made.gate, made.detail


def reason(made: Outcome) -> tuple[str, str]:
    assert isinstance(made, Failed), made
    return made.reason, made.detail


# COCO and Objects365


def test_coco_arrays_in_any_order(folder: Path) -> None:
    expected = answers(write_coco(folder, [truth("a"), truth("b", (1, WHOLE), (2, LEFT))]))
    assert expected["b.jpg#1"] == "ant: [000, 000, 500, 1000];\ntv old: [000, 000, 1000, 1000]."
    form = json.loads((folder / "instances.json").read_text())
    source = write_coco(folder, [])
    for order in (("images", "annotations", "categories"), ("categories", "images", "annotations")):
        (folder / "instances.json").write_text(json.dumps({key: form[key] for key in ("info", *order) if key in form}))
        assert answers(source) == expected


def test_an_annotation_file_that_ends_early_gives_nothing(folder: Path) -> None:
    source = write_coco(folder, [truth("a"), truth("b")])
    whole = (folder / "instances.json").read_text()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        (folder / "instances.json").write_text(whole[:cut])
        assert reason(outcomes(source)["input"])[0] == "wrong_form"
        assert len(outcomes(source)) == 1


def test_coco_entries_that_are_wrong(folder: Path) -> None:
    images: list[Any] = [
        {"id": 0, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 0, "file_name": "b.jpg", "width": 200, "height": 100},
        {"id": "0", "file_name": "b.jpg", "width": 200.0, "height": 100},
        {"id": True, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 3, "file_name": None, "width": 200, "height": 100},
        {"id": 4, "file_name": "a.jpg", "width": -200, "height": 100},
        {"id": 5, "file_name": "a.jpg", "width": 1e300, "height": 100},
        {"id": 6, "file_name": "a.jpg", "width": "200", "height": "100"},
        {"id": 7, "file_name": "b.jpg"},
        ["a.jpg"],
    ]
    annotations = [{"image_id": n, "category_id": 0, "bbox": [0, 0, 100, 100]} for n in (0, "0", 3, 4, 7)]
    found = outcomes(write_coco(folder, [], images=images, annotations=annotations))
    written = {name for name, made in found.items() if isinstance(made, Written)}
    assert written == {"b.jpg#7"}  # and of the id "0", whose file is the same
    assert notes(found["b.jpg#7"])["repeated_entries"] == 1
    for name in ("a.jpg#0", "b.jpg (entry 2)#0"):
        assert "image id 0 is listed 2 times" in reason(found[name])[1]
    for name in ("a.jpg#images[3]", "images[4]#images[4]", "a.jpg#images[5]", "a.jpg#images[6]", "a.jpg#images[7]"):
        assert reason(found[name])[0] == "wrong_form"
    assert "width -200" in reason(found["a.jpg#images[5]"])[1]
    assert reason(found["images[9]#images[9]"])[1] == "images[9]: expected an object, found list"
    assert reason(found["annotations of image 3"])[0] == "unlisted_image"


def test_objects365_marks_folders_and_licences(folder: Path) -> None:
    write_image(folder / "images" / "patch8" / "c.jpg", SIZE)
    one = {"image_id": 1, "category_id": 0, "iscrowd": 0}
    annotations = [
        one | {"bbox": [0, 0, 100, 100], "isfake": 1, "isreflected": 0},
        one | {"bbox": [100, 0, 100, 100], "isfake": 0, "isreflected": 1},
        one | {"bbox": [0, 0, 200, 100], "isfake": 0, "isreflected": 0, "iscrowd": 1},
    ]
    image = {"id": 1, "file_name": "images/v1/patch8/c.jpg", "width": 200, "height": 100, "license": 5}
    licences = [{"id": 5, "name": "", "url": "http://licence"}, "prose"]
    write_coco(folder, [], images=[image], annotations=annotations, licenses=licences)
    where = {"annotations": str(folder / "instances.json"), "images": str(folder / "images")}
    made = outcomes(DetectionSource(format="coco", strip_folders=2, **where))["images/v1/patch8/c.jpg#1"]
    assert notes(made) == {"crowd_boxes": 1}
    assert isinstance(made, Written) and made.samples[0].origin["licence"] == "http://licence"
    assert made.samples[0].answer == "bee: [000, 000, 500, 1000], [500, 000, 1000, 1000]."
    choosy = DetectionSource(format="coco", strip_folders=2, leave_out=["depiction", "reflection"], **where)
    (made,) = outcomes(choosy).values()
    assert notes(made) == {"depiction_boxes": 1, "reflection_boxes": 1}


# OpenImages


def test_openimages_as_published(folder: Path) -> None:
    source = write_openimages(folder, [truth("a", (1, (0.25, 0.5, 0.75, 1.0)), (0, LEFT)), truth("b")])
    assert answers(source) == {
        "a.jpg": "bee: [000, 000, 500, 1000];\ntv old: [250, 500, 750, 1000].",
        "b.jpg": "bee: [000, 000, 500, 1000].",
    }


def test_openimages_rows_that_are_not_sorted_wrong_or_flagged(folder: Path) -> None:
    source = write_openimages(folder, [])
    rows = [
        "a,xclick,/m/0,1,0,0.5,0,1,0,0,0,0,0",
        "b,xclick,/m/0,1,0,0.5,0,1,1,1,0,1,1",
        "a,xclick,/m/0,1,0,1,0,1,0,0,1,0,0",  # a group
        "a,xclick,/m/9,1,0,1,0,1,0,0,0,0,0",  # no such class
        "a,xclick,/m/0,1,nan,1,0,1,0,0,0,0,0",
        "a,xclick,/m/0,1,1e999,1,0,1,0,0,0,0,0",
        "a,xclick,/m/0,1,0.5",
        ",xclick,/m/0,1,0,1,0,1,0,0,0,0,0",
        "a,xclick,/m/0,1,0.9,0.1,0,1,0,0,0,0,0",  # swapped
        "",
    ]
    with (folder / "boxes.csv").open("a") as file:
        file.write("\n".join(rows))
    found = outcomes(source)
    assert gate(found["a.jpg"]) == (
        "unread_objects",
        "1 boxes_of_unknown_classes, 2 boxes_of_unread_classes, 1 group_boxes, 3 malformed_annotations, "
        "1 swapped_boxes",
    )
    assert notes(found["b.jpg"]) == {}
    assert reason(found["rows without an ImageID"]) == ("wrong_form", "1 rows without an ImageID")


def test_openimages_folders_licences_and_headers(folder: Path) -> None:
    write_image(folder / "images" / "train_0" / "0c.jpg", SIZE)
    source = write_openimages(folder, [truth("0c"), truth("b")])
    (folder / "classes.csv").write_text("LabelName,DisplayName\n/m/0,Bee\n")
    (folder / "ids.csv").write_text("ImageID,Subset,License\nb,train,http://b\n0c,train,http://c\nz,train,http://z\n")
    found = outcomes(
        DetectionSource(
            format="openimages",
            annotations=source.annotations,
            class_names=source.class_names,
            images=source.images,
            image_ids=str(folder / "ids.csv"),
        )
    )
    samples = {name: made.samples[0] for name, made in found.items() if isinstance(made, Written)}
    assert {name: sample.origin["licence"] for name, sample in samples.items()} == {
        "b.jpg": "http://b",
        "train_0/0c.jpg": "http://c",
    }
    assert samples["b.jpg"].answer.startswith("Bee:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'ImageID'"),
        ("ImageID,LabelName,XMin,XMax,YMin\n", "no column 'YMax'"),
        ("a,b\n1,2\n", "found 'a,b'"),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\n" + '"' + "x" * 200_000, "field larger than"),
    ],
)
def test_openimages_of_the_wrong_form(folder: Path, text: str, said: str) -> None:
    source = write_openimages(folder, [])
    (folder / "boxes.csv").write_text(text)
    why, detail = reason(outcomes(source)["input"])
    assert why == "wrong_form" and said in detail


# Pascal VOC


def test_voc_as_published(folder: Path) -> None:
    """The first pixel is 1: 1 to 200 is the whole width. Parts of an object are no objects."""
    write_voc(folder, [truth("a", (1, WHOLE), (0, LEFT))])
    (folder / "images").rename(folder / "JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a -1\nz 1\n")
    (folder / "Annotations" / "b.xml").write_text(voc_xml(truth("b")))
    expected = {"JPEGImages/a.jpg": "bee: [000, 000, 500, 1000];\ntv old: [000, 000, 1000, 1000]."}
    assert answers(DetectionSource(format="voc", annotations=str(folder), image_set="train")) == expected
    assert list(answers(DetectionSource(format="voc", annotations=str(folder)))) == [
        "JPEGImages/a.jpg",
        "JPEGImages/b.jpg",
    ]
    with pytest.raises(UserError, match=r"no such file \(image_set=gone\)"):
        list(DetectionSource(format="voc", annotations=str(folder), image_set="gone").inputs())


def test_voc_files_beside_the_images_and_what_they_leave_out(folder: Path) -> None:
    here = folder / "images"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50.5</xmax><ymax>100</ymax></bndbox>"
    objects = [
        f"<object><name>cat</name>{box}</object>",
        f"<object><name>dog</name><difficult>1</difficult>{box}</object>",
        f"<object><name>cow</name><truncated>1</truncated>{box}</object>",
        f"<object>{box}</object>",
        "<object><name>cat</name></object>",
        "<object><name>cat</name><bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>",
        f"<object><name>[]</name>{box}</object>",
    ]
    (here / "b.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")  # no file name, no size
    made = outcomes(DetectionSource(format="voc", annotations=str(here)))["b.jpg"]
    left_out = "1 boxes_of_unknown_classes, 2 boxes_of_unread_classes, 1 difficult_boxes, 3 malformed_annotations"
    assert gate(made) == ("unread_objects", left_out)
    del objects[3]  # one without a name may be of any class
    (here / "b.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    made = outcomes(DetectionSource(format="voc", annotations=str(here)))["b.jpg"]
    assert isinstance(made, Written)
    assert made.samples[0].answer == "cow: [000, 000, 252, 1000]."
    assert made.samples[0].task == "referring"


def test_voc_boxes_that_are_swapped_turned_or_a_polygon(folder: Path) -> None:
    here = folder / "images"
    swapped = "<bndbox><xmin>100</xmin><ymin>1</ymin><xmax>1</xmax><ymax>50</ymax></bndbox>"
    turned = "<bndbox><xmin>61</xmin><ymin>41</ymin><xmax>140</xmax><ymax>60</ymax></bndbox>"
    cvat = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((20, 20), (60, 20), (40, 80)))
    objects = [
        f"<object><name>cat</name>{swapped}</object>",
        f"<object><name>dog</name>{turned}{cvat}</object>",
        f"<object><name>cow</name><polygon>{points}</polygon></object>",
    ]
    (here / "b.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    made = outcomes(DetectionSource(format="voc", annotations=str(here)))["b.jpg"]
    assert isinstance(made, Written)
    answer = "cat: [000, 000, 500, 500];\ncow: [100, 200, 300, 800];\ndog: [450, 100, 550, 900]."
    assert (made.samples[0].task, made.samples[0].answer) == ("detection", answer)
    assert notes(made) == {"swapped_boxes": 1, "boxes_around_polygons": 1, "turned_boxes": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not XML"),
        ("<annotation>", "not XML"),
        ("<html></html>", "expected <annotation>, found <html>"),
        ("<annotation>\x00</annotation>", "not XML"),
        (
            '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
            "<annotation><filename>&b;</filename></annotation>",
            "document type",
        ),
        ('<!DOCTYPE a SYSTEM "http://x/y.dtd"><annotation/>', "document type"),
        ("<annotation>" + "<a>" * 100_000, "not XML"),
    ],
)
def test_voc_of_the_wrong_form(folder: Path, text: str, said: str) -> None:
    source = write_voc(folder, [])
    (folder / "Annotations" / "a.xml").write_text(text)
    why, detail = reason(outcomes(source)["input"])
    assert why == "wrong_form" and said in detail


def test_a_name_in_an_annotation_does_not_lead_out_of_the_folder(folder: Path) -> None:
    write_image(folder / "secret.jpg", SIZE)
    source = write_voc(folder, [truth("../secret".replace("/", "_"))])
    xml = (folder / "Annotations" / ".._secret.xml").read_text().replace(".._secret", "../secret")
    (folder / "Annotations" / ".._secret.xml").write_text(xml)
    assert reason(outcomes(source)["../secret.jpg"])[0] == "outside"


# YOLO


def test_yolo_as_published(folder: Path) -> None:
    source = write_yolo(folder, [truth("a", (1, WHOLE), (0, LEFT)), truth("gone")])
    (folder / "labels" / "a.cache").write_text("")
    found = outcomes(source)
    assert answers(source) == {"images/a.jpg": "bee: [000, 000, 500, 1000];\ntv old: [000, 000, 1000, 1000]."}
    assert found["images/b.jpg"] == Rejected(gate="boxes", value=0, threshold=1)  # has no label file
    assert reason(found["images/gone.jpg"])[0] == "missing_image"
    (folder / "labels" / "b.TXT").write_text("\n")
    assert outcomes(source)["images/b.jpg"] == Rejected(gate="boxes", value=0, threshold=1)
    write_image(folder / "images" / "a.png", SIZE)  # the label file is that of a.jpg
    assert outcomes(source)["images/a.png"] == Rejected(gate="boxes", value=0, threshold=1)
    assert isinstance(outcomes(source)["images/a.jpg"], Written)


def test_yolo_with_a_split_folder_a_list_of_names_or_all_in_one(tmp_path: Path) -> None:
    line = "0 0.25 0.5 0.5 1\n"
    write_image(tmp_path / "a" / "images" / "train" / "x.JPG", SIZE)
    write_image(tmp_path / "b" / "train" / "images" / "x.png", SIZE)
    write_image(tmp_path / "c" / "obj" / "x.jpeg", SIZE)
    (tmp_path / "a" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "b" / "train" / "labels").mkdir(parents=True)
    for text in ("a/labels/train/x.txt", "b/train/labels/x.txt", "c/obj/x.txt"):
        (tmp_path / text).write_text(line)
    (tmp_path / "a" / "data.yaml").write_text("names: {0: bee}")
    (tmp_path / "b" / "data.yaml").write_text("nc: 1\nnames: [bee]")
    (tmp_path / "c" / "obj.names").write_text("bee\n")
    (tmp_path / "c" / "train.txt").write_text("obj/x.jpeg\n")
    expected = "bee: [000, 000, 500, 1000]."
    for part, name in (("a", "images/train/x.JPG"), ("b", "train/images/x.png"), ("c", "obj/x.jpeg")):
        assert answers(DetectionSource(format="yolo", annotations=str(tmp_path / part))) == {name: expected}
    apart = DetectionSource(
        format="yolo",
        annotations=str(tmp_path / "a" / "labels"),
        images=str(tmp_path / "a" / "images"),
        class_names=str(tmp_path / "a" / "data.yaml"),
    )
    assert answers(apart) == {"train/x.JPG": expected}
    twice = DetectionSource(format="yolo", annotations=str(tmp_path / "a"), images=f"{tmp_path / 'a'}/")
    assert answers(twice) == {"images/train/x.JPG": expected}


def test_yolo_lines_that_are_polygons_points_or_wrong(folder: Path) -> None:
    source = write_yolo(folder, [truth("b")])
    lines = [
        "0.0 0.1 0.1 0.5 0.2 0.3 0.9",  # a polygon of three points; numpy writes the class as a float
        "1 0.5 0.5 0.1",
        "1 0.5 0.5 0.1 x",
        "1 0.5 0.5 nan 0.1",
        "9 0.5 0.5 0.1 0.1",
        "1 0.5 0.5 0.1 0.1 0.9",  # with a confidence
        "1",
    ]
    (folder / "labels" / "a.txt").write_text("\n".join(lines))
    made = outcomes(source)["images/a.jpg"]
    assert isinstance(made, Written)
    assert (made.samples[0].task, made.samples[0].answer) == ("referring", "bee: [100, 100, 500, 900].")
    assert notes(made) == {
        "malformed_annotations": 4,
        "boxes_of_unknown_classes": 1,
        "lines_with_a_number_behind_the_box": 1,
    }
    for line in ("x 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "9" * 5000 + " 0.5 0.5 0.1 0.1"):
        (folder / "labels" / "a.txt").write_text(f"{lines[0]}\n{line}")
        assert gate(outcomes(source)["images/a.jpg"]) == (
            "unread_objects",
            "1 boxes_of_unread_classes, 1 malformed_annotations",
        )
    (folder / "labels" / "a.txt").write_text("0 0.25 0.5 0.5 1 0.1 0.1 2 0.2 0.2 2")
    (folder / "data.yaml").write_text("names: [bee]\nkpt_shape: [2, 3]")
    assert answers(source)["images/a.jpg"] == "bee: [000, 000, 500, 1000]."


FACE = "0.5 0.5 0.4 0.6"
LANDMARKS = "0.42 0.42 0.58 0.42 0.5 0.52 0.44 0.65 0.56 0.65"


@pytest.mark.parametrize(
    ("lines", "notes"),
    [
        ([f"0 {FACE} {LANDMARKS}"], ["lines_with_points_behind_the_box"]),
        ([f"0 {FACE} {' '.join(['-1.0'] * 10)}"], ["lines_with_points_behind_the_box"]),
        ([f"0 {FACE} 0.42 0.42 2 0.58 0.42 1 0 0 0"], ["lines_with_points_behind_the_box"]),  # a pose
        ([f"0 {FACE} 0.42 0.42 1 0.58 0.42 1 0.5 0.5 1 0.5 0.6 1"], ["lines_with_points_behind_the_box"]),
        ([f"0 {FACE} 0.87"], ["lines_with_a_number_behind_the_box"]),
        ([f"0 {FACE} 17"], ["lines_with_a_number_behind_the_box"]),
        ([f"0 {FACE} 0.87 17"], ["lines_with_confidence_and_track"]),
        ([f"0 {FACE} 0.87 1"], ["lines_with_confidence_and_track"]),
        (["0 0.2 0.2 0.8 0.2 0.8 0.7 0.2 0.7"], [""]),  # a polygon: the corners of a turned box
        (["0 0.4 0.3 0.5 0.3 0.6 0.4 0.6 0.6 0.5 0.7 0.4 0.7 0.3 0.5"], [""]),  # one of seven points
        (["0 0.4 0.3 0.5 0.3 1.05 0.4"], [""]),  # a little beyond the edge
        ([f"0 {FACE}", f"0 {FACE} {LANDMARKS}"], ["", "lines_with_points_behind_the_box"]),
    ],
)
def test_what_a_yolo_line_looks_like(lines: list[str], notes: list[str]) -> None:
    read = read_label_lines(lines, {0: "face"}, has_points=False)
    assert [one.note for one in read] == notes
    assert [isinstance(one, RawBox) for one in read] == [not note for note in notes]


def test_yolo_words_stay_words_and_a_byte_order_mark_costs_nothing(folder: Path) -> None:
    names = ["yes", "no", "on", "null", "007", "1e3", "2024-01-01"]
    source = write_yolo(folder, [truth("b")])
    (folder / "data.yaml").write_text(f"names: [{', '.join(names)}]")
    lines = [f"{number} 0.{number}5 0.5 0.1 0.1\r\n" for number in range(len(names))]
    (folder / "labels" / "a.txt").write_text("\ufeff" + "".join(lines), encoding="utf-8")
    answer = answers(source)["images/a.jpg"]
    assert sorted(item.label for item in parse_boxes(answer)[0]) == sorted(names)
    (folder / "data.yaml").write_text("names: {0: yes}\nkpt_shape: null")
    assert answers(source)["images/a.jpg"] == "yes: [000, 450, 100, 550]."


def test_every_yolo_image_and_label_has_a_row(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("bee\n")
    for name in ("a.jfif", "b.gif", "c.Jpeg", "d.heic"):
        write_image(tmp_path / "a.jpg", SIZE)
        (tmp_path / "a.jpg").rename(tmp_path / name)
        (tmp_path / f"{name[0]}.txt").write_text("0 0.25 0.5 0.5 1\n")
    (tmp_path / "d.heic").write_bytes(b"heic")
    (tmp_path / "gone.txt").write_text("0 0.25 0.5 0.5 1\n")
    (tmp_path / "README.txt").write_text("5 boxes in each image\n")
    found = outcomes(DetectionSource(format="yolo", annotations=str(tmp_path)))
    assert {name: isinstance(made, Written) or reason(made)[0] for name, made in found.items()} == {
        "a.jfif": True,
        "b.gif": True,
        "c.Jpeg": True,
        "d.heic": "broken_image",
        "gone.jpg": "missing_image",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [", "not YAML"),
        ("nc: 3", "key 'names'"),
        ("names: bee", "key 'names'"),
        ("names: {x: bee}", "key 'names'"),
    ],
)
def test_yolo_class_names_of_the_wrong_form(folder: Path, text: str, said: str) -> None:
    source = write_yolo(folder, [truth("a")])
    (folder / "images" / "b.jpg").unlink()
    (folder / "data.yaml").write_text(text)
    why, detail = reason(outcomes(source)["input"])
    assert why == "wrong_form" and said in detail


# What all have in common


def test_what_each_form_needs(folder: Path) -> None:
    for form, missing in (("coco", "--images"), ("openimages", "--images"), ("yolo", "--classes")):
        with pytest.raises(UserError, match=missing):
            list(DetectionSource(format=form, annotations=str(folder)).inputs())
    with pytest.raises(UserError, match="--classes"):
        list(DetectionSource(format="openimages", annotations=str(folder), images=str(folder / "images")).inputs())


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "pascal"},
        {"boxes_of": "both"},
        {"convention": "cxcywh"},
        {"format": "yolo", "convention": "xyxy_px"},
        {"leave_out": ["crowds"]},
        {"max_boxes": 0},
        {"strip_folders": -1},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected one of|needs max_boxes"):
        DetectionSource(**{"format": "coco", "annotations": "x.json", "images": "y"} | wrong)


def test_fate_of_a_box() -> None:
    """Numbers on the edge of every rule."""

    def fate(*numbers: float) -> tuple[list[tuple[int, ...]], dict[str, int]]:
        boxes, counts = to_boxes([RawBox("a", numbers)], "xyxy", (1, 1))  # type: ignore[arg-type]
        return [item.box.bins() for item in boxes], dict(counts)

    assert fate(0, 0, 1, 1) == ([(0, 0, 1000, 1000)], {})
    assert fate(-0.0004, 0, 1.0004, 1) == ([(0, 0, 1000, 1000)], {})  # rounding would hide it
    assert fate(-0.0006, 0, 1, 1) == ([(0, 0, 1000, 1000)], {"clipped_boxes": 1})
    assert fate(0.5, 0.5, 0.5004, 1) == ([], {"degenerate_boxes": 1})
    assert fate(0.5, 0.5, 0.5, 0.5) == ([], {"degenerate_boxes": 1})
    assert fate(1, 0, 2, 1) == ([], {"outside_boxes": 1})
    assert fate(-1, 0, 0, 1) == ([], {"outside_boxes": 1})
    assert fate(0.5, 0, 0.4, 1) == ([(400, 0, 500, 1000)], {"swapped_boxes": 1})
    assert fate(-1e308, -1e308, 1e308, 1e308) == ([(0, 0, 1000, 1000)], {"clipped_boxes": 1})


def test_boxes_that_start_in_one_row_stand_from_left_to_right() -> None:
    """A centre and a height give 0.3 only nearly, and not the same for each box."""
    raw = [RawBox("a", (x, 0.3 + height / 2, 0.1, height)) for x, height in ((0.85, 0.6), (0.6, 0.3), (0.2, 0.2))]
    boxes, _ = to_boxes(raw, "cxcywh", (200, 100))
    assert [item.box.bins()[:2] for item in boxes] == [(150, 300), (550, 300), (800, 300)]


def test_duplicates_and_renamed_classes() -> None:
    raw = [
        RawBox("Cat", WHOLE),
        RawBox("cat", WHOLE),
        RawBox("dog: old", LEFT),
        RawBox("cow", LEFT),
        RawBox("cat", LEFT),
    ]
    boxes, counts = to_boxes(raw, "xyxy", (1, 1), classes={"Cat": "cat", "cow": None, "dog old": ""})
    assert [(item.label, item.box.bins()) for item in boxes] == [
        ("cat", (0, 0, 500, 1000)),
        ("cat", (0, 0, 1000, 1000)),
    ]
    assert counts == {"renamed_boxes": 1, "duplicate_boxes": 1, "boxes_of_dropped_classes": 2}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3) | st.sampled_from("abc"), st.integers())), st.integers(1, 5))
def test_buckets_group_rows(rows: list[tuple[int | str, int]], at_a_time: int) -> None:
    with pytest.MonkeyPatch.context() as patch, Buckets[int]() as grouped:
        patch.setattr(buckets, "_ROWS_PER_WRITE", at_a_time)
        for key, row in rows:
            grouped.add(key, row)
        found = list(grouped)
    together = {key: group for bucket in found for key, group in bucket.items()}
    assert sum(map(len, found)) == len(together)  # no key in two
    assert together == {key: [row for other, row in rows if other == key] for key, _ in rows}


def test_counterparts() -> None:
    assert counterpart("labels/x/labels/a.txt", "labels", "images") == "labels/x/images/a.txt"
    assert counterpart("x/labels", "labels", "images") == "x/labels"  # a file of that name
