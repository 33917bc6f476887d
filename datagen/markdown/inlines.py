"""Pandoc's inlines → the words of running text and how they are set; numbers of items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from datagen.markdown.blocks import Style
from datagen.pdf.text.glyphs import UNSPACED, cleaner

Node = dict[str, Any]

CHUNK = 12
"""Characters of the pieces of a long word, such as an address: between them a line may break."""

_LONGEST = 24  # characters of a word that is not cut
# Lines break between characters of scripts without spaces, and after hyphens, dashes and slashes.
_TOKEN = re.compile(rf"[{UNSPACED}]|[^{UNSPACED}\-‐–—/]+[\-‐–—/]*|[\-‐–—/]+")
_ADDRESS_TOKEN = re.compile(r"[^\W\d_]+|\d+|.", re.DOTALL)  # Typst breaks addresses there too
UNSEEN = re.compile("[\u00ad\u0000-\u0008\u000b-\u001f\u007f-\u009f]")
"""Soft hyphens and control characters."""
_BLANK = re.compile(r"(?:\\[!,;:> ]|\\q?quad(?![A-Za-z])|[~{}\s])*")
_GAP = re.compile(r"~|\\[^!]")

_STYLES: dict[str, Style] = {
    "Emph": "emph",
    "Strong": "strong",
    "Strikeout": "strike",
    "Superscript": "sup",
    "Subscript": "sub",
}
_PLAIN = ("Span", "Link", "Cite", "SmallCaps", "Underline")  # inlines of which the content alone is shown
_QUOTES = {"DoubleQuote": "“”", "SingleQuote": "‘’"}


def leaves(nodes: Iterable[Node], styles: tuple[Style, ...]) -> Iterator[tuple[Node, tuple[Style, ...]]]:
    """Inlines without inlines in them, with the styles they stand in."""
    for node in nodes:
        kind, content = node["t"], node.get("c", [])
        if kind in _STYLES:
            own = _STYLES[kind]
            yield from leaves(content, styles if own in styles else (*styles, own))
        elif kind == "Quoted":
            quotes = _QUOTES[content[0]["t"]]
            yield {"t": "Str", "c": quotes[0]}, styles
            yield from leaves(content[1], styles)
            yield {"t": "Str", "c": quotes[1]}, styles
        elif kind == "Link" and _unresolved(content):
            yield {"t": "Str", "c": "??"}, styles  # as LaTeX prints it
        elif kind == "Cite" and any(inside["t"] == "RawInline" for inside in content[1]):
            yield {"t": "Str", "c": "[?]"}, styles
        elif kind == "Math" and _BLANK.fullmatch(content[1]):  # nothing to see: "$~$", "$\\!$"
            yield {"t": "Space"} if _GAP.search(content[1]) else {"t": "Str", "c": ""}, styles
        elif kind in _PLAIN:
            yield from leaves(content if kind in ("SmallCaps", "Underline") else content[1], styles)
        else:
            yield node, styles


def tokens(text: str, space: bool) -> Iterator[tuple[str, bool]]:
    """Pieces of a text and whether a space stands before each."""
    clean = cleaner("letters", "keep")(UNSEEN.sub("", text))
    space = space or clean.startswith(" ")
    for word in clean.split():
        for token in (_ADDRESS_TOKEN if "://" in word else _TOKEN).findall(word):
            size = CHUNK if len(token) > _LONGEST else len(token)
            for start in range(0, len(token), size):
                yield token[start : start + size], space
                space = False
        space = True


def is_unspaced(text: str) -> bool:
    """Whether a text ends in a script without spaces between words."""
    return bool(text) and re.fullmatch(rf"[{UNSPACED}]", text[-1]) is not None


def plain(nodes: Iterable[Node]) -> str:
    """The words of inlines, in one line."""
    said = {"Space": " ", "SoftBreak": " ", "LineBreak": " "}
    texts = (said.get(node["t"], node["c"] if node["t"] == "Str" else "") for node, _ in leaves(nodes, ()))
    return " ".join("".join(texts).split())


def item_marker(attributes: Any, number: int) -> str:
    """The number of an item as it is printed."""
    start, style, delimiter = attributes[0], attributes[1]["t"], attributes[2]["t"]
    value = start + number
    text = {
        "LowerAlpha": lambda: _letters(value),
        "UpperAlpha": lambda: _letters(value).upper(),
        "LowerRoman": lambda: _roman(value),
        "UpperRoman": lambda: _roman(value).upper(),
    }.get(style, lambda: str(value))()
    return {"OneParen": f"{text})", "TwoParens": f"({text})"}.get(delimiter, f"{text}.")


def _letters(value: int) -> str:
    text = ""
    while value > 0:
        value, rest = divmod(value - 1, 26)
        text = chr(ord("a") + rest) + text
    return text or "0"


def _roman(value: int) -> str:
    text = ""
    for worth, sign in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        "m cm d cd c xc l xl x ix v iv i".split(),
        strict=True,
    ):
        text += sign * min(value // worth, 20)
        value %= worth
    return text or "0"


def _unresolved(link: Any) -> bool:
    """Whether a link is a reference to what pandoc has no number for."""
    attributes, inside = dict(link[0][2]), link[1]
    return "reference-type" in attributes and len(inside) == 1 and inside[0].get("c") == f"[{attributes['reference']}]"
