"""The comparison of the picture with the text layer: whether ink lies at the glyphs, and only there.

The picture is reduced to cells of `CELL_PX` pixels.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import PIL.Image

from datagen.pdf.audit.words import Flags, Floats, Words, share_of
from datagen.pdf.page import Page
from varyforge.images import pixels_of

CELL_PX = 4

Levels = npt.NDArray[np.uint8]

_STRIP = 32  # rows of cells that are read at a time; copied in one go, they come from memory in two thirds of the time
_BLOCK = 16  # cells; so wide that paper, not ink, fills most of it
_FAINT = 12  # levels (of 255) from the paper's; less is grain of the paper or noise of JPEG
_INK = 40  # levels from the paper's that an eye takes for ink
_SOME_INK = 3.0  # mean level over a word's box; even a full stop reaches it
_MUCH_INK = 60.0  # mean level of bold text; darker drawings count as much
_FEW_GAPS = 8  # spaces between words; fewer give no measure
_SAMPLE = 200  # words, and spaces, to measure a shift of the layer by
_SMALL_IMAGES = 0.03  # of the page; smaller ones are logos
_LINE = 0.3  # share of ink in a block's row that may be a row of letters
_PEAKS = 2.0  # least strokes in such a row of a block, mean; text has 3 to 5, shapes and rules 1 or 2
_NEARLY_ALL = 0.98  # of the glyphs
_STROKES = 3  # least in a strip of a line of print, `_BLOCK` cells wide
_PRINT = (0.2, 0.8)  # least and most share of ink in such a strip
_PRINT_ROWS = (2, 8)  # least and most height of a line, rows of cells; dashes are lower, hatching is higher


def ink_measures(page: Page, words: Words | None) -> dict[str, float]:
    """Return the measures of `datagen.pdf.audit.gates.MEASURES` about ink and images that apply to the page."""
    dark = _darkness(cells(page.picture))
    images = _covered(dark.shape, np.array(page.rasters)) if page.rasters else None
    measures = _compared(dark, words, images) if words else {}
    if measures.get("glyphs_on_ink", 1) < _NEARLY_ALL:  # red on black, yellow on white?
        dark = _darkness(cells(page.picture.convert("L")))
        measures = _compared(dark, words, images) if words else {}
    measures["ink"] = float(np.count_nonzero(dark > _INK) / dark.size)
    if words:
        worded = _covered(dark.shape, words.boxes)
        measures["unread"] = _unread(dark, worded, worded if images is None else worded | images)
    return measures | (_image_measures(dark, images, worded, words) if images is not None and words else {})


def _compared(dark: Levels, words: Words, images: Flags | None) -> dict[str, float]:
    boxes, level = words.boxes.T.copy(), words.level
    some = np.s_[:: 1 + boxes.shape[1] // _SAMPLE]
    gaps = words.gaps[level[words.gaps]]
    gaps = gaps[:: 1 + len(gaps) // _SAMPLE]
    middles = _band(boxes, level, 0.35, 0.8)  # without ascenders and descenders, which reach other lines
    on, left, right = middles[:, some], middles.take(gaps, axis=1), middles.take(gaps + 1, axis=1)
    half = _halves(boxes[:, some], level[some])
    between = np.array([np.minimum(left[2], right[2]), left[1], np.maximum(left[0], right[0]), left[3]])
    bands = [_band(boxes, level, 0.15, 1), on, on - half, on + half, left, right, between]
    sums, means = _under(dark, np.concatenate(bands, axis=1))
    ends = list(accumulate(part.shape[1] for part in bands))
    touched, on, before, after, left, right, spaces = (means[a:b] for a, b in pairwise([0, *ends]))
    letters = words.letters[some]
    here, *beside = (float((letters * np.minimum(part, _MUCH_INK)).sum()) for part in (on, before, after))
    around = (left + right) / 2
    inked = around > _SOME_INK
    drawn = dark.sum(dtype=np.int32) if images is None else (dark * ~images).sum(dtype=np.int32)
    return {
        "glyphs_on_ink": share_of(words, touched > _SOME_INK),
        "ink_in_glyphs": min(float(sums[: ends[0]].sum()) / max(float(drawn), 1.0), 1.0),
        "ink_beside": max(beside) / max(here, float(letters.sum())),
        "ink_between": _median(spaces[inked] / around[inked]) if np.count_nonzero(inked) >= _FEW_GAPS else 0.0,
    }


def _unread(dark: Levels, worded: Flags, taken: Flags) -> float:
    """Estimate the share of the lines of print that lie beyond the `taken` cells, of these and the `worded` ones.

    A strip of a line has many strokes and is low. Words on the page are counted in the same way.
    """
    ink = _in_strips(dark > _INK / 2)
    print_ = (ink > _PRINT[0] * _BLOCK) & (ink < _PRINT[1] * _BLOCK) & (_in_strips(_peaks(dark)) >= _STROKES)
    unread = _low_rows(print_ & (_in_strips(taken) < 2))
    read = _low_rows(print_ & (_in_strips(worded) > _BLOCK - 2))
    return unread / max(unread + read, 1)


def _in_strips(flags: Flags) -> npt.NDArray[np.uint64]:
    """Count the set cells of each strip (height, across). A word of 8 bytes is summed by one multiplication."""
    across = flags.shape[1] // _BLOCK
    words = np.ascontiguousarray(flags[:, : across * _BLOCK]).view(np.uint64)
    counts = (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
    parts: npt.NDArray[np.uint64] = counts.reshape(len(flags), across, _BLOCK // 8)
    return sum((parts[..., part] for part in range(1, _BLOCK // 8)), parts[..., 0])


def _low_rows(strips: Flags) -> int:
    """Count the strips (height, across) in runs downwards that are as high as a line of print."""
    columns = np.zeros((strips.shape[1], strips.shape[0] + 2), np.bool_)
    columns[:, 1:-1] = strips.T
    edges = np.flatnonzero(columns.ravel()[1:] != columns.ravel()[:-1])
    runs = edges[1::2] - edges[::2]
    return int(runs[(runs >= _PRINT_ROWS[0]) & (runs <= _PRINT_ROWS[1])].sum())


def _image_measures(dark: Levels, images: Flags, worded: Flags, words: Words) -> dict[str, float]:
    measures = {"on_images": share_of(words, _at_middle(images, words))}
    if images.mean() >= _SMALL_IMAGES:
        unread = _letters_in(dark, images & ~worded)
        measures["text_in_images"] = unread / (unread + float(words.letters.sum()))
    return measures


def _letters_in(dark: Levels, free: Flags) -> float:
    """Estimate the number of letters in the blocks of `free` cells that look like lines of text.

    Such a block has rows of many strokes, and rows without ink. Photographs are smooth and have no rows without ink.
    Drawings have few strokes in a row. A letter is as wide as its line's rows of much ink are high.
    """
    down, across = dark.shape[0] // _BLOCK, dark.shape[1] // _BLOCK
    tiles = (down, _BLOCK, across, _BLOCK)
    part = np.s_[: down * _BLOCK, : across * _BLOCK]
    rows = ((dark > _INK / 2) & free)[part].reshape(tiles).mean(axis=3)  # share of ink: (down, row, across)
    ink, room = rows.mean(axis=1), free[part].reshape(tiles).mean(axis=(1, 3))
    inked = rows > _LINE
    peaks = (_peaks(dark)[part].reshape(tiles).sum(axis=3) * inked).sum(axis=1)
    lined = inked.any(axis=1) & (rows < 0.07).any(axis=1) & (peaks > _PEAKS * inked.sum(axis=1))
    lined &= (room > 0.8) & (ink > 0.12) & (ink < 0.65)
    lines = inked[:, 0] + np.count_nonzero(inked[:, 1:] & ~inked[:, :-1], axis=1)
    height = inked.sum(axis=1) / np.maximum(lines, 1)
    return float((lines * _BLOCK / np.maximum(height, 1))[lined].sum())


def _peaks(dark: Levels) -> Flags:
    """Return the cells where a stroke begins: clearly darker than the one before, not lighter than the next."""
    peaks = np.zeros(dark.shape, np.bool_)
    before, here, after = dark[:, :-2], dark[:, 1:-1], dark[:, 2:]
    peaks[:, 1:-1] = (here >= after) & (here > np.minimum(before, 255 - _FAINT) + np.uint8(_FAINT))
    return peaks


def _band(boxes: Floats, level: Flags, top: float, bottom: float) -> Floats:
    """Return the part of level boxes (4, n) from `top` to `bottom` (0 to 1), and the middle half of upright ones."""
    x0, y0, x1, y1 = boxes
    width, height = np.where(level, 0, x1 - x0) / 4, np.where(level, y1 - y0, 0)
    return np.array([x0 + width, y0 + top * height, x1 - width, y1 - (1 - bottom) * height])


def _halves(boxes: Floats, level: Flags) -> Floats:
    """Return half the height of level boxes (4, n), and half the width of upright ones, as a shift of boxes."""
    x0, y0, x1, y1 = boxes
    across, down = np.where(level, 0, 0.5) * (x1 - x0), np.where(level, 0.5, 0) * (y1 - y0)
    return np.array([across, down, across, down])


def _median(values: Floats) -> float:
    values = np.sort(values)
    return float(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def cells(picture: PIL.Image.Image) -> Levels:
    """Return the level of each cell (height, width) of a picture in mode RGB, RGBX or L: the mean of four pixels.

    Of colours, green is near the brightness of most and costs half the time. The four lie in different rows and
    columns, so that no thin rule is missed. Pixels beyond the last whole cell are left out.
    """
    pixels = np.asarray(picture)[..., None] if picture.mode == "L" else pixels_of(picture)
    if pixels.strides[2] == 0:  # the colours of a grey picture are one and the same memory
        pixels = pixels[..., :1]
    height, width, channels = pixels.shape
    if min(height, width) < CELL_PX:
        beyond = [(0, max(CELL_PX - side, 0)) for side in (height, width)]
        pixels = np.pad(pixels, [*beyond, (0, 0)], mode="edge")
    height, width = pixels.shape[0] // CELL_PX, pixels.shape[1] // CELL_PX
    corners = np.empty((CELL_PX, height, width), np.uint8)
    for top in range(0, height, _STRIP):
        strip = pixels[top * CELL_PX : min(top + _STRIP, height) * CELL_PX].copy()
        strip = strip[:, : width * CELL_PX, channels // 2]
        for row, column in enumerate((0, 2, 1, 3)):
            corners[row, top : top + _STRIP] = strip[row::CELL_PX, column::CELL_PX]
    total = corners[0].astype(np.uint16)
    for corner in corners[1:]:
        total += corner
    mean: Levels = (total >> 2).astype(np.uint8)
    return mean


def _darkness(cells: Levels) -> Levels:
    """Return how far each cell (height, width) is from the level of the paper around it, 0 to 255.

    Paper may be dark and ink light. It has the lightest or the darkest level of a block, whichever is nearer to the
    block's mean.
    """
    height, width = cells.shape
    down, across = -(-height // _BLOCK), -(-width // _BLOCK)
    strips = np.empty((down, _BLOCK, across * _BLOCK), np.uint8)
    padded = strips.reshape(down * _BLOCK, across * _BLOCK)
    padded[:height, :width] = cells
    padded[:height, width:] = cells[:, -1:]
    padded[height:] = padded[height - 1]
    lightest = strips.max(axis=1).reshape(down, across, _BLOCK).max(axis=2)
    darkest = strips.min(axis=1).reshape(down, across, _BLOCK).min(axis=2)
    mean = strips.sum(axis=1, dtype=np.uint16).reshape(down, across, _BLOCK).sum(axis=2) / _BLOCK**2
    paper = np.where(lightest - mean <= mean - darkest, lightest, darkest).repeat(_BLOCK, axis=1)[:, None]
    levels: Levels = np.maximum(strips, paper)
    levels -= np.minimum(strips, paper)
    np.maximum(levels, _FAINT, out=levels)
    levels -= np.uint8(_FAINT)
    return levels.reshape(padded.shape)[:height, :width]


def _under(dark: Levels, boxes: Floats) -> tuple[Floats, Floats]:
    """Return sum and mean of `dark` in each box (4, n) of pixels, with fractions of cells."""
    height, width = dark.shape
    flat, boxes = _sums_before(dark).ravel(), boxes / CELL_PX
    x, y = np.clip(boxes[0::2], 0, width - 1e-3), np.clip(boxes[1::2], 0, height - 1e-3)
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = (x - column)[None], (y - row)[:, None]
    corner = row[:, None] + column[None] * (height + 1)  # (top and bottom, left and right, n)
    upper = flat.take(corner) * (1 - x) + flat.take(corner + (height + 1)) * x
    corner += 1
    lower = flat.take(corner) * (1 - x) + flat.take(corner + (height + 1)) * x
    at = upper * (1 - y) + lower * y
    sums = at[1, 1] - at[0, 1] - at[1, 0] + at[0, 0]
    areas = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    return sums, sums / np.maximum(areas, 0.25)


def _sums_before(dark: Levels) -> npt.NDArray[np.int32]:
    """Return the sum over all cells to the left and above, (width + 1, height + 1).

    Columns come first because numpy adds along rows of memory in a third of the time.
    """
    height, width = dark.shape
    across = np.cumsum(dark, axis=1, dtype=np.int32)
    total = np.zeros((width + 1, height + 1), np.int32)
    np.cumsum(across.T.copy(), axis=1, out=total[1:, 1:])
    return total


def _covered(shape: tuple[int, ...], rects: Floats) -> Flags:
    """Return the cells (height, width) that one of the rectangles (m, 4) of pixels touches."""
    cells = np.zeros(shape, np.bool_)
    low, high = np.floor(rects[:, :2] / CELL_PX), np.ceil(rects[:, 2:] / CELL_PX)
    for x0, y0, x1, y1 in np.maximum(np.concatenate([low, high], axis=1), 0).astype(np.intp).tolist():
        cells[y0:y1, x0:x1] = True
    return cells


def _at_middle(cells: Flags, words: Words) -> Flags:
    """Return the cell's value at the middle of each word (n,)."""
    height, width = cells.shape
    x, y = ((words.boxes[:, :2] + words.boxes[:, 2:]) / (2 * CELL_PX)).astype(np.intp).T
    return np.asarray(cells[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])
