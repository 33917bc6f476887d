"""Boxes and their text format, written and parsed here alone for data, evaluation and reports.

The text format is the paper's (Vary-toy, arXiv 2401.12503, section 3): boxes grouped by class, corners x1, y1, x2, y2
divided by the image's width or height, times 1000, at least three digits:

    Person: [535, 544, 568, 591];
    Car: [009, 552, 058, 737], [682, 598, 999, 976].

An object that a phrase asks for has no class, as in the paper's figure 1: `[035, 024, 847, 901]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

BINS = 1000
_QUAD = r"\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]"
_GROUP = re.compile(rf"\s*(?:([^\[\];]+?)\s*:\s*)?({_QUAD}(?:\s*,\s*{_QUAD})*)\s*")

Numbers = tuple[float, float, float, float]
Convention = Literal["xywh_px", "xyxy_px", "xyxy_voc", "xyxy", "cxcywh", "xyxy_1000"]
_TO_CORNERS: Mapping[Convention, Callable[[Numbers, int, int], Numbers]] = {
    "xywh_px": lambda n, w, h: (n[0] / w, n[1] / h, (n[0] + n[2]) / w, (n[1] + n[3]) / h),
    "xyxy_px": lambda n, w, h: (n[0] / w, n[1] / h, n[2] / w, n[3] / h),
    "xyxy_voc": lambda n, w, h: ((n[0] - 1) / w, (n[1] - 1) / h, n[2] / w, n[3] / h),
    "xyxy": lambda n, w, h: n,
    "cxcywh": lambda n, w, h: (n[0] - n[2] / 2, n[1] - n[3] / 2, n[0] + n[2] / 2, n[1] + n[3] / 2),
    "xyxy_1000": lambda n, w, h: (n[0] / 1000, n[1] / 1000, n[2] / 1000, n[3] / 1000),
}
"""Functions from four numbers and an image's width and height in pixels to corners as shares of the image.

xywh_px: top left corner and size in pixels (COCO). xyxy_px: corners in pixels, as points between 0 and the size.
xyxy_voc: the first and the last pixel, counted from 1 (Pascal VOC). xyxy: corners as shares. cxcywh: centre and size as
shares (YOLO). xyxy_1000: corners in thousandths, as in answers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in the unit square: corners x1 < x2, y1 < y2, origin at the image's top left.

    The project has no other convention inside. Readers name the convention of their files to `clipped_box`.

    Raises:
        ValueError: the box is empty or leaves the image.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.x1 < self.x2 <= 1.0 and 0.0 <= self.y1 < self.y2 <= 1.0):
            raise ValueError(
                f"box is empty or leaves the image: {self.x1:.4f}, {self.y1:.4f}, {self.x2:.4f}, {self.y2:.4f}"
            )

    def upright(self, orientation: int) -> Box:
        """Move a box of the stored pixels to the upright image; `orientation` is EXIF's, 1 to 8."""
        x1, y1, x2, y2 = self.x1, self.y1, self.x2, self.y2
        if orientation in (5, 6, 7, 8):
            x1, y1, x2, y2 = y1, x1, y2, x2
        if orientation in (2, 3, 6, 7):
            x1, x2 = 1 - x2, 1 - x1
        if orientation in (3, 4, 7, 8):
            y1, y2 = 1 - y2, 1 - y1
        return Box(x1=x1, y1=y1, x2=x2, y2=y2)

    def bins(self) -> tuple[int, int, int, int]:
        """Return the corners in thousandths, 0 to 1000, as the text format has them."""
        return (round(self.x1 * BINS), round(self.y1 * BINS), round(self.x2 * BINS), round(self.y2 * BINS))

    def to_xyxy_px(self, *, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the corners in pixels of an image of `width` x `height` pixels."""
        return self.x1 * width, self.y1 * height, self.x2 * width, self.y2 * height


def corners_of(numbers: Numbers, convention: Convention, *, width: int, height: int) -> Numbers:
    """Convert corners to shares of an image of `width` x `height` pixels; they may lie outside or be swapped."""
    return _TO_CORNERS[convention](numbers, width, height)


def ordered(numbers: Numbers, convention: Convention) -> Numbers:
    """Return the numbers of a box with its corners in order; a negative size leads to the other side of its corner."""
    a, b, c, d = numbers
    if convention == "xywh_px":
        return min(a, a + c), min(b, b + d), abs(c), abs(d)
    if convention == "cxcywh":
        return a, b, abs(c), abs(d)
    least = -1.0 if convention == "xyxy_voc" else 0.0  # first and last pixel of a box of less than a pixel
    (a, c), (b, d) = ((low, high) if high - low >= least else (high, low) for low, high in ((a, c), (b, d)))
    return a, b, c, d


def numbers_around(points: Iterable[tuple[float, float]], convention: Convention) -> Numbers:
    """Return the box around points as numbers of `convention`. Points are in pixels, or shares as the convention is."""
    xs, ys = zip(*points, strict=True)
    x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
    if convention == "xywh_px":
        return x1, y1, x2 - x1, y2 - y1
    if convention == "cxcywh":
        return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    return (x1 + 1, y1 + 1, x2, y2) if convention == "xyxy_voc" else (x1, y1, x2, y2)


def around_turned(numbers: Numbers, convention: Convention, degrees: float) -> Numbers:
    """Return the box around a box in pixels that is turned about its centre."""
    x1, y1, x2, y2 = corners_of(ordered(numbers, convention), convention, width=1, height=1)
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width, half_height = ((x2 - x1) * cos + (y2 - y1) * sin) / 2, ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return numbers_around(((x - half_width, y - half_height), (x + half_width, y + half_height)), convention)


def clipped_box(numbers: Numbers, convention: Convention, *, width: int, height: int) -> tuple[Box | None, bool]:
    """Clip a box to an image of `width` x `height` pixels. Swapped corners are put in order first.

    Returns:
        The box, or None if less than a bin in width or height is left. Then whether the box was larger than the image
        by more than half a bin.
    """
    corners = corners_of(ordered(numbers, convention), convention, width=width, height=height)
    x1, y1, x2, y2 = inside = tuple(min(max(side, 0.0), 1.0) for side in corners)
    if round(x1 * BINS) >= round(x2 * BINS) or round(y1 * BINS) >= round(y2 * BINS):
        return None, False
    clipped = any(abs(a - b) * BINS > 0.5 for a, b in zip(corners, inside, strict=True))  # less would not be seen
    return Box(x1=x1, y1=y1, x2=x2, y2=y2), clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """A box and its class: `clean_label` of the data set's name, or "" for a box without a class."""

    label: str
    box: Box


def clean_label(name: str) -> str:
    """Replace the characters of the text format ( : ; , [ ] ) and line breaks in a class name by spaces."""
    return " ".join(re.sub(r"[:;,\[\]]", " ", name).split())


def format_box(box: Box) -> str:
    """Write a box as text without a class, which `parse_boxes` reads."""
    return "[" + ", ".join(f"{side:03d}" for side in box.bins()) + "]"


def format_boxes(boxes: Iterable[LabelledBox]) -> str:
    """Write boxes as answer text: classes in order of first appearance, boxes of a class in the order of `boxes`.

    Raises:
        ValueError: no boxes, or a label that `clean_label` would change.
    """
    groups: dict[str, list[str]] = {}
    for item in boxes:
        if not item.label or clean_label(item.label) != item.label:
            raise ValueError(f"label {item.label!r} cannot stand in box text; use clean_label")
        groups.setdefault(item.label, []).append(format_box(item.box))
    if not groups:
        raise ValueError("no boxes to write")
    return ";\n".join(f"{label}: {', '.join(quads)}" for label, quads in groups.items()) + "."


def parse_boxes(text: str) -> tuple[list[LabelledBox], list[str]]:
    """Parse the boxes in answer text, from data or from a model.

    Returns:
        The boxes, and the pieces of text that are no boxes: prose, and boxes whose corners are equal, swapped or
        beyond 1000. Text that `format_boxes` wrote has no such pieces. Nothing is repaired.
    """
    boxes: list[LabelledBox] = []
    refused: list[str] = []
    for piece in text.strip().removesuffix(".").split(";"):
        group = _GROUP.fullmatch(piece)
        if group is None:
            if piece.strip():
                refused.append(piece.strip())
            continue
        for quad in re.finditer(_QUAD, group[2]):
            x1, y1, x2, y2 = (int(bin_) / BINS for bin_ in quad.groups())
            try:
                boxes.append(LabelledBox(label=group[1] or "", box=Box(x1=x1, y1=y1, x2=x2, y2=y2)))
            except ValueError:
                refused.append(quad[0])
    return boxes, refused


def boxes_within(text: str) -> list[Box]:
    """List the boxes in a sentence, such as "Describe the object at [035, 024, 847, 901]."."""
    boxes, _ = parse_boxes(";".join(quad[0] for quad in re.finditer(_QUAD, text)))
    return [item.box for item in boxes]
