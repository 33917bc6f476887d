"""The reader of YOLO folders: `labels/…/NAME.txt` for each `images/…/NAME.jpg`, or both files in one folder.

Format: https://docs.ultralytics.com/datasets/detect (boxes), …/segment (polygons), …/pose (points behind a box).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from typing_extensions import override

from datagen.detection.annotations.raw_boxes import RawBox, numbers_of, split_notes
from datagen.detection.annotations.reader import AnnotatedImage, Reader, counterpart, open_binary
from datagen.inputs.listing import list_files, name_of, within
from varyforge.boxes import Numbers
from varyforge.errors import UserError, WrongFormat
from varyforge.storage import folder_at, signature

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_NAME_FILES = ("data.yaml", "classes.txt", "obj.names")


class _Classes(NamedTuple):
    names: Mapping[int, str]  # by class number
    has_points: bool  # key points follow the box (`kpt_shape` in data.yaml)


class YoloReader(Reader):
    """A reader whose inputs are label files, and images without a label file, which have no objects."""

    convention = "cxcywh"

    @override
    def inputs(self) -> Iterator[str]:
        """Yield label files and images. A text file is a label file if it lies below `labels` or beside its image."""
        if not self._class_file():
            raise UserError(
                f"{self.annotations}: no {', '.join(_NAME_FILES)} with the class names here; give --classes FILE"
            )
        pictures = [(_stem(name_of(path, [self.images])), path) for path in list_files([self.images], *_IMAGES)]
        named, labelled = Counter(stem for stem, _ in pictures), set()
        for path in list_files([self.annotations], ".txt"):
            name, image = name_of(path, [self.annotations]), self._image_stem(path)
            is_label = image in named or "labels" in name.split("/") or not self.in_one_folder
            if is_label and posixpath.basename(name) not in _NAME_FILES:
                labelled.add(image)
                yield path
        for stem, path in pictures:
            if stem not in labelled or (named[stem] > 1 and self._image_called(stem) != name_of(path, [self.images])):
                yield path

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        return [self._class_file()]

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        if not path.lower().endswith(".txt"):
            yield AnnotatedImage(name=name_of(path, [self.images]))
            return
        class_file = self._class_file()
        classes = _classes(class_file, signature(class_file))
        lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        boxes, left_out = split_notes(_box(line.split(), classes) for line in lines if line.strip())
        yield AnnotatedImage(name=self._image_called(self._image_stem(path)), boxes=boxes, left_out=left_out)

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
        folder = folder_at(self.images)
        endings = (*_IMAGES, *(ending.upper() for ending in _IMAGES))
        return next((stem + ending for ending in endings if folder.size(stem + ending) is not None), stem + _IMAGES[0])


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]


def _box(words: Sequence[str], classes: _Classes) -> RawBox | str:
    """Return a line's box (for a polygon its bounding box), or the note of the dropped box."""
    number, values = words[0], words[1:5] if classes.has_points else words[1:]
    numbers = numbers_of(values) if len(values) <= 4 else _around(values)
    if numbers is None or not number.isdecimal():
        return "malformed_annotations"
    name = classes.names.get(int(number)) if len(number) < 10 else None
    return RawBox(name, numbers) if name else "boxes_of_unknown_classes"


def _around(values: Sequence[str]) -> Numbers | None:
    """Return centre and size of a polygon's bounding box, or None for malformed or fewer than three points."""
    points = [numbers_of([x, y, 0, 0]) for x, y in zip(values[::2], values[1::2], strict=False)]
    if len(values) % 2 or len(points) < 3 or None in points:
        return None
    xs, ys = [point[0] for point in points if point], [point[1] for point in points if point]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)


@lru_cache(maxsize=4)  # called for each of many thousand label files
def _classes(location: str, signature: str) -> _Classes:
    with open_binary(location) as file:
        text = file.read().decode("utf-8-sig", errors="replace")
    if not location.lower().endswith((".yaml", ".yml")):
        return _Classes({number: line.strip() for number, line in enumerate(text.splitlines())}, False)
    try:
        about = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongFormat(f"{posixpath.basename(location)}: not YAML: {' '.join(str(error).split())}") from error
    names: Any = about.get("names") if isinstance(about, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise WrongFormat(f"{posixpath.basename(location)}: key 'names' is no list of class names, nor names by number")
    return _Classes({number: str(name) for number, name in names.items()}, bool(about.get("kpt_shape")))
