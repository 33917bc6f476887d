"""Whether a drawn chart can be read: no text cut off, none on other text, no number on another bar."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

Point = tuple[float, float]
Rect = tuple[float, float, float, float]  # x1, y1, x2, y2

_GAP_PX = 1.5  # what is nearer to each other counts as overlapping


@dataclass(frozen=True, slots=True)
class Slab:
    """A rectangle that may be turned: where a text stands, in pixels."""

    centre: Point
    width: float
    height: float
    turn: float = 0.0  # degrees

    @property
    def corners(self) -> list[Point]:
        """Its four corners, in order."""
        (x, y), (c, s) = self.centre, _direction(self.turn)
        w, h = self.width / 2, self.height / 2
        return [(x + c * a - s * b, y + s * a + c * b) for a, b in ((-w, -h), (w, -h), (w, h), (-w, h))]

    @property
    def bounds(self) -> Rect:
        """The upright rectangle around it."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def meets(self, other: Slab) -> bool:
        """Whether the two overlap, or nearly so: no line along a side of either parts them."""
        for turn in (self.turn, self.turn + 90, other.turn, other.turn + 90):
            c, s = _direction(turn)
            mine = [c * x + s * y for x, y in self.corners]
            theirs = [c * x + s * y for x, y in other.corners]
            if min(mine) >= max(theirs) + _GAP_PX or min(theirs) >= max(mine) + _GAP_PX:
                return False
        return True

    def is_crossed_by(self, start: Point, end: Point) -> bool:
        """Whether a line from `start` to `end` passes through."""
        length = math.dist(start, end)
        turn = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        return self.meets(Slab(middle, length, 0.0, turn))


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A number that is printed beside or on its mark."""

    slab: Slab
    bar: int | None = None  # which of the bars it belongs to
    line: int | None = None  # which of the lines
    inside: bool = False  # stands on its bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything of a drawn chart is, in pixels from the bottom left."""

    size: tuple[int, int]
    texts: Sequence[Slab]  # all of them, the labels too
    labels: Sequence[Label]
    legends: Sequence[Rect]  # that lie on axes
    bars: Sequence[Rect]
    lines: Sequence[Sequence[Point]]
    finest_px: float  # the smallest difference of two values that has to be read from an axis; inf where none has


def faults(layout: Layout, finest_px: float) -> Counter[str]:
    """How often what is wrong with a layout. `finest_px` is the least that a difference of values may be."""
    found = Counter(
        clipped=sum(not _is_within(text.bounds, (0, 0, *layout.size)) for text in layout.texts),
        overlapping=_meetings(layout.texts),
        label_on_bar=sum(_lies_on_bars(label, layout.bars) for label in layout.labels),
        label_on_line=sum(_lies_on_lines(label, layout.lines) for label in layout.labels),
        legend_on_data=sum(_hides(legend, layout) for legend in layout.legends),
        too_fine=int(layout.finest_px < finest_px),
    )
    return +found


def _direction(degrees: float) -> Point:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _is_within(inner: Rect, outer: Rect) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _meetings(slabs: Sequence[Slab]) -> int:
    """Pairs that overlap."""
    bounds = [slab.bounds for slab in slabs]
    near = ((a, b) for a, b in combinations(range(len(slabs)), 2) if _meet(_grown(bounds[a]), bounds[b]))
    return sum(slabs[a].meets(slabs[b]) for a, b in near)


def _meet(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _lies_on_bars(label: Label, bars: Sequence[Rect]) -> bool:
    """Whether a number leaves the bar it stands on, or lies on another's."""
    box = label.slab.bounds
    if label.inside and label.bar is not None:
        return not _is_within(box, bars[label.bar])
    return any(_meet(box, bar) for number, bar in enumerate(bars) if number != label.bar)


def _lies_on_lines(label: Label, lines: Sequence[Sequence[Point]]) -> bool:
    """Whether another line runs through a number; its own one may touch it."""
    return any(
        label.slab.is_crossed_by(start, end)
        for number, line in enumerate(lines)
        if number != label.line
        for start, end in pairwise(line)
    )


def _hides(legend: Rect, layout: Layout) -> bool:
    """Whether a legend lies on marks or on printed numbers."""
    x1, y1, x2, y2 = legend
    slab = Slab(((x1 + x2) / 2, (y1 + y2) / 2), x2 - x1, y2 - y1)
    numbers: Iterable[Slab] = (label.slab for label in layout.labels)
    return (
        any(_meet(legend, bar) for bar in layout.bars)
        or any(slab.meets(number) for number in numbers)
        or any(slab.is_crossed_by(a, b) for line in layout.lines for a, b in pairwise(line))
    )


def _grown(rect: Rect) -> Rect:
    return rect[0] - _GAP_PX, rect[1] - _GAP_PX, rect[2] + _GAP_PX, rect[3] + _GAP_PX
