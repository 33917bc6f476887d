"""OCR lines → a `Page`, whose reading order and audit are those of PDF pages.

A PDF states the size and baseline of its fonts. Here both are estimated, with errors that reading order would take for
headings and notes. So sizes near that of most letters become this size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import PIL.Image
from PIL.Image import Transpose

from datagen.pdf.page import Line, Page, Rect, Span
from datagen.pdf.text.glyphs import IS_UNSPACED
from datagen.scan.engine import Engine, OcrLine

_ASCENT, _DESCENT = 0.9, 0.25  # font sizes above and below the baseline, as in the boxes of a PDF's text
_ONE_SIZE = 0.2  # of the size of most letters; a smaller difference is an error
_APART = 1.2  # font sizes; a wider space separates the cells of a row, or columns
_POOR = 0.8  # mean confidence; a page that reads worse is tried in other directions
_GUESS = 0.5  # confidence; letters that read worse count against a direction
_DRAWING = 0.6  # confidence; signs without a letter or digit that read worse are a rule or a speck
TURNS = (None, Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
"""By the number of quarter turns to the left."""


def read_upright(engine: Engine, picture: PIL.Image.Image) -> tuple[Sequence[OcrLine], int]:
    """Return the lines of a picture, and by how many quarter turns to the left it was turned to read them.

    A picture that reads badly as it is, is read in the other directions too, and the best one is taken.
    """
    lines = engine.read(picture)
    letters = sum(line.letters for line in lines)
    if not letters or _sureness(lines, 0) > _POOR * letters:
        return lines, 0
    attempts = [lines, *(engine.read(picture.transpose(turn)) for turn in TURNS if turn is not None)]
    best = max(range(len(TURNS)), key=lambda quarters: _sureness(attempts[quarters], _GUESS))
    return attempts[best], best


def is_drawing(line: OcrLine) -> bool:
    """Whether a line is a rule, a frame or a speck that the engine took for signs."""
    return line.letters == 0 and line.confidence < _DRAWING


def page_of(lines: Sequence[OcrLine], picture: PIL.Image.Image, scale: float) -> Page:
    """Return the page that a picture shows. `scale` is its size ÷ that of the picture that the lines were read from.

    The whole page is a picture, so that the audit looks for ink that is like letters and was not read.
    """
    body = _body_size(lines)
    parts = (_line(part, body, scale) for line in lines for part in (_cells(line) if line.level else [line]))
    return Page(picture, tuple(parts), rasters=((0.0, 0.0, float(picture.width), float(picture.height)),))


def _sureness(lines: Sequence[OcrLine], least: float) -> float:
    return sum(line.letters * (line.confidence - least) for line in lines if line.level)


def _body_size(lines: Sequence[OcrLine]) -> float:
    """Return the size that half of the letters have at most."""
    sizes = sorted((line.size, line.letters) for line in lines)
    half, letters = sum(count for _, count in sizes) / 2, 0
    for size, count in sizes:
        letters += count
        if letters >= half:
            return size
    return 1.0


def _cells(line: OcrLine) -> list[OcrLine]:
    """Divide a line where its words are further apart than words of a sentence."""
    starts = [0]
    for number, (left, right) in enumerate(pairwise(line.words), 1):
        if right.box[0] - left.box[2] > _APART * line.size:
            starts.append(number)
    return [line._replace(words=line.words[a:b]) for a, b in pairwise([*starts, len(line.words)])]


def _line(line: OcrLine, body: float, scale: float) -> Line:
    size = body if abs(line.size - body) <= _ONE_SIZE * body else line.size
    top, bottom = line.baseline - _ASCENT * size, line.baseline + _DESCENT * size
    spans = []
    for word, after in zip(line.words, [*line.words[1:], None], strict=True):
        spaced = after is not None and _is_spaced(word.text, after.text)
        x0, y0, x1, y1 = word.box
        if line.level:  # the space belongs to the span, and all spans have one height
            x1, y0, y1 = max(x1, after.box[0] if after and spaced else x1), top, bottom
        box = (x0 * scale, y0 * scale, x1 * scale, y1 * scale)
        spans.append(Span(word.text + " " * spaced, box, size * scale, "", 0, visible=True))
    return Line(tuple(spans), _around(spans), (1.0, 0.0) if line.level else (0.0, -1.0))


def _around(spans: Sequence[Span]) -> Rect:
    """Return the box around spans."""
    x0, y0, x1, y1 = zip(*(span.box for span in spans), strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _is_spaced(text: str, after: str) -> bool:
    """Whether a space stands between two words; the engine divides Chinese into words, too."""
    return not (IS_UNSPACED.match(text[-1]) and IS_UNSPACED.match(after[0]))
