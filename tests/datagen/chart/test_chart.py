from __future__ import annotations

import ast
import hashlib
import math
import random
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from datagen.chart.data import READABLE, Chart, Numbers, Panel, Scale, Series, as_literal, linear_ticks
from datagen.chart.draw import ChartDrawing, PanelDrawing, draw
from datagen.chart.legibility import ChartLayout, Label, OrientedBox, layout_faults
from datagen.chart.source import ChartSource
from datagen.chart.style import TRIES, choose_style
from datagen.chart.topics import make_chart
from datagen.chart.values import shares
from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.backends.mupdf import cjk_font
from varyforge.errors import UserError
from varyforge.outcome import Rejected, Written
from varyforge.sample import IMAGE_MARKER

KINDS = {"bar", "grouped_bar", "stacked_bar", "line", "pie", "donut", "composite", "panels"}


@cache
def drawn(number: int) -> tuple[Chart, ChartDrawing] | None:
    """Chart `number` as the source draws it; None where the gate refuses it."""
    source = ChartSource(charts=1000)
    (unit,) = (unit for unit in source.units("0-999", "") if unit.payload["number"] == number)
    rng = random.Random(unit.content)
    chart = make_chart(rng, unit.payload["language"])
    style = choose_style(rng, chart, source.long_side_px)
    for attempt in range(TRIES):
        drawing = draw(chart, style.tighter(attempt), unit.payload["language"])
        if not layout_faults(drawing.layout, 3):
            return chart, drawing
    return None


def some() -> list[tuple[Chart, ChartDrawing]]:
    return [found for number in range(24) if (found := drawn(number))]


def value(text: str) -> float:
    return float(text.replace(",", "").removesuffix("%"))


def shown(text: str) -> str:
    """Drawn text without line breaks and with a plain minus, as the truth has it."""
    return text.replace("\n", " ").replace("−", "-")


def squeezed(text: str) -> str:
    return "".join(text.split())


# ------------------------------------------------------------------------------------------------------------ truth


def test_the_dict_is_what_the_artists_show() -> None:
    kinds = Counter[str]()
    for chart, drawing in some():
        truth = ast.literal_eval(as_literal(chart.truth()))
        panels = truth.get("charts", [truth])
        assert len(panels) == len(drawing.panels)
        if "charts" in truth:
            figure = drawing.panels[0].axes[0].figure
            assert [squeezed(text.get_text()) for text in figure.texts] == [squeezed(truth["title"])] * (
                "title" in truth
            )
        for told, panel in zip(panels, drawing.panels, strict=True):
            check_titles(told, panel)
            (check_slices if panel.panel.kind in ("pie", "donut") else check_marks)(told, panel)
            kinds[panel.panel.kind] += 1
    assert set(kinds) == KINDS - {"panels"}


def check_titles(told: dict[str, Any], drawing: PanelDrawing) -> None:
    left, *right = drawing.axes
    titles = {"title": left.get_title() or left.get_title(loc="left")}
    titles |= {"x_title": left.get_xlabel(), "y_title": left.get_ylabel()}
    titles["y2_title"] = right[0].get_ylabel() if right else ""
    seen = {key: squeezed(text) for key, text in titles.items() if text}
    assert seen == {key: squeezed(text) for key, text in told.items() if key != "data"}


def names_in_legend(drawing: PanelDrawing) -> list[str]:
    """As they are read: row by row."""
    figure = drawing.axes[0].figure
    legends = [*figure.legends, *(axes.get_legend() for axes in drawing.axes if axes.get_legend())]
    texts = [text for legend in legends for text in legend.get_texts()]
    places = [text.get_window_extent() for text in texts]
    rows = sorted({round(box.y0) for box in places}, reverse=True)
    row_of = [min(n for n, y in enumerate(rows) if abs(y - box.y0) < box.height / 2) for box in places]
    return [texts[n].get_text() for n in sorted(range(len(texts)), key=lambda n: (row_of[n], places[n].x0))]


def check_marks(told: dict[str, Any], drawing: PanelDrawing) -> None:
    """Bars' lengths and lines' points are the dict's values, under the names on axis and legend."""
    panel, axes = drawing.panel, drawing.axes[0]
    legend = names_in_legend(drawing)
    columns = told["data"] if legend else {"": told["data"]}
    assert list(columns) == (legend or [""])
    ticks = axes.get_yticklabels() if panel.horizontal else axes.get_xticklabels()
    categories = [tick.get_text() for tick in ticks]
    bars = [bar.get_width() if panel.horizontal else bar.get_height() for bar in axes.patches]
    drawn = [bars[n : n + len(categories)] for n in range(0, len(bars), len(categories))]
    drawn += [list(line.get_ydata()) for line in drawing.marks.lines]
    for column, values in zip(columns.values(), drawn, strict=True):
        assert list(column) == categories
        assert [value(text) for text in column.values()] == pytest.approx(values, abs=1e-9)
    printed = [shown(label.text.get_text()) for label in drawing.marks.labels]
    scales = [panel.scales[one.on_right] for one in panel.series]
    told_values = zip(columns.values(), scales, strict=True)
    assert printed == [text for column, scale in told_values if scale.printed for text in column.values()]
    for one, axes in zip(panel.scales, drawing.axes, strict=True):
        axis = axes.xaxis if panel.horizontal else axes.yaxis
        places = list(axis.get_majorticklocs())
        texts = [shown(tick.get_text()) for tick in axis.get_majorticklabels()]
        assert one.printed or [value(text) for text in texts] == pytest.approx(places)
        if not one.printed:  # whole tenths of the distance between ticks
            tenth = (places[1] - places[0]) / READABLE
            assert any(texts)
            found = [v for series in panel.series if panel.scales[series.on_right] is one for v in series.values]
            assert all(abs(v / tenth - round(v / tenth)) < 1e-6 for v in found)


def check_slices(told: dict[str, Any], drawing: PanelDrawing) -> None:
    """Angles are the values' shares, clockwise from the top; names and numbers stand at the slice or in the legend."""
    axes, data = drawing.axes[0], told["data"]
    numbers = [value(text) for text in data.values()]
    angles = [(wedge.theta2 - wedge.theta1) / 360 for wedge in axes.patches]
    assert angles == pytest.approx([number / sum(numbers) for number in numbers], abs=1e-6)
    assert axes.patches[0].theta2 == pytest.approx(90)
    assert all(
        a.theta1 == pytest.approx(b.theta2, abs=1e-3) for a, b in zip(axes.patches, axes.patches[1:], strict=False)
    )
    texts = " ".join([*(shown(text.get_text()) for text in axes.texts), *names_in_legend(drawing)])
    assert Counter(texts.split()) == Counter(" ".join(data).split()) + Counter(data.values())


def test_a_legend_of_several_rows_is_in_the_dicts_order() -> None:
    scale = Scale(ticks=(0, 10, 20), numbers=Numbers(decimals=0), printed=False)
    names = [f"a long name, number {n}" for n in range(5)]
    series = tuple(Series(name=name, values=(3.0, 17.0)) for name in names)
    panel = Panel(kind="grouped_bar", categories=("a", "b"), series=series, scales=(scale,))
    chart = Chart(panels=(panel,))
    style = replace(
        choose_style(random.Random(0), chart, 1024), width_px=800, height_px=700, font_px=18, legend="below"
    )
    (drawing,) = draw(chart, style, "en").panels
    (legend,) = drawing.axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] != names  # matplotlib fills columns
    assert names_in_legend(drawing) == names == list(chart.truth()["data"])


def test_the_form_of_the_dict() -> None:
    scale = Scale(title="Price (USD)", ticks=(0, 1000), numbers=Numbers(decimals=1, separator=True), printed=True)
    bars = Series(name="", values=(1234.5, 2.0))
    panel = Panel(kind="bar", title="Prices", categories=("tea", "coffee"), series=(bars,), scales=(scale,))
    plain = {"title": "Prices", "y_title": "Price (USD)", "data": {"tea": "1,234.5", "coffee": "2.0"}}
    assert panel.truth() == plain
    lying = Panel(kind="bar", horizontal=True, categories=("tea", "coffee"), series=(bars,), scales=(scale,))
    assert lying.truth() == {"x_title": "Price (USD)", "data": plain["data"]}
    growth = Series(name="Growth", values=(-0.04, 7.0), is_line=True, on_right=True)
    right = Scale(title="Change", numbers=Numbers(decimals=1, percent=True), printed=True)
    both = Panel(
        kind="composite",
        category_title="Goods",
        categories=("tea", "coffee"),
        series=(Series(name="Price", values=bars.values), growth),
        scales=(scale, right),
    )
    assert both.truth() == {
        "x_title": "Goods",
        "y_title": "Price (USD)",
        "y2_title": "Change",
        "data": {"Price": plain["data"], "Growth": {"tea": "0.0%", "coffee": "7.0%"}},
    }
    assert Chart(panels=(panel,)).truth() == plain
    assert Chart(title="Both", panels=(panel, lying)).truth() == {"title": "Both", "charts": [plain, lying.truth()]}


@given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_any_text_comes_back(data: Any) -> None:
    assert ast.literal_eval(as_literal({"data": data})) == {"data": data}


@example(0.3, 0.28125)  # 0.3 / 0.05 is a little less than 6
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_enclose(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    slack = 1e-9 * (abs(low) + span)
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 1 <= len(ticks) - 1 <= 6
    assert round(step / 10 ** math.floor(math.log10(step * 1.001)), 3) in (1, 2, 5)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=9), st.integers(0, 2))
def test_shares_make_a_hundred(values: list[float], decimals: int) -> None:
    found = shares(values, decimals)
    assert round(sum(found), 9) == 100
    assert all(abs(a - 100 * b / sum(values)) <= 10.0**-decimals for a, b in zip(found, values, strict=True))


# -------------------------------------------------------------------------------------------------------- legibility


def test_no_text_is_cut_off_or_on_another() -> None:
    for number, (_, drawing) in enumerate(some()):
        figure = drawing.panels[0].axes[0].get_figure(root=True)
        boxes = []
        for text in figure.findobj(Text):
            hidden = not text.get_visible() or (
                text.axes and any(text in axis.findobj(Text) for axis in hidden_axes(text))
            )
            if text.get_text() and not hidden:
                box = text.get_window_extent()
                assert box.x0 >= 0 and box.y0 >= 0, (number, text)
                assert box.x1 <= drawing.picture.width and box.y1 <= drawing.picture.height, (number, text)
                if text.get_rotation() % 90 == 0:
                    boxes.append((box, text))
        for (a, one), (b, other) in combinations(boxes, 2):
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
            assert apart, (number, one, other)


def hidden_axes(text: Text) -> list[Any]:
    return [axis for axis in (text.axes.xaxis, text.axes.yaxis) if not axis.get_visible()]


def layout(**changed: Any) -> ChartLayout:
    nothing: dict[str, Any] = {"texts": [], "labels": [], "legends": [], "bars": [], "lines": [], "finest_px": math.inf}
    return ChartLayout(size=(200, 100), **(nothing | changed))


@pytest.mark.parametrize(
    ("fault", "bad", "good"),
    [
        ("clipped", {"texts": [OrientedBox((195, 50), 20, 10)]}, {"texts": [OrientedBox((185, 50), 20, 10)]}),
        (
            "overlapping",
            {"texts": [OrientedBox((50, 50), 40, 10), OrientedBox((80, 52), 30, 10)]},
            {
                "texts": [OrientedBox((50, 50), 40, 10, 45), OrientedBox((70, 50), 40, 10, 45)]
            },  # parallel, though their bounds meet
        ),
        (
            "label_on_bar",
            {"bars": [(0, 0, 10, 50), (10, 0, 20, 70)], "labels": [Label(box=OrientedBox((5, 56), 16, 8), bar=0)]},
            {"bars": [(0, 0, 10, 50), (10, 0, 20, 70)], "labels": [Label(box=OrientedBox((5, 56), 8, 8), bar=0)]},
        ),
        (
            "label_on_bar",
            {"bars": [(0, 0, 10, 6)], "labels": [Label(box=OrientedBox((5, 3), 8, 8), bar=0, inside=True)]},
            {"bars": [(0, 0, 10, 9)], "labels": [Label(box=OrientedBox((5, 4.5), 8, 8), bar=0, inside=True)]},
        ),
        (
            "label_on_line",
            {"lines": [[(0, 0), (100, 100)]], "labels": [Label(box=OrientedBox((50, 55), 20, 8))]},
            {"lines": [[(0, 0), (100, 100)]], "labels": [Label(box=OrientedBox((50, 55), 20, 8), line=0)]},
        ),
        (
            "legend_on_data",
            {"legends": [(50, 50, 90, 80)], "lines": [[(0, 60), (100, 60)]]},
            {"legends": [(50, 50, 90, 80)], "lines": [[(0, 40), (100, 40)]]},
        ),
        ("too_fine", {"finest_px": 2.9}, {"finest_px": 3.1}),
    ],
)
def test_each_fault_is_found(fault: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    assert layout_faults(layout(**bad), 3) == {fault: 1}
    assert not layout_faults(layout(**good), 3)


@given(st.floats(0, 90), st.floats(0, 90), st.floats(20, 80), st.floats(0, 360))
def test_boxes_overlap_where_they_share_points(turn: float, other_turn: float, far: float, way: float) -> None:
    one = OrientedBox((0, 0), 60, 20, turn)
    other = OrientedBox((far * math.cos(way), far * math.sin(way)), 50, 16, other_turn)
    assert one.overlaps(other) == other.overlaps(one)
    samples = [
        (x + a * (b_x - x), y + a * (b_y - y))
        for a in (0.0, 0.25, 0.5, 0.75, 1.0)
        for x, y in [other.centre]
        for b_x, b_y in other.corners
    ]
    if any(is_inside(one, point) for point in samples):
        assert one.overlaps(other)


def is_inside(box: OrientedBox, point: tuple[float, float]) -> bool:
    c, s = math.cos(math.radians(box.turn)), math.sin(math.radians(box.turn))
    along, across = c * point[0] + s * point[1], -s * point[0] + c * point[1]
    return abs(along) < box.width / 2 and abs(across) < box.height / 2


def test_a_chart_whose_text_has_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ChartSource(charts=1)
    (unit,) = source.units("0-0", "")
    monkeypatch.setattr("datagen.chart.source._FINEST_PX", 1e9)
    monkeypatch.setattr("datagen.chart.source.make_chart", lambda rng, language: read_from_axis())
    outcome = source.make(unit, ())
    assert isinstance(outcome, Rejected)
    assert (outcome.gate, outcome.value, outcome.threshold, outcome.detail) == ("layout", 1, 0, "too_fine 1")


def read_from_axis(*, category: str = "b") -> Chart:
    scale = Scale(ticks=(0, 10, 20), numbers=Numbers(decimals=0), printed=False)
    series = (Series(name="", values=(3.0, 17.0)),)
    return Chart(panels=(Panel(kind="bar", title="t", categories=("a", category), series=series, scales=(scale,)),))


# ------------------------------------------------------------------------------------------------------------- fonts


def test_a_character_without_a_glyph_is_an_error() -> None:
    chart = read_from_axis(category="\U0001f600")
    with pytest.raises(UserWarning, match="missing from font"):
        draw(chart, choose_style(random.Random(0), chart, 1024), "zh")


def test_every_font_has_every_character() -> None:
    bank = tomllib.loads((files("datagen.chart") / "data" / "charts.toml").read_text(encoding="utf-8"))
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "STIXGeneralBol", "DejaVuSerif-Bold")
    latin = [FT2Font(str(shipped / f"{name}.ttf")) for name in names]
    english = set("".join(strings([bank["en"], [topic["en"] for topic in bank["topics"]]])) + "0123456789,.%−")
    assert not {c for c in english for font in latin if not font.get_char_index(ord(c))}
    import pymupdf

    chinese = pymupdf.Font(fontbuffer=cjk_font())
    both = set("".join(strings([bank["zh"], [topic["zh"] for topic in bank["topics"]]])))
    assert not {c for c in both if not chinese.has_glyph(ord(c)) and c not in english}


def strings(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for part in parts for text in strings(part)]


def test_settings_of_matplotlib_do_not_matter() -> None:
    chart = read_from_axis()
    style = choose_style(random.Random(0), chart, 1024)
    before = draw(chart, style, "en").picture
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "xtick.labelsize": 4, "axes.linewidth": 9}):
        assert draw(chart, style, "en").picture.tobytes() == before.tobytes()
        assert matplotlib.rcParams["font.size"] == 30


# ------------------------------------------------------------------------------------------------------------ source


def test_every_kind_in_both_languages() -> None:
    source = ChartSource(charts=600)
    found = Counter[tuple[str, str]]()
    for unit in source.units("0-599", ""):
        language = unit.payload["language"]
        chart = make_chart(random.Random(unit.content), language)
        found[chart.kind, language] += 1
        assert any("一" <= c <= "鿿" for c in as_literal(chart.truth())) == (language == "zh")
        for panel in chart.panels:
            assert len(set(panel.categories)) == len(panel.categories)
            assert len({one.name for one in panel.series}) == len(panel.series)
            if panel.kind in ("pie", "donut", "stacked_bar"):
                assert all(value > 0 for one in panel.series for value in one.values)
            for one in panel.series:
                scale, stacked = panel.scales[one.on_right], panel.kind == "stacked_bar"
                tops = (
                    [sum(row) for row in zip(*(s.values for s in panel.series), strict=True)] if stacked else one.values
                )
                if scale.ticks:
                    assert min(one.values) >= scale.ticks[0] - 1e-9 and max(tops) <= scale.ticks[-1] + 1e-9
    assert set(found) == {(kind, language) for kind in KINDS for language in ("en", "zh")}
    assert 250 < sum(count for (_, language), count in found.items() if language == "en") < 350


def test_a_set_is_the_beginning_of_a_larger_one() -> None:
    small, large = (
        [unit for path in source.inputs() for unit in source.units(path, path)]
        for source in (ChartSource(charts=1500), ChartSource(charts=2500))
    )
    assert (len(small), large[:1500]) == (1500, small)
    assert len({unit.content for unit in large}) == len({unit.document for unit in large}) == 2500
    other = ChartSource(charts=10, seed=1)
    assert not {unit.content for unit in other.units("0-9", "")} & {unit.content for unit in small}


def test_more_charts_only_add(tmp_path: Path) -> None:
    settings = JobSettings(limits=Limits(deadline_s=120))
    run_job(ChartSource(charts=2), tmp_path / "grown", settings, LocalRunner())
    run_job(ChartSource(charts=4), tmp_path / "grown", JobSettings(update=True), LocalRunner())
    run_job(ChartSource(charts=4), tmp_path / "fresh", settings, LocalRunner())
    grown, fresh = (
        {
            str(p.relative_to(folder)): p.read_bytes()
            for pattern in ("*.tar", "index/*", "ledger/*")
            for p in folder.glob(pattern)
        }
        for folder in (tmp_path / "grown", tmp_path / "fresh")
    )
    assert len(grown) >= 3 and grown == fresh


def test_a_sample() -> None:
    source = ChartSource(charts=4, languages=["zh"], long_side_px=512)
    for unit in source.units("0-3", ""):
        outcome = source.make(unit, ())
        assert isinstance(outcome, Written | Rejected) and outcome.language == "zh"
        if isinstance(outcome, Written):
            (sample,), (image,) = outcome.samples, outcome.samples[0].images
            assert sample.task == "chart" and sample.turns[0].text.startswith(IMAGE_MARKER)
            assert image.format == "jpg" and 384 <= max(image.width, image.height) <= 512
            assert sample.origin["document"] == unit.document and sample.origin["chart"] in KINDS
            assert isinstance(ast.literal_eval(sample.answer), dict)


_DIGESTS = """
import hashlib, sys
from datagen.chart.source import ChartSource
source = ChartSource(charts=3)
found = {}
for unit in sorted(source.units("0-2", ""), key=lambda unit: unit.id, reverse=sys.argv[1] == "backwards"):
    outcome = source.make(unit, ())
    found[unit.id] = hashlib.sha256(repr(outcome).encode()).hexdigest()
print(sorted(found.items()))
"""


def test_bytes_are_the_same_in_any_process_and_order() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS, order],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order, seed in (("forwards", "1"), ("backwards", "2"))
    ]
    assert outputs[0] == outputs[1] and hashlib.sha256(b"").hexdigest() not in outputs[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"charts": 0}, "charts of 1 or more"),
        ({"charts": 1, "long_side_px": 100}, "long_side_px from 512"),
        ({"charts": 1, "jpeg_quality": 96}, "jpeg_quality"),
        ({"charts": 1, "languages": []}, "one or more of en, zh"),
        ({"charts": 1, "languages": ["en", "fr"]}, "one or more of en, zh"),
        ({"charts": 1, "languages": ["en", "en"]}, "each once"),
    ],
)
def test_user_mistakes(settings: dict[str, Any], said: str) -> None:
    from varyforge.config import load

    with pytest.raises(UserError, match=said):
        load(ChartSource, None, inputs=settings)
