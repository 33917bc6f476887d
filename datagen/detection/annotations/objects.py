"""The reader of records with an image and its objects, in Parquet or JSON Lines, as on the Hugging Face hub.

Format: https://huggingface.co/docs/datasets/image_dataset#object-detection (`objects` with `bbox` and `category`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from datagen.detection.annotations.class_files import read_class_file
from datagen.detection.annotations.raw_boxes import RawBox, Unread, is_marked, numbers_of, sort_annotations
from datagen.detection.annotations.reader import SIGN_OF_LIFE, AnnotatedImage, Reader
from datagen.inputs.json_records import json_id
from datagen.inputs.record import ImageRef, Record, UnknownClass
from datagen.inputs.record_files import list_record_files, records
from varyforge.boxes import clean_label
from varyforge.errors import WrongFormat, kind_of
from varyforge.external.columns import rows_of
from varyforge.outcome import Failed
from varyforge.storage import signature

_IMAGE = ("image", "file_name")
_BOX = ("bbox", "bboxes", "box", "boxes")
_CLASS = ("category", "categories", "label", "labels", "class", "classes", "name", "category_id")
_FLAGS = {
    "iscrowd": "crowd",
    "is_crowd": "crowd",
    "ignore": "crowd",
    "difficult": "difficult",
    "truncated": "truncated",
}


class ObjectsReader(Reader):
    """A reader of `objects`: a list of objects with a box and a class, or one object with a list of each.

    Without `objects` these lists are those of the record itself. Classes are names, or numbers that the file's metadata
    or the file of class names explains.
    """

    format_convention = "xywh_px"

    @override
    def inputs(self) -> Iterator[str]:
        return list_record_files([self.annotations], self.splits)

    @override
    def known_classes(self) -> set[str]:
        return set(map(clean_label, self._names().values()))

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        return [self.class_names] if self.class_names else []

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        names, read = self._names(), 0
        for record in records(Path(file)):
            annotated = self._image(record, names)
            yield annotated
            read += 1 + len(annotated.boxes)
            if read > SIGN_OF_LIFE:
                yield None
                read = 0

    def _names(self) -> Mapping[int, str]:
        return read_class_file(self.class_names, signature(self.class_names)).names if self.class_names else {}

    def _image(self, record: Record, names: Mapping[int, str]) -> AnnotatedImage:
        try:
            fields = record.fields
            key = next((key for key in _IMAGE if fields.get(key)), _IMAGE[0])
            image: ImageRef = record.image(fields.get(key), (key,))
            objects = _objects(record)
        except WrongFormat as error:
            return AnnotatedImage(name=f"{record.number:06d}", failed=Failed(reason="wrong_form", detail=str(error)))
        flags = self.dropping_marks(_FLAGS)
        drawn = sort_annotations(_object(one, names, flags) for one in objects)
        width, height = fields.get("width"), fields.get("height")
        number = json_id(fields.get("image_id"))
        return AnnotatedImage(
            name=image if isinstance(image, str) else f"{record.number:06d}",
            image=None if isinstance(image, str) else image,
            id="" if number is None else number,
            size=(width, height) if type(width) is type(height) is int else None,
            boxes=drawn.boxes,
            notes=drawn.notes,
            unread=drawn.unread,
        )


def _objects(record: Record) -> Sequence[Any]:
    """Return the objects of a record, one after the other.

    Raises:
        WrongFormat: there is no list of boxes, or the lists have different lengths.
    """
    fields = record.fields
    objects = fields.get("objects")
    if objects is None:
        objects = {key: fields[key] for key in (*_BOX, *_CLASS) if isinstance(fields.get(key), list)}
        if not objects:
            state = "null" if "objects" in (*record.nulls, *fields) else "missing"
            raise WrongFormat(f"key 'objects' is {state}, expected objects with bbox and category")
    rows = rows_of(objects)
    if isinstance(rows, list):
        return rows
    if isinstance(rows, dict) and rows:
        lengths = ", ".join(f"{len(one)} {key}" for key, one in rows.items() if isinstance(one, list))
        raise WrongFormat(
            f"the lists of objects have different lengths: {lengths}" if lengths else "no list of objects"
        )
    raise WrongFormat(f"key 'objects' is {kind_of(objects)}, expected objects with bbox and category")


def _object(item: Any, names: Mapping[int, str], flags: Mapping[str, str]) -> RawBox | Unread | str:
    """Return the box of an object, or the object that cannot be read, or the note of a dropped box.

    Raises:
        WrongFormat: its class is a number without a name.
    """
    if not isinstance(item, dict):
        return Unread("malformed_annotations", "")
    if note := next((note for mark, note in flags.items() if is_marked(item.get(mark))), ""):
        return note
    label: Any = next((item[key] for key in _CLASS if key in item), "")
    number = json_id(label)
    if isinstance(number, int):
        if not names and not isinstance(label, UnknownClass):
            raise WrongFormat(f"the class of an object is the number {number}; name the classes with --classes FILE")
        label = names.get(number)
        if label is None:
            return Unread("boxes_of_unknown_classes", None)
    box = next((item[key] for key in _BOX if key in item), None)
    numbers = numbers_of(box) if isinstance(box, list) else None
    if not isinstance(label, str) or not label or numbers is None:
        return Unread("malformed_annotations", label if isinstance(label, str) else "")
    return RawBox(label, numbers)
