"""COCO and Objects365: one JSON file, of many gigabytes perhaps, whose arrays may come in any order.

Format: https://cocodataset.org/#format-data. Objects365 (https://www.objects365.org) adds `isfake` and `isreflected`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeGuard

from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, numbers_of
from datagen.detection.annotations.reader import SIGN_OF_LIFE, Annotated, Reader
from datagen.inputs.json_records import arrays
from datagen.inputs.listing import list_files
from varyforge.boxes import Convention, Numbers, clean_label
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed

_FLAGS = {"iscrowd": "crowd", "isfake": "depiction", "isreflected": "reflection"}
_NO_ID = "\0"  # of what has none; followed by its place
_NEEDED = ("images", "annotations", "categories")


class _Entry(NamedTuple):
    """Of `images`."""

    name: str
    size: tuple[int, int] | None
    licence: str | int
    wrong: str  # what is wrong with the entry


_Box = tuple[str | int, Numbers | None, str]
"""Of `annotations`: category, numbers (None: malformed), the note that leaves it out."""


class _Tables(NamedTuple):
    names: dict[str | int, str]  # of categories
    licences: dict[str | int, str]


class CocoReader(Reader):
    """Memory holds a 64th of the annotations; the rest waits on disk, sorted by image (half the size of the JSON)."""

    convention: ClassVar[Convention] = "xywh_px"

    def inputs(self) -> Iterator[str]:
        """See `Reader`."""
        return list_files([self.annotations], ".json")

    def records(self, path: str, file: str) -> Iterator[Annotated | None]:
        """See `Reader`. Ids are whole numbers or text; 7 and "7" are two."""
        with Buckets[_Entry]() as entries, Buckets[_Box]() as boxes:
            try:
                tables = yield from self._spool(Path(file), entries, boxes)
            except ValueError as error:
                raise WrongFormat(str(error)) from error
            for listed, drawn in zip(entries, boxes, strict=True):
                yield from _records(listed, drawn, tables)

    def _spool(self, file: Path, entries: Buckets[_Entry], boxes: Buckets[_Box]) -> Generator[None, None, _Tables]:
        """Fills the buckets with `images` and `annotations`, and returns the small tables."""
        tables, missing, notes = _Tables({}, {}), set(_NEEDED), self.leaving_out(_FLAGS)
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
) -> Iterator[Annotated]:
    """The images of one bucket."""
    for number, (entry, *again) in entries.items():
        drawn = boxes.pop(number, [])
        if entry.wrong:
            yield _failed(entry.name, str(number).removeprefix(_NO_ID), entry.wrong)
        else:
            kept, left_out = _sort_out(drawn, tables.names)
            licence = tables.licences.get(entry.licence, "")
            yield Annotated(name=entry.name, id=number, size=entry.size, boxes=kept, left_out=left_out, licence=licence)
        for place, other in enumerate(again, 2):
            yield _failed(f"{other.name} (entry {place})", number, f"image id {number!r} is listed {place} times")
    for number, drawn in boxes.items():
        detail = f"{len(drawn)} annotations, no entry in images"
        name = "without an id" if number == _NO_ID else repr(number)
        yield Annotated(name=f"annotations of image {name}", failed=Failed(reason="unlisted_image", detail=detail))


def _failed(name: str, number: str | int, detail: str) -> Annotated:
    return Annotated(name=name, id=number, failed=Failed(reason="wrong_form", detail=detail))


def _sort_out(drawn: list[_Box], names: Mapping[str | int, str]) -> tuple[list[RawBox], Counter[str]]:
    """An image's boxes, and counts of those that are left out."""
    kept: list[RawBox] = []
    left_out: Counter[str] = Counter()
    for category, numbers, note in drawn:
        if note:
            left_out[note] += 1
        elif numbers is None:
            left_out["malformed_annotations"] += 1
        elif not (name := names.get(category)):
            left_out["boxes_of_unknown_classes"] += 1
        else:
            kept.append(RawBox(name, numbers))
    return kept, left_out


def _box(item: Any, notes: Mapping[str, str]) -> tuple[str | int, _Box]:
    """An item of `annotations`: the id of its image and what it says."""
    if not isinstance(item, dict) or not _is_id(item.get("image_id")):
        return _NO_ID, ("", None, "")
    category, bbox = item.get("category_id"), item.get("bbox")
    note = next((note for mark, note in notes.items() if item.get(mark) in (1, "1")), "")
    if not isinstance(bbox, list) or not _is_id(category):
        return item["image_id"], ("", None, note)
    return item["image_id"], (category, numbers_of(bbox), note)


def _entry(number: int, item: Any) -> tuple[str | int, _Entry]:
    """An item of `images`: its id and what it says."""
    place = f"images[{number}]"
    if not isinstance(item, dict):
        return _NO_ID + place, _Entry(place, None, "", f"{place}: expected an object, found {type(item).__name__}")
    name, licence, size = item.get("file_name"), item.get("license"), (item.get("width"), item.get("height"))
    wrong = ""
    if not _is_id(item.get("id")):
        wrong = f"{place}: key 'id' is no number or text"
    elif not isinstance(name, str) or not name:
        wrong = f"{place}: key 'file_name' is no text"
    elif size != (None, None) and not all(isinstance(side, int | float) and 1 <= side < 1e6 for side in size):
        wrong = f"{place}: width {size[0]!r:.20} and height {size[1]!r:.20} are no sizes in pixels"
    if wrong:
        return _NO_ID + place, _Entry(name if isinstance(name, str) and name else place, None, "", wrong)
    declared = None if size == (None, None) else (round(size[0]), round(size[1]))  # type: ignore[arg-type]  # checked
    return item["id"], _Entry(item["file_name"], declared, licence if _is_id(licence) else "", "")


def _category(number: int, item: Any) -> tuple[str | int, str]:
    """An item of `categories`: its id and its name."""
    if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get("name"), str):
        raise WrongFormat(f"categories[{number}]: expected an object with id and name, found {item!r:.60}")
    return item["id"], clean_label(item["name"])


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)
