"""Box annotations in the forms in which data sets are published, a module each: one typed record per image."""

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
"""By the name of the form."""
