"""Faults of records with `objects`: each costs its box or its record, and not the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.detection.annotations.objects import ObjectsReader
from datagen.detection.annotations.reader import AnnotatedImage

OBJECTS = pa.struct([("bbox", pa.list_(pa.list_(pa.float64()))), ("category", pa.list_(pa.int64()))])
FEATURES = {"objects": {"bbox": None, "category": [{"names": ["cat", "dog"], "_type": "ClassLabel"}]}}


def read(path: Path) -> list[AnnotatedImage]:
    reader = ObjectsReader(annotations=str(path), images="", splits=["train"])
    return [image for image in reader.records(str(path), str(path)) if image]


def in_parquet(path: Path, rows: list[dict[str, Any]]) -> list[AnnotatedImage]:
    about = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    schema = pa.schema([("image", pa.string()), ("objects", OBJECTS)], metadata=about)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return read(path)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_class_number_beyond_the_names_in_the_metadata_costs_its_box(tmp_path: Path, number: int) -> None:
    box = [1.0, 2.0, 3.0, 4.0]
    rows = [{"image": "a.jpg", "objects": {"bbox": [box, box], "category": [1, number]}}]
    (image,) = in_parquet(tmp_path / "a.parquet", rows)
    assert [label for label, _, _ in image.boxes] == ["dog"]
    assert image.notes == {"boxes_of_unknown_classes": 1}


def test_missing_and_null_objects(tmp_path: Path) -> None:
    (image,) = in_parquet(tmp_path / "a.parquet", [{"image": "a.jpg", "objects": None}])
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg", "objects": null}\n{"image": "a.jpg"}\n')
    states = [one.failed.detail.split(",")[0] for one in [image, *read(tmp_path / "a.jsonl")] if one.failed]
    assert states == ["key 'objects' is null", "key 'objects' is null", "key 'objects' is missing"]
