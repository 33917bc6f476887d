"""Boxes as data sets have them, and from there to those of an answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from varyforge.boxes import Convention, LabelledBox, Numbers, clean_label, clipped_box, corners_of


class RawBox(NamedTuple):
    """A box as a data set has it."""

    label: str  # class name, as the data set writes it
    numbers: Numbers  # finite; what they mean, the reader's `Convention` says


def numbers_of(values: Sequence[object]) -> Numbers | None:
    """Four finite numbers (and of a finite sum), given as numbers or text; None where they are not."""
    try:
        a, b, c, d = map(float, values)  # type: ignore[arg-type]  # TypeError is one of the answers
    except (TypeError, ValueError, OverflowError):
        return None
    return (a, b, c, d) if math.isfinite(abs(a) + abs(b) + abs(c) + abs(d)) else None


def to_boxes(
    raw: Sequence[RawBox],
    convention: Convention,
    size: tuple[int, int],
    *,
    orientation: int = 1,
    classes: Mapping[str, str | None] | None = None,
) -> tuple[list[LabelledBox], Counter[str]]:
    """Typed boxes in the order of an answer, and counts of what was left out or changed.

    Classes stand in alphabetical order (by code point) and a class's boxes from top to bottom, then left to right.

    Args:
        raw: boxes of one image.
        convention: what the boxes' numbers mean.
        size: width and height in pixels of the image that the boxes were drawn on.
        orientation: EXIF's, where they were drawn on the image before it is turned.
        classes: other names for classes; None leaves a class out.
    """
    classes, (width, height) = classes or {}, size
    boxes: dict[tuple[str, tuple[int, int, int, int]], LabelledBox] = {}
    notes: Counter[str] = Counter()
    for label, numbers in raw:
        name = clean_label(label)
        wanted = classes.get(name, name)
        box, clipped = clipped_box(numbers, convention, width=width, height=height)
        if not name or not wanted:
            notes["boxes_of_dropped_classes" if name else "boxes_of_unknown_classes"] += 1
        elif box is None:
            notes[_flaw(corners_of(numbers, convention, width=width, height=height))] += 1
        else:
            item = LabelledBox(label=wanted, box=box.upright(orientation))
            again = (wanted, item.box.bins()) in boxes
            boxes.setdefault((wanted, item.box.bins()), item)
            notes["duplicate_boxes"] += again
            notes["renamed_boxes"] += wanted != name and not again
            notes["clipped_boxes"] += clipped and not again
    return [boxes[key] for key in sorted(boxes, key=_place_in_answer)], +notes


def _place_in_answer(key: tuple[str, tuple[int, int, int, int]]) -> tuple[str, int, int, int, int]:
    """By the numbers that are written: boxes that start in one row by these may not by a rounding of what was read."""
    label, (x1, y1, x2, y2) = key
    return label, y1, x1, y2, x2


def _flaw(corners: Numbers) -> str:
    """The note of a box that cannot be used."""
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        return "malformed_annotations"
    return "outside_boxes" if x2 <= 0 or y2 <= 0 or x1 >= 1 or y1 >= 1 else "degenerate_boxes"
