"""The reader of COCO and Objects365: one JSON file, possibly of many gigabytes, with arrays in any order.

Format: https://cocodataset.org/#format-data. Objects365 (https://www.objects365.org) adds `isfake` and `isreflected`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, Unread, is_marked, numbers_of, sort_annotations
from datagen.detection.annotations.reader import SIGN_OF_LIFE, AnnotatedImage, Reader
from datagen.inputs.json_records import arrays, json_id
from datagen.inputs.listing import list_files
from varyforge.boxes import Numbers, around_turned, clean_label, numbers_around
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed
from varyforge.storage import is_url

_FLAGS = {"iscrowd": "crowd", "ignore": "crowd", "isfake": "depiction", "isreflected": "reflection"}
_NO_ID = "\0"  # prefix of the key of an item without an id; its position follows
_CATEGORIES = 4 << 20  # bytes of the list at most; LVIS has 0.6 MB
_NEEDED = ("images", "annotations", "categories")


class _Entry(NamedTuple):
    """An item of `images`."""

    name: str
    size: tuple[int, int] | None
    licence: str | int
    wrong: str  # the entry's fault; "": none


_Box = tuple[str | int, Numbers | None, str]  # category, numbers (None: malformed), note of the reader or ""


class _Tables(NamedTuple):
    names: dict[str | int, str]  # categories by id
    licences: dict[str | int, str]
    files: array[int]  # a hash of the file of each entry, to find files that are listed several times


class CocoReader(Reader):
    """A reader that holds a 64th of the annotations in memory and the rest on disk (half the size of the JSON).

    Entries of one file become one image with the boxes of all, which is held in memory. All entries of an id that
    stands for several files fail.
    """

    format_convention = "xywh_px"

    @override
    def inputs(self) -> Iterator[str]:
        return list_files([self.annotations], ".json")

    @override
    def known_classes(self) -> set[str]:
        """Look for `categories` from the end of each file, where data sets have it; a URL is not read for that."""
        paths = list(self.inputs())
        names = [] if any(map(is_url, paths)) else [_last_categories(path) for path in paths]
        return set().union(*names) if all(names) else set()

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        """Yield the images of a file. Ids are whole numbers (7.0 is 7) or text, and 7 differs from "7"."""
        with Buckets[_Entry]() as entries, Buckets[_Box]() as boxes:
            try:
                tables = yield from self._spool(Path(file), entries, boxes)
            except ValueError as error:
                raise WrongFormat(str(error)) from error
            repeated = _repeated(tables.files)
            shared: dict[str, list[tuple[str | int, _Entry, list[_Box]]]] = {}
            for listed, drawn in zip(entries, boxes, strict=True):
                for number, same_id in listed.items():
                    of_image, entry = drawn.pop(number, []), same_id[0]
                    if any(other != entry for other in same_id):
                        yield from _failed_entries(same_id, number)
                    elif entry.wrong or _hash_of(entry) not in repeated:
                        yield _image(number, entry, of_image, tables)
                    else:
                        more = [(number, entry, of_image), *[(number, entry, [])] * (len(same_id) - 1)]
                        shared.setdefault(normpath(entry.name), []).extend(more)
                yield from map(_unlisted, drawn.items())
            yield from (_joined(entries, tables) for entries in shared.values())

    def _spool(self, file: Path, entries: Buckets[_Entry], boxes: Buckets[_Box]) -> Generator[None, None, _Tables]:
        """Fill the buckets with `images` and `annotations` and return the small tables."""
        tables, missing, notes = _Tables({}, {}, array("q")), set(_NEEDED), self.dropping_marks(_FLAGS)
        for key, items in arrays(file):
            missing.discard(key)
            for number, item in enumerate(items):
                if number % SIGN_OF_LIFE == 0:
                    yield None
                if key == "images":
                    image, entry = _entry(number, item)
                    entries.add(image, entry)
                    if not entry.wrong:
                        tables.files.append(_hash_of(entry))
                elif key == "annotations":
                    boxes.add(*self._box(item, notes))
                elif key == "categories":
                    _add_category(tables.names, number, item)
                elif key == "licenses" and isinstance(item, dict) and (licence := json_id(item.get("id"))) is not None:
                    tables.licences[licence] = str(item.get("url") or item.get("name") or "")
        if missing:
            what = f"key {min(missing, key=_NEEDED.index)!r} is not there or not a list"
            raise ValueError(f"{what}; COCO form has {', '.join(_NEEDED)}")
        return tables

    def _box(self, item: Any, notes: Mapping[str, str]) -> tuple[str | int, _Box]:
        """Read an item of `annotations` and return the id of its image and its content."""
        image = json_id(item.get("image_id")) if isinstance(item, dict) else None
        if image is None:
            return _NO_ID, ("", None, "")
        category = json_id(item.get("category_id"))
        note = next((note for mark, note in notes.items() if is_marked(item.get(mark))), "")
        if note or category is None:
            return image, ("", None, note)
        numbers = numbers_of(item["bbox"]) if isinstance(item.get("bbox"), list) else None
        if numbers is None and (points := _points(item.get("segmentation"))):
            numbers, note = numbers_around(points, self.convention), "boxes_around_polygons"
        degrees = numbers_of((_rotation(item), 0, 0, 0))
        if numbers is None or degrees is None:
            return image, (category, None, "")
        if degrees[0] % 360:
            return image, (category, around_turned(numbers, self.convention, degrees[0]), "turned_boxes")
        return image, (category, numbers, note)


def _last_categories(path: str) -> set[str]:
    """Return the names in the last list called `categories` of a file; empty where there is none."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        key = data.rfind(b'"categories"')
        start = data.find(b"[", key) if key >= 0 else len(data)
        text = data[start : start + _CATEGORIES].decode(errors="replace")
    try:
        items, _ = json.JSONDecoder().raw_decode(text)
        names: dict[str | int, str] = {}
        for number, item in enumerate(items):
            _add_category(names, number, item)
    except ValueError:
        return set()
    return set(names.values())


def _image(number: str | int, entry: _Entry, drawn: Iterable[_Box], tables: _Tables) -> AnnotatedImage:
    if entry.wrong:
        return _failed(entry.name, str(number).removeprefix(_NO_ID), entry.wrong)
    boxes, notes, unread = sort_annotations(_named_box(one, tables.names) for one in drawn)
    licence = tables.licences.get(entry.licence, "")
    return AnnotatedImage(
        name=entry.name, id=number, size=entry.size, boxes=boxes, notes=notes, unread=unread, licence=licence
    )


def _joined(entries: Sequence[tuple[str | int, _Entry, list[_Box]]], tables: _Tables) -> AnnotatedImage:
    """Return one image for all entries of a file; a failure if they declare different sizes."""
    (number, entry, _), *others = sorted(entries, key=lambda listed: (isinstance(listed[0], str), listed[0]))
    sizes = {other.size for _, other, _ in entries} - {None}
    if len(sizes) > 1:
        return _failed(entry.name, number, f"the file is listed {len(entries)} times, with different sizes")
    entry = entry._replace(size=next(iter(sizes), None))
    image = _image(number, entry, (box for _, _, drawn in entries for box in drawn), tables)
    return replace(image, notes={**image.notes, "repeated_entries": len(others)})


def _failed_entries(entries: Sequence[_Entry], number: str | int) -> Iterator[AnnotatedImage]:
    detail = f"image id {number!r} is listed {len(entries)} times, with different files or sizes"
    for count, entry in enumerate(entries, 1):
        yield _failed(entry.name if count == 1 else f"{entry.name} (entry {count})", number, entry.wrong or detail)


def _unlisted(annotations: tuple[str | int, list[_Box]]) -> AnnotatedImage:
    number, drawn = annotations
    name = "without an id" if number == _NO_ID else repr(number)
    detail = f"{len(drawn)} annotations, no entry in images"
    return AnnotatedImage(name=f"annotations of image {name}", failed=Failed(reason="unlisted_image", detail=detail))


def _hash_of(entry: _Entry) -> int:
    """Return 64 bits for the file of an entry."""
    return int.from_bytes(
        hashlib.blake2b(normpath(entry.name).encode(errors="replace"), digest_size=8).digest(), "big", signed=True
    )


def _repeated(hashes: array[int]) -> set[int]:
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    return set(values[counts > 1].tolist())


def _failed(name: str, number: str | int, detail: str) -> AnnotatedImage:
    return AnnotatedImage(name=name, id=number, failed=Failed(reason="wrong_form", detail=detail))


def _named_box(drawn: _Box, names: Mapping[str | int, str]) -> RawBox | Unread | str:
    """Return a box with its class, an object that cannot be read, or the note of a dropped box."""
    category, numbers, note = drawn
    if numbers is None:
        return note or Unread("malformed_annotations", "" if category == "" else names.get(category))
    name = names.get(category)
    return RawBox(name, numbers, note) if name else Unread("boxes_of_unknown_classes", None)


def _points(segmentation: object) -> list[tuple[float, float]]:
    """Return the points of an annotation's polygons; none for a mask in run lengths."""
    parts = segmentation if isinstance(segmentation, list) else []
    parts = [parts] if parts and not isinstance(parts[0], list) else parts
    numbers = [
        numbers_of([x, y, 0, 0])
        for part in parts
        if isinstance(part, list)
        for x, y in zip(part[::2], part[1::2], strict=False)
    ]
    points = [(number[0], number[1]) for number in numbers if number]
    return points if len(points) == len(numbers) >= 3 else []


def _rotation(item: Mapping[str, Any]) -> object:
    """Return the degrees by which a box is turned: CVAT's attribute."""
    attributes = item.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else item.get("rotation")
    return turned or 0


def _entry(number: int, item: Any) -> tuple[str | int, _Entry]:
    """Read an item of `images` and return its id and content."""
    path = f"images[{number}]"
    if not isinstance(item, dict):
        return _NO_ID + path, _Entry(path, None, "", f"{path}: expected an object, found {type(item).__name__}")
    name, licence, size = item.get("file_name"), item.get("license"), (item.get("width"), item.get("height"))
    wrong = ""
    image, licence_id = json_id(item.get("id")), json_id(licence)
    if image is None:
        wrong = f"{path}: key 'id' is no number or text"
    elif not isinstance(name, str) or not name:
        wrong = f"{path}: key 'file_name' is no text"
    elif size != (None, None) and not all(isinstance(side, int | float) and 1 <= side < 1e6 for side in size):
        wrong = f"{path}: width {size[0]!r:.20} and height {size[1]!r:.20} are no sizes in pixels"
    if wrong or image is None:
        return _NO_ID + path, _Entry(name if isinstance(name, str) and name else path, None, "", wrong)
    declared = None if size == (None, None) else (round(size[0]), round(size[1]))  # type: ignore[arg-type]  # checked
    return image, _Entry(item["file_name"], declared, "" if licence_id is None else licence_id, "")


def _add_category(names: dict[str | int, str], number: int, item: Any) -> None:
    """Add an item of `categories` to the names by id.

    Raises:
        WrongFormat: the item is no category, or its id has another name already.
    """
    category = json_id(item.get("id")) if isinstance(item, dict) else None
    if category is None or not isinstance(item.get("name"), str):
        raise WrongFormat(f"categories[{number}]: expected an object with id and name, found {item!r:.60}")
    name = clean_label(item["name"])
    if names.setdefault(category, name) != name:
        raise WrongFormat(f"categories[{number}]: id {category!r} is {name!r}, and {names[category]!r} before")
