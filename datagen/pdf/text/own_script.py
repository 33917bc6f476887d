"""Letters of a word's own script, where a font has another script's letter of the same shape, or parts of a letter."""

from __future__ import annotations

import re
import unicodedata

_CYRILLIC = "\u0400-\u04ff"
_TWINS = str.maketrans("iIjJ\u00ef\u00cf", "\u0456\u0406\u0458\u0408\u0457\u0407")
_LATIN = {cyrillic: latin for latin, cyrillic in _TWINS.items()}
_TWIN = "[iIjJ\u00ef\u00cf]"
_IN_CYRILLIC = re.compile(f"(?<=[{_CYRILLIC}]){_TWIN}+(?![A-Za-z])|(?<![A-Za-z]){_TWIN}+(?=[{_CYRILLIC}])")
_CYRILLIC_TWIN = "[\u0456\u0406\u0458\u0408]"
_IN_LATIN = re.compile(
    f"(?<=[A-Za-z]){_CYRILLIC_TWIN}+(?![{_CYRILLIC}])|(?<![{_CYRILLIC}]){_CYRILLIC_TWIN}+(?=[A-Za-z])"
)
_ALONE = re.compile(f"(?<=[{_CYRILLIC}] )[iI](?= [{_CYRILLIC}])")  # the Ukrainian "and"
_BREATHINGS = {
    **dict.fromkeys("\u1fbd\u1fbf", "\u0313"), "\u1ffe": "\u0314", "\u1fcd": "\u0313\u0300", "\u1fce": "\u0313\u0301",
    "\u1fcf": "\u0313\u0342", "\u1fdd": "\u0314\u0300", "\u1fde": "\u0314\u0301", "\u1fdf": "\u0314\u0342",
    "\u1fef": "\u0300", **dict.fromkeys("\u0384\u1ffd", "\u0301"),
}  # fmt: skip
_BREATHED = re.compile(f"([{''.join(_BREATHINGS)}])([\u0391\u0395\u0397\u0399\u039f\u03a1\u03a5\u03a9])")
IS_CANDIDATE = re.compile(f"[{_CYRILLIC}{''.join(_BREATHINGS)}]")
"""A character without which `own_script` changes nothing."""


def own_script(text: str) -> str:
    """Return a line whose words are spelt in one script.

    TeX's Cyrillic fonts print Ukrainian і and Serbian ј with Latin letters, or the other way round. Its Greek fonts set
    the breathing of a capital as a character of its own, before the letter.
    """
    text = _IN_LATIN.sub(lambda twin: twin[0].translate(_LATIN), text)
    text, count = _IN_CYRILLIC.subn(lambda twin: twin[0].translate(_TWINS), text)
    if count:
        text = _ALONE.sub(lambda twin: twin[0].translate(_TWINS), text)
    return _BREATHED.sub(lambda pair: unicodedata.normalize("NFC", pair[2] + _BREATHINGS[pair[1]]), text)
