"""The words of a page's text layer, with their places and letters.

Typical widths of letters give the words inside a span, exactly enough to tell words from the spaces between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from datagen.pdf.page import Page, Span
from datagen.pdf.text.bidi import is_leftward

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Columns = tuple[Floats, ...]

_LIKELY = (0.8, 1.15)  # least and most width of a span by typical advances, of its width; else its letters are anywhere
_NARROW, _FAR = 0.12, 6.0  # of the font size; the least and the widest space between spans
_TALL = 4.0  # font sizes; no box from descender to ascender is higher
_LEADER = 4  # the most characters of a word that are no letters; rows of dots have more
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
    letters: Floats  # (n,) number of letters and digits; whole numbers, whose sums do not depend on their order
    level: Flags  # (n,) written to the right or left
    sizes: Floats  # (n,) of the font, pixels
    visible: Flags  # (n,)
    turned: Flags  # (n,) sideways or upside down; false for vertical Chinese
    hashes: Ints  # (n,) equal for words of equal text
    gaps: Ints  # indices of the words behind which a space lies for sure, with another word of their line behind it


def words_of(page: Page) -> Words | None:
    """Return the page's words; None where the page has no letter or digit."""
    spans, texts, columns = _spans(page)
    if not spans:
        return None
    if not np.isfinite(columns).all():
        columns = np.nan_to_num(columns, posinf=1e6, neginf=-1e6)
    codes = _codes("".join(texts))
    advances, solid, _ = _letter_tables()
    lengths = np.fromiter(map(len, texts), np.intp, len(texts))
    of_char = np.repeat(np.arange(len(texts)), lengths)
    firsts, lasts = _runs(codes, of_char)
    letters = np.add.reduceat(solid[codes], firsts)  # spaces after a word count nothing
    if letters.sum() == 0:
        return None
    widths = advances[codes]
    monospaced = np.fromiter((_monospaced(span.font) for span in spans), np.bool_, len(spans))
    if monospaced.any():
        widths[monospaced[of_char]] = 0.6
    run = np.zeros(len(codes) + 1)
    widths.cumsum(out=run[1:])
    span, end = of_char[firsts], lengths.cumsum()
    begins = run[end - lengths]
    begin, whole = begins[span], (run[end] - begins)[span]
    x0, y0, x1, y1, across, down, size, visible, number, leftward = columns.take(span, axis=1)
    start, stop = (run[firsts] - begin) / whole, (run[lasts + 1] - begin) / whole
    boxes, level = _placed((x0, y0, x1, y1), (across, down), leftward > 0, start, stop)
    sizes = _sizes((x0, y0, x1, y1), (across, down), size)
    dotted = np.zeros(len(spans), np.bool_)
    dotted[span[lasts - firsts + 1 - letters > _LEADER]] = True
    natural = whole * sizes / np.maximum(x1 - x0, 1)
    return Words(
        boxes=boxes,
        letters=letters,
        level=level,
        sizes=sizes,
        visible=visible > 0,
        turned=(across < 0.7) & ~((down > 0.7) & (advances[codes[firsts]] == 1)),
        hashes=_hashes(codes, firsts),
        gaps=_gaps(boxes, sizes, span, number, np.where(dotted[span], 0, natural), letters),
    )


def _spans(page: Page) -> tuple[list[Span], list[str], Floats]:
    """Return the spans with text, their texts, and (10, n) numbers of each.

    The numbers are box, direction, font size, whether visible, line, and whether written to the left.
    """
    spans, texts = [], []
    numbers: list[float] = []
    for number, line in enumerate(page.lines):
        across, down = line.direction
        for span in line.spans:
            text = span.text
            if text and not text.isspace():
                spans.append(span)
                texts.append(text)
                leftward = not text.isascii() and is_leftward(text)
                numbers += (*span.box, across, down, span.size, span.visible, number, leftward)
    return spans, texts, np.array(numbers, np.float64).reshape(-1, 10).T.copy()


def share_of(words: Words, chosen: Flags) -> float:
    """Return the share of letters and digits in the chosen words (n,)."""
    return float(words.letters[chosen].sum() / words.letters.sum())


def doubled_share(words: Words, text: str) -> float:
    """Return the share of letters and digits in words that the page prints a second time at one place, and the answer.

    `text` is the answer. The reading rules drop most such prints.
    """
    x, y = words.boxes[:, 0], words.boxes[:, 1]
    order = np.lexsort((x + 1.37 * y, words.hashes))  # brings equal words at one place together
    near = _SAME_PLACE * words.sizes[order][1:]
    twice = (
        (np.diff(words.hashes[order]) == 0) & (np.abs(np.diff(x[order])) < near) & (np.abs(np.diff(y[order])) < near)
    )
    if not twice.any():
        return 0.0
    codes = _codes(text)
    firsts, _ = _runs(codes, np.zeros(len(codes), np.intp))
    doubled, rows, count = np.unique(words.hashes[order][1:][twice], return_index=True, return_counts=True)
    printed, answered = (
        (np.sort(hashes).searchsorted(doubled, "right") - np.sort(hashes).searchsorted(doubled))
        for hashes in (words.hashes, _hashes(codes, firsts))
    )
    letters = words.letters[order][1:][twice][rows]
    return float((letters * np.clip(answered - printed + count, 0, count)).sum() / words.letters.sum())


@cache
def _monospaced(font: str) -> bool:
    """Guess from its name whether a font gives all letters one width."""
    return bool(_MONOSPACED.search(font))


@cache
def _letter_tables() -> tuple[Floats, Floats, Flags]:
    """Return tables of 65536 code points: the advance in font sizes, 1 for letters and digits, true for spaces."""
    advances = np.full(65536, 0.53)
    advances[0x20:0x7F] = [int(number) / 100 for number in _ADVANCES.split()]
    advances[[0x2018, 0x2019]] = 0.28
    for low, high in _WIDE:
        advances[low:high] = 1
    solid = np.fromiter((chr(code).isalnum() for code in range(65536)), np.float64, 65536)
    solid[0xFFFD] = solid[0xE000:0xF900] = 1  # letters without a known value
    solid[0xA78F] = 0  # a letter by Unicode's tables; rows of it are leaders
    spaces = np.zeros(65536, np.bool_)
    spaces[[0x09, 0x0A, 0x20, 0xA0, 0x3000]] = True
    return advances, solid, spaces


def _sizes(boxes: Columns, directions: Columns, size: Floats) -> Floats:
    """Return the font sizes of words in pixels.

    A Type 3 font states its size in units of its own, often a fraction of a pixel. The box tells the size then.
    """
    (x0, y0, x1, y1), (across, down) = boxes, directions
    height = np.where(np.abs(across) > 0.99, y1 - y0, np.where(np.abs(down) > 0.99, x1 - x0, 0))
    return np.where(size < height / _TALL, height / 1.3, size)


def _gaps(boxes: Floats, sizes: Floats, span: Ints, line: Floats, natural: Floats, letters: Floats) -> Ints:
    """Return the indices of words behind which a space lies for sure.

    `natural` is the width of a word's span by typical advances, in widths of the span. Where the two differ, as in the
    row of a table that is one span, or where it is 0, as with leaders, positions inside the span are unknown.
    """
    space = np.maximum(boxes[1:, 0], boxes[:-1, 0]) - np.minimum(boxes[1:, 2], boxes[:-1, 2])
    inside = (span[1:] == span[:-1]) & (natural[:-1] > _LIKELY[0]) & (natural[:-1] < _LIKELY[1])
    across = (span[1:] != span[:-1]) & (space > _NARROW * sizes[:-1]) & (space < _FAR * sizes[:-1])
    worded = (letters[1:] > 0) & (letters[:-1] > 0)  # no dots of a leader
    return np.flatnonzero((line[1:] == line[:-1]) & worded & (inside | across))


def _codes(text: str) -> Ints:
    """Return the code points; those beyond the first plane (mathematical, rare Han) as one wide character."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.intp)
    if not text.isascii():
        points[points > 65535] = 0x4E00
    return points


def _hashes(codes: Ints, firsts: Ints) -> Ints:
    """Return numbers (n,) that are equal for words of equal letters and digits. `firsts` are the words' beginnings."""
    if not len(firsts):
        return np.zeros(0, np.intp)
    _, solid, _ = _letter_tables()
    inner = codes[firsts[0] :]
    starts = firsts - firsts[0]
    lengths = np.append(starts[1:], len(inner)) - starts
    positions = np.arange(1, len(inner) + 1) - np.repeat(starts, lengths)
    return np.add.reduceat(inner * solid[inner].astype(np.intp) * positions, starts)


def _runs(codes: Ints, of_char: Ints) -> tuple[Ints, Ints]:
    """Return the first and last character of each run without spaces inside a span."""
    _, _, spaces = _letter_tables()
    solid = ~spaces[codes]
    edge = of_char[1:] != of_char[:-1]
    firsts, lasts = solid.copy(), solid.copy()
    firsts[1:] &= ~solid[:-1] | edge
    lasts[:-1] &= ~solid[1:] | edge
    return np.flatnonzero(firsts), np.flatnonzero(lasts)


def _placed(spans: Columns, directions: Columns, leftward: Flags, start: Floats, stop: Floats) -> tuple[Floats, Flags]:
    """Return the boxes of words that take `start` to `stop` (0 to 1) of their span, and which words are level."""
    (x0, y0, x1, y1), (across, down) = spans, directions
    backwards = (across < -0.7) | (down < -0.7) | leftward
    if backwards.any():
        start, stop = np.where(backwards, 1 - stop, start), np.where(backwards, 1 - start, stop)
    level = np.abs(across) >= np.abs(down)
    boxes = np.empty((len(x0), 4))
    boxes[:, 0], boxes[:, 2] = np.where(level, x0 + start * (x1 - x0), x0), np.where(level, x0 + stop * (x1 - x0), x1)
    boxes[:, 1], boxes[:, 3] = np.where(level, y0, y0 + start * (y1 - y0)), np.where(level, y1, y0 + stop * (y1 - y0))
    return boxes, level
