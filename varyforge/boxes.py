"""Boxes and their text form: one pair of functions that data, evaluation and reports share.

The text form is the paper's (Vary-toy, arXiv 2401.12503, section 3): boxes grouped by class, corners x1, y1, x2, y2
divided by the image's width or height, times 1000, at least three digits:

    Person: [535, 544, 568, 591];
    Car: [009, 552, 058, 737], [682, 598, 999, 976].

The one object that a phrase asks for stands without a class, as in the paper's figure 1: `[035, 024, 847, 901]`.
"""

from __future__ import annotations

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
"""From four numbers and an image's width and height in pixels to corners as shares of the image.

xywh_px: top left corner and size in pixels (COCO). xyxy_px: corners in pixels, as points between 0 and the size.
xyxy_voc: the first and the last pixel, counted from 1 (Pascal VOC). xyxy: corners as shares. cxcywh: centre and size as
shares (YOLO). xyxy_1000: corners in thousandths, as in answers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in the unit square: corners x1 < x2, y1 < y2, origin at the image's top left.

    This is the only convention inside the project; readers name theirs to `clipped_box`.

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

    @classmethod
    def from_xyxy_px(cls, x1: float, y1: float, x2: float, y2: float, *, width: int, height: int) -> Box:
        """From corners in pixels (Pascal VOC, Objects365) of an image of `width` x `height` pixels."""
        return cls(x1=x1 / width, y1=y1 / height, x2=x2 / width, y2=y2 / height)

    @classmethod
    def from_xywh_px(cls, x: float, y: float, w: float, h: float, *, width: int, height: int) -> Box:
        """From the top left corner and the size in pixels (COCO)."""
        return cls.from_xyxy_px(x, y, x + w, y + h, width=width, height=height)

    def upright(self, orientation: int) -> Box:
        """Where a box of the stored pixels lies in the image as seen; `orientation` is EXIF's, 1 to 8."""
        x1, y1, x2, y2 = self.x1, self.y1, self.x2, self.y2
        if orientation in (5, 6, 7, 8):
            x1, y1, x2, y2 = y1, x1, y2, x2
        if orientation in (2, 3, 6, 7):
            x1, x2 = 1 - x2, 1 - x1
        if orientation in (3, 4, 7, 8):
            y1, y2 = 1 - y2, 1 - y1
        return Box(x1=x1, y1=y1, x2=x2, y2=y2)

    def bins(self) -> tuple[int, int, int, int]:
        """Corners as the text form writes them, 0 to 1000."""
        return (round(self.x1 * BINS), round(self.y1 * BINS), round(self.x2 * BINS), round(self.y2 * BINS))

    def to_xyxy_px(self, *, width: int, height: int) -> tuple[float, float, float, float]:
        """Corners in pixels of an image of `width` x `height` pixels."""
        return self.x1 * width, self.y1 * height, self.x2 * width, self.y2 * height


def corners_of(numbers: Numbers, convention: Convention, *, width: int, height: int) -> Numbers:
    """Corners as shares of an image of `width` x `height` pixels, in whatever place and order they are."""
    return _TO_CORNERS[convention](numbers, width, height)


def clipped_box(numbers: Numbers, convention: Convention, *, width: int, height: int) -> tuple[Box | None, bool]:
    """The part of a box that lies in an image of `width` x `height` pixels, and whether that is not all of it.

    None where that part is less than a bin wide or high: nothing, or corners the wrong way round.
    """
    corners = corners_of(numbers, convention, width=width, height=height)
    x1, y1, x2, y2 = inside = tuple(min(max(side, 0.0), 1.0) for side in corners)
    if round(x1 * BINS) >= round(x2 * BINS) or round(y1 * BINS) >= round(y2 * BINS):
        return None, False
    clipped = any(abs(a - b) * BINS > 0.5 for a, b in zip(corners, inside, strict=True))  # less would not be seen
    return Box(x1=x1, y1=y1, x2=x2, y2=y2), clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """A box and the class it belongs to (`clean_label` of the data set's name; "" for a box that stands alone)."""

    label: str
    box: Box


def clean_label(name: str) -> str:
    """A class name with the characters that the text form uses ( : ; , [ ] ) and line breaks turned into spaces."""
    return " ".join(re.sub(r"[:;,\[\]]", " ", name).split())


def format_box(box: Box) -> str:
    """One box as text, without a class; `parse_boxes` reads it."""
    return "[" + ", ".join(f"{side:03d}" for side in box.bins()) + "]"


def format_boxes(boxes: Iterable[LabelledBox]) -> str:
    """Boxes as answer text. Classes in order of first appearance, boxes in the order given.

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
    """Boxes in answer text, from data or from a model.

    Returns:
        The boxes, and the pieces of text that are not boxes (empty for text that `format_boxes` wrote): a box whose
        corners are equal or swapped or beyond 1000, or prose. Nothing is guessed or repaired.
    """
    found: list[LabelledBox] = []
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
                found.append(LabelledBox(label=group[1] or "", box=Box(x1=x1, y1=y1, x2=x2, y2=y2)))
            except ValueError:
                refused.append(quad[0])
    return found, refused


def boxes_within(text: str) -> list[Box]:
    """The boxes that stand in a sentence, such as the question "Describe the object at [035, 024, 847, 901]."."""
    found, _ = parse_boxes(";".join(quad[0] for quad in re.finditer(_QUAD, text)))
    return [item.box for item in found]
