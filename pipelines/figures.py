"""Pictures that stand inside a page of HTML: thumbnails with boxes, loss curves. Equal input gives equal bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datagen.boxes import Box

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#e07b00", "#17becf", "#8c564b", "#e377c2")
"""Told apart on photographs and on white; used in this order."""

ALL_TASKS = "all tasks"
"""Name of the curve over all tasks."""

THUMBNAIL_PX = 420  # longer side
_MOST_POINTS = 400  # of a curve; a page is 700 px wide
_LABEL_CHARS = 24
_STYLE: dict[Any, Any] = {  # keys: literals of matplotlib
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "varyforge",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Curve = Sequence[tuple[int, float]]
"""(step, loss), steps ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A box to draw."""

    box: Box
    colour: str  # "#rrggbb"
    width_px: int = 2
    label: str = ""  # drawn where it is ASCII, which is what the built-in font has


def thumbnail(data: bytes, outlines: Sequence[Outline] = ()) -> str:
    """An encoded RGB image as a `data:` URL: a JPEG of at most `THUMBNAIL_PX` pixels, with boxes."""
    encoded = PIL.Image.open(io.BytesIO(data))
    encoded.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))  # first of all: a JPEG is then decoded at a fraction of its size
    picture = encoded.convert("RGB")
    draw = PIL.ImageDraw.Draw(picture)
    for outline in outlines:
        x1, y1, x2, y2 = map(round, outline.box.to_xyxy_px(width=picture.width, height=picture.height))
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=outline.colour, width=outline.width_px)
        if outline.label.isascii():
            _write_label(draw, x1, y1, outline.label[:_LABEL_CHARS], outline.colour)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80, subsampling=0)  # thin coloured lines smear when colour is subsampled
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _write_label(draw: PIL.ImageDraw.ImageDraw, x: int, y: int, text: str, colour: str) -> None:
    """`text` in white on `colour` at a box's top left corner, inside the box."""
    if text:
        font = PIL.ImageFont.load_default(11)
        draw.rectangle(draw.textbbox((x + 3, y + 2), text, font=font), fill=colour, outline=colour, width=2)
        draw.text((x + 3, y + 2), text, fill="white", font=font)


def loss_curves(curves: Mapping[str, Curve]) -> Markup:
    """Loss against step as an SVG element, a line per name; that of `ALL_TASKS` stands out."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        colours = cycle(COLOURS)
        for name, curve in curves.items():
            points = thin(curve)
            whole = name == ALL_TASKS
            axes.plot(
                [step for step, _ in points],
                [loss for _, loss in points],
                label=name,
                color="#222222" if whole else next(colours),
                linewidth=1.8 if whole else 1.1,
                zorder=3 if whole else 2,
                marker="o" if len(points) == 1 else "",  # without, one point would not be seen
                markersize=2.5,
            )
        axes.set(xlabel="step", ylabel="loss (nats per supervised token)", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.legend(frameon=False, ncols=2)
        out = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    return Markup(svg[svg.index("<svg") :])  # matplotlib escapes the names of tasks


def thin(curve: Curve) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS` points: the means of equally many neighbours each."""
    size = points_per_mean(len(curve))
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(sum(s for s, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def points_per_mean(points: int) -> int:
    """How many points of a curve of `points` are drawn as one."""
    return max(1, -(-points // _MOST_POINTS))
