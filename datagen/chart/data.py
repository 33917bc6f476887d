"""A chart's words and numbers, their number formats, and the chart's data as a Python dict.

The dict has the format that Vary shows (arXiv 2312.06109, figure 10), with examples in docs/sources/chart.md.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["bar", "grouped_bar", "stacked_bar", "line", "pie", "donut", "composite"]

READABLE = 10  # divisions between two ticks; values that are read from an axis are multiples of a division


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """A number format."""

    decimals: int
    separator: bool = False  # comma between thousands
    percent: bool = False  # with a percent sign

    def text(self, value: float) -> str:
        """Return a value as text."""
        rounded = round(value, self.decimals) + 0.0  # turns -0.0 into 0.0
        return f"{rounded:{',' if self.separator else ''}.{self.decimals}f}{'%' if self.percent else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis of values."""

    title: str = ""  # "": the axis has no title
    ticks: tuple[float, ...] = ()  # from the low end of the axis to the high end; empty for pies
    tick_numbers: Numbers = Numbers(decimals=0)
    numbers: Numbers  # format of values
    printed: bool  # values stand beside their marks; otherwise a reader takes them from the ticks
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values drawn in one colour, one per category."""

    name: str = ""  # "": the series has no name on the chart
    values: tuple[float, ...]
    is_line: bool = False
    on_right: bool = False  # belongs to the second scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A pair of axes, or a pie."""

    kind: Kind
    horizontal: bool = False  # bars run from left to right
    title: str = ""
    category_title: str = ""
    categories: tuple[str, ...]  # from left to right, from top to bottom, or clockwise from the top
    series: tuple[Series, ...]
    scales: tuple[Scale, ...]  # one scale, or the left and the right one

    def truth(self) -> dict[str, Any]:
        """Return the data that a reader sees. An unnamed series is the only one and adds no level to the dict."""
        x, y = self.category_title, self.scales[0].title
        if self.horizontal:
            x, y = y, x
        y2 = self.scales[1].title if len(self.scales) > 1 else ""
        titles = {"title": self.title, "x_title": x, "y_title": y, "y2_title": y2}
        columns = {}
        for one in self.series:
            texts = map(self.scales[one.on_right].numbers.text, one.values)
            columns[one.name] = dict(zip(self.categories, texts, strict=True))
        return {key: text for key, text in titles.items() if text} | {"data": columns.get("", columns)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of one or several panels."""

    title: str = ""  # above several panels; one panel has its own
    panels: tuple[Panel, ...]

    @property
    def kind(self) -> str:
        """The kind of the only panel, or "panels"."""
        return self.panels[0].kind if len(self.panels) == 1 else "panels"

    def truth(self) -> dict[str, Any]:
        """Return the data of the only panel, or a dict with the data of all panels in reading order below "charts"."""
        if len(self.panels) == 1:
            return self.panels[0].truth()
        title = {"title": self.title} if self.title else {}
        return title | {"charts": [panel.truth() for panel in self.panels]}


def as_literal(truth: dict[str, Any]) -> str:
    """Return a dict of dicts, lists and text as one line that `ast.literal_eval` reads."""
    return json.dumps(truth, ensure_ascii=False)  # for these types JSON is valid Python


def linear_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Return ticks that enclose `low` and `high`, at most `most` steps of 1, 2 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = unit * factor
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= most:
            break
    return tuple(round(n * step, decimals_of(step)) + 0.0 for n in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return powers of ten that enclose `low` and `high`, both above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return tuple(round(10.0**n, max(-n, 0)) for n in range(first, last + 1))


def decimals_of(step: float) -> int:
    """Return the number of decimals that multiples of `step`, a round number, need."""
    return max(0, -math.floor(math.log10(step) + 1e-9))
