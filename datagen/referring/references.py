"""The readers of referring expressions: RefCOCO's folders and JSON Lines.

A wrong record becomes a `Failed` at its position and leaves the rest of the file usable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from datagen.inputs.json_records import json_id
from varyforge.boxes import Convention, Numbers
from varyforge.errors import WrongFormat
from varyforge.external.text_encoding import not_utf8
from varyforge.outcome import Failed
from varyforge.sample import Scalar

_SEVERAL: dict[str, Any] = {}
MAX_LINE_BYTES = 1 << 20  # most bytes of a record in JSON Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One object and its phrases."""

    image: str  # file name
    phrases: tuple[str, ...]  # as in the file
    box: Numbers
    convention: Convention  # of `box`
    size: tuple[int, int] | None = None  # width and height of the annotated image, pixels
    split: str = ""  # split in the data set; "": none
    origin: Mapping[str, Scalar] = field(default_factory=dict)  # ids, licence


def read_refcoco(refs: object, instances: bytes) -> list[tuple[int, Reference | Failed]]:
    """Return the references of RefCOCO, RefCOCO+ or RefCOCOg (github.com/lichengunc/refer), numbered as in the file.

    `refs` is the content of `refs(….p)`, and `instances` that of `instances.json`, which has name and size of an image.
    References are sorted by image, so that those of one document stand together. A phrase is the data set's `sent`, in
    lower case and without punctuation.

    Raises:
        ValueError: `refs` or `instances` has another format.
    """
    if not isinstance(refs, list):
        raise ValueError(f"the refs are a {type(refs).__name__}, expected a list")
    coco = _read_instances(instances)
    read = [(number, _checked(_refcoco_reference, ref, coco)) for number, ref in enumerate(refs)]
    return sorted(read, key=lambda item: item[1].image if isinstance(item[1], Reference) else "")


def read_lines(file: BinaryIO, convention: Convention) -> Iterator[tuple[int, Reference | Failed]]:
    """Yield the references in JSON Lines with their line numbers, counted from 1. Empty lines are skipped.

    A record has "image", "phrase" and "bbox" (four numbers). Optional keys are "width" and "height" of the annotated
    image, "id", "licence" (or "license") and "split".
    """
    for number, line in _lines(file):
        if isinstance(line, Failed):
            yield number, line
        elif line.strip():
            yield number, _checked(_line_reference, line, convention)


def _checked(read: Callable[..., Reference | Failed], *arguments: object) -> Reference | Failed:
    try:
        return read(*arguments)
    except WrongFormat as error:
        return Failed(reason="wrong_form", detail=str(error))


class _Instances(NamedTuple):
    """The tables of instances.json by id."""

    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    licences: dict[int, dict[str, Any]]


def _read_instances(data: bytes) -> _Instances:
    try:
        root = _json(data)
        tables = []
        for key, needed in (("images", True), ("annotations", True), ("licenses", False)):
            rows = root.get(key, None if needed else []) if isinstance(root, dict) else None
            if not isinstance(rows, list):
                raise WrongFormat(f"key {key!r} is not there or not a list; COCO form has images and annotations")
            tables.append(_by_id(rows))
    except WrongFormat as error:
        raise ValueError(f"instances.json: {error}") from error
    return _Instances(*tables)


def _by_id(rows: list[Any]) -> dict[int, dict[str, Any]]:
    """Return objects by id. An id with several different objects has one without content."""
    table: dict[int, dict[str, Any]] = {}
    for row in rows:
        number = json_id(row.get("id")) if isinstance(row, dict) else None
        if isinstance(number, int):
            table[number] = row if table.get(number, row) == row else _SEVERAL
    return table


def _refcoco_reference(ref: object, coco: _Instances) -> Reference | Failed:
    record = _object(ref)
    ids = {name: _value(record, name, int) for name in ("ref_id", "ann_id", "image_id")}
    annotation, image = coco.annotations.get(ids["ann_id"]), coco.images.get(ids["image_id"])
    if image is None:
        return Failed(reason="unlisted_image", detail=f"image {ids['image_id']} is not in instances.json")
    if annotation is None:
        return Failed(reason="unlisted_annotation", detail=f"annotation {ids['ann_id']} is not in instances.json")
    for name, listed in (("image_id", image), ("ann_id", annotation)):
        if listed is _SEVERAL:
            raise WrongFormat(f"{name} {ids[name]} is listed several times in instances.json")
    if annotation.get("image_id") != ids["image_id"]:
        raise WrongFormat(f"annotation {ids['ann_id']} is not one of image {ids['image_id']}")
    licence = coco.licences.get(image["license"], {}) if isinstance(image.get("license"), int) else {}
    link = str(licence.get("url") or licence.get("name") or "")
    return Reference(
        image=_value(image, "file_name", str),
        phrases=tuple(_value(_object(one), "sent", str) for one in _value(record, "sentences", list)),
        box=_box(annotation),
        convention="xywh_px",
        size=_size(image),
        split=_value(record, "split", str),
        origin=ids | ({"licence": link} if link else {}),
    )


def _line_reference(line: bytes, convention: Convention) -> Reference:
    record = _object(_json(line))
    if record.get("rotation"):
        raise WrongFormat("key 'rotation': give the box around the turned one")
    origin: dict[str, Scalar] = {}
    for key, name, kinds in (("id", "id", int | str), ("licence", "licence", str), ("license", "licence", str)):
        if record.get(key) is not None:
            origin[name] = _value(record, key, kinds)
    return Reference(
        image=_value(record, "image", str),
        phrases=(_value(record, "phrase", str),),
        box=_box(record),
        convention=convention,
        size=_size(record) if "width" in record or "height" in record else None,
        split=_value(record, "split", str) if record.get("split") is not None else "",
        origin=origin,
    )


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | Failed]]:
    """Yield lines with their numbers, counted from 1. Too long a line becomes a `Failed`."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, Failed(reason="wrong_form", detail=f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise WrongFormat(not_utf8(error)) from error
    except (ValueError, RecursionError) as error:
        raise WrongFormat(f"not JSON: {error}"[:200]) from error


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongFormat(f"expected an object, found {type(value).__name__}")
    return value


def _value(record: Mapping[str, Any], key: str, kind: Any) -> Any:
    """Return `record[key]`, which must have the type `kind`. True and false do not count as numbers, 7.0 is 7."""
    value = record.get(key)
    if isinstance(value, float):
        value = json_id(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = getattr(kind, "__name__", str(kind))
        fault = f"is a {type(value).__name__}" if key in record else "is missing"
        raise WrongFormat(f"key {key!r} {fault}, expected {expected}")
    return value


def _box(record: Mapping[str, Any]) -> Numbers:
    numbers = _value(record, "bbox", list)
    try:
        sides = [float(side) for side in numbers if isinstance(side, int | float) and not isinstance(side, bool)]
    except OverflowError:
        sides = []
    if not len(sides) == len(numbers) == 4 or not all(map(math.isfinite, sides)):
        raise WrongFormat("key 'bbox' is not four numbers")
    return sides[0], sides[1], sides[2], sides[3]


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    size = _value(record, "width", int), _value(record, "height", int)
    if min(size) < 1:
        raise WrongFormat(f"an image of {size[0]}x{size[1]} px")
    return size
