"""The pictures that hide text beneath them, read from the trace of a page's drawing operations.

A picture hides what lies under its parallelogram, inside the clipping paths around it. Text shows through a soft mask,
a blend mode and transparency, and a picture that defines a soft mask is not painted at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

Matrix = tuple[float, float, float, float, float, float]
"""x' = a x + c y + e, y' = b x + d y + f."""
Polygon = tuple[tuple[float, float], ...]

_NEAR = 0.01  # points; the trace rounds its numbers
_OPERATION = re.compile(
    r"<(?P<path>clip_path)\b(?P<how>[^>]*)>(?P<points>.*?)</clip_path>"
    r"|<(?P<end>/?)(?P<name>group|clip_mask|tile|fill_image|clip_(?:stroke_path|stroke_text|text|image_mask)|pop_clip)\b"
    r"(?P<what>[^>]*)>",
    re.DOTALL,
)
_POINT = re.compile(r'<(?:moveto|lineto) x="(\S+)" y="(\S+)"|x3="(\S+)" y3="(\S+)"')
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


class Cover(NamedTuple):
    """An opaque picture: the matrix of its unit square, and the clipping paths around it, in points of the page."""

    matrix: Matrix
    clips: tuple[Polygon, ...]

    def hides(self, x: float, y: float) -> bool:
        """Whether the picture is painted at a point."""
        a, b, c, d, e, f = self.matrix
        area = a * d - b * c
        if area == 0:
            return False
        across, down = (d * (x - e) - c * (y - f)) / area, (a * (y - f) - b * (x - e)) / area
        return 0 <= across <= 1 and 0 <= down <= 1 and all(_inside(x, y, clip) for clip in self.clips)

    def is_of(self, matrix: Sequence[float]) -> bool:
        """Whether `matrix` places this picture."""
        return all(abs(a - b) <= _NEAR for a, b in zip(self.matrix, matrix, strict=True))


def covers_of(trace: str) -> list[Cover]:
    """Return the opaque pictures of MuPDF's trace of a page, in the order in which they are painted."""
    covers: list[Cover] = []
    around: list[Polygon | bool] = []  # clipping paths; True where text shows through, False for a plain group
    for match in _OPERATION.finditer(trace):
        name = match["path"] or match["name"]
        if name == "clip_path":
            around.append(_polygon(match["points"], _matrix(match["how"])))
        elif name == "fill_image":
            if 'alpha="1"' in match["what"] and True not in around:
                covers.append(Cover(_matrix(match["what"]), tuple(clip for clip in around if isinstance(clip, tuple))))
        elif match["end"] or name == "pop_clip":
            del around[-1:]
            if name not in ("group", "tile", "pop_clip"):  # what the mask or text clips follows its definition
                around.append(True)
        elif name == "group":
            around.append('blendmode="Normal"' not in match["what"] or 'alpha="1"' not in match["what"])
        elif not match["what"].endswith("/") or name == "clip_image_mask":
            around.append(True)
    return covers


def _matrix(attributes: str) -> Matrix:
    a, b, c, d, e, f = map(float, dict(_ATTRIBUTE.findall(attributes))["transform"].split())
    return a, b, c, d, e, f


def _polygon(points: str, matrix: Matrix) -> Polygon:
    """Return the corners of a path; its curves become straight."""
    a, b, c, d, e, f = matrix
    pairs = [(float(x or x3), float(y or y3)) for x, y, x3, y3 in _POINT.findall(points)]
    return tuple((a * x + c * y + e, b * x + d * y + f) for x, y in pairs)


def _inside(x: float, y: float, polygon: Polygon) -> bool:
    """Whether a line from the point to the right crosses the polygon an odd number of times."""
    odd = False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd
