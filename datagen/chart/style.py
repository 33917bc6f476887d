"""The random style of a chart: sizes, colours and positions."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

from datagen.chart.data import Chart

LegendPosition = Literal["right", "below", "above", "inside"]

TRIES = 5  # most drawings of one chart, each with a tighter style than the one before

_PALETTES = (
    ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    ("#5470c6", "#91cc75", "#fac858", "#ee6666", "#73c0de", "#3ba272", "#fc8452", "#9a60b4", "#ea7ccc", "#5d7092"),
    ("#c23531", "#2f4554", "#61a0a8", "#d48265", "#91c7ae", "#749f83", "#ca8622", "#bda29a", "#6e7074", "#546570"),
    ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd"),
    ("#4472c4", "#ed7d31", "#a5a5a5", "#ffc000", "#5b9bd5", "#70ad47", "#264478", "#9e480e", "#636363", "#997300"),
    ("#7b0000", "#c00000", "#d99694", "#e6b9b8", "#953735", "#632523", "#f2dcdb", "#a6a6a6", "#ff5050", "#7f7f7f"),
    ("#003f5c", "#58508d", "#bc5090", "#ff6361", "#ffa600", "#2f4b7c", "#665191", "#a05195", "#d45087", "#f95d6a"),
    ("#66c2a5", "#fc8d62", "#8da0cb", "#e78ac3", "#a6d854", "#ffd92f", "#e5c494", "#b3b3b3", "#80b1d3", "#fb8072"),
    ("#0b3954", "#087e8b", "#bfd7ea", "#ff5a5f", "#c81d25", "#3d5a80", "#98c1d9", "#ee6c4d", "#293241", "#6d597a"),
    ("#222222", "#555555", "#888888", "#bbbbbb"),
)
_FACES = (  # (figure, axes, ink)
    ("#ffffff", "#ffffff", "#000000"),
    ("#ffffff", "#ffffff", "#262626"),
    ("#ffffff", "#ffffff", "#404040"),
    ("#ffffff", "#eaeaf2", "#262626"),
    ("#ffffff", "#ebebeb", "#4d4d4d"),
    ("#faf7f0", "#faf7f0", "#3b2f2f"),
    ("#d5e4eb", "#d5e4eb", "#0f2b3a"),
    ("#fff1e5", "#fff1e5", "#33302e"),
    ("#1e1e2e", "#1e1e2e", "#e6e6e6"),
    ("#100c2a", "#100c2a", "#d8d8e6"),
)
_LEAST_DIFFERENCE = 70.0  # least distance of two colours (see `_difference`)
_HATCHES = ("", "//", "\\\\", "xx", "..", "--")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartStyle:
    """A chart's appearance. Sizes are in pixels of the picture."""

    width_px: int
    height_px: int
    dpi: int
    font_px: float
    font: int  # number that selects the font
    title_scale: float
    title_bold: bool
    title_left: bool
    true_minus: bool  # − instead of a hyphen
    palette: tuple[str, ...]
    face: str
    axes_face: str
    ink: str
    grid: str  # line style; "": no grid
    frame: Literal["box", "corner", "base"]
    legend: LegendPosition
    legend_frame: bool
    bar_share: float  # share of a category's width that bars fill
    edges: bool  # bars and slices are outlined
    hatches: tuple[str, ...]
    markers: tuple[str, ...]  # empty: lines without markers
    dashes: tuple[str, ...]
    line_px: float
    turn: int  # degrees by which category labels turn where they do not fit
    bare: bool  # axis without numbers where values are printed
    minor: bool  # minor ticks
    label_turn: int = 0  # degrees by which numbers above bars turn
    slices: Literal["outside", "inside", "legend"]  # position of a pie's names and numbers
    hole: float  # of a donut, as a share of the radius

    def tighter(self, attempt: int) -> ChartStyle:
        """Return the style of a further attempt after text did not fit: smaller, steeper, legend outside the axes."""
        if attempt == 0:
            return self
        return replace(
            self,
            font_px=self.font_px * (1 - 0.06 * attempt),
            turn=self.turn if attempt < 3 else 90,
            label_turn=90 if attempt >= 2 else 0,
            legend="below" if self.legend == "inside" or attempt >= 3 else self.legend,
        )


def choose_style(rng: random.Random, chart: Chart, long_side_px: int) -> ChartStyle:
    """Return a style that suits the chart, a function of the state of `rng`."""
    width, height = _size(rng, chart, long_side_px)
    face, axes_face, ink = rng.choice(_FACES if rng.random() < 0.6 else _FACES[:3])
    hatched = rng.random() < 0.12
    coloured = [panel.categories if panel.kind in ("pie", "donut") else panel.series for panel in chart.panels]
    return ChartStyle(
        width_px=width,
        height_px=height,
        dpi=rng.choice((72, 96, 100, 120, 150)),
        font_px=rng.uniform(0.0155, 0.022) * max(width, height),
        font=rng.randrange(12),
        title_scale=rng.uniform(1.1, 1.45),
        title_bold=rng.random() < 0.4,
        title_left=rng.random() < 0.2,
        true_minus=rng.random() < 0.5,
        palette=_colours(rng, axes_face, max(map(len, coloured))),
        face=face,
        axes_face=axes_face,
        ink=ink,
        grid=rng.choice(("", "", "-", "--", ":")),
        frame=rng.choice(("box", "corner", "corner", "base")),
        legend=rng.choice(("right", "below", "above", "right" if chart.kind in ("pie", "donut") else "inside")),
        legend_frame=rng.random() < 0.4,
        bar_share=rng.uniform(0.5, 0.85),
        edges=rng.random() < 0.3,
        hatches=tuple(rng.sample(_HATCHES, len(_HATCHES))) if hatched else ("",),
        markers=tuple(rng.sample(_MARKERS, len(_MARKERS))) if rng.random() < 0.65 else (),
        dashes=_DASHES if rng.random() < 0.2 else ("-",),
        line_px=rng.uniform(0.0015, 0.0035) * max(width, height),
        turn=rng.choice((30, 45, 45, 60, 90)),
        bare=rng.random() < 0.25,
        minor=rng.random() < 0.35,
        slices=rng.choice(("outside", "outside", "inside", "legend" if len(chart.panels) == 1 else "inside")),
        hole=rng.uniform(0.4, 0.68),
    )


def _size(rng: random.Random, chart: Chart, long_side_px: int) -> tuple[int, int]:
    """Return width and height. Panels stand side by side in a wide picture and below each other in a tall one."""
    long = rng.randint(long_side_px * 3 // 4, long_side_px)
    count = len(chart.panels)
    if count > 1:
        long = long_side_px
        wide = count == 2 and rng.random() < 0.6
        aspect = rng.uniform(1.7, 2.0) if wide else rng.uniform(0.7, 0.9) if count == 2 else rng.uniform(0.5, 0.6)
    elif chart.kind in ("pie", "donut"):
        aspect = rng.uniform(0.9, 1.6)
    elif chart.panels[0].horizontal:
        aspect = rng.uniform(0.75, 1.6)
    else:
        aspect = rng.uniform(1.0, 1.9)
    return (long, round(long / aspect)) if aspect >= 1 else (round(long * aspect), long)


def _colours(rng: random.Random, ground: str, count: int) -> tuple[str, ...]:
    """Return at least `count` colours of one palette that differ from each other and from the background `ground`.

    Where no palette has as many, the palette with most such colours is taken.
    """
    best: list[str] = []
    for palette in rng.sample(_PALETTES, len(_PALETTES)):
        distinct: list[str] = []
        for colour in rng.sample(palette, len(palette)):
            if all(_difference(colour, other) >= _LEAST_DIFFERENCE for other in (ground, *distinct)):
                distinct.append(colour)
        if len(distinct) >= count:
            return tuple(distinct)
        best = max(best, distinct, key=len)
    return tuple(best)


def _difference(one: str, other: str) -> float:
    """Return the Euclidean distance of two colours "#rrggbb" in RGB, 0 to 442."""
    return math.dist(*([int(colour[n : n + 2], 16) for n in (1, 3, 5)] for colour in (one, other)))
