"""Data sets of images with boxes, written in each form that `datagen.detection` reads, from one truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.detection.source import DetectionSource

CLASSES = ["bee", "tv: [old]", "ant"]

Share = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """An image and the boxes in it: class number and corners as shares of the image."""

    name: str  # without ending
    size: tuple[int, int]  # width and height, pixels
    boxes: Sequence[tuple[int, Share]]

    def pixels(self) -> list[tuple[str, Share]]:
        width, height = self.size
        return [
            (CLASSES[number], (x1 * width, y1 * height, x2 * width, y2 * height))
            for number, (x1, y1, x2, y2) in self.boxes
        ]


def write_image(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    """A white JPEG that is `size` as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", size, "white").save(path, exif=exif)


def write_coco(folder: Path, truths: Sequence[Truth], **changes: Any) -> DetectionSource:
    form = {
        "annotations": [
            {"image_id": n, "category_id": CLASSES.index(label), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for n, truth in enumerate(truths)
            for label, (x1, y1, x2, y2) in truth.pixels()
        ],
        "images": [
            {"id": n, "file_name": f"{truth.name}.jpg", "width": truth.size[0], "height": truth.size[1]}
            for n, truth in enumerate(truths)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
    }
    (folder / "instances.json").write_text(json.dumps(form | changes))
    return DetectionSource(format="coco", annotations=str(folder / "instances.json"), images=str(folder / "images"))


def write_openimages(folder: Path, truths: Sequence[Truth]) -> DetectionSource:
    lines = [
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    ]
    for truth in truths:
        for number, (x1, y1, x2, y2) in truth.boxes:
            lines.append(f"{truth.name},xclick,/m/{number},1,{x1},{x2},{y1},{y2},0,0,0,0,0")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "classes.csv").write_text("".join(f"/m/{n},{name}\n" for n, name in enumerate(CLASSES)))
    return DetectionSource(
        format="openimages",
        annotations=str(folder / "boxes.csv"),
        class_names=str(folder / "classes.csv"),
        images=str(folder / "images"),
    )


def voc_xml(truth: Truth, *, first: int = 1, extra: str = "") -> str:
    """An annotation; `first` is the number of the first pixel, 1 in VOC."""
    objects = "".join(
        f"<object><name>{escape(label)}</name><difficult>0</difficult><part><name>head</name><bndbox><xmin>1</xmin>"
        f"<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part><bndbox><xmin>{x1 + first}</xmin>"
        f"<ymin>{y1 + first}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in truth.pixels()
    )
    return (
        f"<annotation><filename>{truth.name}.jpg</filename><size><width>{truth.size[0]}</width>"
        f"<height>{truth.size[1]}</height><depth>3</depth></size>{objects}{extra}</annotation>"
    )


def write_voc(folder: Path, truths: Sequence[Truth], *, first: int = 1) -> DetectionSource:
    (folder / "Annotations").mkdir(exist_ok=True)
    for truth in truths:
        (folder / "Annotations" / f"{truth.name}.xml").write_text(voc_xml(truth, first=first))
    convention = "" if first else "xyxy_px"
    return DetectionSource(format="voc", annotations=str(folder), images=str(folder / "images"), convention=convention)


def write_yolo(folder: Path, truths: Sequence[Truth]) -> DetectionSource:
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(json.dumps({"names": CLASSES}))  # JSON is YAML
    for truth in truths:
        lines = [
            f"{number} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
            for number, (x1, y1, x2, y2) in truth.boxes
        ]
        (folder / "labels" / f"{truth.name}.txt").write_text("".join(lines))
    return DetectionSource(format="yolo", annotations=str(folder))


def write_objects(folder: Path, truths: Sequence[Truth]) -> DetectionSource:
    rows = [
        {
            "image": {"bytes": (folder / "images" / f"{truth.name}.jpg").read_bytes(), "path": None},
            "width": truth.size[0],
            "height": truth.size[1],
            "objects": {
                "bbox": [[x1, y1, x2 - x1, y2 - y1] for _, (x1, y1, x2, y2) in truth.pixels()],
                "category": [number for number, _ in truth.boxes],
            },
        }
        for truth in truths
    ]
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return DetectionSource(format="objects", annotations=str(folder / "data"), class_names=str(folder / "classes.txt"))


WRITERS = {
    "coco": write_coco,
    "objects": write_objects,
    "openimages": write_openimages,
    "voc": write_voc,
    "yolo": write_yolo,
}
