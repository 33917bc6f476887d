"""Gates over a page's text: keep it, or say which gate refused it with value and threshold."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from datagen.unit import Rejected

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGates:
    """Thresholds a page's text must meet."""

    min_chars: int = 20  # printed characters; fewer: blank page, scan, picture
    max_chars: int = 20_000  # more than any model's context holds
    max_garbled_share: float = 0.02  # characters that no reader could have printed


def judge(text: str, gates: TextGates) -> Rejected | None:
    """The first gate that refuses `text`, or None."""
    printed = sum(not char.isspace() for char in text)
    if printed < gates.min_chars:
        return Rejected(gate="min_chars", value=printed, threshold=gates.min_chars)
    if printed > gates.max_chars:
        return Rejected(gate="max_chars", value=printed, threshold=gates.max_chars)
    garbled = garbled_share(text)
    if garbled > gates.max_garbled_share:
        return Rejected(gate="garbled", value=garbled, threshold=gates.max_garbled_share)
    return None


def garbled_share(text: str) -> float:
    """Share of printed characters that are replacement, private-use, control or unassigned ones.

    They come from fonts without a Unicode map. A wrong map that gives proper letters is not seen here.
    """
    printed = [char for char in text if not char.isspace()]
    garbled = sum(char == "\ufffd" or unicodedata.category(char) in {"Co", "Cc", "Cn", "Cs"} for char in printed)
    return garbled / max(len(printed), 1)


def language_of(text: str) -> str:
    """Language by script: "zh" where a fifth of the letters or more are Han, "en" where most are Latin, else "".

    Kana or hangul in greater number than Han is neither. A script test, not a language model: German is "en" here.
    """
    letters = sum(char.isalpha() for char in text)
    han, other_cjk = len(_HAN.findall(text)), len(_KANA_HANGUL.findall(text))
    if letters == 0 or other_cjk > han:
        return ""
    if han >= letters / 5:
        return "zh"
    latin = sum(char.isalpha() and unicodedata.name(char, "").startswith("LATIN") for char in text)
    return "en" if latin >= letters / 2 else ""
