"""Characters of a label: ligatures, widths, spaces, and the joining of two printed lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from datagen.pdf.text.korean import HANGUL, KoreanLines

_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_FULLWIDTH = {
    code: chr(code - 0xFEE0) for first, last in ("０９", "ＡＺ", "ａｚ") for code in range(ord(first), ord(last) + 1)
}
_SPACES = dict.fromkeys([0x09, 0x0A, 0x0D, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " ")
# These are invisible. The joiners U+200C and U+200D stay: they change the shape of Persian and Indic letters.
_UNSEEN: dict[int, str] = dict.fromkeys([0x200B, 0x2060, 0xFEFF, *range(0xFFF9, 0xFFFC)], "")
# Fonts map ideographs to radicals of the same shape (⼀ for 一); NFKC maps them to the ideograph.
_RADICALS = {code: unicodedata.normalize("NFKC", chr(code)) for code in [0x2E9F, 0x2EF3, *range(0x2F00, 0x2FD6)]}

SOFT_HYPHEN = "\u00ad"
RTL = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
"""A letter of a right-to-left script."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff65"
    "\U00020000-\U0003ffff"
)
"""Characters of scripts without spaces between words, as the inside of a regular expression's class."""

IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_UNSPACED_PUNCTUATION = re.compile(r"[\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")
_MIXED = {  # letters or digits beside Chinese and Japanese: without a space, and with one
    kind: [re.compile(f"{han}{space}{kind}|{kind}{space}{han}") for space in ("", " ")]
    for kind in ("[A-Za-z]", "[0-9]")
    for han in ["[\u3041-\u30fe\u4e00-\u9fff]"]
}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LAST_WORD = re.compile(r"([\w-]*[^\W\d_])[-\u2010]$")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_WHOLE_PREFIXES = {"well", "self"}  # hardly ever the first syllables of a longer word


@cache
def cleaner(ligatures: str, fullwidth: str) -> Callable[[str], str]:
    """Return the function that turns the text of a span into text of a label.

    Every kind of space becomes a space, zero-width characters are removed, and radicals become ideographs. NFKC as a
    whole is not applied, because it changes visible characters: ², ½, ① and Chinese punctuation. Ligatures may become
    "letters", and letters and digits of full width "ascii"; "keep" leaves either.
    """
    table: dict[int, str] = _SPACES | _UNSEEN | _RADICALS
    table |= _LIGATURES if ligatures == "letters" else {}
    table |= _FULLWIDTH if fullwidth == "ascii" else {}
    is_changed = re.compile(f"[{''.join(map(chr, table))}]").search  # in a third of the time of `translate`

    def clean(text: str) -> str:
        if (text.isascii() and text.isprintable()) or not is_changed(text):
            return text
        return text.translate(table)

    return clean


_ADDRESS = re.compile(r"(?:https?://|ftp://|www\.)\S+$")
_CUT_MARKS = "/.?=&#%_~:"


class Joiner:
    """A joiner of printed lines. Where a rule cannot decide, the rest of the page does."""

    def __init__(self, page_text: Callable[[], str]) -> None:
        """Take a function that returns the page's lines as printed, each with the space at its end, if it has one."""
        self._page_text = page_text
        self._words: set[str] | None = None
        self._spaced: dict[bool, bool] = {}
        self._korean: KoreanLines | None = None
        self.hyphens = 0  # removed so far

    def join(self, before: str, after: str) -> str:
        """Return two lines as one.

        A hyphen between a letter and a small letter is removed where the page has the word without hyphen elsewhere.
        Else it stays where the word has an earlier hyphen, where the page has the hyphenated word in one piece, after
        "well" or "self", after a single letter and after capitals ("x-" + "axis", "GPU-" + "based"); in all other words
        it is removed. Between other characters the hyphen stays ("GPT-" + "4"). No space follows a hyphen, or the mark
        at which an address is cut ("https://x.org/" + "page"). Scripts
        without spaces between words are joined without a space, and Korean by word. Between Chinese and Latin letters,
        or digits, the majority on the page decides.
        """
        before, after = before.rstrip(), after.lstrip()
        if not before or not after:
            return before + after
        if before[-1] == SOFT_HYPHEN:
            self.hyphens += 1
            return before[:-1] + after
        if before[-1] in "-\u2010" and len(before) > 1 and not before[-2].isspace() and after[0].isalnum():
            if self._breaks_word(before, after):
                self.hyphens += 1
                return before[:-1] + after
            return before + after
        if HANGUL[0] <= before[-1] <= HANGUL[-1] and HANGUL[0] <= after[0] <= HANGUL[-1]:
            self._korean = self._korean or KoreanLines(self._page_text())
            return before + self._korean.space(before, after) + after
        is_address = before[-1] in _CUT_MARKS and (after[0].islower() or after[0].isdigit()) and _ADDRESS.search(before)
        return before + ("" if is_address else self._space(before[-1], after[0])) + after

    def _breaks_word(self, before: str, after: str) -> bool:
        head, tail = _LAST_WORD.search(before.rsplit(maxsplit=1)[-1]), _FIRST_WORD.match(after)
        if not head or not tail or not after[0].islower():
            return False
        if self._words is None:
            self._words = set(map(str.lower, _WORD.findall(self._page_text())))
        earlier, _, first = head[1].lower().rpartition("-")
        last = tail[0].lower()
        if first + last in self._words:
            return True
        if len(first) == 1 or head[1].isupper():
            return False
        return not earlier and f"{first}-{last}" not in self._words and first not in _WHOLE_PREFIXES

    def _space(self, last: str, first: str) -> str:
        if last.isascii() and first.isascii():
            return " "
        unspaced = bool(IS_UNSPACED.match(last)), bool(IS_UNSPACED.match(first))
        if all(unspaced) or _UNSPACED_PUNCTUATION.match(last) or _UNSPACED_PUNCTUATION.match(first):
            return ""
        if not any(unspaced):
            return " "
        is_digit = (first if unspaced[0] else last).isdigit()
        if is_digit not in self._spaced:
            text = self._page_text()
            counts = {kind: [len(pattern.findall(text)) for pattern in patterns] for kind, patterns in _MIXED.items()}
            counted = counts["[0-9]" if is_digit else "[A-Za-z]"]
            tight, spaced = counted if any(counted) else map(sum, zip(*counts.values(), strict=True))
            self._spaced[is_digit] = spaced >= tight
        return " " if self._spaced[is_digit] else ""
