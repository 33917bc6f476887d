"""The table of annotation formats and their readers."""

from __future__ import annotations

from collections.abc import Mapping

from datagen.detection.annotations.coco import CocoReader
from datagen.detection.annotations.openimages import OpenImagesReader
from datagen.detection.annotations.reader import Reader
from datagen.detection.annotations.voc import VocReader
from datagen.detection.annotations.yolo import YoloReader

READERS: Mapping[str, type[Reader]] = {
    "coco": CocoReader,
    "openimages": OpenImagesReader,
    "voc": VocReader,
    "yolo": YoloReader,
}
"""Readers by the name of the format, as in `DetectionSource.format`."""
