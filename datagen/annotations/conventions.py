"""What the four numbers of a box mean, form by form, and from there to a `Box`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from datagen.boxes import BINS, Box, LabelledBox, clean_label

Numbers = tuple[float, float, float, float]
Convention = Literal["xywh_px", "xyxy_px", "xyxy_voc", "xyxy", "cxcywh"]

CONVENTIONS: Mapping[str, Callable[[Numbers, float, float], Numbers]] = {
    "xywh_px": lambda n, w, h: (n[0] / w, n[1] / h, (n[0] + n[2]) / w, (n[1] + n[3]) / h),
    "xyxy_px": lambda n, w, h: (n[0] / w, n[1] / h, n[2] / w, n[3] / h),
    "xyxy_voc": lambda n, w, h: ((n[0] - 1) / w, (n[1] - 1) / h, n[2] / w, n[3] / h),
    "xyxy": lambda n, w, h: n,
    "cxcywh": lambda n, w, h: (n[0] - n[2] / 2, n[1] - n[3] / 2, n[0] + n[2] / 2, n[1] + n[3] / 2),
}
"""From four numbers, and the image's width and height in pixels, to corners as shares of the image.

xywh_px: top left corner and size in pixels (COCO). xyxy_px: corners in pixels, as points between 0 and the size.
xyxy_voc: numbers of the first and last pixel, from 1 (Pascal VOC). xyxy: corners as shares (OpenImages). cxcywh: centre
and size as shares (YOLO).
"""


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
    convention: str,
    size: tuple[int, int],
    *,
    orientation: int = 1,
    classes: Mapping[str, str | None] | None = None,
) -> tuple[list[LabelledBox], Counter[str]]:
    """Typed boxes in the order of an answer, and counts of what was left out or changed.

    Classes stand in alphabetical order (by code point) and a class's boxes from top to bottom, then left to right.

    Args:
        raw: boxes of one image.
        convention: one of `CONVENTIONS`.
        size: width and height in pixels of the image that the boxes were drawn on.
        orientation: EXIF's, where they were drawn on the image before it is turned.
        classes: other names for classes; None leaves a class out.
    """
    boxes: dict[tuple[str, tuple[int, int, int, int]], LabelledBox] = {}
    notes: Counter[str] = Counter()
    for label, numbers in raw:
        name = clean_label(label)
        if classes and name in classes:
            renamed = classes[name]
            if not renamed:
                notes["boxes_of_dropped_classes"] += 1
                continue
            notes["renamed_boxes"] += renamed != name
            name = renamed
        if not name:
            notes["boxes_of_unknown_classes"] += 1
            continue
        found = _fit(CONVENTIONS[convention](numbers, *size))
        if isinstance(found, str):
            notes[found] += 1
            continue
        box, clipped = found
        item = LabelledBox(label=name, box=box.upright(orientation))
        if (name, item.box.bins()) in boxes:
            notes["duplicate_boxes"] += 1
            continue
        notes["clipped_boxes"] += clipped
        boxes[name, item.box.bins()] = item
    ordered = sorted(boxes.values(), key=lambda item: (item.label, item.box.y1, item.box.x1, item.box.y2, item.box.x2))
    return ordered, +notes


def _fit(corners: Numbers) -> tuple[Box, bool] | str:
    """The part of a box that is in the image, and whether any was cut off; or what there is against it."""
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        return "malformed_annotations"
    inside = (min(max(x1, 0.0), 1.0), min(max(y1, 0.0), 1.0), min(max(x2, 0.0), 1.0), min(max(y2, 0.0), 1.0))
    if x2 <= 0 or y2 <= 0 or x1 >= 1 or y1 >= 1:
        return "outside_boxes"
    left, top, right, bottom = (round(side * BINS) for side in inside)
    if left >= right or top >= bottom:
        return "degenerate_boxes"
    clipped = any(abs(a - b) * BINS > 0.5 for a, b in zip(corners, inside, strict=True))  # less would not be seen
    return Box(x1=inside[0], y1=inside[1], x2=inside[2], y2=inside[3]), clipped
