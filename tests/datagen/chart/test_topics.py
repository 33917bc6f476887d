"""Topics of charts: a word bank whose languages agree, and charts that say each thing once."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from datagen.chart.data import Chart, Panel
from datagen.chart.topics import LANGUAGES, make_chart

BANK: dict[str, Any] = tomllib.loads((files("datagen.chart") / "data" / "charts.toml").read_text(encoding="utf-8"))


def charts(language: str, count: int = 400) -> Iterator[Chart]:
    for seed in range(count):
        yield make_chart(random.Random(f"topics {seed}"), language)


def panels(language: str) -> Iterator[Panel]:
    for chart in charts(language):
        yield from chart.panels


def test_both_languages_have_the_same_words() -> None:
    assert BANK["en"].keys() == BANK["zh"].keys()
    for topic in BANK["topics"]:
        en, zh = topic["en"], topic["zh"]
        assert en.keys() == zh.keys()
        assert all(len(en[key]) == len(zh[key]) for key in ("subject", "items", "groups")), en["subject"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_on_one_axis_or_legend_differ(language: str) -> None:
    for topic in BANK["topics"]:
        words = topic[language]
        for names in (words["items"], words["groups"]):
            assert len(set(names)) == len(names) and all(name.strip() == name for name in names)
        assert len(words["items"]) >= 4 and len(words["groups"]) >= 2


def test_ranges_and_time_axes_are_sound() -> None:
    for topic in BANK["topics"]:
        low, high = topic["range"]
        assert low < high and set(topic["over"]) <= BANK["en"]["over"].keys()
        assert low >= 0 or not topic.get("parts")  # a negative part has no slice


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_placeholder_is_left_in_any_text(language: str) -> None:
    for chart in charts(language):
        texts = re.findall(r"\{[a-z]*\}", " ".join(words_of(chart)))
        assert texts == []


def words_of(chart: Chart) -> Iterator[str]:
    yield chart.title
    for panel in chart.panels:
        yield from (panel.title, panel.category_title, *panel.categories)
        yield from (one.name for one in panel.series)
        yield from (scale.title for scale in panel.scales)


@pytest.mark.parametrize("language", LANGUAGES)
def test_stacked_percentages_add_up_to_a_hundred(language: str) -> None:
    stacks = 0
    for panel in panels(language):
        if panel.kind == "stacked_bar" and panel.scales[0].ticks[-1] == 100:
            sums = [sum(row) for row in zip(*(one.values for one in panel.series), strict=True)]
            if all(abs(total - 100) < 5 for total in sums):
                assert sums == pytest.approx([100] * len(sums))
                stacks += 1
    assert stacks


@pytest.mark.parametrize("language", LANGUAGES)
def test_slices_of_percent_add_up_to_a_hundred(language: str) -> None:
    for panel in panels(language):
        if panel.kind in ("pie", "donut") and panel.scales[0].numbers.percent:
            assert sum(panel.series[0].values) == pytest.approx(100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_kinds_have_the_series_that_they_need(language: str) -> None:
    for panel in panels(language):
        lines, bars = (sum(one.is_line is is_line for one in panel.series) for is_line in (True, False))
        match panel.kind:
            case "line":
                assert lines >= 1 and not bars
            case "composite":
                assert lines == 1 and bars in (1, 2) and len(panel.scales) == 2 and panel.series[-1].on_right
            case "pie" | "donut" | "bar":
                assert (lines, bars) == (0, 1)
            case _:
                assert not lines and bars >= 2
        assert 2 <= len(panel.categories) <= 12
        assert all(len(one.values) == len(panel.categories) for one in panel.series)
        assert not panel.horizontal or panel.kind in ("bar", "grouped_bar", "stacked_bar")


@pytest.mark.parametrize("language", LANGUAGES)
def test_several_panels_are_simpler(language: str) -> None:
    counts = [len(chart.panels) for chart in charts(language)]
    assert set(counts) == {1, 2, 3} and 0.03 < sum(count > 1 for count in counts) / len(counts) < 0.15
    for chart in charts(language):
        if len(chart.panels) > 1:
            assert all(len(panel.categories) <= 6 and panel.title for panel in chart.panels)


def test_growth_is_that_of_the_bars() -> None:
    for panel in panels("en"):
        if panel.kind == "composite":
            *bars, line = panel.series
            sums = [sum(row) for row in zip(*(one.values for one in bars), strict=True)]
            for before, after, rate in zip(sums, sums[1:], line.values[1:], strict=False):
                assert rate == pytest.approx(100 * (after / before - 1), abs=30)  # bars are rounded to be read
                assert abs(rate) < 10 or (rate > 0) == (after > before)


def test_words_of_charts_are_in_their_language() -> None:
    for chart in charts("en"):
        assert all(character < "\u2e80" for word in words_of(chart) for character in word)
    for chart in charts("zh"):
        assert any(character >= "\u4e00" for word in words_of(chart) for character in word)
