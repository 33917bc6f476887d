"""What a chart says: its words, its numbers and how they are printed; and its truth, a Python dict.

The dict has the form that Vary prints (arXiv 2312.06109, figure 10), with values as the chart prints numbers:

    {"title": "…", "data": {"2013": "12.94%", "2014": "16.67%"}}

What the chart does not show has no key.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["bar", "grouped_bar", "stacked_bar", "line", "pie", "donut", "composite"]

READABLE = 10
"""Values that are read from an axis are whole multiples of a tick's distance divided by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How numbers are printed."""

    decimals: int
    separator: bool = False  # a comma between thousands
    percent: bool = False  # with a percent sign

    def text(self, value: float) -> str:
        """A value as text."""
        rounded = round(value, self.decimals) + 0.0  # no minus zero
        return f"{rounded:{',' if self.separator else ''}.{self.decimals}f}{'%' if self.percent else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis of values."""

    title: str = ""  # "" where none is drawn
    ticks: tuple[float, ...] = ()  # from the axis's one end to the other; none for pies
    tick_numbers: Numbers = Numbers(decimals=0)
    numbers: Numbers  # of values
    printed: bool  # values stand beside what they belong to; else they are read from the ticks
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one colour, one for each category."""

    name: str = ""  # "" where none is drawn
    values: tuple[float, ...]
    is_line: bool = False
    on_right: bool = False  # belongs to the second scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes, or one pie."""

    kind: Kind
    horizontal: bool = False  # bars lie
    title: str = ""
    category_title: str = ""
    categories: tuple[str, ...]  # from left to right, from top to bottom, or clockwise from the top
    series: tuple[Series, ...]
    scales: tuple[Scale, ...]  # one, or left and right

    def truth(self) -> dict[str, Any]:
        """What can be read of it. Series without a name (there is but one) have no level of their own."""
        x, y = self.category_title, self.scales[0].title
        if self.horizontal:
            x, y = y, x
        y2 = self.scales[1].title if len(self.scales) > 1 else ""
        titles = {"title": self.title, "x_title": x, "y_title": y, "y2_title": y2}
        columns = {one.name: self._column(one) for one in self.series}
        return {key: text for key, text in titles.items() if text} | {"data": columns.get("", columns)}

    def _column(self, series: Series) -> dict[str, str]:
        numbers = self.scales[series.on_right].numbers
        return {name: numbers.text(value) for name, value in zip(self.categories, series.values, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of one panel or several."""

    title: str = ""  # above several panels
    panels: tuple[Panel, ...]

    @property
    def kind(self) -> str:
        """The panel's kind, or "panels"."""
        return self.panels[0].kind if len(self.panels) == 1 else "panels"

    def truth(self) -> dict[str, Any]:
        """That of its panel; of several panels, theirs below "charts" as they are read."""
        if len(self.panels) == 1:
            return self.panels[0].truth()
        title = {"title": self.title} if self.title else {}
        return title | {"charts": [panel.truth() for panel in self.panels]}


def as_literal(truth: dict[str, Any]) -> str:
    """A dict of dicts, lists and text as one line that `ast.literal_eval` reads back."""
    return json.dumps(truth, ensure_ascii=False)  # of these types alone, JSON is Python


def linear_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Ticks at multiples of 1, 2 or 5 times a power of ten that enclose `low` and `high`, at most `most` steps."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    factor = next(f for f in (1, 2, 5, 10, 20) if math.ceil(high / step / f) - math.floor(low / step / f) <= most)
    step *= factor
    first, last = math.floor(low / step), math.ceil(high / step)
    return tuple(round(n * step, decimals_of(step)) + 0.0 for n in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten that enclose `low` and `high`, both above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return tuple(round(10.0**n, max(-n, 0)) for n in range(first, last + 1))


def decimals_of(step: float) -> int:
    """Decimals that multiples of `step`, a round number, need."""
    return max(0, -math.floor(math.log10(step) + 1e-9))
