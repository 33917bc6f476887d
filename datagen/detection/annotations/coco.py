"""The reader of COCO and Objects365: one JSON file, possibly of many gigabytes, with arrays in any order.

Format: https://cocodataset.org/#format-data. Objects365 (https://www.objects365.org) adds `isfake` and `isreflected`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from typing_extensions import override

from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, numbers_of, split_notes
from datagen.detection.annotations.reader import SIGN_OF_LIFE, AnnotatedImage, Reader
from datagen.inputs.json_records import arrays
from datagen.inputs.listing import list_files
from varyforge.boxes import Numbers, clean_label
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed

_FLAGS = {"iscrowd": "crowd", "isfake": "depiction", "isreflected": "reflection"}
_NO_ID = "\0"  # prefix of the key of an item without an id; its position follows
_NEEDED = ("images", "annotations", "categories")


class _Entry(NamedTuple):
    """An item of `images`."""

    name: str
    size: tuple[int, int] | None
    licence: str | int
    wrong: str  # the entry's fault; "": none


_Box = tuple[str | int, Numbers | None, str]  # category, numbers (None: malformed), note of a dropped box or ""


class _Tables(NamedTuple):
    names: dict[str | int, str]  # categories by id
    licences: dict[str | int, str]


class CocoReader(Reader):
    """A reader that holds a 64th of the annotations in memory and the rest on disk (half the size of the JSON)."""

    convention = "xywh_px"

    @override
    def inputs(self) -> Iterator[str]:
        return list_files([self.annotations], ".json")

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        """Yield the images of a file. Ids are whole numbers or text, and 7 differs from "7"."""
        with Buckets[_Entry]() as entries, Buckets[_Box]() as boxes:
            try:
                tables = yield from self._spool(Path(file), entries, boxes)
            except ValueError as error:
                raise WrongFormat(str(error)) from error
            for listed, drawn in zip(entries, boxes, strict=True):
                yield from _records(listed, drawn, tables)

    def _spool(self, file: Path, entries: Buckets[_Entry], boxes: Buckets[_Box]) -> Generator[None, None, _Tables]:
        """Fill the buckets with `images` and `annotations` and return the small tables."""
        tables, missing, notes = _Tables({}, {}), set(_NEEDED), self.dropping_marks(_FLAGS)
        for key, items in arrays(file):
            missing.discard(key)
            for number, item in enumerate(items):
                if number % SIGN_OF_LIFE == 0:
                    yield None
                if key == "images":
                    entries.add(*_entry(number, item))
                elif key == "annotations":
                    boxes.add(*_box(item, notes))
                elif key == "categories":
                    tables.names.update([_category(number, item)])
                elif key == "licenses" and isinstance(item, dict) and _is_id(item.get("id")):
                    tables.licences[item["id"]] = str(item.get("url") or item.get("name") or "")
        if missing:
            what = f"key {min(missing, key=_NEEDED.index)!r} is not there or not a list"
            raise ValueError(f"{what}; COCO form has {', '.join(_NEEDED)}")
        return tables


def _records(
    entries: Mapping[str | int, list[_Entry]],
    boxes: dict[str | int, list[_Box]],
    tables: _Tables,
) -> Iterator[AnnotatedImage]:
    """Yield the images of one bucket."""
    for number, (entry, *again) in entries.items():
        drawn = boxes.pop(number, [])
        if entry.wrong:
            yield _failed(entry.name, str(number).removeprefix(_NO_ID), entry.wrong)
        else:
            usable, left_out = split_notes(_named_box(one, tables.names) for one in drawn)
            licence = tables.licences.get(entry.licence, "")
            yield AnnotatedImage(
                name=entry.name, id=number, size=entry.size, boxes=usable, left_out=left_out, licence=licence
            )
        for count, other in enumerate(again, 2):
            yield _failed(f"{other.name} (entry {count})", number, f"image id {number!r} is listed {count} times")
    for number, drawn in boxes.items():
        detail = f"{len(drawn)} annotations, no entry in images"
        name = "without an id" if number == _NO_ID else repr(number)
        yield AnnotatedImage(name=f"annotations of image {name}", failed=Failed(reason="unlisted_image", detail=detail))


def _failed(name: str, number: str | int, detail: str) -> AnnotatedImage:
    return AnnotatedImage(name=name, id=number, failed=Failed(reason="wrong_form", detail=detail))


def _named_box(drawn: _Box, names: Mapping[str | int, str]) -> RawBox | str:
    """Return a box with its class, or the note of a dropped box."""
    category, numbers, note = drawn
    if note or numbers is None:
        return note or "malformed_annotations"
    name = names.get(category)
    return RawBox(name, numbers) if name else "boxes_of_unknown_classes"


def _box(item: Any, notes: Mapping[str, str]) -> tuple[str | int, _Box]:
    """Read an item of `annotations` and return the id of its image and its content."""
    if not isinstance(item, dict) or not _is_id(item.get("image_id")):
        return _NO_ID, ("", None, "")
    category, bbox = item.get("category_id"), item.get("bbox")
    note = next((note for mark, note in notes.items() if item.get(mark) in (1, "1")), "")
    if not isinstance(bbox, list) or not _is_id(category):
        return item["image_id"], ("", None, note)
    return item["image_id"], (category, numbers_of(bbox), note)


def _entry(number: int, item: Any) -> tuple[str | int, _Entry]:
    """Read an item of `images` and return its id and content."""
    path = f"images[{number}]"
    if not isinstance(item, dict):
        return _NO_ID + path, _Entry(path, None, "", f"{path}: expected an object, found {type(item).__name__}")
    name, licence, size = item.get("file_name"), item.get("license"), (item.get("width"), item.get("height"))
    wrong = ""
    if not _is_id(item.get("id")):
        wrong = f"{path}: key 'id' is no number or text"
    elif not isinstance(name, str) or not name:
        wrong = f"{path}: key 'file_name' is no text"
    elif size != (None, None) and not all(isinstance(side, int | float) and 1 <= side < 1e6 for side in size):
        wrong = f"{path}: width {size[0]!r:.20} and height {size[1]!r:.20} are no sizes in pixels"
    if wrong:
        return _NO_ID + path, _Entry(name if isinstance(name, str) and name else path, None, "", wrong)
    declared = None if size == (None, None) else (round(size[0]), round(size[1]))  # type: ignore[arg-type]  # checked
    return item["id"], _Entry(item["file_name"], declared, licence if _is_id(licence) else "", "")


def _category(number: int, item: Any) -> tuple[str | int, str]:
    """Read an item of `categories` and return its id and name."""
    if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get("name"), str):
        raise WrongFormat(f"categories[{number}]: expected an object with id and name, found {item!r:.60}")
    return item["id"], clean_label(item["name"])


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)
