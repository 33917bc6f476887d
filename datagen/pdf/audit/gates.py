"""The audit of a page: whether its text layer agrees with its ink.

`measure` computes the measures of a page, `judge` compares them with the gates. Ledger and index hold the measures
whatever the verdict, so that other gates can be tried without rendering a page again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache

import numpy as np
import numpy.typing as npt

from datagen.pdf.audit.ink import ink_measures
from datagen.pdf.audit.words import Words, doubled_share, share_of, words_of
from datagen.pdf.page import Page
from varyforge.language import Reading, known_languages
from varyforge.outcome import Rejected

MEASURES = (
    "printed_chars",  # characters of the text without spaces
    "chars_per_mpx",  # printed characters per million pixels of the picture
    "garbled",  # share of printed characters that cannot be print
    "unreadable",  # characters that nobody can see in a label: U+FFFD, controls, private use
    "mojibake",  # share of printed characters in UTF-8 read as Latin-1 ("Ã©")
    "plausible",  # share of letters in words that look like a known language; the worst script
    "forward",  # bits per letter by which the text reads better than backwards
    "word_letters",  # mean over letters: length of the letter's word
    "lone",  # share of letters that are a word
    "torn",  # share of Arabic letters that stand alone
    # Of the page's letters and digits, the share …
    "hidden",  # … not painted, or painted over
    "outside",  # … beyond the picture's edge
    "on_images",  # … over or under pictures
    "turned",  # … sideways or upside down, except vertical Chinese
    "doubled",  # … printed a second time at the same place, and twice in the answer
    "glyphs_on_ink",  # … in words with ink beneath
    "font_px",  # font size that nine tenths of the letters and digits reach
    "ink",  # share of the page that is not paper
    "ink_in_glyphs",  # share of ink outside pictures that lies in words; drawings are the rest
    "unread",  # share of the lines of print that no word lies on, outside pictures, estimated
    "text_in_images",  # share of the page's letters that seem to lie in pictures, estimated
    "ink_between",  # ink between words, relative to words: near 1 where the words lie elsewhere
    "ink_beside",  # ink half a line above or below the words, relative to words: above 1 where the layer is shifted
)
"""Names of the measures, which are columns of ledger and index."""

_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u2028\u2029\ud800-\uf8ff\ufdd0-\ufdef\ufffd-\uffff\U000e0000-\U0010ffff]"
)
_MOJIBAKE = re.compile(
    "[\u00c2-\u00df]{c}|[\u00e0-\u00ef]{c}{{2}}|\u00f0{c}{{3}}".format(
        c="[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
        "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
    )
)
"""UTF-8 of characters beyond ASCII, read as Windows' Latin-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageGates:
    """The thresholds of a page, in the order of the checks. A rejection carries the name of the threshold."""

    min_chars: int = 20  # a blank page, a scan or a picture has fewer
    max_chars: int = 20_000  # more than any model's context holds
    max_hidden: float = 0.1  # nobody has checked the OCR layer of a scan. 1 keeps layers that lie on ink
    max_outside: float = 0.02
    max_on_images: float = 1.0  # below 1 also rejects slides on a picture
    max_turned: float = 0.5
    min_font_px: float = 4.0  # smaller print cannot be read
    max_chars_per_mpx: float = 20_000.0  # 50 square pixels per character
    max_garbled: float = 0.02  # fonts without Unicode values
    max_mojibake: float = 0.005
    max_lone: float = 0.5  # l e t t e r s   a p a r t; pages of formulas reach 0.2
    max_word_letters: float = 20.0  # wordswithoutspaces; English 6, Finnish 11
    max_torn: float = 0.25  # Arabic letters that are joined on the page; Persian reaches 0.02, code 0.1
    min_plausible: float = 0.65  # fonts with wrong Unicode values, bad OCR; good pages have over 0.77
    min_forward: float = -0.4  # letters in reversed order; English 0.8, paths in a Chinese manual -0.2
    max_unreadable: int = 0  # one is a wrong label, whatever its share
    languages: list[str] = field(default_factory=list)  # "en", "zh", …; an empty list keeps all
    max_doubled: float = 0.05
    min_glyphs_on_ink: float = 0.95  # white or covered text, layer of another page; good pages have over 0.97
    max_ink_beside: float = 1.3  # a layer shifted by half a line has 1.6; tables in small print reach 0.8
    max_ink_between: float = 0.9  # the layer of another page or of other letters; good pages have under 0.85
    min_ink_in_glyphs: float = 0.01  # drawings with a few words; sketches of a page reach 0.04
    max_unread: float = 0.4  # lines missing from the layer, outlined letters; hatching reaches 0.3
    max_text_in_images: float = 0.6  # pictures of text below a title; pages with charts reach 0.3

    def __post_init__(self) -> None:
        if self.min_chars < 1:
            raise ValueError(f"min_chars is {self.min_chars}, needs at least 1: a page without text is no sample")
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}: no page would be kept")
        for name in ("min_plausible", "min_glyphs_on_ink", "min_ink_in_glyphs"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, a share is from 0 to 1")
        wrong = [item.name for item in fields(self) if getattr(self, item.name) != getattr(self, item.name)]
        if wrong:
            raise ValueError(f"{wrong[0]} is not a number")
        unknown = [language for language in self.languages if language not in known_languages()]
        if unknown:
            raise ValueError(f"languages: {unknown[0]!r} is not recognised; choose from {', '.join(known_languages())}")


_GATES = {  # threshold → measure, and the meaning of a rejected value
    "min_chars": ("printed_chars", "a blank page, a scan or a picture"),
    "max_chars": ("printed_chars", "more text than a model's context holds"),
    "max_hidden": ("hidden", "text that is not painted, or painted over"),
    "max_outside": ("outside", "text beyond the page's edge"),
    "max_on_images": ("on_images", "text over or under pictures"),
    "max_turned": ("turned", "text sideways or upside down"),
    "min_font_px": ("font_px", "print too small to read"),
    "max_chars_per_mpx": ("chars_per_mpx", "more text than the picture can show"),
    "max_garbled": ("garbled", "characters without a Unicode value"),
    "max_mojibake": ("mojibake", "UTF-8 read as Latin-1"),
    "max_lone": ("lone", "letters set apart"),
    "max_word_letters": ("word_letters", "words without spaces between them"),
    "max_torn": ("torn", "joined letters set apart"),
    "min_plausible": ("plausible", "letters that make no words"),
    "min_forward": ("forward", "letters in reversed order"),
    "max_unreadable": ("unreadable", "a character without a meaning in the label"),
    "languages": ("", ""),
    "max_doubled": ("doubled", "text printed twice at one place"),
    "min_glyphs_on_ink": ("glyphs_on_ink", "no ink where text should be"),
    "max_ink_beside": ("ink_beside", "text shifted away from its ink"),
    "max_ink_between": ("ink_between", "ink where spaces should be"),
    "min_ink_in_glyphs": ("ink_in_glyphs", "hardly any ink is text"),
    "max_unread": ("unread", "lines of print that are not in the text"),
    "max_text_in_images": ("text_in_images", "most text lies in pictures"),
}


def measure(page: Page, text: str, reading: Reading) -> dict[str, float]:
    """Return the measures of a page whose answer is `text`, by the names in `MEASURES`. `reading` is that of `text`."""
    printed = _printed(text)
    words = words_of(page)
    return (
        dict.fromkeys(MEASURES, 0.0)
        | {
            "printed_chars": float(len(printed)),
            "chars_per_mpx": len(printed) * 1e6 / (page.picture.width * page.picture.height),
            "garbled": _garbled(printed),
            "unreadable": float(len(_UNREADABLE.findall(text))),
            "mojibake": sum(map(len, _MOJIBAKE.findall(text))) / max(len(printed), 1),
            "plausible": reading.plausible,
            "forward": reading.forward,
            "word_letters": reading.word_letters,
            "lone": reading.lone,
            "torn": reading.torn,
        }
        | (_layer_measures(page, words, text) if words else {})
        | ink_measures(page, words)
    )


def judge(measures: Mapping[str, float], language: str, gates: PageGates) -> Rejected | None:
    """Return the rejection by the first gate that the page does not pass, or None.

    It depends on its arguments alone: the measures may also come from a row of the ledger.
    """
    for gate, (name, meaning) in _GATES.items():
        threshold = getattr(gates, gate)
        if gate == "languages":
            if threshold and language not in threshold:
                detail = f"language {language!r}, wanted {', '.join(threshold)}"
                return Rejected(gate=gate, value=0, threshold=1, detail=detail)
            continue
        value = measures[name]
        if value < threshold if gate.startswith("min_") else value > threshold:
            return Rejected(gate=gate, value=value, threshold=threshold, detail=meaning)
    return None


def _layer_measures(page: Page, words: Words, text: str) -> dict[str, float]:
    """Return the measures that need the text layer and the answer alone."""
    width, height = page.picture.size
    order = np.argsort(words.sizes)
    tenth = np.searchsorted(np.cumsum(words.letters[order]), words.letters.sum() / 10)
    x, y = ((words.boxes[:, :2] + words.boxes[:, 2:]) / 2).T
    return {
        "hidden": share_of(words, ~words.visible),
        "outside": share_of(words, (x < 0) | (y < 0) | (x > width) | (y > height)),
        "turned": share_of(words, words.turned),
        "doubled": doubled_share(words, text),
        "font_px": float(words.sizes[order[tenth]]),
    }


def _printed(text: str) -> npt.NDArray[np.uint32]:
    """Return the code points without spaces."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    printed: npt.NDArray[np.uint32] = codes[_kinds()[np.minimum(codes, 0xFFFE)] != _SPACE]
    return printed


def _garbled(printed: npt.NDArray[np.uint32]) -> float:
    """Return the share of replacement, private-use, control and unassigned characters."""
    bad = (_kinds()[np.minimum(printed, 0xFFFE)] == _BAD) & ((printed < 0x10000) | (printed >= 0xF0000))
    return float(bad.mean()) if len(printed) else 0.0


_SPACE, _BAD = 1, 2


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return `_SPACE`, `_BAD` or 0 for each of the first 65535 code points."""
    kinds = np.zeros(0xFFFF, np.uint8)
    for code in range(0xFFFF):
        char = chr(code)
        if char.isspace():
            kinds[code] = _SPACE
        elif char == "\ufffd" or unicodedata.category(char) in {"Co", "Cc", "Cn", "Cs"}:
            kinds[code] = _BAD
    return kinds
