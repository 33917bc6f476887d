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
    classes, to_corners = classes or {}, CONVENTIONS[convention]
    boxes: dict[tuple[str, tuple[int, int, int, int]], LabelledBox] = {}
    notes: Counter[str] = Counter()
    for label, numbers in raw:
        name = clean_label(label)
        wanted = classes.get(name, name)
        corners = to_corners(numbers, *size)
        box = _inside(corners)
        if not name or not wanted:
            notes["boxes_of_dropped_classes" if name else "boxes_of_unknown_classes"] += 1
        elif isinstance(box, str):
            notes[box] += 1
        else:
            item = LabelledBox(label=wanted, box=box.upright(orientation))
            again = (wanted, item.box.bins()) in boxes
            boxes.setdefault((wanted, item.box.bins()), item)
            notes["duplicate_boxes"] += again
            notes["renamed_boxes"] += wanted != name and not again
            notes["clipped_boxes"] += _reaches_out(corners) and not again
    ordered = sorted(boxes.values(), key=lambda item: (item.label, item.box.y1, item.box.x1, item.box.y2, item.box.x2))
    return ordered, +notes


def _inside(corners: Numbers) -> Box | str:
    """The part of a box that is in the image, or the note of what there is against it."""
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        return "malformed_annotations"
    if x2 <= 0 or y2 <= 0 or x1 >= 1 or y1 >= 1:
        return "outside_boxes"
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
    if round(x1 * BINS) >= round(x2 * BINS) or round(y1 * BINS) >= round(y2 * BINS):
        return "degenerate_boxes"
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def _reaches_out(corners: Numbers) -> bool:
    """Whether a box leaves the image by more than rounding to bins would hide."""
    return min(corners) * BINS < -0.5 or (max(corners) - 1) * BINS > 0.5
