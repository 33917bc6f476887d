r"""The symbols that a formula of LaTeX prints, counted token by token, without their arrangement.

It knows nothing of the translation, so that a symbol lost or doubled there is noticed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from datagen.markdown.formulas.symbols import ACCENTS, BRACES, symbols

_ARGUMENT = r"\s*\{(?:[^{}]|\{[^{}]*\})*\}"
_UNSEEN = (
    rf"\\(?:begin|end)\s*\{{(?:array|subarray)\*?\}}(?:\s*\[[^\]]*\])?(?:{_ARGUMENT})?"
    r"|\\begin\s*\{alignedat\}\s*\{[^{}]*\}|\\begin\s*\{(?:aligned|gathered|split)\}\s*\[[^\]]*\]"
    rf"|\\(?:hspace|mspace)\s*\*?{_ARGUMENT}|\\(?:hskip|kern|mkern|mskip)\s*-?\s*[\d.]+\s*[a-z]{{2}}"
    r"|\\(?:left|right|middle|[bB]igg?[lrm]?)\s*\.(?!\d)"
    r"|\\\\\s*\*?\s*(?:\[[^\]]*\])?|\\cfrac\s*\[[^\]]*\]|\\operatorname\s*\*|\\[,:;>! ]|[\s{}&^_~$]"
)
_TOKEN = re.compile(
    rf"(?P<unseen>{_UNSEEN})|\\(?:begin|end)\s*\{{(?P<env>[a-zA-Z]+)\*?\}}"
    r"|\\(?P<name>[A-Za-z]+)|\\(?P<escaped>.)|(?P<char>.)",
    re.DOTALL,
)
_PHANTOM = re.compile(r"\\[hv]?phantom(?![A-Za-z])")
_BRACE = re.compile(r"\\[A-Za-z]+|\\.|\S")
_GENFRAC = re.compile(r"\\genfrac\s*\{([^{}]*)\}\s*\{([^{}]*)\}\s*\{[^{}]*\}\s*\{[^{}]*\}")
_OPTION = re.compile(r"(\\(?:sqrt|x[A-Za-z]*arrow|xmapsto))\s*\[([^\]]*)\]")
_ANGLES = re.compile(r"\\(left|right|middle|[bB]igg?[lrm]?)\s*([<>])")
_SIDES = {
    "pmatrix": "()",
    "bmatrix": "[]",
    "Bmatrix": "{}",
    "vmatrix": "||",
    "Vmatrix": "‖‖",
    "cases": "{",
    "dcases": "{",
    "rcases": "}",
    "drcases": "}",
}
_SPELLED = {
    "pmod": "(mod)",
    "pod": "()",
    "bmod": "mod",
    "limsup": "limsup",
    "liminf": "liminf",
    "sqrt": "√",
    "binom": "()",
    "dbinom": "()",
    "tbinom": "()",
    "choose": "()",
    "brack": "[]",
    "brace": "{}",
    "not": "\u0338",
    "ket": "|⟩",
    "bra": "⟨|",
    "ldots": "…",
    "xrightarrow": "→",
    "xleftarrow": "←",
    "xleftrightarrow": "↔",
    "xRightarrow": "⇒",
    "xLeftarrow": "⇐",
    "xLeftrightarrow": "⇔",
    "xmapsto": "↦",
    "xhookrightarrow": "↪",
    "xhookleftarrow": "↩",
    "injlim": "injlim",
    "projlim": "projlim",
    **{
        name: name
        for name in (
            "arccos arccot arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim ln log max "
            "min mod Pr sec sgn sin sinh sup tan tanh"
        ).split()
    },
}
_FOLD = str.maketrans({**dict.fromkeys("-−–", "-"), "*": "∗", **dict.fromkeys("'′’‘`", "'"), "ı": "i", "ȷ": "j"})
_JOINED = str.maketrans("", "", "_-'—“”")  # TeX joins these in words: '' is ”, --- is —
_HAS_WORDS = re.compile(r"\\(?:text|[mh]box|emph)")


def printed(tex: str) -> Counter[str]:
    """Return how often a formula prints each character, as `folded` names characters."""
    tex = _OPTION.sub(r"\1 \2 ", _GENFRAC.sub(r" \1 \2 ", _without_phantoms(tex)))
    tex = _ANGLES.sub(lambda match: {"<": "⟨", ">": "⟩"}[match[2]], tex)
    return folded("".join(map(_of_token, _TOKEN.finditer(tex))), tex)


def folded(text: str, tex: str) -> Counter[str]:
    """Return the characters of a formula's text, without their alphabets: 𝐱 is x, ≠ is = with a stroke."""
    plain = "".join(unicodedata.normalize("NFKD", text).translate(_FOLD).split())
    return Counter(plain.translate(_JOINED) if _HAS_WORDS.search(tex) else plain)


def _of_token(match: re.Match[str]) -> str:
    if match["unseen"]:
        return ""
    if match["env"]:
        return _sides(match["env"])[0 if match[0].startswith("\\begin") else 1]
    if match["name"]:
        name = match["name"]
        return _SPELLED.get(name) or symbols().get(name) or ACCENTS.get(name) or BRACES.get(name) or ""
    if match["escaped"]:
        return "‖" if match["escaped"] == "|" else match["escaped"]
    return match["char"]


def _sides(environment: str) -> tuple[str, str]:
    """Return the delimiters that the beginning and the end of an environment print."""
    sides = _SIDES.get(environment, "")
    return (sides[:1], sides[1:]) if environment[0] not in "dr" and "cases" not in environment else (sides, "")


def _without_phantoms(tex: str) -> str:
    """Return a formula without the arguments that take room and print nothing."""
    parts, start = [], 0
    for match in _PHANTOM.finditer(tex):
        if match.start() < start:
            continue  # inside of another one
        parts.append(tex[start : match.start()])
        start = _end_of_argument(tex, match.end())
    return "".join([*parts, tex[start:]])


def _end_of_argument(tex: str, start: int) -> int:
    depth = 0
    for brace in _BRACE.finditer(tex, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
    return len(tex)
