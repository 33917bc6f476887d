"""Printed characters of a page → lines and spans, in one way for all backends.

Pure array arithmetic on positions, without a PDF library. Distances are in font sizes, and independent of the zoom.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from datagen.pdf.backends.leftward import in_reading_order
from datagen.pdf.backends.letters import Characters, Flags, Floats, Style, mended, selected, spaces_before
from datagen.pdf.page import Line, Rect, Span

_SAME_BASELINE = 0.6  # of the font size; superscripts rise by less, lines are further apart
_TRACED = re.compile(r"\*.+-\d{3,}(-Identity-[HV])?$|Fd\d{3,}")  # names that Acrobat's ClearScan gives to its fonts
_MAX_GAP = 0.8  # of the font size; a wider gap begins another column (MuPDF's number)
_MAX_OVERLAP = 1.0  # of the font size; letters of a ligature share a glyph, accents lie on a letter
_RAISED = 0.1  # of the font size; superscripts rise by more


def lines(characters: Characters) -> tuple[Line, ...]:
    """Return the lines, cut into spans of one style. Unseen characters, accents and spaces are mended before."""
    characters = mended(_sane(characters))
    if not len(characters.codes):
        return ()
    characters, has_spaces = in_reading_order(characters)
    spaces = spaces_before(characters)
    if has_spaces is not None:
        spaces &= ~has_spaces
    starts, size, direction = characters.starts, characters.of("size"), characters.of("direction")
    first = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    offset = characters.origin - characters.origin[first]
    rise = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]  # above the first baseline
    raised = rise > _RAISED * size
    changed = starts.copy()
    changed[1:] |= (characters.style[1:] != characters.style[:-1]) | (raised[1:] != raised[:-1])
    span_starts = np.flatnonzero(changed)
    texts = _texts(characters, spaces, span_starts)
    looks = [(style.size, style.font, style.color, _is_seen(style), style.bold) for style in characters.styles]
    styles = characters.style[span_starts].tolist()
    columns = (texts, _unions(characters.box, span_starts), [looks[style] for style in styles])
    spans = [
        Span(text, box, size, font, color, seen, bold, superscript)
        for text, box, (size, font, color, seen, bold), superscript in zip(
            *columns, raised[span_starts].tolist(), strict=True
        )
    ]
    line_starts = np.flatnonzero(starts)
    of_line = np.searchsorted(span_starts, [*line_starts, len(starts)]).tolist()
    boxes = _unions(characters.box, line_starts)
    return tuple(
        [
            Line(tuple(spans[begin:end]), box, characters.styles[styles[begin]].direction)
            for (begin, end), box in zip(pairwise(of_line), boxes, strict=True)
        ]
    )


def _is_seen(style: Style) -> bool:
    """Whether the text is painted, and not OCR of a scan whose glyphs are traced from it: nobody has checked that."""
    return style.visible and not (style.font[:1] in "*F" and _TRACED.match(style.font))


def line_starts(characters: Characters, height: Floats) -> Characters:
    """Return the characters with lines begun where they leave the baseline or the word, for a backend without lines.

    `height` (N,) is from the font's descender to its ascender, in pixels.
    """
    size, direction = characters.of("size"), characters.of("direction")
    advance = _advances(characters.box, direction, height)
    step = np.diff(characters.origin, axis=0, prepend=characters.origin[:1])
    along = (step * direction).sum(axis=1)
    across = np.abs(step[:, 0] * direction[:, 1] - step[:, 1] * direction[:, 0])
    gap = along - np.roll(advance, 1)
    larger = np.maximum(size, np.roll(size, 1))
    turned = (direction * np.roll(direction, 1, axis=0)).sum(axis=1) < 0.99
    starts = turned | (across > _SAME_BASELINE * larger) | (gap > _MAX_GAP * larger) | (gap < -_MAX_OVERLAP * larger)
    starts[0] = True
    return characters._replace(starts=starts, advance=advance)


def _sane(characters: Characters) -> Characters:
    """Return the characters without those of no size or no place, which nobody sees."""
    size = characters.of("size")
    numbers = np.hstack([characters.box, characters.origin, characters.advance[:, None]])
    sane = np.isfinite(numbers).all(axis=1) & np.isfinite(size) & (size > 0)
    if sane.all():
        return characters
    return selected(characters, sane)


def _texts(characters: Characters, spaces: Flags, starts: npt.NDArray[np.int64]) -> list[str]:
    """Return the text of each span. `spaces` says before which characters a space is added."""
    stops = np.append(starts[1:], len(spaces))
    if not characters.texts:
        added = np.flatnonzero(spaces)
        codes = np.insert(characters.codes, added, 0x20)
        moved = np.append(np.cumsum(spaces), 0)  # spaces up to and with a row
        text = codes.astype("<u4").tobytes().decode("utf-32-le", "replace")
        begins = (starts + moved[starts] - spaces[starts]).tolist()
        return [text[begin:end] for begin, end in pairwise([*begins, len(text)])]
    pieces = [chr(code) for code in characters.codes.tolist()]
    for row, piece in characters.texts.items():
        pieces[row] = piece
    for row in np.flatnonzero(spaces).tolist():
        pieces[row] = " " + pieces[row]
    return ["".join(pieces[start:stop]) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def _advances(box: Floats, direction: Floats, height: Floats) -> Floats:
    """Return the widths (N,) along the direction of writing, computed from upright boxes around slanted glyphs."""
    cosine, sine = np.abs(direction).T
    x0, y0, x1, y1 = box.T
    side = np.where(cosine >= sine, x1 - x0, y1 - y0)
    widths: Floats = np.maximum(side - height * np.minimum(cosine, sine), 0.0) / np.maximum(cosine, sine)
    return widths


def _unions(boxes: Floats, starts: npt.NDArray[np.int64]) -> list[Rect]:
    """Return the box around each group of rows; `starts` has the first row of each group."""
    least, most = np.minimum.reduceat(boxes, starts), np.maximum.reduceat(boxes, starts)
    return list(map(tuple, np.hstack([least[:, :2], most[:, 2:]]).tolist()))
