"""Charts as pictures. The same chart and look give the same pixels in any process and order.

Of matplotlib nothing global is used but its font list, to which fonts are added under names of our own: those that it
ships and the one for Chinese that MuPDF brings along, so that no font of the machine gets into a picture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, fontManager
from matplotlib.ft2font import __freetype_version__
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.spines import Spine
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from datagen.chart.data import READABLE, Chart, Panel, Scale
from datagen.chart.legibility import Label, Layout, Rect, Slab
from datagen.chart.marks import Marks, Pen, draw_bars, draw_lines, draw_slices
from datagen.chart.style import LegendPlace, Look
from varyforge.files import atomic_file

FREETYPE_VERSION = __freetype_version__
"""Of the library that matplotlib draws letters with."""

_LATIN = ("DejaVuSans", "DejaVuSans", "DejaVuSans", "DejaVuSerif", "STIXGeneral", "DejaVuSansMono")
_BOLD = {"STIXGeneral": "STIXGeneralBol"}  # others add "-Bold"
_CHINESE = "varyforge Droid Sans Fallback"
_NOT_STYLE = ("backend", "interactive", "toolbar", "timezone", "date.epoch", "webagg")
_PAD_PX = 12
_LEAST_SHARE = 0.1  # of the picture's width and height that axes have
_SPINES = {"box": ("left", "right", "top", "bottom"), "corner": ("left", "bottom"), "base": ("bottom",)}
_LEGEND_SPOTS: dict[LegendPlace, dict[str, Any]] = {
    "right": {"loc": "center right"},
    "below": {"loc": "lower center"},
    "above": {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)},
    "inside": {"loc": "upper right"},
}


@dataclass(frozen=True, slots=True)
class PanelDrawing:
    """A panel on the figure: its axes, that of the left scale first, and what is on them."""

    panel: Panel
    axes: tuple[Axes, ...]
    marks: Marks


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn chart."""

    picture: PIL.Image.Image  # RGB
    layout: Layout
    panels: Sequence[PanelDrawing]


def draw(chart: Chart, look: Look, language: str) -> Drawing:
    """Draws a chart whose text is in `language` ("en" or "zh").

    Raises:
        UserWarning: a character that the fonts lack.
    """
    _add_fonts()
    with warnings.catch_warnings(), matplotlib.rc_context(_style(look, language)):
        warnings.simplefilter("error", UserWarning)
        figure = Figure(figsize=(look.width_px / look.dpi, look.height_px / look.dpi), dpi=look.dpi)
        sheet = _Sheet(figure, FigureCanvasAgg(figure), Pen(look), len(chart.panels))
        panels = sheet.draw(chart)
        sheet.canvas.draw()
        layout = _Reader(sheet.canvas).layout(panels)
        picture = PIL.Image.fromarray(np.asarray(sheet.canvas.buffer_rgba())[..., :3])
    return Drawing(picture, layout, panels)


@cache
def _add_fonts() -> None:
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in dict.fromkeys(_LATIN):
        for file, weight in ((name, 400), (_BOLD.get(name, f"{name}-Bold"), 700)):
            fontManager.ttflist.append(FontEntry(str(shipped / f"{file}.ttf"), name=f"varyforge {name}", weight=weight))
    for weight in (400, 700):  # it has no bold one
        fontManager.ttflist.append(FontEntry(str(_chinese_font()), name=_CHINESE, weight=weight))


def _chinese_font() -> Path:
    """The file of the Chinese font, which matplotlib cannot take from memory; kept in its cache folder."""
    from datagen.pdf.backends.mupdf import cjk_font  # noqa: PLC0415  # a second for the PDF library

    data = cjk_font()
    path = Path(matplotlib.get_cachedir()) / "varyforge-droid-sans-fallback.ttf"
    if not path.is_file() or path.read_bytes() != data:
        with atomic_file(path) as file:
            file.write(data)
    return path


def _style(look: Look, language: str) -> Any:
    """All of matplotlib's settings, so that none of the machine's own gets in."""
    families = [f"varyforge {_LATIN[look.font % len(_LATIN)]}"]
    if language == "zh":  # digits and Latin letters from either font
        families.insert(look.font // len(_LATIN), _CHINESE)
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    return _defaults() | {
        "font.family": families,
        "font.size": Pen(look).points(look.font_px),
        "text.parse_math": False,  # a dollar is a dollar
        "figure.facecolor": look.face,
        "axes.facecolor": look.axes_face,
        "hatch.linewidth": Pen(look).points(0.8),
        **dict.fromkeys(inked, look.ink),
    }


@cache
def _defaults() -> dict[str, Any]:
    return {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(_NOT_STYLE)}


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A figure that panels are put on."""

    figure: Figure
    canvas: FigureCanvasAgg
    pen: Pen
    count: int  # of panels

    @property
    def look(self) -> Look:
        return self.pen.look

    @property
    def beside(self) -> bool:
        """Whether the panels stand beside each other."""
        return self.look.width_px >= self.look.height_px

    @property
    def room_px(self) -> float:
        """How wide the text over a panel may be."""
        return self.look.width_px * 0.88 / (self.count if self.beside else 1)

    def draw(self, chart: Chart) -> list[PanelDrawing]:
        """All of the chart, with room for its text."""
        look = self.look
        grid = (1, self.count) if self.beside else (self.count, 1)
        panels = [self._panel(self.figure.add_subplot(*grid, n + 1), p) for n, p in enumerate(chart.panels)]
        top = right = 1.0
        bottom = 0.0
        if chart.title:
            size = look.font_px * look.title_scale * 1.15
            text = self._wrapped(chart.title, size, bold=True, room_px=look.width_px * 0.9)
            spot: dict[str, Any] = {"ha": "center", "va": "top", "weight": "bold", "fontsize": self.pen.points(size)}
            made = self.figure.text(0.5, 1 - _PAD_PX / look.height_px, text, **spot)
            top -= (made.get_window_extent().height + _PAD_PX) / look.height_px
        if self.count == 1 and look.legend in ("right", "below") and _has_legend(panels[0], look):
            box = self._legend(self.figure, panels[0].marks, look.legend, look.width_px * 0.94).get_window_extent()
            right -= (box.width + _PAD_PX) / look.width_px * (look.legend == "right")
            bottom += (box.height + _PAD_PX) / look.height_px * (look.legend == "below")
        self._give_room(panels, (0.0, bottom, right, top))
        return panels

    def _give_room(self, panels: Sequence[PanelDrawing], rect: Rect) -> None:
        """Moves the panels so that what stands around their axes has room in `rect`, a part of the unit square.

        As `Figure.tight_layout` does, which measures all text twice where a `rect` is given.
        """
        pad_x, pad_y = _PAD_PX / self.look.width_px, _PAD_PX / self.look.height_px
        lefts, bottoms, rights, tops = zip(*map(self._overhang, panels), strict=True)
        if self.beside:
            gap = max(map(sum, zip(rights[:-1], lefts[1:], strict=True)), default=0) + 2 * pad_x
            sides = lefts[0], max(bottoms), rights[-1], max(tops)
        else:
            gap = max(map(sum, zip(bottoms[:-1], tops[1:], strict=True)), default=0) + 2 * pad_y
            sides = max(lefts), bottoms[-1], max(rights), tops[0]
        left, bottom = rect[0] + sides[0] + pad_x, rect[1] + sides[1] + pad_y
        right, top = rect[2] - sides[2] - pad_x, rect[3] - sides[3] - pad_y
        width, height = right - left, top - bottom
        each = ((width if self.beside else height) - (self.count - 1) * gap) / self.count
        if min(width, height, each) > _LEAST_SHARE:  # else text takes all the room, and will be found cut off
            space = gap / each
            self.figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top, wspace=space, hspace=space)

    def _overhang(self, drawn: PanelDrawing) -> Rect:
        """How far text stands out of a panel's axes: left, below, right, above, in parts of the figure."""
        boxes = [box for axes in drawn.axes if (box := axes.get_tightbbox())]
        around = Bbox.union(boxes).transformed(self.figure.transFigure.inverted())
        inner = drawn.axes[0].get_position()
        x1, y1 = max(inner.x0 - around.x0, 0.0), max(inner.y0 - around.y0, 0.0)
        return x1, y1, max(around.x1 - inner.x1, 0.0), max(around.y1 - inner.y1, 0.0)

    def _panel(self, axes: Axes, panel: Panel) -> PanelDrawing:
        marks, look = Marks(), self.look
        drawn = PanelDrawing(panel, (axes,), marks)
        if panel.kind in ("pie", "donut"):
            draw_slices(axes, panel, self.pen, marks)
            if self.count > 1:  # a small pie, and text as large as ever around it
                axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
        else:
            if panel.kind != "line":
                draw_bars(axes, panel, self.pen, marks)
            if len(panel.scales) > 1:
                drawn = PanelDrawing(panel, (axes, axes.twinx()), marks)
            if any(one.is_line for one in panel.series):
                draw_lines(drawn.axes[-1], panel, panel.scales[-1], self.pen, marks)
            self._set_axes(drawn)
        pad_px = 8.0
        if _has_legend(drawn, look) and (look.legend in ("above", "inside") or self.count > 1):
            place: LegendPlace = "inside" if look.legend == "inside" else "above"
            legend = self._legend(drawn.axes[-1], marks, place, self.room_px)
            pad_px += legend.get_window_extent().height + 6 if place == "above" else 0
        size = look.font_px * look.title_scale
        text = self._wrapped(panel.title, size, bold=look.title_bold, room_px=self.room_px)
        axes.set_title(
            text,
            fontsize=self.pen.points(size),
            weight="bold" if look.title_bold else "normal",
            loc="left" if look.title_left else "center",
            pad=self.pen.points(pad_px),
            y=1.0,  # else matplotlib looks for room, which takes a while
        )
        return drawn

    def _set_axes(self, drawn: PanelDrawing) -> None:
        """Scales, categories, grid and frame."""
        panel, look, points, axes = drawn.panel, self.look, self.pen.points, drawn.axes[0]
        for one, scale in zip(drawn.axes, panel.scales, strict=True):
            self._set_scale(one, scale, "x" if panel.horizontal else "y")
            one.tick_params(length=points(4), width=points(1))
            kept = _SPINES[look.frame] + (("right",) if len(drawn.axes) > 1 and look.frame != "base" else ())
            for name, spine in one.spines.items():
                spine.set(linewidth=points(1), visible=name in kept)
        if look.grid:
            axes.grid(axis="x" if panel.horizontal else "y", linestyle=look.grid, color=look.ink, alpha=0.22)
            axes.set_axisbelow(True)
        edge = 0.3 if panel.kind == "line" else 0.35 + look.bar_share / 2
        ends = (-edge, len(panel.categories) - 1 + edge)
        places = range(len(panel.categories))
        if panel.horizontal:
            axes.set_yticks(places, labels=panel.categories)
            axes.set(ylim=ends[::-1], ylabel=panel.category_title)
        else:
            axes.set_xticks(places, labels=panel.categories)
            axes.set(xlim=ends, xlabel=panel.category_title)
            slot_px = self.room_px * 0.86 / (ends[1] - ends[0])
            if max(self._width(name, look.font_px) for name in panel.categories) > slot_px - look.font_px * 0.4:
                ends_there = {"ha": "right", "rotation_mode": "anchor"} if look.turn < 90 else {}
                for label in axes.get_xticklabels():
                    label.set(rotation=look.turn, **ends_there)
        if panel.kind != "line" and panel.scales[0].ticks[0] < 0:
            (axes.axvline if panel.horizontal else axes.axhline)(0, color=look.ink, linewidth=points(1))

    def _set_scale(self, axes: Axes, scale: Scale, name: Literal["x", "y"]) -> None:
        """An axis of values, which ends at ticks."""
        if scale.log:
            axes.set_yscale("log")
            axes.minorticks_off()
        axis = axes.xaxis if name == "x" else axes.yaxis
        texts = [self.pen.number(tick, scale.tick_numbers) for tick in scale.ticks]
        bare = self.look.bare and scale.printed and not scale.log
        axis.set_ticks(scale.ticks, labels=[""] * len(texts) if bare else texts)
        if self.look.minor and not scale.log and not bare:
            step, count = (scale.ticks[1] - scale.ticks[0]) / 5, 5 * (len(scale.ticks) - 1)
            axis.set_ticks([scale.ticks[0] + n * step for n in range(count) if n % 5], minor=True)
            axes.tick_params(which="minor", length=self.pen.points(2.5), width=self.pen.points(0.8))
        axes.set(**{f"{name}lim": (scale.ticks[0], scale.ticks[-1]), f"{name}label": scale.title})

    def _legend(self, on: Figure | Axes, marks: Marks, place: LegendPlace, room_px: float) -> Legend:
        """A legend with as many columns as there is room for."""
        size = self.pen.points(self.look.font_px * 0.92)
        style = {"fontsize": size, "frameon": self.look.legend_frame, **_LEGEND_SPOTS[place]}
        count = len(marks.names)
        for columns in (1,) if place in ("right", "inside") else range(count, 0, -1):
            order = [n for column in range(columns) for n in range(column, count, columns)]  # read row by row
            handles, names = [marks.handles[n] for n in order], [marks.names[n] for n in order]
            legend = on.legend(handles, names, ncols=columns, **style)
            if columns == 1 or legend.get_window_extent().width <= room_px:
                break
            legend.remove()
        return legend

    def _width(self, text: str, font_px: float, *, bold: bool = False) -> float:
        """Of a line of text, in pixels."""
        font = FontProperties(size=self.pen.points(font_px), weight="bold" if bold else "normal")
        return float(self.canvas.get_renderer().get_text_width_height_descent(text, font, False)[0])

    def _wrapped(self, text: str, font_px: float, *, bold: bool, room_px: float) -> str:
        """Text in as many lines as it needs: broken at spaces, or anywhere where it has none."""
        glue = " " if " " in text else ""
        lines = [""]
        for piece in text.split(" ") if glue else text:
            longer = lines[-1] + glue + piece if lines[-1] else piece
            if lines[-1] and self._width(longer, font_px, bold=bold) > room_px:
                lines.append(piece)
            else:
                lines[-1] = longer
        return "\n".join(lines)


def _has_legend(drawn: PanelDrawing, look: Look) -> bool:
    if drawn.panel.kind in ("pie", "donut"):
        return look.slices == "legend"
    return any(drawn.marks.names)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads off a canvas where everything came to lie."""

    canvas: FigureCanvasAgg

    def layout(self, panels: Sequence[PanelDrawing]) -> Layout:
        """Of all that was drawn."""
        labels: list[Label] = []
        bars: list[Rect] = []
        lines: list[list[tuple[float, float]]] = []
        for one in panels:
            for printed in one.marks.labels:
                bar = None if printed.bar is None else printed.bar + len(bars)
                line = None if printed.line is None else printed.line + len(lines)
                labels.append(Label(slab=self._slab(printed.text), bar=bar, line=line, inside=printed.inside))
            bars += [bar.get_window_extent().extents for bar in one.marks.bars]
            lines += [_path_of(line) for line in one.marks.lines]
        framed = [one.axes[0] for one in panels if one.axes[0].get_frame_on()]
        lines += [_path_of(spine) for axes in framed for spine in axes.spines.values() if spine.get_visible()]
        legends = (axes.get_legend() for one in panels for axes in one.axes)
        width, height = self.canvas.get_width_height()
        return Layout(
            size=(width, height),
            texts=[self._slab(text) for text in _visible_texts(self.canvas.figure)],
            labels=labels,
            legends=[legend.get_window_extent().extents for legend in legends if legend],
            bars=bars,
            lines=lines,
            finest_px=min(map(_finest, panels)),
        )

    def _slab(self, text: Text) -> Slab:
        """Where a text stands. One that is turned has a single line."""
        box = text.get_window_extent()
        centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        turn = text.get_rotation()
        if turn % 90 == 0:
            return Slab(centre, box.width, box.height)
        measure = self.canvas.get_renderer().get_text_width_height_descent
        width, height, _ = measure(text.get_text(), text.get_fontproperties(), False)
        return Slab(centre, width, height, turn)


def _visible_texts(artist: Artist) -> Iterator[Text]:
    if not artist.get_visible():
        return
    if isinstance(artist, Text) and artist.get_text():
        yield artist
    for child in artist.get_children():
        yield from _visible_texts(child)


def _path_of(line: Line2D | Spine) -> list[tuple[float, float]]:
    """A line's points in pixels."""
    points: list[tuple[float, float]] = line.get_transform().transform(line.get_path().vertices).tolist()
    return points


def _finest(drawn: PanelDrawing) -> float:
    """The smallest difference that has to be read from a panel's axes, in pixels."""
    found = math.inf
    for axes, scale in zip(drawn.axes, drawn.panel.scales, strict=True):
        if not scale.printed:
            box = axes.get_window_extent()
            length = box.width if drawn.panel.horizontal else box.height
            found = min(found, length / (len(scale.ticks) - 1) / READABLE)
    return found
