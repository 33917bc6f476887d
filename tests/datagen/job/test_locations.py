"""Locations relative to one folder hold in a process that works in another, as Ray's workers may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datagen.registry import SOURCES, source_of
from datagen.source import Source

GIVEN: dict[str, dict[str, object]] = {
    "pdf": {"paths": ["in", "s3://bucket/in"]},
    "scan": {"paths": ["in", "s3://bucket/in"]},
    "labelled": {"paths": ["in"]},
    "markdown": {"paths": ["in"]},
    "detection": {"format": "coco", "annotations": "in/a.json", "images": "in", "class_names": ""},
    "referring": {"refs": ["in"], "jsonl": ["in/a.jsonl"], "images": "in", "convention": "xyxy"},
    "caption": {"paths": ["in"], "images": "s3://bucket/in"},
    "chat": {"paths": ["in"]},
    "chart": {"charts": 1},
    "vqa": {"records": ["in"], "images": "in", "guard": "in/g"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_places_are_absolute(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source: Source = source_of({"source": name, "config": {"settings": {}}, "inputs": GIVEN[name]})
    for place in source.locations:
        value = getattr(source, place)
        for one in value if isinstance(value, list) else [value]:
            assert not isinstance(one, str) or not one or "://" in one or os.path.isabs(one), f"{place}: {one}"
