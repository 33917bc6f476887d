"""Checks that a drawn chart can be read: no clipped or overlapping text, no number on another mark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

Point = tuple[float, float]
Rect = tuple[float, float, float, float]  # x1, y1, x2, y2

_GAP_PX = 1.5  # boxes closer than this count as overlapping


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A rectangle in pixels, turned about its centre, such as the box of a text."""

    centre: Point
    width: float
    height: float
    turn: float = 0.0  # degrees

    @property
    def corners(self) -> list[Point]:
        """The four corners (x, y), in order around the box."""
        (x, y), (c, s) = self.centre, _direction(self.turn)
        w, h = self.width / 2, self.height / 2
        return [(x + c * a - s * b, y + s * a + c * b) for a, b in ((-w, -h), (w, -h), (w, h), (-w, h))]

    @property
    def bounds(self) -> Rect:
        """The upright rectangle around the box."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def overlaps(self, other: OrientedBox) -> bool:
        """Return whether the boxes overlap or nearly touch (separating axis test)."""
        for turn in (self.turn, self.turn + 90, other.turn, other.turn + 90):
            c, s = _direction(turn)
            mine = [c * x + s * y for x, y in self.corners]
            theirs = [c * x + s * y for x, y in other.corners]
            if min(mine) >= max(theirs) + _GAP_PX or min(theirs) >= max(mine) + _GAP_PX:
                return False
        return True

    def is_crossed_by(self, start: Point, end: Point) -> bool:
        """Return whether the segment from `start` to `end` passes through the box."""
        length = math.dist(start, end)
        turn = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        return self.overlaps(OrientedBox(middle, length, 0.0, turn))


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A number printed beside or on its mark."""

    box: OrientedBox
    bar: int | None = None  # index of the number's bar
    line: int | None = None  # index of the number's line
    inside: bool = False  # printed on its bar


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartLayout:
    """The positions of a drawn chart's parts, in pixels from the bottom left."""

    size: tuple[int, int]
    texts: Sequence[OrientedBox]  # labels included
    labels: Sequence[Label]
    legends: Sequence[Rect]  # legends inside axes
    bars: Sequence[Rect]
    lines: Sequence[Sequence[Point]]
    finest_px: float  # length of the smallest value difference on an axis; inf: all values are printed


def layout_faults(layout: ChartLayout, finest_px: float) -> Counter[str]:
    """Count the layout's faults by kind.

    The kinds are clipped text, overlapping text, a label on a bar or line, a legend on data, and an axis on which the
    smallest value difference is shorter than `finest_px`.
    """
    return +Counter(
        clipped=sum(not _is_within(text.bounds, (0, 0, *layout.size)) for text in layout.texts),
        overlapping=_count_overlaps(layout.texts),
        label_on_bar=sum(_lies_on_bars(label, layout.bars) for label in layout.labels),
        label_on_line=sum(_lies_on_lines(label, layout.lines) for label in layout.labels),
        legend_on_data=sum(_hides(legend, layout) for legend in layout.legends),
        too_fine=int(layout.finest_px < finest_px),
    )


def _direction(degrees: float) -> Point:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _is_within(inner: Rect, outer: Rect) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _count_overlaps(boxes: Sequence[OrientedBox]) -> int:
    bounds = [box.bounds for box in boxes]
    near = ((a, b) for a, b in combinations(range(len(boxes)), 2) if _intersect(bounds[a], bounds[b], _GAP_PX))
    return sum(boxes[a].overlaps(boxes[b]) for a, b in near)


def _intersect(a: Rect, b: Rect, gap: float = 0.0) -> bool:
    return a[0] - gap < b[2] and b[0] < a[2] + gap and a[1] - gap < b[3] and b[1] < a[3] + gap


def _lies_on_bars(label: Label, bars: Sequence[Rect]) -> bool:
    """Return whether a number leaves its own bar or lies on another bar."""
    box = label.box.bounds
    if label.inside and label.bar is not None:
        return not _is_within(box, bars[label.bar])
    return any(_intersect(box, bar) for number, bar in enumerate(bars) if number != label.bar)


def _lies_on_lines(label: Label, lines: Sequence[Sequence[Point]]) -> bool:
    """Return whether any line except the number's own runs through the number."""
    return any(
        label.box.is_crossed_by(start, end)
        for number, line in enumerate(lines)
        if number != label.line
        for start, end in pairwise(line)
    )


def _hides(legend: Rect, layout: ChartLayout) -> bool:
    """Return whether a legend covers marks or printed numbers."""
    x1, y1, x2, y2 = legend
    box = OrientedBox(((x1 + x2) / 2, (y1 + y2) / 2), x2 - x1, y2 - y1)
    return (
        any(_intersect(legend, bar) for bar in layout.bars)
        or any(box.overlaps(label.box) for label in layout.labels)
        or any(box.is_crossed_by(a, b) for line in layout.lines for a, b in pairwise(line))
    )
