"""The reader of YOLO folders: `labels/…/NAME.txt` for each `images/…/NAME.jpg`, or both files in one folder.

Format: https://docs.ultralytics.com/datasets/detect (boxes), …/segment (polygons), …/pose (points behind a box).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from datagen.detection.annotations.class_files import read_class_file
from datagen.detection.annotations.raw_boxes import sort_annotations
from datagen.detection.annotations.reader import AnnotatedImage, Reader, counterpart
from datagen.detection.annotations.yolo_lines import are_labels, read_label_lines
from datagen.inputs.listing import list_files, name_of, within
from varyforge.boxes import clean_label
from varyforge.errors import UserError
from varyforge.storage import folder_at, signature

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".jpe", ".ppm", ".pgm")
_UNREADABLE = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg")  # images that fail, each with its row
_NAME_FILES = ("data.yaml", "classes.txt", "obj.names")


class YoloReader(Reader):
    """A reader whose inputs are label files, and images without a label file, which have no objects."""

    format_convention = "cxcywh"

    @override
    def inputs(self) -> Iterator[str]:
        """Yield text files and images. A text without an image is a label file if its first line is that of one."""
        if not self._class_file():
            raise UserError(
                f"{self.annotations}: no {', '.join(_NAME_FILES)} with the class names here; give --classes FILE"
            )
        listed = list_files([self.images], *_IMAGES, *_UNREADABLE)
        pictures = [(_stem(name_of(path, [self.images])), path) for path in listed]
        named, labelled = Counter(stem for stem, _ in pictures), set()
        for path in list_files([self.annotations], ".txt"):
            if posixpath.basename(path) not in _NAME_FILES:
                labelled.add(self._image_stem(path))
                yield path
        for stem, path in pictures:
            if stem not in labelled or (named[stem] > 1 and self._image_called(stem) != name_of(path, [self.images])):
                yield path

    @override
    def known_classes(self) -> set[str]:
        file = self._class_file()
        return set(map(clean_label, read_class_file(file, signature(file)).names.values())) if file else set()

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        return [self._class_file()]

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        if not path.lower().endswith(".txt"):
            yield AnnotatedImage(name=name_of(path, [self.images]))
            return
        class_file = self._class_file()
        classes = read_class_file(class_file, signature(class_file))
        lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        image = self._image_called(self._image_stem(path))
        if self.in_one_folder and not self._has(image) and not are_labels(lines):
            return  # a text of another kind
        drawn = sort_annotations(read_label_lines(lines, classes.names, has_points=classes.has_points))
        yield AnnotatedImage(name=image, boxes=drawn.boxes, notes=drawn.notes, unread=drawn.unread)

    def _class_file(self) -> str:
        """Return the path of the file with the class names, "" if there is none."""
        folder = folder_at(self.annotations)
        present = (name for name in _NAME_FILES if folder.size(name) is not None)
        return self.class_names or next((within(self.annotations, name) for name in present), "")

    def _image_stem(self, path: str) -> str:
        """Return the name without ending, in the folder of the images, of a label file's image."""
        stem = _stem(name_of(path, [self.annotations]))
        return counterpart(stem, "labels", "images") if self.in_one_folder else stem

    def _image_called(self, stem: str) -> str:
        """Return an image's name with the ending of the first such file, or with .jpg if there is none."""
        endings = (*_IMAGES, *_UNREADABLE)
        spelled = (*endings, *map(str.upper, endings), *(f".{ending[1:].title()}" for ending in endings))
        return next((stem + ending for ending in spelled if self._has(stem + ending)), stem + _IMAGES[0])

    def _has(self, image: str) -> bool:
        return folder_at(self.images).size(image) is not None


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]
