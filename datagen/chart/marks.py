"""Drawing of bars, lines and slices with their numbers in matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from datagen.chart.data import Numbers, Panel, Scale, Series
from datagen.chart.style import ChartStyle

_FAR = 0.2  # share of an axis: numbers between lines this far apart stay clear of both


@dataclass(frozen=True, slots=True)
class Printed:
    """A number on the chart."""

    text: Text
    mark: Rectangle | Line2D  # the number's bar or line
    inside: bool = False  # printed on its bar


@dataclass(frozen=True, slots=True)
class Marks:
    """The drawn marks of a panel's series."""

    bars: list[Rectangle] = field(default_factory=list)
    lines: list[Line2D] = field(default_factory=list)
    labels: list[Printed] = field(default_factory=list)
    handles: list[Any] = field(default_factory=list)  # legend handles, one per series
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pen:
    """A style in matplotlib's units, with the colours of the series."""

    style: ChartStyle

    def points(self, pixels: float) -> float:
        """Convert pixels to points."""
        return pixels * 72 / self.style.dpi

    def number(self, value: float, numbers: Numbers) -> str:
        """Return a value as the chart prints it."""
        text = numbers.text(value)
        return text.replace("-", "−") if self.style.true_minus else text

    def colours(self, count: int) -> list[str]:
        """Return `count` colours of the palette, repeated where it has fewer."""
        return list(islice(cycle(self.style.palette), count))

    def fill(self, number: int) -> dict[str, Any]:
        """Return matplotlib's arguments for the fill of a series' areas."""
        style, hatch = self.style, self.style.hatches[number % len(self.style.hatches)]
        edge = style.ink if style.edges or hatch else "none"
        colour = style.palette[number % len(style.palette)]
        return {"color": colour, "edgecolor": edge, "hatch": hatch, "linewidth": self.points(1.0)}

    def small(self) -> float:
        """Return the font size of numbers beside marks, in points."""
        return self.points(self.style.font_px * 0.85)


def draw_bars(axes: Axes, panel: Panel, pen: Pen, marks: Marks) -> None:
    """Draw the series of bars, side by side or stacked."""
    series = [one for one in panel.series if not one.is_line]
    stacked = panel.kind == "stacked_bar"
    width = pen.style.bar_share / (1 if stacked else len(series))
    base = [0.0] * len(panel.categories)
    for number, one in enumerate(series):
        shift = 0.0 if stacked else (number - (len(series) - 1) / 2) * width
        positions = [category + shift for category in range(len(panel.categories))]
        fill = pen.fill(number)
        if panel.horizontal:
            bars = axes.barh(positions, one.values, width, left=base, **fill)
        else:
            bars = axes.bar(positions, one.values, width, bottom=base, **fill)
        marks.bars.extend(bars.patches)
        marks.handles.append(bars)
        marks.names.append(one.name)
        if panel.scales[0].printed:
            for bar, across, low, value in zip(bars.patches, positions, base, one.values, strict=True):
                text = pen.number(value, panel.scales[0].numbers)
                label = _bar_label(axes, text, (across, low, low + value), fill["color"], panel, pen)
                marks.labels.append(Printed(label, bar, inside=stacked))
        if stacked:
            base = [low + value for low, value in zip(base, one.values, strict=True)]


def _bar_label(axes: Axes, text: str, end: tuple[float, float, float], colour: str, panel: Panel, pen: Pen) -> Text:
    """Print a bar's number, in the middle of a stacked bar or beyond the end of any other."""
    across, low, high = end
    inside = panel.kind == "stacked_bar"
    along = (low + high) / 2 if inside else high
    away = 0.0 if inside else math.copysign(pen.points(3), high - low)
    style: dict[str, Any] = {"fontsize": pen.small(), "ha": "center", "va": "center"}
    if inside:
        style |= {"color": _ink_on(colour), "bbox": {"facecolor": colour, "edgecolor": "none", "pad": pen.points(1)}}
    elif panel.horizontal:
        style["ha"] = "left" if away > 0 else "right"
    else:
        style |= {"va": "bottom" if away > 0 else "top", "rotation": pen.style.label_turn}
    if panel.horizontal:
        xy, offset = (along, across), (away, 0.0)
    else:
        xy, offset = (across, along), (0.0, away)
    return axes.annotate(text, xy, xytext=offset, textcoords="offset points", annotation_clip=False, **style)


def draw_lines(axes: Axes, panel: Panel, scale: Scale, pen: Pen, marks: Marks) -> None:
    """Draw the series of lines."""
    style = pen.style
    before = len(marks.handles)
    series = [one for one in panel.series if one.is_line]
    for number, one in enumerate(series):
        marker = style.markers[number % len(style.markers)] if style.markers else ""
        (line,) = axes.plot(
            range(len(one.values)),
            one.values,
            color=style.palette[(before + number) % len(style.palette)],
            linestyle=style.dashes[number % len(style.dashes)],
            linewidth=pen.points(style.line_px),
            marker=marker,
            markersize=pen.points(style.line_px * 2.6),
            zorder=3,
        )
        marks.lines.append(line)
        marks.handles.append(line)
        marks.names.append(one.name)
        if scale.printed:
            gap = pen.points(4 + style.line_px * (1.3 if marker else 0.5))
            for index, above in enumerate(_sides(one, series, scale)):
                text = pen.number(one.values[index], scale.numbers)
                label = axes.annotate(
                    text,
                    (index, one.values[index]),
                    xytext=(0, gap if above else -gap),
                    textcoords="offset points",
                    annotation_clip=False,
                    fontsize=pen.small(),
                    ha="center",
                    va="bottom" if above else "top",
                )
                marks.labels.append(Printed(label, line))


def _sides(one: Series, series: Sequence[Series], scale: Scale) -> Iterator[bool]:
    """Yield per point whether its number stands above it, on the side clear of close lines and of its own line."""
    height = math.log10 if scale.log else float
    far = _FAR * (height(scale.ticks[-1]) - height(scale.ticks[0]))
    heights = list(map(height, one.values))
    others = [list(map(height, other.values)) for other in series if other is not one]
    for index, value in enumerate(heights):
        near = [other[index] for other in others if abs(other[index] - value) < far]
        if near:
            yield value > sum(near) / len(near) or (value == max(near) and series[0] is one)
        else:
            around = heights[max(index - 1, 0) : index + 2]
            yield value >= (sum(around) - value) / (len(around) - 1)


def draw_slices(axes: Axes, panel: Panel, pen: Pen, marks: Marks) -> None:
    """Draw a pie or donut clockwise from the top, with names and numbers."""
    style, values, numbers = pen.style, panel.series[0].values, panel.scales[0].numbers
    colours = pen.colours(len(values))
    ring = 1 - style.hole if panel.kind == "donut" else 1.0
    edge = {"linewidth": pen.points(1.5), "edgecolor": style.axes_face, "width": ring}
    wedges = axes.pie(values, colors=colours, startangle=90, counterclock=False, wedgeprops=edge)[0]
    marks.handles.extend(wedges)
    marks.names.extend(panel.categories)
    within = style.slices != "outside" and min(values) >= 0.06 * sum(values)
    for name, value, wedge, colour in zip(panel.categories, values, wedges, colours, strict=True):
        middle = math.radians((wedge.theta1 + wedge.theta2) / 2)
        x, y = math.cos(middle), math.sin(middle)
        text = pen.number(value, numbers)
        beside = "" if style.slices == "legend" else name
        if within:
            far = 1 - ring / 2 if ring < 1 else 0.68
            axes.text(far * x, far * y, text, fontsize=pen.small(), color=_ink_on(colour), ha="center", va="center")
        else:
            beside = "\n".join(filter(None, (beside, text)))
        if beside:
            ha = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
            va = "center" if abs(y) < 0.45 else "bottom" if y > 0 else "top"
            axes.text(1.07 * x, 1.07 * y, beside, ha=ha, va=va)


def _ink_on(colour: str) -> str:
    """Return black or white, whichever can be read on a colour "#rrggbb"."""
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
