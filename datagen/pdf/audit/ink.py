"""The comparison of the picture with the text layer: whether ink lies at the glyphs, and only there.

The picture is reduced to cells of `CELL_PX` pixels. Typical widths of letters give the words inside a span, exactly
enough to tell words from the spaces between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
import numpy.typing as npt
import PIL.Image

from datagen.pdf.page import Page
from datagen.pdf.text.bidi import is_leftward

CELL_PX = 4

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]

_BLOCK = 16  # cells; so wide that paper, not ink, fills most of it
_FAINT = 12  # levels (of 255) from the paper's; less is grain of the paper or noise of JPEG
_INK = 40  # levels from the paper's that an eye takes for ink
_SOME_INK = 3.0  # mean level over a word's box; even a full stop reaches it
_MUCH_INK = 60.0  # mean level of bold text; darker drawings count as much
_FEW_GAPS = 8  # spaces between words; fewer give no measure
_SAMPLE = 200  # words, and spaces, to measure a shift of the layer by
_SMALL_IMAGES = 0.03  # of the page; smaller ones are logos
_NEARLY_ALL = 0.98  # of the glyphs
_SAME_PLACE = 0.35  # of the font size; the most between two prints of a word

# Advances of printable ASCII in hundredths of the font size: the mean of Helvetica and Times.
_ADVANCES = """
26 31 38 53 53 86 72 19 33 33 44 57 26 33 26 28 53 53 53 53 53 53 53 53 53 53 28 28 57 57 57 50
97 69 67 69 72 64 58 75 72 31 44 69 58 86 72 75 61 75 69 61 61 72 69 94 69 69 61 31 28 31 47 53
33 50 53 47 53 50 31 53 53 25 25 50 25 81 53 53 53 53 33 44 28 53 50 72 50 50 47 41 23 41 56
"""
_MONOSPACED = re.compile(r"mono|cour|consol|menlo|inconsolata|typewriter|fixed|terminal|code|cmtt|lmtt|[a-z]tt\d", re.I)
_WIDE = ((0x2E80, 0xA4D0), (0xAC00, 0xD7B0), (0xF900, 0xFB00), (0xFF00, 0xFF60))  # code points of full-width letters


@dataclass(frozen=True, slots=True)
class Words:
    """The n words of a page: runs of text without spaces."""

    boxes: Floats  # (n, 4) pixels
    weights: Floats  # (n,) share of the page's letters and digits
    level: Flags  # (n,) written to the right or left
    sizes: Floats  # (n,) of the font, pixels
    visible: Flags  # (n,)
    turned: Flags  # (n,) sideways or upside down; false for vertical Chinese
    hashes: Ints  # (n,) equal for words of equal text
    gaps: Ints  # indices of the words that are followed by another word of their span


def words_of(page: Page) -> Words | None:
    """Return the page's words; None where the page has no letter or digit."""
    spans = [(line, span) for line in page.lines for span in line.spans if span.text and not span.text.isspace()]
    if not spans:
        return None
    numbers = (
        (
            *span.box,
            *line.direction,
            span.size,
            span.visible,
            len(span.text),
            _monospaced(span.font),
            is_leftward(span.text),
        )
        for line, span in spans
    )
    rows = np.fromiter(chain.from_iterable(numbers), np.float64).reshape(-1, 11)
    if not np.isfinite(rows).all():
        rows = np.nan_to_num(rows, posinf=1e6, neginf=-1e6)
    points = np.frombuffer("".join(span.text for _, span in spans).encode("utf-32-le", "surrogatepass"), np.uint32)
    codes: Ints = np.where(points < 65536, points, 0x4E00).astype(np.intp)  # others (mathematical, rare Han) are wide
    advances, solid = _letter_tables()
    lengths = rows[:, 8].astype(np.intp)
    of_char = np.repeat(np.arange(len(rows)), lengths)
    firsts, lasts = _runs(codes, of_char)
    weights = np.add.reduceat(solid[codes], firsts)  # spaces after a word weigh nothing
    if weights.sum() == 0:
        return None
    span = of_char[firsts]
    row, end = rows[span], np.cumsum(lengths)
    run = np.concatenate([[0.0], np.cumsum(np.where(rows[of_char, 9] > 0, 0.6, advances[codes]))])
    begin, whole = run[end - lengths][span], (run[end] - run[end - lengths])[span]
    boxes, level = _placed(row, (run[firsts] - begin) / whole, (run[lasts + 1] - begin) / whole)
    position = np.arange(firsts[0], len(codes)) - np.repeat(firsts, np.diff(firsts, append=len(codes)))
    return Words(
        boxes=boxes,
        weights=weights / weights.sum(),
        level=level,
        sizes=row[:, 6],
        visible=row[:, 7] > 0,
        turned=(row[:, 4] < 0.7) & ~((row[:, 5] > 0.7) & (advances[codes[firsts]] == 1)),
        hashes=np.add.reduceat(
            codes[firsts[0] :] * solid[codes[firsts[0] :]].astype(np.intp) * (position + 1), firsts - firsts[0]
        ),
        gaps=np.flatnonzero(span[1:] == span[:-1]),
    )


def ink_measures(page: Page, words: Words | None) -> dict[str, float]:
    """Return the measures of `datagen.pdf.audit.gates.MEASURES` about ink and images that apply to the page."""
    dark = _darkness(page.picture.getchannel("G"))  # green is near the brightness of most colours, in half the time
    images = _covered(dark.shape, np.array(page.rasters)) if page.rasters else None
    measures = _compared(dark, words, images) if words else {}
    if measures.get("glyphs_on_ink", 1) < _NEARLY_ALL:  # red on black, yellow on white?
        dark = _darkness(page.picture.convert("L"))
        measures = _compared(dark, words, images) if words else {}
    measures["ink"] = float(np.count_nonzero(dark > _INK) / dark.size)
    return measures | (_image_measures(dark, images, words) if images is not None and words else {})


def _compared(dark: Levels, words: Words, images: Flags | None) -> dict[str, float]:
    boxes, level = words.boxes, words.level
    some = np.arange(0, len(boxes), 1 + len(boxes) // _SAMPLE)
    gaps = words.gaps[level[words.gaps]]
    gaps = gaps[:: 1 + len(gaps) // _SAMPLE]
    letters = _band(boxes, level, 0.35, 0.8)  # without ascenders and descenders, which reach other lines
    half = np.where(level[some, None], [[0, 0.5, 0, 0.5]], [[0.5, 0, 0.5, 0]]) * np.tile(
        boxes[some, 2:] - boxes[some, :2], 2
    )
    begin, end = np.minimum(letters[gaps, 2], letters[gaps + 1, 2]), np.maximum(letters[gaps, 0], letters[gaps + 1, 0])
    between = np.stack([begin, letters[gaps, 1], end, letters[gaps, 3]], axis=1)
    bands = [_band(boxes, level, 0.15, 1), letters[some], letters[some] - half, letters[some] + half]
    bands += [letters[gaps], letters[gaps + 1], between]
    sums, means = _under(dark, np.concatenate(bands))
    touched, on, before, after, left, right, spaces = np.split(means, np.cumsum([len(part) for part in bands])[:-1])
    weights = words.weights[some]
    here, *beside = (float(weights @ np.minimum(part, _MUCH_INK)) for part in (on, before, after))
    around = (left + right) / 2
    inked = around > _SOME_INK
    drawn = dark.sum(dtype=np.int32) if images is None else (dark * ~images).sum(dtype=np.int32)
    return {
        "glyphs_on_ink": share_of(words, touched > _SOME_INK),
        "ink_in_glyphs": min(float(sums[: len(boxes)].sum()) / max(float(drawn), 1.0), 1.0),
        "ink_beside": max(beside) / max(here, float(weights.sum())),
        "ink_between": float(np.median(spaces[inked] / around[inked])) if inked.sum() >= _FEW_GAPS else 0.0,
    }


def _image_measures(dark: Levels, images: Flags, words: Words) -> dict[str, float]:
    measures = {"on_images": share_of(words, _at_middle(images, words))}
    if images.mean() >= _SMALL_IMAGES:
        worded = _covered(dark.shape, words.boxes)
        unread = _BLOCK**2 * int(_lined(dark, images & ~worded).sum())
        measures["text_in_images"] = unread / max(unread + int(worded.sum()), 1)
    return measures


def _lined(dark: Levels, free: Flags) -> Flags:
    """Return the blocks of `free` cells that look like lines of text: rough rows with much ink, and rows with none.

    Photographs are smooth and have no rows without ink. Drawings have little ink.
    """
    down, across = dark.shape[0] // _BLOCK, dark.shape[1] // _BLOCK
    tiles = (down, _BLOCK, across, _BLOCK)
    part = np.s_[: down * _BLOCK, : across * _BLOCK]
    rows = ((dark > _INK / 2) & free)[part].reshape(tiles).mean(axis=3)  # share of ink: (down, row, across)
    ink, room = rows.mean(axis=1), free[part].reshape(tiles).mean(axis=(1, 3))
    steps = np.abs(np.diff(dark.astype(np.int16), axis=1, append=dark[:, -1:]))[part].reshape(tiles).sum(axis=(1, 3))
    rough = steps > 0.35 * dark[part].reshape(tiles).sum(axis=(1, 3))
    lined = (rows > 0.3).any(axis=1) & (rows < 0.07).any(axis=1)
    return np.asarray(lined & rough & (room > 0.8) & (ink > 0.12) & (ink < 0.65))


def share_of(words: Words, chosen: Flags) -> float:
    """Return the share of letters and digits in the chosen words (n,), capped at 1 against rounding."""
    return min(float(words.weights @ chosen), 1.0)


def doubled_share(words: Words) -> float:
    """Return the share of letters and digits in words that are printed a second time at one place."""
    x, y = words.boxes[:, 0], words.boxes[:, 1]
    order = np.lexsort((x + 1.37 * y, words.hashes))  # brings equal words at one place together
    near = _SAME_PLACE * words.sizes[order][1:]
    twice = (
        (np.diff(words.hashes[order]) == 0) & (np.abs(np.diff(x[order])) < near) & (np.abs(np.diff(y[order])) < near)
    )
    return min(float(words.weights[order][1:][twice].sum()), 1.0)


@cache
def _monospaced(font: str) -> bool:
    """Guess from its name whether a font gives all letters one width."""
    return bool(_MONOSPACED.search(font))


@cache
def _letter_tables() -> tuple[Floats, Floats]:
    """Return for each of 65536 code points the advance in font sizes, and 1 for letters and digits or else 0."""
    advances = np.full(65536, 0.53)
    advances[0x20:0x7F] = [int(number) / 100 for number in _ADVANCES.split()]
    advances[[0x2018, 0x2019]] = 0.28
    for low, high in _WIDE:
        advances[low:high] = 1
    solid = np.fromiter((chr(code).isalnum() for code in range(65536)), np.float64, 65536)
    solid[0xFFFD] = solid[0xE000:0xF900] = 1  # letters without a known value
    return advances, solid


def _runs(codes: Ints, of_char: Ints) -> tuple[Ints, Ints]:
    """Return the first and last character of each run without spaces inside a span."""
    space = (codes == 0x20) | (codes == 0xA0) | (codes == 0x3000) | (codes == 0x09)
    edge = of_char[1:] != of_char[:-1]
    firsts = np.flatnonzero(~space & np.concatenate([[True], space[:-1] | edge]))
    lasts = np.flatnonzero(~space & np.concatenate([space[1:] | edge, [True]]))
    return firsts, lasts


def _placed(rows: Floats, start: Floats, stop: Floats) -> tuple[Floats, Flags]:
    """Return the boxes of words that take `start` to `stop` (0 to 1) of their span, and which words are level."""
    x0, y0, x1, y1, across, down = rows[:, :6].T
    backwards = (across < -0.7) | (down < -0.7) | (rows[:, 10] > 0)
    start, stop = np.where(backwards, 1 - stop, start), np.where(backwards, 1 - start, stop)
    level = np.abs(across) >= np.abs(down)
    left, right = (np.where(level, x0 + part * (x1 - x0), edge) for part, edge in ((start, x0), (stop, x1)))
    top, bottom = (np.where(level, edge, y0 + part * (y1 - y0)) for part, edge in ((start, y0), (stop, y1)))
    return np.stack([left, top, right, bottom], axis=1), level


def _band(boxes: Floats, level: Flags, top: float, bottom: float) -> Floats:
    """Return the part of level boxes from `top` to `bottom` (0 to 1), and the middle half of upright ones."""
    x0, y0, x1, y1 = boxes.T
    width, height = np.where(level, 0, x1 - x0) / 4, np.where(level, y1 - y0, 0)
    return np.stack([x0 + width, y0 + top * height, x1 - width, y1 - (1 - bottom) * height], axis=1)


def _darkness(channel: PIL.Image.Image) -> Levels:
    """Return how far each cell (height, width) is from the level of the paper around it, 0 to 255.

    Paper may be dark and ink light. It has the lightest or the darkest level of a block, whichever is nearer to the
    block's mean.
    """
    cells = np.asarray(channel.reduce(CELL_PX))
    height, width = cells.shape
    down, across = -(-height // _BLOCK), -(-width // _BLOCK)
    padded = np.pad(cells, ((0, down * _BLOCK - height), (0, across * _BLOCK - width)), mode="edge")
    strips = padded.reshape(down, _BLOCK, across * _BLOCK)
    lightest = strips.max(axis=1).reshape(down, across, _BLOCK).max(axis=2)
    darkest = strips.min(axis=1).reshape(down, across, _BLOCK).min(axis=2)
    mean = strips.sum(axis=1, dtype=np.uint16).reshape(down, across, _BLOCK).sum(axis=2) / _BLOCK**2
    paper = np.where(lightest - mean <= mean - darkest, lightest, darkest)
    paper = paper.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:height, :width]
    levels: Levels = np.maximum(np.maximum(cells, paper) - np.minimum(cells, paper), _FAINT) - np.uint8(_FAINT)
    return levels


def _under(dark: Levels, boxes: Floats) -> tuple[Floats, Floats]:
    """Return sum and mean of `dark` in each box (n, 4) of pixels, with fractions of cells."""
    height, width = dark.shape
    total = np.zeros((height + 1, width + 1), np.int32)  # sums over all cells above and to the left
    np.cumsum(dark, axis=0, dtype=np.int32, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    flat, cells = total.ravel(), boxes / CELL_PX
    x, y = np.clip(cells[:, 0::2], 0, width - 1e-3), np.clip(cells[:, 1::2], 0, height - 1e-3)
    column, row = x.astype(np.int32), y.astype(np.int32)
    x, y = (x - column)[:, None, :], (y - row)[:, :, None]
    corner = row[:, :, None] * (width + 1) + column[:, None, :]  # (n, top and bottom, left and right)
    upper = flat[corner] * (1 - x) + flat[corner + 1] * x
    lower = flat[corner + width + 1] * (1 - x) + flat[corner + width + 2] * x
    at = upper * (1 - y) + lower * y
    sums = at[:, 1, 1] - at[:, 0, 1] - at[:, 1, 0] + at[:, 0, 0]
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    return sums, sums / np.maximum(areas, 0.25)


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
