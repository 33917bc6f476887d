"""Styles of charts: sizes, colours that differ, and styles that get tighter."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import combinations

import pytest

from datagen.chart.data import Chart, Numbers, Panel, Scale, Series
from datagen.chart.draw import draw
from datagen.chart.marks import Pen
from datagen.chart.style import TRIES, ChartStyle, choose_style
from datagen.chart.topics import make_chart

SEEDS = range(120)


def chart_and_style(seed: int, long_side_px: int = 1024) -> tuple[Chart, ChartStyle]:
    rng = random.Random(seed)
    chart = make_chart(rng, "en")
    return chart, choose_style(rng, chart, long_side_px)


def colour(text: str) -> tuple[int, ...]:
    return tuple(int(text[n : n + 2], 16) for n in (1, 3, 5))


@pytest.mark.parametrize("long_side_px", [512, 1024])
def test_the_long_side_is_in_its_bounds(long_side_px: int) -> None:
    for seed in SEEDS:
        chart, style = chart_and_style(seed, long_side_px)
        long, short = max(style.width_px, style.height_px), min(style.width_px, style.height_px)
        assert 0.75 * long_side_px - 1 <= long <= long_side_px and short >= 0.45 * long
        if len(chart.panels) > 1:
            assert long == long_side_px


def test_three_panels_stand_below_each_other() -> None:
    for chart, style in map(chart_and_style, range(600)):
        if len(chart.panels) == 3:
            assert style.height_px > style.width_px


def test_colours_differ_from_each_other_and_from_the_background() -> None:
    for seed in SEEDS:
        chart, style = chart_and_style(seed)
        needed = max(len(p.categories) if p.kind in ("pie", "donut") else len(p.series) for p in chart.panels)
        assert len(style.palette) >= min(needed, 6)  # no palette may have more that suit a background
        for one, other in combinations(map(colour, (style.axes_face, *style.palette)), 2):
            assert math.dist(one, other) >= 70


def test_text_can_be_read_on_its_background() -> None:
    for seed in SEEDS:
        _, style = chart_and_style(seed)
        assert math.dist(colour(style.ink), colour(style.face)) > 200


def test_a_style_depends_on_the_seed_alone() -> None:
    assert chart_and_style(7) == chart_and_style(7)
    assert len({chart_and_style(seed)[1] for seed in SEEDS}) == len(SEEDS)


def test_pies_have_no_legend_inside_and_slices_have_one_only_alone() -> None:
    for chart, style in map(chart_and_style, SEEDS):
        assert not (chart.kind in ("pie", "donut") and style.legend == "inside")
        assert len(chart.panels) == 1 or style.slices != "legend"


def test_each_attempt_is_tighter() -> None:
    for seed in SEEDS:
        _, style = chart_and_style(seed)
        attempts = [style.tighter(attempt) for attempt in range(TRIES)]
        sizes = [one.font_px for one in attempts]
        assert attempts[0] == style and sizes == sorted(sizes, reverse=True) and len(set(sizes)) == TRIES
        assert attempts[-1].turn == 90 and attempts[-1].label_turn == 90 and attempts[-1].legend == "below"
        assert all(one.legend != "inside" for one in attempts[1:])
        assert replace(attempts[-1], font_px=0, turn=0, label_turn=0, legend="below") == replace(
            style, font_px=0, turn=0, label_turn=0, legend="below"
        )


def test_sizes_are_in_pixels_at_any_resolution() -> None:
    _, style = chart_and_style(3)
    for dpi in (72, 150):
        assert Pen(replace(style, dpi=dpi)).points(15) * dpi / 72 == pytest.approx(15)


def test_a_minus_sign_or_a_hyphen() -> None:
    _, style = chart_and_style(3)
    texts = [Pen(replace(style, true_minus=sign)).number(-1.5, Numbers(decimals=1)) for sign in (True, False)]
    assert texts == ["−1.5", "-1.5"]


def test_a_palette_repeats_where_it_is_short() -> None:
    _, style = chart_and_style(3)
    assert Pen(replace(style, palette=("#111111", "#222222"))).colours(3) == ["#111111", "#222222", "#111111"]


@pytest.mark.parametrize(("width", "height"), [(640, 400), (512, 768)])
def test_a_picture_has_the_size_of_its_style(width: int, height: int) -> None:
    scale = Scale(title="Price", ticks=(0, 5, 10), numbers=Numbers(decimals=0), printed=True)
    panel = Panel(kind="bar", categories=("tea", "milk"), series=(Series(values=(3.0, 9.0)),), scales=(scale,))
    chart = Chart(panels=(panel,))
    style = replace(choose_style(random.Random(0), chart, 1024), width_px=width, height_px=height)
    drawing = draw(chart, style, "en")
    assert drawing.picture.size == drawing.layout.size == (width, height)
    assert len(drawing.layout.bars) == 2 and [label.bar for label in drawing.layout.labels] == [0, 1]
    heights = [bar[3] - bar[1] for bar in drawing.layout.bars]
    assert heights[1] / heights[0] == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("printed", [True, False])
def test_the_smallest_difference_on_an_axis_is_measured(printed: bool) -> None:
    scale = Scale(ticks=(0, 5, 10), numbers=Numbers(decimals=0), printed=printed)
    panel = Panel(kind="bar", categories=("tea", "milk"), series=(Series(values=(3.0, 9.0)),), scales=(scale,))
    chart = Chart(panels=(panel,))
    style = replace(choose_style(random.Random(0), chart, 1024), width_px=500, height_px=400)
    drawing = draw(chart, style, "en")
    box = drawing.panels[0].axes[0].get_window_extent()
    assert drawing.layout.finest_px == (math.inf if printed else pytest.approx(box.height / 2 / 10))
