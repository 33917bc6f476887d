"""Random charts: a topic, its data and its wording. The words are in `data/charts.toml`."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from datagen.chart.data import Chart, Kind, Numbers, Panel, Scale, Series
from datagen.chart.values import Column, Quantity, columns, fit_scale, growth, printed_decimals, shares, slices

LANGUAGES = ("en", "zh")

_KINDS: Mapping[Kind, int] = {  # relative frequency
    "bar": 22,
    "grouped_bar": 16,
    "stacked_bar": 10,
    "line": 24,
    "pie": 9,
    "donut": 6,
    "composite": 13,
}
_SHARE_OF_PANELS = 0.08
_PANEL_KINDS: tuple[Kind, ...] = ("bar", "bar", "line", "line", "grouped_bar", "pie", "donut")
_YEARS = range(1995, 2025)
_NAMES = {"city": "cities", "company": "companies"}  # fields of patterns, and the lists of their values


@cache
def _bank() -> Mapping[str, Any]:
    return tomllib.loads((files("datagen.chart") / "data" / "charts.toml").read_text(encoding="utf-8"))


def make_chart(rng: random.Random, language: str) -> Chart:
    """Return a chart in `language` ("en" or "zh"), a function of the state of `rng`."""
    if rng.random() >= _SHARE_OF_PANELS:
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        return Chart(panels=(_Author(rng, language, is_panel=False).panel(kind),))
    author = _Author(rng, language, is_panel=True)
    panels = tuple(author.panel(rng.choice(_PANEL_KINDS)) for _ in range(rng.choice((2, 2, 3))))
    return Chart(title=author.fill("panels", year=rng.choice(_YEARS)) if rng.random() < 0.6 else "", panels=panels)


@dataclass(frozen=True, slots=True)
class _Span:
    """The categories along an axis."""

    title: str
    names: tuple[str, ...]
    is_time: bool
    period: str  # for the title; "": none


class _Author:
    """A random choice of topic, words in one language and numbers."""

    def __init__(self, rng: random.Random, language: str, *, is_panel: bool) -> None:
        self.rng = rng
        self.words: Mapping[str, Any] = _bank()[language]  # words that all topics share
        self.language = language
        self.is_panel = is_panel  # one of several panels, which are simpler
        self.most = 6 if is_panel else 12  # most categories
        self.names = {name: rng.choice(self.words[plural]) for name, plural in _NAMES.items()}

    def fill(self, pattern: str, **fields: object) -> str:
        """Fill a random pattern of that name with `fields` and the chart's city and company."""
        return str(self.rng.choice(self.words[pattern])).format(**self.names, **fields)

    def panel(self, kind: Kind) -> Panel:
        """Return a random panel of `kind`."""
        topic = self.rng.choice([topic for topic in _bank()["topics"] if _suits(topic, kind)])
        words = topic[self.language]
        quantity = Quantity(
            unit=words["unit"], low=topic["range"][0], high=topic["range"][1], whole=not topic["en"]["unit"]
        )
        if kind in ("pie", "donut"):
            return self._pie(kind, words, quantity)
        if kind == "composite":
            return self._composite(words, quantity, self._times(("years",)))
        over_time = kind in ("line", "stacked_bar") or self.rng.random() < 0.35
        return self._plain(kind, words, quantity, self._times(topic["over"]) if over_time else self._items(words))

    def _plain(self, kind: Kind, words: Mapping[str, Any], quantity: Quantity, span: _Span) -> Panel:
        """Return bars or lines over one axis."""
        rng, stacked = self.rng, kind == "stacked_bar"
        horizontal = kind != "line" and rng.random() < (0.1 if span.is_time else 0.4)
        names, grouping = self._series_names(kind, words, span)
        few = len(names) * len(span.names) <= (18 if kind != "line" or len(names) == 1 else 10)
        log = kind == "line" and few and quantity.spans_decades and rng.random() < 0.4
        printed = stacked or log or rng.random() < (0.55 if few else 0.1)
        raw = columns(
            rng, quantity, count=len(names), length=len(span.names), is_time=span.is_time and not stacked, log=log
        )
        if stacked:
            scale, values = self._stack(raw, quantity)
        else:
            from_zero = not log and (kind != "line" or rng.random() < 0.4)
            above = (0.15 if horizontal else 0.08) * printed
            below = above if min(map(min, raw)) < 0 or not from_zero else 0.0
            scale, values = fit_scale(
                rng, raw, quantity, printed=printed, from_zero=from_zero, log=log, room=(below, above)
            )
        period = "" if grouping == "years" else span.period
        title, scale = self._titles(words, scale, period, by_item=not span.is_time or grouping == "items")
        if not grouping and rng.random() < 0.2:
            names = [words["quantity"]]
        return Panel(
            kind=kind,
            horizontal=horizontal,
            title=title,
            category_title=span.title if rng.random() < 0.5 else "",
            categories=span.names,
            series=tuple(
                Series(name=name, values=column, is_line=kind == "line")
                for name, column in zip(names, values, strict=True)
            ),
            scales=(scale,),
        )

    def _stack(self, raw: Sequence[Column], quantity: Quantity) -> tuple[Scale, list[Column]]:
        """Return a scale up to the sums of the stacks, and the values. Percentages add up to 100 in each stack."""
        if quantity.unit == "%":
            rows = [shares(row, 1) for row in zip(*raw, strict=True)]
            scale, _ = fit_scale(self.rng, [(100.0,)], quantity, printed=True, from_zero=True)
            return replace(scale, numbers=replace(scale.numbers, decimals=1)), list(zip(*rows, strict=True))
        sums = tuple(sum(row) for row in zip(*raw, strict=True))
        scale, _ = fit_scale(self.rng, [sums], quantity, printed=True, from_zero=True, room=(0, 0.05))
        decimals = scale.numbers.decimals
        return scale, [tuple(round(value, decimals) for value in column) for column in raw]

    def _composite(self, words: Mapping[str, Any], quantity: Quantity, span: _Span) -> Panel:
        """Return bars on the left axis and the growth of their sum as a line on the right axis."""
        rng = self.rng
        names = [words["quantity"]] if rng.random() < 0.7 else self._groups(words)[:2]
        mild = replace(quantity, low=max(quantity.low, quantity.high / 4))
        raw = columns(rng, mild, count=len(names), length=len(span.names) + 1, is_time=True, log=False)
        printed = rng.choice(("bars", "line", "none", "none"))
        bars, line = printed == "bars", printed == "line"
        apart = bars or line  # the line runs above the bars, clear of printed numbers
        left, values = fit_scale(
            rng, [column[1:] for column in raw], quantity, printed=bars, from_zero=True, room=(0, 0.9 if apart else 0)
        )
        percent = Quantity(unit=self.words["growth_unit"], low=0, high=0, whole=False)
        right, (rates,) = fit_scale(
            rng, [growth(raw)], percent, printed=line, from_zero=False, room=(2.4, 0.15) if apart else (0, 0)
        )
        title, left = self._titles(words, left, span.period, by_item=False)
        name = rng.choice(self.words["growth"])
        if not right.numbers.percent or rng.random() < 0.5:
            right = replace(right, title=self._measured(name, "" if right.numbers.percent else percent.unit))
        return Panel(
            kind="composite",
            title=title,
            category_title=span.title if rng.random() < 0.4 else "",
            categories=span.names,
            series=(
                *(Series(name=name, values=column) for name, column in zip(names, values, strict=True)),
                Series(name=name, values=rates, is_line=True, on_right=True),
            ),
            scales=(left, right),
        )

    def _pie(self, kind: Kind, words: Mapping[str, Any], quantity: Quantity) -> Panel:
        """Return a pie whose slices print their share or value."""
        rng, span = self.rng, self._items(words)
        raw = slices(rng, len(span.names))
        if quantity.unit == "%" or rng.random() < 0.6:
            decimals = rng.choice((0, 1, 1, 2))
            values, numbers = shares(raw, decimals), Numbers(decimals=decimals, percent=True)
            title = self._headline(words, span.period, by_item=True)
        else:
            largest = rng.uniform(quantity.high / 4, quantity.high)
            decimals = 0 if quantity.whole else printed_decimals(rng, largest)
            values = tuple(max(round(largest * size / max(raw), decimals), 10.0**-decimals) for size in raw)
            numbers = Numbers(decimals=decimals, separator=largest >= 1000 and rng.random() < 0.6)
            title = self._with_unit(self._headline(words, span.period, by_item=True), quantity.unit)
        return Panel(
            kind=kind,
            title=title,
            categories=span.names,
            series=(Series(name="", values=values),),
            scales=(Scale(numbers=numbers, printed=True),),
        )

    def _items(self, words: Mapping[str, Any]) -> _Span:
        most = min(self.most, len(words["items"]))
        names = tuple(self.rng.sample(words["items"], self.rng.randint(3, most)))
        if any(character.isdecimal() for character in names[0]):  # ages
            names = tuple(sorted(names, key=words["items"].index))
        return _Span(words["by"], names, False, self.fill("year", year=self.rng.choice(_YEARS)))

    def _times(self, axes: Sequence[str]) -> _Span:
        axis = self.rng.choice(axes)
        names = self._time_names(axis)
        period = ""
        if axis in ("years", "quarters"):
            period = str(self.words["period"]).format(first=names[0], last=names[-1])
        elif axis == "months":
            period = self.fill("year", year=self.rng.choice(_YEARS))
        return _Span(self.words["over"][axis], names, True, period)

    def _time_names(self, axis: str) -> tuple[str, ...]:
        """Return the categories of an axis "years", "quarters", "months", "weekdays" or "hours"."""
        rng, most, words = self.rng, self.most, self.words
        if axis == "years":
            count, pattern = rng.randint(4, most), rng.choice(words["year"])
            first = rng.randint(_YEARS[0], _YEARS[-1] + 1 - count)
            return tuple(pattern.format(year=first + n) for n in range(count))
        if axis == "quarters":
            count, pattern = rng.randint(4, most), rng.choice(words["quarter"])
            first = rng.randint(_YEARS[0] * 4, _YEARS[-1] * 4 - count)
            return tuple(pattern.format(year=n // 4, quarter=n % 4 + 1) for n in range(first, first + count))
        if axis == "months":
            count = min(most, rng.choice((12, 12, 9, 6)))
            first = rng.randint(0, 12 - count)
            return tuple(words["months"][first : first + count])
        if axis == "weekdays":
            return tuple(words["weekdays"][:most])
        step, first = rng.choice((1, 2)), rng.randint(5, 9)
        count = rng.randint(4, min(most, 8))
        return tuple(f"{first + n * step:02d}:00" for n in range(count))

    def _series_names(self, kind: Kind, words: Mapping[str, Any], span: _Span) -> tuple[list[str], str]:
        """Return names of the series and their kind ("items", "years", "groups"); ([""], "") for an unnamed series."""
        rng = self.rng
        if kind == "stacked_bar":
            return rng.sample(words["items"], rng.randint(2, 5)), "items"
        if kind == "bar" or (kind == "line" and rng.random() < 0.45):
            return [""], ""
        if span.is_time and rng.random() < 0.5:
            return rng.sample(words["items"], rng.randint(2, 4 if kind == "grouped_bar" else 5)), "items"
        if not span.is_time and rng.random() < 0.35:
            first, pattern = rng.choice(_YEARS[:-4]), rng.choice(self.words["year"])
            return [pattern.format(year=first + n) for n in range(rng.randint(2, 4))], "years"
        return self._groups(words), "groups"

    def _groups(self, words: Mapping[str, Any]) -> list[str]:
        return [name.format(**self.names) for name in words["groups"]]

    def _titles(self, words: Mapping[str, Any], scale: Scale, period: str, *, by_item: bool) -> tuple[str, Scale]:
        """Return the panel's title and the scale with its title. One of them names the unit where no "%" is printed."""
        rng, unit = self.rng, "" if scale.numbers.percent else words["unit"]
        headline = self._headline(words, period, by_item=by_item) if self.is_panel or rng.random() < 0.9 else ""
        if not headline or rng.random() < 0.7:
            return headline, replace(scale, title=self._measured(words["quantity"], unit))
        return self._with_unit(headline, unit), scale

    def _headline(self, words: Mapping[str, Any], period: str, *, by_item: bool) -> str:
        subject = self.rng.choice(words["subject"] if by_item else words["subject"][1:]).format(**self.names)
        pattern = "title_of_panel" if self.is_panel else "title" if period else "title_without_period"
        return self.fill(pattern, subject=subject, period=period, number=self.rng.randint(1, 40))

    def _measured(self, quantity: str, unit: str) -> str:
        return self.fill("measured", quantity=quantity, unit=unit) if unit else quantity

    def _with_unit(self, title: str, unit: str) -> str:
        bracketed = title.endswith((")", "）"))
        return str(self.words["with_unit"][bracketed]).format(title=title, unit=unit) if unit else title


def _suits(topic: Mapping[str, Any], kind: Kind) -> bool:
    """Return whether a topic makes sense as this kind of chart."""
    if kind in ("pie", "donut", "stacked_bar"):
        return bool(topic.get("parts", False))
    if kind == "composite":
        return "years" in topic["over"] and topic["range"][0] > 0 and topic["en"]["unit"] != "%"
    return True
