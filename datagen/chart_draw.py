"""Charts as pictures. The same chart and look give the same pixels in any process and order.

Of matplotlib nothing global is used but its font list, to which fonts are added under names of our own: those that it
ships and the one for Chinese that MuPDF brings along, so that no font of the machine gets into a picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, fontManager
from matplotlib.ft2font import __freetype_version__ as freetype_version
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from datagen.chart_data import READABLE, Chart, Panel, Scale
from datagen.chart_fit import Label, Layout, Rect, Slab
from datagen.chart_look import Look
from datagen.chart_marks import Marks, Pen, draw_bars, draw_lines, draw_slices
from datagen.files import atomic_file

_LATIN = ("DejaVuSans", "DejaVuSans", "DejaVuSans", "DejaVuSerif", "STIXGeneral", "DejaVuSansMono")
_BOLD = {"STIXGeneral": "STIXGeneralBol"}  # others add "-Bold"
_CHINESE = "varyforge Droid Sans Fallback"
_NOT_STYLE = ("backend", "backend_fallback", "interactive", "toolbar", "timezone", "date.epoch", "webagg")
_PAD_PX = 12
_LEAST_SHARE = 0.1  # of the picture's width and height that axes have


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn chart."""

    picture: PIL.Image.Image  # RGB
    layout: Layout
    figure: Figure


def versions() -> Mapping[str, str]:
    """What the pixels depend on."""
    return {"matplotlib": matplotlib.__version__, "freetype": freetype_version}


def draw(chart: Chart, look: Look, language: str) -> Drawing:
    """Draws a chart.

    Raises:
        UserWarning: a character that the fonts lack.
    """
    _add_fonts()
    pen = Pen(look)
    with warnings.catch_warnings(), matplotlib.rc_context(_style(look, language)):
        warnings.simplefilter("error")
        size = look.width_px / look.dpi, look.height_px / look.dpi
        figure = Figure(figsize=size, dpi=look.dpi)
        canvas = FigureCanvasAgg(figure)
        drawn = _draw_panels(figure, chart, pen)
        canvas.draw()
        layout = _layout(figure, drawn)
        picture = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return Drawing(picture, layout, figure)


# -------------------------------------------------------------------------------------------------- fonts and style


@cache
def _add_fonts() -> None:
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in dict.fromkeys(_LATIN):
        bold = _BOLD.get(name, f"{name}-Bold")
        for file, weight in ((name, 400), (bold, 700)):
            fontManager.ttflist.append(FontEntry(str(shipped / f"{file}.ttf"), name=f"varyforge {name}", weight=weight))
    for weight in (400, 700):  # it has no bold one
        fontManager.ttflist.append(FontEntry(str(_chinese_font()), name=_CHINESE, weight=weight))


def _chinese_font() -> Path:
    """The file of the Chinese font, which matplotlib cannot take from memory; kept in its cache folder."""
    from datagen.pages import cjk_font  # noqa: PLC0415  # a second for the PDF library

    data = cjk_font()
    path = Path(matplotlib.get_cachedir()) / "varyforge-droid-sans-fallback.ttf"
    if not path.is_file() or path.read_bytes() != data:
        with atomic_file(path) as file:
            file.write(data)
    return path


def _style(look: Look, language: str) -> dict[str, Any]:
    """All of matplotlib's settings, so that none of the machine's own gets in."""
    families = [f"varyforge {_LATIN[look.font % len(_LATIN)]}"]
    if language == "zh":  # digits and Latin letters from either font
        families.insert(look.font // len(_LATIN), _CHINESE)
    pen = Pen(look)
    return _defaults() | {
        "font.family": families,
        "font.size": pen.points(look.font_px),
        "text.parse_math": False,  # a dollar is a dollar
        "figure.facecolor": look.face,
        "axes.facecolor": look.axes_face,
        "hatch.linewidth": pen.points(0.8),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), look.ink),
    }


@cache
def _defaults() -> dict[str, Any]:
    return {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(_NOT_STYLE)}


# ----------------------------------------------------------------------------------------------------------- panels


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A panel on the figure: its axes, that of the left scale first, and what is on them."""

    panel: Panel
    axes: tuple[Axes, ...]
    marks: Marks


def _draw_panels(figure: Figure, chart: Chart, pen: Pen) -> list[_Drawn]:
    look, count = pen.look, len(chart.panels)
    beside = look.width_px >= look.height_px
    grid = (1, count) if beside else (count, 1)
    room = look.width_px * 0.88 / (count if beside else 1)
    drawn = [_draw_panel(figure.add_subplot(*grid, n + 1), p, pen, room) for n, p in enumerate(chart.panels)]
    top = right = 1.0
    bottom = 0.0
    if chart.title:
        text = _wrapped(figure, chart.title, look.width_px * 0.9, look.font_px * look.title_scale * 1.15, True)
        size = pen.points(look.font_px * look.title_scale * 1.15)
        made = figure.text(0.5, 1 - _PAD_PX / look.height_px, text, fontsize=size, weight="bold", ha="center", va="top")
        top -= (made.get_window_extent().height + _PAD_PX) / look.height_px
    if count == 1 and look.legend in ("right", "below") and _has_legend(drawn[0], look):
        legend = _legend(figure, drawn[0].marks, pen, look.width_px * 0.94, look.legend)
        box = legend.get_window_extent()
        right -= (box.width + _PAD_PX) / look.width_px * (look.legend == "right")
        bottom += (box.height + _PAD_PX) / look.height_px * (look.legend == "below")
    _give_room(figure, drawn, beside, (0.0, bottom, right, top))
    return drawn


def _give_room(figure: Figure, drawn: list[_Drawn], beside: bool, rect: Rect) -> None:
    """Moves the panels so that what stands around their axes has room in `rect`, a part of the unit square.

    As `Figure.tight_layout` does, which measures all text twice where a `rect` is given.
    """
    width, height = figure.canvas.get_width_height()
    pad = (_PAD_PX / width, _PAD_PX / height)
    lefts, bottoms, rights, tops = zip(*(_overhang(figure, one) for one in drawn), strict=True)
    if beside:
        left, right, bottom, top = lefts[0], rights[-1], max(bottoms), max(tops)
        between = max((a + b for a, b in zip(rights, lefts[1:], strict=False)), default=0) + 2 * pad[0]
    else:
        left, right, bottom, top = max(lefts), max(rights), bottoms[-1], tops[0]
        between = max((a + b for a, b in zip(bottoms, tops[1:], strict=False)), default=0) + 2 * pad[1]
    left, right = rect[0] + left + pad[0], rect[2] - right - pad[0]
    bottom, top = rect[1] + bottom + pad[1], rect[3] - top - pad[1]
    each = ((right - left if beside else top - bottom) - (len(drawn) - 1) * between) / len(drawn)
    if right - left < _LEAST_SHARE or top - bottom < _LEAST_SHARE or each < _LEAST_SHARE:
        return  # text takes all the room; it will be found cut off
    space = between / each
    figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top, wspace=space, hspace=space)


def _overhang(figure: Figure, drawn: _Drawn) -> Rect:
    """How far text stands out of a panel's axes on the left, below, on the right and above, in parts of the figure."""
    around = Bbox.union([axes.get_tightbbox() for axes in drawn.axes]).transformed(figure.transFigure.inverted())
    inner = drawn.axes[0].get_position()
    x1, y1 = max(inner.x0 - around.x0, 0.0), max(inner.y0 - around.y0, 0.0)
    return x1, y1, max(around.x1 - inner.x1, 0.0), max(around.y1 - inner.y1, 0.0)


def _draw_panel(axes: Axes, panel: Panel, pen: Pen, room_px: float) -> _Drawn:
    marks, look = Marks(), pen.look
    drawn = _Drawn(panel, (axes,), marks)
    if panel.kind in ("pie", "donut"):
        draw_slices(axes, panel, pen, marks)
    else:
        if panel.kind != "line":
            draw_bars(axes, panel, pen, marks)
        if len(panel.scales) > 1:
            drawn = _Drawn(panel, (axes, axes.twinx()), marks)
        if any(one.is_line for one in panel.series):
            draw_lines(drawn.axes[-1], panel, panel.scales[-1], pen, marks)
        _set_axes(drawn, pen, room_px)
    pad = pen.points(8)
    if _has_legend(drawn, look) and (look.legend in ("above", "inside") or axes.get_subplotspec().get_geometry()[:2] != (1, 1)):
        legend = _legend(drawn.axes[-1], marks, pen, room_px, "inside" if look.legend == "inside" else "above")
        if look.legend != "inside":
            pad += pen.points(legend.get_window_extent().height + 6)
    if panel.title:
        size = look.font_px * look.title_scale
        text = _wrapped(axes.figure, panel.title, room_px, size, look.title_bold)
        weight, place = "bold" if look.title_bold else "normal", "left" if look.title_left else "center"
        axes.set_title(text, fontsize=pen.points(size), weight=weight, loc=place, pad=pad)
    return drawn


def _set_axes(drawn: _Drawn, pen: Pen, room_px: float) -> None:
    """Scales, ticks, grid and frame."""
    panel, look, (axes, *_) = drawn.panel, pen.look, drawn.axes
    edge = 0.3 if panel.kind == "line" else 0.35 + look.bar_share / 2
    ends = (-edge, len(panel.categories) - 1 + edge)
    for side, (one, scale) in enumerate(zip(drawn.axes, panel.scales, strict=True)):
        _set_scale(one, scale, "x" if panel.horizontal else "y", pen)
        one.tick_params(length=pen.points(4), width=pen.points(1))
        for name, spine in one.spines.items():
            spine.set_linewidth(pen.points(1))
            shown = {"box": ("left", "right", "top", "bottom"), "corner": ("left", "bottom"), "base": ("bottom",)}
            kept = shown[look.frame] + (("right",) if len(drawn.axes) > 1 and look.frame != "base" else ())
            spine.set_visible(name in kept)
        if side == 0 and look.grid:
            one.grid(axis="x" if panel.horizontal else "y", linestyle=look.grid, color=look.ink, alpha=0.22)
            one.set_axisbelow(True)
    places = range(len(panel.categories))
    if panel.horizontal:
        axes.set_yticks(places, labels=panel.categories)
        axes.set_ylim(*reversed(ends))
        axes.set_ylabel(panel.category_title)
    else:
        axes.set_xlim(*ends)
        wide = max(_width(axes.figure, name, look.font_px) for name in panel.categories)
        turned = wide + look.font_px * 0.4 > room_px * 0.86 / (ends[1] - ends[0])
        style: dict[str, Any] = {"rotation": look.turn, "ha": "right" if look.turn < 90 else "center"} if turned else {}
        axes.set_xticks(places, labels=panel.categories, **style, **({"rotation_mode": "anchor"} if turned and look.turn < 90 else {}))
        axes.set_xlabel(panel.category_title)
    if panel.kind != "line" and panel.scales[0].ticks[0] < 0:
        (axes.axvline if panel.horizontal else axes.axhline)(0, color=look.ink, linewidth=pen.points(1))


def _set_scale(axes: Axes, scale: Scale, name: str, pen: Pen) -> None:
    """An axis of values: its ends are ticks."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    if scale.log:
        axes.set_yscale("log")
        axes.minorticks_off()
    texts = [pen.number(tick, scale.tick_numbers) for tick in scale.ticks]
    bare = pen.look.bare and scale.printed and not scale.log
    axis.set_ticks(scale.ticks, labels=[""] * len(texts) if bare else texts)
    if pen.look.minor and not scale.log and not bare:
        step = (scale.ticks[1] - scale.ticks[0]) / 5
        count = 5 * (len(scale.ticks) - 1)
        axis.set_ticks([scale.ticks[0] + n * step for n in range(count) if n % 5], minor=True)
        axes.tick_params(which="minor", length=pen.points(2.5), width=pen.points(0.8))
    (axes.set_xlim if name == "x" else axes.set_ylim)(scale.ticks[0], scale.ticks[-1])
    (axes.set_xlabel if name == "x" else axes.set_ylabel)(scale.title)


def _has_legend(drawn: _Drawn, look: Look) -> bool:
    if drawn.panel.kind in ("pie", "donut"):
        return look.slices == "legend"
    return any(drawn.marks.names)


def _legend(on: Figure | Axes, marks: Marks, pen: Pen, room_px: float, place: str) -> Legend:
    """A legend with as many columns as there is room for."""
    upright = place in ("right", "inside")
    spots: dict[str, dict[str, Any]] = {
        "right": {"loc": "center right"},
        "inside": {"loc": "upper right"},
        "below": {"loc": "lower center"},
        "above": {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)},
    }
    for columns in (1,) if upright else range(len(marks.names), 0, -1):
        legend = on.legend(
            marks.handles,
            marks.names,
            ncols=columns,
            fontsize=pen.points(pen.look.font_px * 0.92),
            frameon=pen.look.legend_frame,
            **spots[place],
        )
        if upright or columns == 1 or legend.get_window_extent().width <= room_px:
            break
        legend.remove()
    return legend


# ------------------------------------------------------------------------------------------------------------- text


def _width(figure: Figure, text: str, font_px: float, bold: bool = False) -> float:
    """Of a line of text, in pixels."""
    font = FontProperties(size=font_px * 72 / figure.dpi, weight="bold" if bold else "normal")
    width: float = figure.canvas.get_renderer().get_text_width_height_descent(text, font, False)[0]
    return width


def _wrapped(figure: Figure, text: str, room_px: float, font_px: float, bold: bool) -> str:
    """Text in as many lines as it needs: English breaks at spaces, Chinese between any two characters."""
    if _width(figure, text, font_px, bold) <= room_px:
        return text
    pieces = text.split(" ") if " " in text else list(text)
    glue = " " if " " in text else ""
    lines = [pieces[0]]
    for piece in pieces[1:]:
        longer = lines[-1] + glue + piece
        if _width(figure, longer, font_px, bold) <= room_px:
            lines[-1] = longer
        else:
            lines.append(piece)
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- layout


def _layout(figure: Figure, drawn: list[_Drawn]) -> Layout:
    """Where everything came to lie."""
    labels, bars, lines, legends = [], [], [], []
    finest = float("inf")
    width, height = figure.canvas.get_width_height()
    for one in drawn:
        labels += [
            Label(
                slab=_slab(printed.text),
                bar=None if printed.bar is None else printed.bar + len(bars),
                line=None if printed.line is None else printed.line + len(lines),
                inside=printed.inside,
            )
            for printed in one.marks.labels
        ]
        bars += [bar.get_window_extent().extents for bar in one.marks.bars]
        lines += [line.get_transform().transform(line.get_xydata()).tolist() for line in one.marks.lines]
        legends += [axes.get_legend().get_window_extent().extents for axes in one.axes if axes.get_legend()]
        for axes, scale in zip(one.axes, one.panel.scales, strict=True):
            if scale.ticks and not scale.printed:
                extent = axes.get_window_extent()
                length = extent.width if one.panel.horizontal else extent.height
                finest = min(finest, length / (len(scale.ticks) - 1) / READABLE)
    texts = [_slab(text) for text in _visible_texts(figure)]
    return Layout(
        size=(width, height), texts=texts, labels=labels, legends=legends, bars=bars, lines=lines, finest_px=finest
    )


def _visible_texts(artist: Artist) -> Iterator[Text]:
    if not artist.get_visible():
        return
    if isinstance(artist, Text) and artist.get_text():
        yield artist
    for child in artist.get_children():
        yield from _visible_texts(child)


def _slab(text: Text) -> Slab:
    """Where a text stands. One that is turned has a single line."""
    box = text.get_window_extent()
    centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    turn = text.get_rotation()
    if turn % 90 == 0:
        return Slab(centre, box.width, box.height)
    renderer = text.get_figure(root=True).canvas.get_renderer()
    width, height, _ = renderer.get_text_width_height_descent(text.get_text(), text.get_fontproperties(), False)
    return Slab(centre, width, height, turn)
