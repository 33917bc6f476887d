"""The text layer and the shapes of a page, read with PyMuPDF."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pymupdf
from pymupdf import mupdf

from datagen.pdf.backends import symbols
from datagen.pdf.backends.characters import lines
from datagen.pdf.backends.covered import Cover, covers_of
from datagen.pdf.backends.letters import Characters, Floats, Style
from datagen.pdf.backends.mupdf_blocks import layer_of, lines_in, linked
from datagen.pdf.backends.stext import Layer, LayoutError, read_layer
from datagen.pdf.page import Line, Rect

# Ligatures, spaces and hyphens stay as they are on the page, and `TextPolicy` decides about them. Spaces that the
# document lacks are added by `letters`. A glyph without a Unicode value is U+FFFD. Pages with such glyphs are
# read twice more, for the glyphs' numbers in the font and for ActualText.
_TEXT_FLAGS = (
    pymupdf.TEXT_PRESERVE_WHITESPACE
    | pymupdf.TEXT_PRESERVE_LIGATURES
    | pymupdf.TEXT_MEDIABOX_CLIP
    | pymupdf.TEXT_INHIBIT_SPACES
)
_SHAPE_FLAGS = pymupdf.TEXT_PRESERVE_IMAGES | pymupdf.TEXT_COLLECT_VECTORS | pymupdf.TEXT_LAZY_VECTORS
_MOST_SHAPES = 3000  # the first shapes of a map or plot with thousands of points are enough
_MOST_TRACED = 50_000  # characters; a page with more is refused, and its trace would take 10 MB
_MOST_FONTS = 200  # of a document, at once
_PAINTED = int(mupdf.FZ_STEXT_FILLED | mupdf.FZ_STEXT_STROKED)
_IS_GLYPH = int(mupdf.FZ_STEXT_UNICODE_IS_GID)
_UNKNOWN = ord(symbols.UNKNOWN)
_TABLE = -1  # no glyph; says that the font's own table of characters was read
_LOOKED_FOR = tuple(
    code
    for codes in (range(0x20, 0x530), range(0x1E00, 0x1F00), range(0x2010, 0x27C0), range(0xFB00, 0xFB07))
    for code in codes
    if not symbols.unseen(code)
)


class _Font(NamedTuple):
    """A font of the document."""

    font: mupdf.FzFont  # alive, so that its address is no other font's
    name: str
    bold: bool
    ascender: float
    descender: float
    texts: dict[int, str]  # glyph → text, as far as known
    by_drawings: bool  # Type 3, whose glyphs may stand upside down in the font


class PageReader:
    """A reader of the pages of one document, which remembers the document's fonts."""

    def __init__(self) -> None:
        self._fonts: dict[int, _Font] = {}
        plain = _TEXT_FLAGS | _SHAPE_FLAGS | pymupdf.TEXT_IGNORE_ACTUALTEXT
        self._plain = mupdf.FzStextOptions(plain)
        self._glyphs = mupdf.FzStextOptions(plain | pymupdf.TEXT_USE_GID_FOR_UNKNOWN_UNICODE)
        self._actual_text = mupdf.FzStextOptions(_TEXT_FLAGS | _SHAPE_FLAGS)

    def read(self, content: pymupdf.DisplayList, zoom: float) -> tuple[tuple[Line, ...], list[Rect], list[Rect]]:
        """Return lines in the document's order, and the boxes of pictures and of drawings, in pixels."""
        page = mupdf.FzStextPage(content.this, self._plain)
        layer = _layer(page)
        boxes: dict[int, list[Rect]] = {mupdf.FZ_STEXT_BLOCK_IMAGE: [], mupdf.FZ_STEXT_BLOCK_VECTOR: []}
        for kind, _, (x0, y0, x1, y1), _ in layer.shapes:
            if kind in boxes:
                boxes[kind].append((x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom))
        rasters, drawings = boxes.values()
        if not len(layer.chars):
            return (), rasters, drawings
        covered = _covered(page, layer, content) if rasters else None
        characters = self._characters(page, layer, covered, zoom)
        unknown = np.flatnonzero(layer.chars["code"] == _UNKNOWN).tolist()
        if unknown:
            characters.texts.update(self._names(_layer(mupdf.FzStextPage(content.this, self._glyphs)), layer, unknown))
            unnamed = [row for row in unknown if row not in characters.texts]
            other = _layer(mupdf.FzStextPage(content.this, self._actual_text)) if unnamed else layer
            characters.texts.update(_actual_texts(layer, other, unnamed))
        return lines(characters), rasters, drawings

    def _names(self, glyphs: Layer, layer: Layer, rows: list[int]) -> dict[int, str]:
        """Return the texts of rows without a Unicode value whose glyphs have a name or a place in the font's table."""
        if len(glyphs.chars) != len(layer.chars):
            return {}
        codes, marked = glyphs.chars["code"], glyphs.chars["flags"] & _IS_GLYPH > 0
        fonts = layer.chars["font"].tolist()
        texts = {row: _text_of(self._fonts[fonts[row]], int(codes[row])) for row in rows if marked[row]}
        return {row: text for row, text in texts.items() if text != symbols.UNKNOWN}

    def _characters(
        self, page: mupdf.FzStextPage, layer: Layer, covered: npt.NDArray[np.bool_] | None, zoom: float
    ) -> Characters:
        chars, line = layer.chars, layer.line
        fonts, of_font = self._fonts_of(page, layer)
        direction, vertical = layer.direction.T[:, line], layer.vertical[line]
        quad = chars["quad"].T.astype(np.float64, order="C").reshape(4, 2, -1)
        visible = (chars["flags"] & _PAINTED > 0) & (chars["argb"] >> 24 > 0)
        if covered is not None:
            visible &= ~covered
        mirrored = _mirrored(quad, direction, vertical)
        if mirrored.any():
            visible &= ~(mirrored & ~np.array([font.by_drawings for font in fonts])[of_font])
        quad = _high(quad, chars, direction, vertical, fonts, of_font)
        along = quad[:, 0] * direction[0] + quad[:, 1] * direction[1]
        starts = _changes(line)
        changed = starts | _changes(of_font, chars["size"], chars["argb"], visible)
        rows = np.flatnonzero(changed)
        columns = (of_font, chars["size"], chars["argb"], visible, *direction)
        looks = list(zip(*[column[rows].tolist() for column in columns], strict=True))
        styles = {
            look: Style(fonts[font].name, size * zoom, argb & 0xFFFFFF, seen, fonts[font].bold, (x, y))
            for look in set(looks)
            for font, size, argb, seen, x, y in [look]
        }
        return Characters(
            codes=chars["code"].astype(np.int64),
            box=np.concatenate([quad.min(axis=0), quad.max(axis=0)]).T.copy() * zoom,
            origin=chars["origin"].astype(np.float64) * zoom,
            advance=(along.max(axis=0) - along.min(axis=0)) * zoom,
            style=np.cumsum(changed) - 1,
            starts=starts,
            apart=np.zeros(len(chars), bool),
            styles=[styles[look] for look in looks],  # one per run: runs that become neighbours later stay apart
            texts={},
        )

    def _fonts_of(self, page: mupdf.FzStextPage, layer: Layer) -> tuple[list[_Font], npt.NDArray[np.int64]]:
        """Return the fonts of the page, and the index of each character's font (N,)."""
        changed = _changes(layer.chars["font"])
        rows = np.flatnonzero(changed).tolist()
        addresses = layer.chars["font"][rows].tolist()
        first = dict(zip(reversed(addresses), reversed(rows), strict=True))
        index = {address: number for number, address in enumerate(first)}
        of_run = np.array([index[address] for address in addresses])
        return [self._font(address, page, layer, row) for address, row in first.items()], of_run[np.cumsum(changed) - 1]

    def _font(self, address: int, page: mupdf.FzStextPage, layer: Layer, row: int) -> _Font:
        """Return the font of a row. Its struct is reached by the library's own accessors."""
        if address not in self._fonts:
            if len(self._fonts) >= _MOST_FONTS:
                self._fonts.clear()
            char = _char_at(page, layer, row)
            font = mupdf.FzFont(mupdf.ll_fz_keep_font(char.font))
            name = mupdf.fz_font_name(font)
            self._fonts[address] = _Font(
                font,
                name[7:] if name.find("+") == 6 else name,  # without the tag of a subset
                bool(mupdf.fz_font_is_bold(font)),
                mupdf.fz_font_ascender(font),
                mupdf.fz_font_descender(font),
                {},
                bool(font.m_internal.t3procs),
            )
        return self._fonts[address]


def _layer(page: mupdf.FzStextPage) -> Layer:
    try:
        return read_layer(page, _MOST_SHAPES)
    except LayoutError:
        return layer_of(page, _MOST_SHAPES)


def _char_at(page: mupdf.FzStextPage, layer: Layer, row: int) -> Any:
    block_number, line_number = layer.places[layer.line[row]]
    block = page.m_internal.first_block
    for _ in range(block_number):
        block = block.next
    char = next(islice(lines_in(block), line_number, None)).first_char
    for _ in range(row - int(np.searchsorted(layer.line, layer.line[row]))):
        char = char.next
    return char


def _text_of(font: _Font, glyph: int) -> str:
    """Return the text of a glyph without a Unicode value: by its name, or by the font's own table of characters."""
    if symbols.is_drawn(font.name):
        return ""
    if glyph not in font.texts:
        text = symbols.named(mupdf.fz_get_glyph_name2(font.font, glyph), mupdf.fz_unicode_from_glyph_name_strict)
        text = symbols.numbered(glyph, font.name) if text == symbols.UNKNOWN else text
        if text == symbols.UNKNOWN and _TABLE not in font.texts and not font.by_drawings:
            font.texts[_TABLE] = ""
            for code in _LOOKED_FOR:
                number = mupdf.fz_encode_character(font.font, code)
                if number:
                    font.texts.setdefault(number, chr(code))
        font.texts.setdefault(glyph, text)
    return font.texts[glyph]


def _changes(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the rows (N,), at least one, where a column differs from the row before; the first is one of them."""
    changed = np.ones(len(columns[0]), bool)
    changed[1:] = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def _high(
    quad: Floats,
    chars: npt.NDArray[Any],
    direction: Floats,
    vertical: npt.NDArray[np.bool_],
    fonts: Sequence[_Font],
    of_font: npt.NDArray[np.int64],
) -> Floats:
    """Return the quads (4 corners, 2, N) in points, at least as high as the font size: some fonts state less."""
    low = np.array([font.ascender - font.descender < 1 for font in fonts])
    if not low.any():
        return quad
    stated = np.array([(font.ascender, font.descender) if font.ascender >= 1e-3 else (0.9, -0.1) for font in fonts])
    stated /= np.maximum(stated[:, :1] - stated[:, 1:], 1e-6)
    origin = chars["origin"].T.astype(np.float64)
    upwards = np.stack([direction[1], -direction[0]]) * chars["size"]
    offset = quad[2:] - origin
    left, right = offset[:, 0] * direction[0] + offset[:, 1] * direction[1]
    left = np.maximum(left, 0)
    top, bottom = stated.T[:, None, of_font] * upwards
    corners = (left * direction + top, right * direction + top, left * direction + bottom, right * direction + bottom)
    return np.where(low[of_font] & ~vertical, origin + np.stack(corners), quad)


def _mirrored(quad: Floats, direction: Floats, vertical: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which characters (N,) are printed as in a mirror: they stand below their baseline. Nobody reads them."""
    height = (quad[0] + quad[1] - quad[2] - quad[3]) / 2  # from the lower to the upper corners
    mirrored: npt.NDArray[np.bool_] = ~vertical & (height[0] * direction[1] - height[1] * direction[0] < 0)
    return mirrored


def _covered(page: mupdf.FzStextPage, layer: Layer, content: pymupdf.DisplayList) -> npt.NDArray[np.bool_] | None:
    """Return which characters (N,) lie under an opaque picture painted later; None for none."""
    if len(layer.chars) > _MOST_TRACED:
        return None
    covers: list[Cover] | None = None
    covered = None
    middles = layer.chars["quad"].reshape(-1, 4, 2).mean(axis=1, dtype=np.float64)
    lines_before = {number: count for kind, number, _, count in layer.shapes if kind == mupdf.FZ_STEXT_BLOCK_IMAGE}
    for number, block in enumerate(linked(page.m_internal.first_block)):
        if not lines_before.get(number):
            continue
        (x0, y0, x1, y1), (x, y) = _rect(block), middles.T
        rows = np.flatnonzero((layer.line < lines_before[number]) & (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1))
        if not len(rows):
            continue
        covers = covers_of(_trace(content)) if covers is None else covers
        matrix = mupdf.FzStextBlock(block).i_transform()
        placed = matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f
        over = [cover for cover in covers if cover.is_of(placed)]
        hidden = [row for row in rows.tolist() if any(cover.hides(*middles[row].tolist()) for cover in over)]
        covered = np.zeros(len(middles), bool) if covered is None else covered
        covered[hidden] = True
    return covered


def _rect(block: Any) -> Rect:
    box = block.bbox
    return box.x0, box.y0, box.x1, box.y1


def _trace(content: pymupdf.DisplayList) -> str:
    """Return the page's drawing operations as MuPDF writes them, about 200 bytes a glyph."""
    buffer = mupdf.fz_new_buffer(1 << 16)
    output = mupdf.FzOutput(buffer)
    device = mupdf.fz_new_trace_device(output)
    whole = mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE)
    mupdf.fz_run_display_list(content.this, device, mupdf.FzMatrix(), whole, mupdf.FzCookie())
    mupdf.fz_close_device(device)
    output.fz_close_output()
    return str(mupdf.fz_buffer_extract(buffer).decode("utf-8", "replace"))


def _actual_texts(layer: Layer, other: Layer, unknown: list[int]) -> dict[int, str]:
    """Return texts from the document's ActualText, which `other` was read with, for rows without a Unicode value.

    They are taken only between characters that both layers have: no other character's text is replaced.
    """
    at = {tuple(origin): row for row, origin in enumerate(other.chars["origin"].tolist())}
    texts: dict[int, str] = {}
    rows, missing = layer.chars, set(unknown)
    for first in [row for row in unknown if row - 1 not in missing]:
        last = first
        while last + 1 in missing:
            last += 1
        before = at.get(tuple(rows["origin"][first - 1].tolist())) if first else -1
        after = at.get(tuple(rows["origin"][last + 1].tolist())) if last + 1 < len(rows) else len(other.chars)
        if before is None or after is None or not 0 < after - before - 1 <= 8 * (last - first + 1):
            continue
        between = other.chars[before + 1 : after]
        codes = between["code"].tolist()
        if not any(symbols.unseen(code) for code in codes):
            texts |= dict.fromkeys(range(first, last + 1), "") | {first: "".join(map(chr, codes))}
    return texts
