"""Letters and digits in the alphabets of mathematics: italic, bold, script, Fraktur and so on."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

ALPHABETS = {
    "it": "ITALIC",
    "bf": "BOLD",
    "bi": "BOLD ITALIC",
    "cal": "SCRIPT",
    "bcal": "BOLD SCRIPT",
    "frak": "FRAKTUR",
    "bb": "DOUBLE-STRUCK",
    "sf": "SANS-SERIF",
    "bsf": "SANS-SERIF BOLD",
    "tt": "MONOSPACE",
}
"""Short names of the alphabets. "rm" is the plain, upright one."""

_BOLDER = {"rm": "bf", "it": "bi", "cal": "bcal", "sf": "bsf"}
_HOLES = {  # letters that Unicode had before it had the alphabets
    "it": {"h": "ℎ"},
    "cal": dict(zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)),
    "frak": dict(zip("CHIRZ", "ℭℌℑℜℨ", strict=True)),
    "bb": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)),
}
_INSTEAD = {
    "bi": "bf",
    "bcal": "bi",
    "bb": "bf",
    "cal": "it",
    "frak": "bf",
    "tt": "it",
    "sf": "it",
}  # lacks Greek or digits
_SCRIPT_OF_LETTER = re.compile(r"^(?:LATIN|GREEK) (?:LUNATE )?|(?<=CAPITAL )LETTER |(?<=SMALL )LETTER ")


def bolder(alphabet: str) -> str:
    """Return the bold alphabet of the same shape, or the same one."""
    return _BOLDER.get(alphabet, alphabet)


@cache
def in_alphabet(char: str, alphabet: str) -> str:
    """Return a letter or digit in an alphabet. Other characters stay."""
    if alphabet == "rm" or not (char.isalnum() or char in "∂∇"):
        return char
    if alphabet == "it" and (char.isdigit() or "Α" <= char <= "Ω" or char == "∇"):
        return char  # upright, as in TeX
    if char in _HOLES.get(alphabet, {}):
        return _HOLES[alphabet][char]
    name = _SCRIPT_OF_LETTER.sub("", unicodedata.name(char, ""))
    try:
        return unicodedata.lookup(f"MATHEMATICAL {ALPHABETS[alphabet]} {name}")
    except KeyError:
        return in_alphabet(char, _INSTEAD[alphabet]) if alphabet in _INSTEAD else char
