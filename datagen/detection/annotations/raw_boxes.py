"""Boxes as in data sets, and their conversion to the boxes of an answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from varyforge.boxes import Convention, LabelledBox, Numbers, clean_label, clipped_box, corners_of, ordered


class RawBox(NamedTuple):
    """A box as in a data set."""

    label: str  # class name as in the data set
    numbers: Numbers  # finite; the reader's `convention` defines their meaning
    note: str = ""  # what the reader changed


class Unread(NamedTuple):
    """An object of the image whose box cannot be used. The image's answers must not seem complete without it."""

    note: str
    label: str | None = ""  # its class, "" where it may have any, None where it has none of the known classes


def numbers_of(values: Sequence[object]) -> Numbers | None:
    """Convert four numbers or texts to floats. Return None where they are not four, or their sum is not finite."""
    try:
        a, b, c, d = map(float, values)  # type: ignore[arg-type]  # TypeError is handled
    except (TypeError, ValueError, OverflowError):
        return None
    return (a, b, c, d) if math.isfinite(abs(a) + abs(b) + abs(c) + abs(d)) else None


class Drawn(NamedTuple):
    """The annotations of an image, sorted."""

    boxes: list[RawBox]
    notes: Counter[str]  # of dropped and changed boxes
    unread: list[str | None]  # distinct labels of `Unread` objects


def sort_annotations(items: Iterable[RawBox | Unread | str]) -> Drawn:
    """Sort what a reader yields per annotation: a box, an unread object, or the note of a box that is left out."""
    drawn = Drawn([], Counter(), [])
    for item in items:
        note = item if isinstance(item, str) else item.note
        if note:
            drawn.notes[note] += 1
        if isinstance(item, RawBox):
            drawn.boxes.append(item)
        elif isinstance(item, Unread) and item.label not in drawn.unread:
            drawn.unread.append(item.label)
    return drawn


def is_marked(value: object) -> bool:
    """Return whether a mark such as COCO's `iscrowd` is set: 1, 1.0, true, or the text of one."""
    return value in (1, "1", "true", "True")  # 1.0 and True are 1


def to_boxes(
    raw: Sequence[RawBox],
    convention: Convention,
    size: tuple[int, int],
    *,
    orientation: int = 1,
    classes: Mapping[str, str | None] | None = None,
) -> tuple[list[LabelledBox], Counter[str]]:
    """Return boxes in the order of an answer, and counts of dropped and changed boxes by reason.

    Classes are in alphabetical order (by code point). The boxes of a class run from top to bottom, then left to right.
    `size` is width and height in pixels of the annotated image, `orientation` that of EXIF if the image was annotated
    before EXIF turned it. `classes` has new names of classes; None drops a class.
    """
    classes, (width, height) = classes or {}, size
    boxes: dict[tuple[str, tuple[int, int, int, int]], LabelledBox] = {}
    notes: Counter[str] = Counter()
    for label, numbers, _ in raw:
        name = clean_label(label)
        class_name = classes.get(name, name)
        box, clipped = clipped_box(numbers, convention, width=width, height=height)
        if not name or not class_name:
            notes["boxes_of_dropped_classes" if name else "boxes_of_unknown_classes"] += 1
        elif box is None:
            notes[_flaw(corners_of(ordered(numbers, convention), convention, width=width, height=height))] += 1
        else:
            item = LabelledBox(label=class_name, box=box.upright(orientation))
            repeated = (class_name, item.box.bins()) in boxes
            boxes.setdefault((class_name, item.box.bins()), item)
            notes["duplicate_boxes"] += repeated
            notes["swapped_boxes"] += ordered(numbers, convention) != numbers and not repeated
            notes["renamed_boxes"] += class_name != name and not repeated
            notes["clipped_boxes"] += clipped and not repeated
    return [boxes[key] for key in sorted(boxes, key=_answer_order)], +notes


def _answer_order(key: tuple[str, tuple[int, int, int, int]]) -> tuple[str, int, int, int, int]:
    """Return the sort key of a box in whole bins, because unrounded top edges of one row may differ slightly."""
    label, (x1, y1, x2, y2) = key
    return label, y1, x1, y2, x2


def _flaw(corners: Numbers) -> str:
    """Return the note of an unusable box."""
    x1, y1, x2, y2 = corners
    return "outside_boxes" if x2 <= 0 or y2 <= 0 or x1 >= 1 or y1 >= 1 else "degenerate_boxes"
