"""Loss curves as SVG inside an HTML page. Equal input gives equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datagen.card.pictures import COLOURS

ALL_TASKS = "all tasks"
"""The name of the curve over all tasks."""

_MOST_POINTS = 400  # per curve; a page is 700 px wide
_STYLE: dict[Any, Any] = {  # Any: matplotlib's type lists all keys
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "varyforge",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Curve = Sequence[tuple[int, float]]
"""Pairs (step, loss) in order of step."""


def loss_curves(curves: Mapping[str, Curve]) -> Markup:
    """Draw loss against step as an SVG element, with a line per name and a thick one for `ALL_TASKS`."""
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
                marker="o" if len(points) == 1 else "",  # a line of one point is invisible
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
    """Reduce a curve to at most `_MOST_POINTS` points, the means over equally many neighbours."""
    size = points_per_mean(len(curve))
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(sum(s for s, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def points_per_mean(points: int) -> int:
    """Return the number of points that are drawn as one, for a curve of `points`."""
    return max(1, -(-points // _MOST_POINTS))
