"""Drawing of charts. The same chart and style give the same pixels in any process and order.

The only global state of matplotlib in use is its font list. Its own fonts and MuPDF's Chinese font are added under new
names, so that no font of the machine gets into a picture.
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
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from datagen.chart.data import READABLE, Chart, Panel, Scale
from datagen.chart.legibility import ChartLayout, Label, OrientedBox, Rect
from datagen.chart.marks import Marks, Pen, draw_bars, draw_lines, draw_slices
from datagen.chart.style import ChartStyle, LegendPosition
from varyforge.files import atomic_file

FREETYPE_VERSION = __freetype_version__  # of the library that draws matplotlib's letters

_LATIN = ("DejaVuSans", "DejaVuSans", "DejaVuSans", "DejaVuSerif", "STIXGeneral", "DejaVuSansMono")
_BOLD = {"STIXGeneral": "STIXGeneralBol"}  # files of the other bold fonts end in "-Bold"
_CHINESE = "varyforge Droid Sans Fallback"
_NOT_STYLE = ("backend", "interactive", "toolbar", "timezone", "date.epoch", "webagg")
_PAD_PX = 12
_LEAST_SHARE = 0.1  # least share of the picture's width and height for axes
_SPINES = {"box": ("left", "right", "top", "bottom"), "corner": ("left", "bottom"), "base": ("bottom",)}
_LEGEND_SPOTS: dict[LegendPosition, dict[str, Any]] = {
    "right": {"loc": "center right"},
    "below": {"loc": "lower center"},
    "above": {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)},
    "inside": {"loc": "upper right"},
}


@dataclass(frozen=True, slots=True)
class PanelDrawing:
    """A panel on the figure with its axes (left scale first) and marks."""

    panel: Panel
    axes: tuple[Axes, ...]
    marks: Marks


@dataclass(frozen=True, slots=True)
class ChartDrawing:
    """A drawn chart."""

    picture: PIL.Image.Image  # RGB
    layout: ChartLayout
    panels: Sequence[PanelDrawing]


def draw(chart: Chart, style: ChartStyle, language: str) -> ChartDrawing:
    """Draw a chart whose text is in `language` ("en" or "zh").

    Raises:
        UserWarning: the fonts lack a character of the text.
    """
    _add_fonts()
    with warnings.catch_warnings(), matplotlib.rc_context(_style(style, language)):
        warnings.simplefilter("error", UserWarning)
        figure = Figure(figsize=(style.width_px / style.dpi, style.height_px / style.dpi), dpi=style.dpi)
        builder = _FigureBuilder(figure, FigureCanvasAgg(figure), Pen(style), len(chart.panels))
        panels = builder.draw(chart)
        builder.canvas.draw()
        layout = _layout(builder.canvas, panels)
        picture = PIL.Image.fromarray(np.asarray(builder.canvas.buffer_rgba())[..., :3])
    return ChartDrawing(picture, layout, panels)


@cache
def _add_fonts() -> None:
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in dict.fromkeys(_LATIN):
        for file, weight in ((name, 400), (_BOLD.get(name, f"{name}-Bold"), 700)):
            fontManager.ttflist.append(FontEntry(str(shipped / f"{file}.ttf"), name=f"varyforge {name}", weight=weight))
    for weight in (400, 700):  # this font has no bold weight
        fontManager.ttflist.append(FontEntry(str(_chinese_font()), name=_CHINESE, weight=weight))


def _chinese_font() -> Path:
    """Return the file of the Chinese font in matplotlib's cache folder. Matplotlib cannot read fonts from memory."""
    from datagen.pdf.backends.mupdf import cjk_font  # noqa: PLC0415  # the PDF library takes a second

    data = cjk_font()
    path = Path(matplotlib.get_cachedir()) / "varyforge-droid-sans-fallback.ttf"
    if not path.is_file() or path.read_bytes() != data:
        with atomic_file(path) as file:
            file.write(data)
    return path


def _style(style: ChartStyle, language: str) -> Any:
    """Return all of matplotlib's settings, so that none of the machine's settings applies."""
    families = [f"varyforge {_LATIN[style.font % len(_LATIN)]}"]
    if language == "zh":  # the first font has the digits and Latin letters
        families.insert(style.font // len(_LATIN), _CHINESE)
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(_NOT_STYLE)}
    return defaults | {
        "font.family": families,
        "font.size": Pen(style).points(style.font_px),
        "text.parse_math": False,  # a dollar sign starts no formula
        "figure.facecolor": style.face,
        "axes.facecolor": style.axes_face,
        "hatch.linewidth": Pen(style).points(0.8),
        **dict.fromkeys(inked, style.ink),
    }


@dataclass(frozen=True, slots=True)
class _FigureBuilder:
    """A figure on which panels are drawn."""

    figure: Figure
    canvas: FigureCanvasAgg
    pen: Pen
    count: int  # number of panels

    @property
    def style(self) -> ChartStyle:
        return self.pen.style

    @property
    def is_row(self) -> bool:
        """Whether the panels stand side by side."""
        return self.style.width_px >= self.style.height_px

    @property
    def room_px(self) -> float:
        """The largest width of text above a panel, in pixels."""
        return self.style.width_px * 0.88 / (self.count if self.is_row else 1)

    def draw(self, chart: Chart) -> list[PanelDrawing]:
        """Draw the chart and leave room for its text."""
        style = self.style
        grid = (1, self.count) if self.is_row else (self.count, 1)
        panels = [self._panel(self.figure.add_subplot(*grid, n + 1), p) for n, p in enumerate(chart.panels)]
        top = right = 1.0
        bottom = 0.0
        if chart.title:
            size = style.font_px * style.title_scale * 1.15
            text = self._wrapped(chart.title, size, bold=True, room_px=style.width_px * 0.9)
            font: dict[str, Any] = {"weight": "bold", "fontsize": self.pen.points(size)}
            title = self.figure.text(0.5, 1 - _PAD_PX / style.height_px, text, ha="center", va="top", **font)
            top -= (title.get_window_extent().height + _PAD_PX) / style.height_px
        if self.count == 1 and style.legend in ("right", "below") and _has_legend(panels[0], style):
            box = self._legend(self.figure, panels[0].marks, style.legend, style.width_px * 0.94).get_window_extent()
            right -= (box.width + _PAD_PX) / style.width_px * (style.legend == "right")
            bottom += (box.height + _PAD_PX) / style.height_px * (style.legend == "below")
        self._give_room(panels, (0.0, bottom, right, top))
        return panels

    def _give_room(self, panels: Sequence[PanelDrawing], rect: Rect) -> None:
        """Move the panels so that the text around their axes has room in `rect`, a part of the unit square.

        `Figure.tight_layout` gives the same result but measures all text twice where it gets a `rect`.
        """
        pad_x, pad_y = _PAD_PX / self.style.width_px, _PAD_PX / self.style.height_px
        lefts, bottoms, rights, tops = zip(*map(self._overhang, panels), strict=True)
        if self.is_row:
            gap = max(map(sum, zip(rights[:-1], lefts[1:], strict=True)), default=0) + 2 * pad_x
            sides = lefts[0], max(bottoms), rights[-1], max(tops)
        else:
            gap = max(map(sum, zip(bottoms[:-1], tops[1:], strict=True)), default=0) + 2 * pad_y
            sides = max(lefts), bottoms[-1], max(rights), tops[0]
        left, bottom = rect[0] + sides[0] + pad_x, rect[1] + sides[1] + pad_y
        right, top = rect[2] - sides[2] - pad_x, rect[3] - sides[3] - pad_y
        width, height = right - left, top - bottom
        each = ((width if self.is_row else height) - (self.count - 1) * gap) / self.count
        if min(width, height, each) > _LEAST_SHARE:  # otherwise text takes all the room and will count as clipped
            space = gap / each
            self.figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top, wspace=space, hspace=space)

    def _overhang(self, drawn: PanelDrawing) -> Rect:
        """Return the extent of text beyond a panel's axes (left, below, right, above), as shares of the figure."""
        boxes = [box for axes in drawn.axes if (box := axes.get_tightbbox())]
        around = Bbox.union(boxes).transformed(self.figure.transFigure.inverted())
        inner = drawn.axes[0].get_position()
        x1, y1 = max(inner.x0 - around.x0, 0.0), max(inner.y0 - around.y0, 0.0)
        return x1, y1, max(around.x1 - inner.x1, 0.0), max(around.y1 - inner.y1, 0.0)

    def _panel(self, axes: Axes, panel: Panel) -> PanelDrawing:
        marks, style = Marks(), self.style
        drawn = PanelDrawing(panel, (axes,), marks)
        if panel.kind in ("pie", "donut"):
            draw_slices(axes, panel, self.pen, marks)
            if self.count > 1:  # a smaller pie leaves room for the text around it
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
        if _has_legend(drawn, style) and (style.legend in ("above", "inside") or self.count > 1):
            position: LegendPosition = "inside" if style.legend == "inside" else "above"
            legend = self._legend(drawn.axes[-1], marks, position, self.room_px)
            pad_px += legend.get_window_extent().height + 6 if position == "above" else 0
        size = style.font_px * style.title_scale
        text = self._wrapped(panel.title, size, bold=style.title_bold, room_px=self.room_px)
        axes.set_title(
            text,
            fontsize=self.pen.points(size),
            weight="bold" if style.title_bold else "normal",
            loc="left" if style.title_left else "center",
            pad=self.pen.points(pad_px),
            y=1.0,  # without y, matplotlib takes time to search for room
        )
        return drawn

    def _set_axes(self, drawn: PanelDrawing) -> None:
        """Set scales, categories, grid and frame of a panel."""
        panel, style, points, axes = drawn.panel, self.style, self.pen.points, drawn.axes[0]
        for one, scale in zip(drawn.axes, panel.scales, strict=True):
            self._set_scale(one, scale, "x" if panel.horizontal else "y")
            one.tick_params(length=points(4), width=points(1))
            visible = _SPINES[style.frame] + (("right",) if len(drawn.axes) > 1 and style.frame != "base" else ())
            for name, spine in one.spines.items():
                spine.set(linewidth=points(1), visible=name in visible)
        if style.grid:
            axes.grid(axis="x" if panel.horizontal else "y", linestyle=style.grid, color=style.ink, alpha=0.22)
            axes.set_axisbelow(True)
        edge = 0.3 if panel.kind == "line" else 0.35 + style.bar_share / 2
        ends = (-edge, len(panel.categories) - 1 + edge)
        positions = range(len(panel.categories))
        if panel.horizontal:
            axes.set_yticks(positions, labels=panel.categories)
            axes.set(ylim=ends[::-1], ylabel=panel.category_title)
        else:
            axes.set_xticks(positions, labels=panel.categories)
            axes.set(xlim=ends, xlabel=panel.category_title)
            slot_px = self.room_px * 0.86 / (ends[1] - ends[0])
            if max(self._width(name, style.font_px) for name in panel.categories) > slot_px - style.font_px * 0.4:
                ends_there = {"ha": "right", "rotation_mode": "anchor"} if style.turn < 90 else {}
                for label in axes.get_xticklabels():
                    label.set(rotation=style.turn, **ends_there)
        if panel.kind != "line" and panel.scales[0].ticks[0] < 0:
            (axes.axvline if panel.horizontal else axes.axhline)(0, color=style.ink, linewidth=points(1))

    def _set_scale(self, axes: Axes, scale: Scale, name: Literal["x", "y"]) -> None:
        """Set an axis of values, which ends at the outer ticks."""
        if scale.log:
            axes.set_yscale("log")
            axes.minorticks_off()
        axis = axes.xaxis if name == "x" else axes.yaxis
        texts = [self.pen.number(tick, scale.tick_numbers) for tick in scale.ticks]
        bare = self.style.bare and scale.printed and not scale.log
        axis.set_ticks(scale.ticks, labels=[""] * len(texts) if bare else texts)
        if self.style.minor and not scale.log and not bare:
            step, count = (scale.ticks[1] - scale.ticks[0]) / 5, 5 * (len(scale.ticks) - 1)
            axis.set_ticks([scale.ticks[0] + n * step for n in range(count) if n % 5], minor=True)
            axes.tick_params(which="minor", length=self.pen.points(2.5), width=self.pen.points(0.8))
        axes.set(**{f"{name}lim": (scale.ticks[0], scale.ticks[-1]), f"{name}label": scale.title})

    def _legend(self, on: Figure | Axes, marks: Marks, position: LegendPosition, room_px: float) -> Legend:
        """Add a legend with as many columns as there is room for."""
        size = self.pen.points(self.style.font_px * 0.92)
        style = {"fontsize": size, "frameon": self.style.legend_frame, **_LEGEND_SPOTS[position]}
        count = len(marks.names)
        for columns in (1,) if position in ("right", "inside") else range(count, 0, -1):
            order = [n for column in range(columns) for n in range(column, count, columns)]  # names read by row
            handles, names = [marks.handles[n] for n in order], [marks.names[n] for n in order]
            legend = on.legend(handles, names, ncols=columns, **style)
            if columns == 1 or legend.get_window_extent().width <= room_px:
                break
            legend.remove()
        return legend

    def _width(self, text: str, font_px: float, *, bold: bool = False) -> float:
        """Return the width of a line of text in pixels."""
        font = FontProperties(size=self.pen.points(font_px), weight="bold" if bold else "normal")
        return float(self.canvas.get_renderer().get_text_width_height_descent(text, font, False)[0])

    def _wrapped(self, text: str, font_px: float, *, bold: bool, room_px: float) -> str:
        """Return text broken into lines of at most `room_px`: at spaces, or anywhere in text without spaces."""
        glue = " " if " " in text else ""
        lines = [""]
        for piece in text.split(" ") if glue else text:
            longer = lines[-1] + glue + piece if lines[-1] else piece
            if lines[-1] and self._width(longer, font_px, bold=bold) > room_px:
                lines.append(piece)
            else:
                lines[-1] = longer
        return "\n".join(lines)


def _has_legend(drawn: PanelDrawing, style: ChartStyle) -> bool:
    if drawn.panel.kind in ("pie", "donut"):
        return style.slices == "legend"
    return any(drawn.marks.names)


def _layout(canvas: FigureCanvasAgg, panels: Sequence[PanelDrawing]) -> ChartLayout:
    """Return the positions of all parts on a canvas."""
    bars = [bar for one in panels for bar in one.marks.bars]
    lines = [line for one in panels for line in one.marks.lines]
    bar_index, line_index = ({mark: index for index, mark in enumerate(marks)} for marks in (bars, lines))
    framed = [one.axes[0] for one in panels if one.axes[0].get_frame_on()]
    spines = [spine for axes in framed for spine in axes.spines.values() if spine.get_visible()]
    outlines: list[Any] = [*lines, *spines]  # both have a path, which their common type does not have
    legends = (axes.get_legend() for one in panels for axes in one.axes)
    return ChartLayout(
        size=canvas.get_width_height(),
        texts=[_box_of(canvas, text) for text in _visible_texts(canvas.figure)],
        labels=[
            Label(
                box=_box_of(canvas, label.text),
                bar=bar_index.get(label.mark),
                line=line_index.get(label.mark),
                inside=label.inside,
            )
            for one in panels
            for label in one.marks.labels
        ],
        legends=[legend.get_window_extent().extents for legend in legends if legend],
        bars=[bar.get_window_extent().extents for bar in bars],
        lines=[line.get_transform().transform(line.get_path().vertices).tolist() for line in outlines],
        finest_px=min(map(_finest, panels)),
    )


def _box_of(canvas: FigureCanvasAgg, text: Text) -> OrientedBox:
    """Return the box of a text. Turned text has a single line."""
    box = text.get_window_extent()
    centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    turn = text.get_rotation()
    if turn % 90 == 0:
        return OrientedBox(centre, box.width, box.height)
    measure = canvas.get_renderer().get_text_width_height_descent
    width, height, _ = measure(text.get_text(), text.get_fontproperties(), False)
    return OrientedBox(centre, width, height, turn)


def _visible_texts(artist: Artist) -> Iterator[Text]:
    if not artist.get_visible():
        return
    if isinstance(artist, Text) and artist.get_text():
        yield artist
    for child in artist.get_children():
        yield from _visible_texts(child)


def _finest(drawn: PanelDrawing) -> float:
    """Return the length of the smallest value difference on a panel's axes, in pixels; inf where all are printed."""
    finest = math.inf
    for axes, scale in zip(drawn.axes, drawn.panel.scales, strict=True):
        if not scale.printed:
            box = axes.get_window_extent()
            length = box.width if drawn.panel.horizontal else box.height
            finest = min(finest, length / (len(scale.ticks) - 1) / READABLE)
    return finest
