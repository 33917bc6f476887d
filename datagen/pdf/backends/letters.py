"""Rules for the letters of a page: symbols that a label can hold, accents on their letters, spaces between words.

Array arithmetic on `Characters`; a Python step per character only where one needs a repair. Gaps are in font sizes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from datagen.pdf.backends import symbols
from datagen.pdf.text.glyphs import IS_UNSPACED, RTL, SOFT_HYPHEN
from varyforge.language import CodeTable

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

_SPACE_GAP = 0.15  # a wider gap is a space
_ONLY_SPACE_GAP = 0.12  # the same in a line without a space character; a paper has 0.136
_LISTING_GAP = 0.04  # characters of a monospaced font that are further apart, on average, are those of a listing
_EVEN_SPACE_GAP = 0.3  # the least gap of a space there, as listings set their characters apart unevenly
_LEAST_SPACE_GAP = 0.05  # a gap is at least so wide, and …
_SPACE_JUMP = 0.04  # … so much wider than those within words, in a line without any other space
_JUMP_CHARS = 25  # the least characters of such a line; words are shorter
_JUMP_SHARE = 1 / 15  # of its gaps, at least, are spaces; a hyphen may stand apart
_TRACKING = 0.08  # letters of a word are closer; in more than half of a line they are set apart
_MOST_TRACKING = 0.25  # a wider usual gap separates words of one letter, as in tables
_TRACKED_PAIRS = 6  # the least pairs of letters that tell
_TRACKED_SPACE = (1.6, 0.1)  # of the usual gap, and more; the least gap between words set apart
_EVEN_WIDTH = 0.02  # the widths of a monospaced font's characters differ by less
_NARROW = np.array([ord(char) for char in "il.,:;'!|"])
_ACCENT_REACH = 0.1  # of the letter's width; the middle of its accent is not further out
_PRINTED_HYPHEN = 0.1  # of the font size; a soft hyphen that is as wide is seen

_SPACING_ACCENTS = {
    **dict.fromkeys(map(ord, "`"), "\u0300"), **dict.fromkeys(map(ord, "´΄"), "\u0301"),
    **dict.fromkeys(map(ord, "ˆ^"), "\u0302"), **dict.fromkeys(map(ord, "˜~"), "\u0303"),
    **dict.fromkeys(map(ord, "¯ˉ"), "\u0304"), ord("˘"): "\u0306", ord("˙"): "\u0307", ord("¨"): "\u0308",
    ord("˚"): "\u030a", ord("˝"): "\u030b", ord("ˇ"): "\u030c", ord("¸"): "\u0327", ord("˛"): "\u0328",
}  # fmt: skip
_DOTLESS = {"ı": "i", "ȷ": "j"}
_INNER_MARKS = "\u0302\u0306\u031b"  # of Vietnamese; the tone comes last
_BLANK, _LETTER, _UNSPACED, _WIDE_POINT, _MARK, _RTL, _ACCENT, _ODD = (1 << bit for bit in range(8))
_WIDE_POINTS = re.compile(
    r"[\u3000-\u3004\u3008-\u3020\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)


class Style(NamedTuple):
    """The style that the characters of a span share."""

    font: str
    size: float  # pixels
    color: int
    visible: bool
    bold: bool
    direction: tuple[float, float]  # of writing, as seen


class Characters(NamedTuple):
    """The N printed characters of a page in the order of the document."""

    codes: npt.NDArray[np.int64]  # (N,) code points
    box: Floats  # (N, 4) pixels: from the origin to the next one, from descender to ascender
    origin: Floats  # (N, 2) pixels: on the baseline
    advance: Floats  # (N,) pixels along the direction of writing
    style: npt.NDArray[np.int64]  # (N,) index into `styles`
    starts: Flags  # (N,) it begins a line
    apart: Flags  # (N,) the backend sees a space or line break before it that the document does not have
    styles: Sequence[Style]
    texts: dict[int, str]  # row → text of a character that is not that of its code

    def of(self, field: str) -> npt.NDArray[np.float64]:
        """Return a number of each character's style, (N,) or (N, 2)."""
        values: Floats = np.array([getattr(style, field) for style in self.styles], np.float64)[self.style]
        return values


def mended(characters: Characters) -> Characters:
    """Return the characters with unseen ones replaced and accents on their letters."""
    kinds = _kinds_of(characters.codes)
    present = int(np.bitwise_or.reduce(kinds)) if len(kinds) else 0
    texts = dict(characters.texts)
    recoded = [symbols.recoded_from(style.font) for style in characters.styles]
    if present & _ODD or min(recoded, default=0x100) < 0x100:
        codes = characters.codes
        odd = (kinds & _ODD > 0) | ((codes < 0x100) & (codes >= np.array(recoded)[characters.style]))
        _replace(characters, np.flatnonzero(odd), texts)
    if not texts and not present & _ACCENT:
        return characters
    if present & _ACCENT or any(ord(text[0]) in _accents() for text in texts.values() if text):
        rows = {row for row, text in texts.items() if text and ord(text[0]) in _accents()}
        rows |= set(np.flatnonzero(kinds & _ACCENT).tolist()) - set(texts)
        _compose(characters, sorted(rows), texts)
    keep = np.ones(len(characters.codes), bool)
    keep[[row for row, text in texts.items() if not text]] = False
    return selected(characters._replace(texts=texts), keep)


def _replace(characters: Characters, rows: npt.NDArray[np.int64], texts: dict[int, str]) -> None:
    """Add the text of each row that no label can hold as it is."""
    fonts = [characters.styles[style].font for style in characters.style[rows].tolist()]
    codes = characters.codes[rows].tolist()
    private = Counter({(font, code) for font, code in zip(fonts, codes, strict=True) if 0xF020 <= code <= 0xF0FF})
    privates = Counter(font for font, _ in private)
    controls = Counter(font for font, code in zip(fonts, codes, strict=True) if code < 0x20)
    quotes = Counter(font for font, code in zip(fonts, codes, strict=True) if symbols.is_quote(code))
    letters: Counter[str] = Counter()
    for style, count in enumerate(np.bincount(characters.style, minlength=len(characters.styles)).tolist()):
        letters[characters.styles[style].font] += count
    size = characters.of("size")
    for row, code, font in zip(rows.tolist(), codes, fonts, strict=True):
        if row in texts or code in {0x09, 0x0A, 0x0D}:
            continue
        if code == ord(SOFT_HYPHEN):
            last = row + 1 == len(characters.codes) or characters.starts[row + 1]
            if not last:
                texts[row] = "-" if characters.advance[row] > _PRINTED_HYPHEN * size[row] else ""
        else:
            share = controls[font] / letters[font] if quotes[font] < letters[font] else 0.0
            texts[row] = symbols.repaired(code, font, privates[font], share)


def _compose(characters: Characters, rows: Sequence[int], texts: dict[int, str]) -> None:
    """Put each accent on the letter that its middle lies over, which may stand before or after it."""
    marks: dict[int, list[str]] = {}
    for row in rows:
        accent = texts.get(row) or chr(characters.codes[row])
        letter = _letter_of(characters, row, texts)
        if letter is not None:
            marks.setdefault(letter, []).append(_accents().get(ord(accent), accent))
            texts[row] = ""
            characters.apart[min(row, letter) : max(row, letter) + 2] = False  # a backend's spaces beside an accent
    for letter, accents in marks.items():
        base = texts.get(letter) or chr(characters.codes[letter])
        accents.sort(key=lambda mark: mark not in _INNER_MARKS)
        texts[letter] = unicodedata.normalize("NFC", _DOTLESS.get(base, base) + "".join(accents))


def _letter_of(characters: Characters, row: int, texts: dict[int, str]) -> int | None:
    """Return the row of an accent's letter; None for an accent that stands alone, such as "~" in a path."""
    best, nearest = None, np.inf
    along = 0 if abs(characters.styles[characters.style[row]].direction[0]) > 0.5 else 1  # x or y
    low, high = characters.box[row, [along, along + 2]].tolist()
    across = characters.box[row, [1 - along, 3 - along]].tolist()
    for step in (1, -1, 2, -2):  # further ones for a second accent
        other = row + step
        if not 0 <= other < len(characters.codes):
            continue
        text = texts.get(other, chr(characters.codes[other]))
        if len(text) != 1 or not (text.isalpha() or text in _DOTLESS) or ord(text) in _accents():
            continue
        x0, x1 = characters.box[other, [along, along + 2]].tolist()
        y0, y1 = characters.box[other, [1 - along, 3 - along]].tolist()
        distance = abs((low + high) / 2 - (x0 + x1) / 2)
        if distance <= (0.5 + _ACCENT_REACH) * (x1 - x0) and y0 < across[1] and y1 > across[0] and distance < nearest:
            best, nearest = other, distance
    return best


def selected(characters: Characters, keep: Flags) -> Characters:
    """Return the characters where `keep` (N,) is set. A line goes on to begin where its first character is left out."""
    before = np.cumsum(keep) - 1
    return characters._replace(
        codes=characters.codes[keep],
        box=characters.box[keep],
        origin=characters.origin[keep],
        advance=characters.advance[keep],
        style=characters.style[keep],
        starts=np.diff(np.cumsum(characters.starts)[keep], prepend=0) != 0,
        apart=characters.apart[keep],
        texts={int(before[row]): text for row, text in characters.texts.items() if keep[row]},
    )


def spaces_before(characters: Characters) -> Flags:
    """Return where a space is missing before a character (N,), told by the gap to the one before in its line."""
    kinds = _kinds_of(characters.codes)
    before = _before(kinds)
    gap = _gaps(characters, kinds, before)
    line = np.cumsum(characters.starts) - 1
    blank, open_pair = kinds & _BLANK > 0, ~characters.starts & ((kinds | before) & _BLANK == 0)
    spaced = np.bincount(line[blank], minlength=int(line[-1]) + 1) > 0
    least = np.where(spaced, _SPACE_GAP, _ONLY_SPACE_GAP)
    unspaced = open_pair & (kinds & before & _UNSPACED > 0)
    if unspaced.any():  # justified lines of Chinese set all characters apart
        stretch = np.bincount(line[unspaced], np.clip(gap[unspaced], 0, 1), len(least))
        least = least + stretch / np.maximum(np.bincount(line[unspaced], minlength=len(least)), 1)
    letters = open_pair & (kinds & before & _LETTER > 0) & ((kinds | before) & _UNSPACED == 0)
    least = _least_of_odd_lines(least, spaced, line, gap, open_pair, letters)
    even = _are_even(characters)
    near = open_pair & even & np.roll(even, 1) & (gap < _SPACE_GAP)
    apart = np.bincount(line[near], gap[near], len(least)) > _LISTING_GAP * np.bincount(
        line[near], minlength=len(least)
    )
    listed = even & np.roll(even, 1) & apart[line]
    wide: Flags = open_pair & ((gap > np.where(listed, _EVEN_SPACE_GAP, least[line])) | characters.apart)
    wide &= ~unspaced & (kinds & _MARK == 0) & ((kinds | before) & _WIDE_POINT == 0)
    return wide


def _least_of_odd_lines(
    least: Floats, spaced: Flags, line: npt.NDArray[np.int64], gap: Floats, pairs: Flags, letters: Flags
) -> Floats:
    """Return the least gap of a space by line (L,), other than `least` for words set apart and words hardly apart."""
    count = len(least)
    tracked = np.bincount(line[letters & (gap > _TRACKING)], minlength=count)
    of_letters = np.bincount(line[letters], minlength=count)
    for number in np.flatnonzero((of_letters >= _TRACKED_PAIRS) & (2 * tracked > of_letters)).tolist():
        usual = float(np.median(gap[letters & (line == number)]))
        factor, more = _TRACKED_SPACE
        if usual <= _MOST_TRACKING:
            least[number] = max(least[number], factor * usual, usual + more)
    joined = ~spaced & (np.bincount(line[pairs], minlength=count) >= _JUMP_CHARS)
    joined &= np.bincount(line[pairs & (gap > least[line])], minlength=count) == 0
    for number in np.flatnonzero(joined & (2 * of_letters > np.bincount(line[pairs], minlength=count))).tolist():
        ordered = np.sort(gap[pairs & (line == number)])
        jumps = np.where(ordered[1:] >= _LEAST_SPACE_GAP, np.diff(ordered), 0)
        widest = int(jumps.argmax())
        if jumps[widest] >= _SPACE_JUMP and len(jumps) - widest >= max(2, _JUMP_SHARE * len(jumps)):
            least[number] = (ordered[widest] + ordered[widest + 1]) / 2
    return least


def _are_even(characters: Characters) -> Flags:
    """Return which characters (N,) are of a monospaced font: its i is as wide as its letters."""
    count, size = len(characters.styles), characters.of("size")
    width = characters.advance / size
    letters = (characters.codes > 0x20) & (characters.codes < 0x7F)
    least, most = np.full(count, np.inf), np.zeros(count)
    np.minimum.at(least, characters.style[letters], width[letters])
    np.maximum.at(most, characters.style[letters], width[letters])
    narrow = letters & np.isin(characters.codes, _NARROW)
    slim, wide = (np.bincount(characters.style[some], minlength=count) > 0 for some in (narrow, letters & ~narrow))
    even: Flags = (slim & wide & (most - least < _EVEN_WIDTH) & (least > 0))[characters.style]
    return even


def _gaps(characters: Characters, kinds: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8]) -> Floats:
    """Return each character's gap to what is printed before it in its line, in font sizes (N,)."""
    size, direction = characters.of("size"), characters.of("direction")
    along = (characters.origin * direction).sum(axis=1)
    stop = along + characters.advance
    line = np.cumsum(characters.starts)
    apart = line * (2 * (np.abs(along).max() + np.abs(stop).max()) + 1)  # so that lines do not meet
    reach = np.maximum.accumulate(stop + apart) - apart  # marks without width do not move it back
    gap = along - _before(reach)
    both = kinds & before & _RTL > 0
    if both.any():
        gap = np.where(both, np.maximum(along - _before(stop), _before(along) - stop), gap)
    gaps: Floats = gap / np.maximum(size, _before(size))
    return gaps


def _before(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the value of the row before; the first row has the last one's. `np.roll` takes five times as long."""
    return np.concatenate([values[-1:], values[:-1]])


@cache
def _accents() -> dict[int, str]:
    """Return the combining mark of each spacing accent; marks stand for themselves."""
    return _SPACING_ACCENTS | {code: chr(code) for code in range(0x300, 0x345)}


def rtl_letters(codes: npt.NDArray[np.int64]) -> Flags:
    """Return which code points (N,) are letters of right-to-left scripts."""
    letters: Flags = _kinds_of(codes) & _RTL > 0
    return letters


def _kinds_of(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the kinds of code points as bits (N,)."""
    kinds = _KINDS(codes)
    if len(codes) and codes.max() > 0xFFFF:
        kinds = np.where(codes > 0xFFFF, np.uint8(0), kinds)
        kinds = np.where(codes >= 0xE0000, np.uint8(_ODD), kinds)
        kinds = np.where((codes >= 0x20000) & (codes < 0x40000), np.uint8(_LETTER | _UNSPACED), kinds)
    return kinds


def _kinds_of_char(char: str) -> int:
    code = ord(char)
    return (
        _BLANK * (char.isspace() and not symbols.unseen(code))
        | _LETTER * char.isalpha()
        | _UNSPACED * bool(IS_UNSPACED.match(char))
        | _WIDE_POINT * bool(_WIDE_POINTS.match(char))
        | _MARK * (unicodedata.combining(char) > 0 or unicodedata.category(char) == "Mn")
        | _RTL * bool(RTL.match(char))
        | _ACCENT * (code in _accents())
        | _ODD * (symbols.unseen(code) or symbols.in_parts(code) or code in {0x2320, 0x2321})
    )


_KINDS = CodeTable(_kinds_of_char)
