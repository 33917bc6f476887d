"""Characters that a reader cannot see in a label, such as control codes and the private use area → what the page shows.

Sources: TeX's font encodings (OT1, T1, OML, OMS, OMX), Adobe's Symbol and ZapfDingbats, Microsoft's Wingdings, and the
naming rules of the Adobe Glyph List.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

UNKNOWN = "\ufffd"

_GREEK = "ΓΔΘΛΞΠΣΥΦΨΩ"
_LIGATURES = ("ff", "fi", "fl", "ffi", "ffl")
_TEX: dict[str, tuple[str, ...]] = {  # the codes from 0 to 31
    "OT1": (*_GREEK, *_LIGATURES, *"ıȷ`´ˇ˘¯˚¸ßæœøÆŒØ"),
    "T1": (*"`´ˆ˜¨˝˚ˇ˘¯˙¸˛‚‹›“”„«»–—", "", "₀", *"ıȷ", *_LIGATURES),
    "OML": (*_GREEK, *"αβγδεζηθικλμνξπρστυφχ"),
    "OMS": tuple("−·×∗÷⋄±∓⊕⊖⊗⊘⊙◯∘•≍≡⊆⊇≤≥⪯⪰∼≈⊂⊃≪≫≺≻"),
    "OMX": tuple("()[]⌊⌋⌈⌉{}⟨⟩|∥/\\()()[]⌊⌋⌈⌉{}⟨⟩/\\"),
}
_TEX_FONTS = (
    ("OML", re.compile(r"^(?:cmmi|cmmib|lmmi|mtmi)", re.IGNORECASE)),
    ("OMS", re.compile(r"^(?:cmsy|cmbsy|lmsy|mtsy)", re.IGNORECASE)),
    ("OMX", re.compile(r"^(?:cmex|lmex|mtex)", re.IGNORECASE)),
    ("T1", re.compile(r"^(?:ec[a-z]{2}|sf[a-z]{2}\d|lm.*(?:-t1|ec)|.*8t$)", re.IGNORECASE)),
    ("OT1", re.compile(r"^(?:cm|lm|pplr7|ptmr7)", re.IGNORECASE)),
)
_ANY_TEX = dict(zip(range(0x0B, 0x10), _LIGATURES, strict=True)) | {
    code: _TEX["T1"][code] for code in (0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, *range(0x1B, 0x20))
}
_FEW_CONTROLS = 0.05  # of a font's characters; a font with more has no ligatures there but a code of its own

_SYMBOL: dict[int, str] = dict(
    zip(
        [*range(0x20, 0x7F), *range(0xA0, 0xF0), *range(0xF1, 0xFF)],
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊⟨®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        strict=True,
    )
)
_WINGDINGS = dict(
    zip(
        b"\x20\x21\x22\x23\x28\x29\x2a\x41\x45\x46\x47\x48\x4a\x4c\x52\x54\x58\x6c\x6d\x6e\x6f\x70\x71\x72\x73\x74\x75\x76"
        b"\x77\x7b\x7d\x7e\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x9e\x9f\xa1\xa4"
        b"\xa5\xa7\xa8\xaa\xab\xac\xb6\xd8\xdc\xdf\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe8\xef\xf0\xf1\xf2\xfb\xfc\xfd\xfe",
        " ✏✂✁☎✆✉✌☜☞☝☟☺☹☼❄✠●❍■□◻❑❒⬧⧫◆❖⬥❀❝❞①②③④⑤⑥⑦⑧⑨⑩❶❷❸❹❺❻❼❽❾❿·•○◉◎▪◻✦★✶✰➢➲←→↑↓↖↗↙↘➔⇦⇨⇧⇩✗✓☒☑",
        strict=True,
    )
)
_WINGDINGS_2 = {0x20: " ", 0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x97: "●", 0xA3: "□"}
_DINGBATS = {code: chr(0x2701 + code - 0x21) for code in range(0x21, 0x7F)} | {
    0x20: " ", 0x25: "☎", 0x2A: "☛", 0x2B: "☞", 0x48: "★", 0x6C: "●", 0x6E: "■", 0x73: "▲", 0x74: "▼", 0x75: "◆",
    0x77: "◗",
}  # fmt: skip
_BULLETS = {code: _WINGDINGS[code] for code in (0x6C, 0x6E, 0x6F, 0x71, 0x76, 0xA7, 0xA8, 0xD8, 0xE0, 0xE8, 0xFC)} | {
    0xB7: "•"
}  # those of fonts of any name
_MOST_BULLETS = 6  # different codes of a font; more are an alphabet
_SYMBOL_FONTS = (
    (re.compile(r"wingdings\W?2", re.IGNORECASE), _WINGDINGS_2),
    (re.compile(r"wingdings(?!\W?3)", re.IGNORECASE), _WINGDINGS),
    (re.compile(r"dingbats", re.IGNORECASE), _DINGBATS),
    (re.compile(r"^symbol|symbol(?:mt|ps|neu)|standardsymbols", re.IGNORECASE), _SYMBOL),
)

# The upper part of a bracket in parts stands for the whole; the other parts are left out.
_PARTS: dict[int, str] = dict.fromkeys(range(0x239B, 0x23AF), "") | {
    0x239B: "(", 0x239E: ")", 0x23A1: "[", 0x23A4: "]", 0x23A7: "{", 0x23AB: "}", 0x2320: "∫", 0x2321: "",
}  # fmt: skip
_ADOBE_PARTS = dict(zip(range(0xF8E5, 0xF8FF), ",,,®,©,™,(,,,[,,,{,,,,,),,,],,,},,".split(","), strict=True))
# Adobe's corporate use: old-style figures and small capitals lie 0xF700 above the characters that they stand for.
_STYLED = {code: chr(code - 0xF700) for code in [*range(0xF721, 0xF77F), *range(0xF7A1, 0xF800)]} | {
    0xF6BE: "ȷ", 0xF6D9: "©", 0xF6DA: "®", 0xF6DB: "™", 0xF6DC: "1", 0xF6DE: "—",
} | dict(zip([0xF6C4, 0xF6C5, 0xF6C6, 0xF6C7, 0xF6C8], "гбдпт", strict=True)) | dict(  # as in Serbian
    zip(range(0xF6DF, 0xF6F4), "¢¢,,$$--..abdeilmorst", strict=True)  # raised and lowered
)  # fmt: skip
_OLD_STYLE = {0xF643 + digit: str(digit) for digit in range(10)}  # of Latin Modern
_LATIN_MODERN = re.compile(r"^LM(?:Roman|Mono|Sans)")
_CZECH = {0xFE: "„", 0xFF: "“"}
_CZECH_FONT = re.compile(r"^cs(?:r|bx|ti|sl|ss|tt|csc|itt|bxti|bxsl|sltt|dunh|ssbx|ssi|u)\d+$", re.IGNORECASE)
_ANYWHERE: dict[int, str] = _PARTS | _ADOBE_PARTS | _STYLED | {0x2028: " ", 0x2029: " "}

_NAMES = {
    "dotlessj": "ȷ", "visiblespace": "␣", "compwordmark": "", "cwm": "", "vextendsingle": "", "vextenddouble": "",
    "bracelefttp": "{", "bracerighttp": "}", "parenlefttp": "(", "parenrighttp": ")", "bracketlefttp": "[",
    "bracketrighttp": "]", "nbspace": " ", "sfthyphen": "-", "floorleft": "⌊", "floorright": "⌋", "ceilingleft": "⌈",
    "ceilingright": "⌉", "angbracketleft": "⟨", "angbracketright": "⟩", "contintegral": "∮", "coproduct": "∐",
    "ohm": "Ω", "tie": "⁀", "squaresmallsolid": "▪", "arrowvertex": "", "arrowhorizex": "", "radicalex": "",
    "radicalvertex": "",
}  # fmt: skip
_PART_NAME = re.compile(r"(?:brace|paren|bracket)(?:left|right)?(?:bt|mid|ex)$")
_CALIBRI = {332: "ft", 415: "ti", 425: "tt", 427: "tti"}  # ligatures that Word leaves without a Unicode value
_SIZE_OF_NAME = re.compile(r"(?:big|Big|bigg|Bigg|display|text|wide|wider|widest)$")
_UNI_NAME = re.compile(r"uni((?:[0-9A-F]{4})+)$")
_U_NAME = re.compile(r"u([0-9A-F]{4,6})$")


def unseen(code: int) -> bool:
    """Whether nobody can see a character with this code point in a label: a control, U+FFFD, the private use area."""
    return (
        (code < 0x20 and code not in {0x09, 0x0A, 0x0D})
        or 0x7F <= code < 0xA0
        or code in {0xAD, 0xFFFD, 0x2028, 0x2029}
        or 0xD800 <= code < 0xF900
        or 0xFDD0 <= code < 0xFDF0
        or code & 0xFFFE == 0xFFFE
        or code >= 0xE0000
    )


def in_parts(code: int) -> bool:
    """Whether the character is a part of a large bracket or integral."""
    return code in _PARTS


_DRAWN = re.compile(
    r"^(?:XY(?:DASH|CIRC|BSQL|[AB]TIP|LINE)|LCIRCLEW?|LINEW?)\d+$|^(?:Emmentaler|Feta|FontAwesome)", re.IGNORECASE
)
"""Fonts of pictures, which nobody reads: TeX's pieces of lines and circles, musical notes, icons."""


def is_drawn(font: str) -> bool:
    """Whether the glyphs of a font are pictures."""
    return bool(_DRAWN.search(font))


def is_quote(code: int) -> bool:
    """Whether a code is a quote or dash of T1. A font that has nothing else is in T1: accents stand among letters."""
    return 0x10 <= code <= 0x16


def symbol_table(font: str) -> dict[int, str] | None:
    """Return the table of a font of symbols, from the low byte of a code, or None for a font of text."""
    return next((table for name, table in _SYMBOL_FONTS if name.search(font)), None)


@lru_cache(maxsize=1000)
def recoded_from(font: str) -> int:
    """Return the code from which on, up to 0xFF, a font has other characters than the document says; 0x100 for none.

    Fonts of symbols have pictures at the codes of letters, so that an "h" is a bullet. TeX's Czech fonts have quotes
    at the end.
    """
    if symbol_table(font) not in (None, _SYMBOL) or is_drawn(font):
        return 0
    return min(_CZECH) if _CZECH_FONT.match(font) else 0x100


def repaired(code: int, font: str, private: int, controls: float) -> str:
    """Return the text that the page shows for a code that cannot stand in a label; U+FFFD where nobody knows.

    Args:
        code: The code point.
        font: The font's name.
        private: How many different codes from U+F020 to U+F0FF, of the private use area, the page has in this font.
        controls: The share of control codes among the font's characters.
    """
    if code in _ANYWHERE or is_drawn(font):
        return _ANYWHERE.get(code, "")
    text = _of_font(code, font, private)
    if text is not None:
        return text
    encoding = _tex_encoding(font)
    if code < 0x20 and (encoding or controls <= _FEW_CONTROLS):
        return _TEX[encoding][code] if encoding else _ANY_TEX.get(code, UNKNOWN)
    return "¨" if code == 0x7F and encoding == "OT1" else UNKNOWN


def _of_font(code: int, font: str, private: int) -> str | None:
    """Return the text of a code that fonts use each in their own way; None for any other code."""
    for codes, name in ((_CZECH, _CZECH_FONT), (_OLD_STYLE, _LATIN_MODERN)):
        if code in codes and name.match(font):
            return codes[code]
    table = symbol_table(font)
    if table is not None and (code < 0x100 or 0xF020 <= code <= 0xF0FF):
        text = table.get(code & 0xFF, UNKNOWN)
        return _PARTS.get(ord(text), text)
    if 0xF020 <= code <= 0xF0FF:
        low = code & 0xFF
        if private > _MOST_BULLETS:
            return UNKNOWN if unseen(low) else chr(low)
        return _BULLETS.get(low, UNKNOWN)
    return None


def _tex_encoding(font: str) -> str:
    return next((encoding for encoding, name in _TEX_FONTS if name.match(font)), "")


def named(name: str, lookup: Callable[[str], int]) -> str:
    """Return the text of a glyph's name by the rules of the Adobe Glyph List, U+FFFD for an unknown name.

    `lookup` returns the code point of a name of the list, or 0.
    """
    texts = [_part(part, lookup) for part in name.partition(".")[0].split("_")]
    text = "".join(texts)
    return UNKNOWN if not name or UNKNOWN in text else text


def numbered(glyph: int, font: str) -> str:
    """Return the text of a glyph that is known by its number in a widespread font, U+FFFD for any other."""
    return _CALIBRI.get(glyph, UNKNOWN) if font.startswith("Calibri") else UNKNOWN


def _part(name: str, lookup: Callable[[str], int]) -> str:
    name = _SIZE_OF_NAME.sub("", name) or name
    if name in _NAMES or _PART_NAME.match(name):
        return _NAMES.get(name, "")
    if uni := _UNI_NAME.match(name):
        codes = [int(uni[1][first : first + 4], 16) for first in range(0, len(uni[1]), 4)]
    elif u := _U_NAME.match(name):
        codes = [int(u[1], 16)]
    else:
        codes = [lookup(name)]
    codes = [ord(_ANYWHERE[code]) if _ANYWHERE.get(code) else code for code in codes]
    return UNKNOWN if any(code == 0 or unseen(code) for code in codes) else "".join(map(chr, codes))
