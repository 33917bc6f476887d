"""Pandoc's inlines → words of running text with their styles; numbers of list items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from datagen.markdown.blocks import Style
from datagen.pdf.text.glyphs import IS_UNSPACED, UNSPACED, cleaner

Node = dict[str, Any]

CHUNK = 12
"""Characters of a piece of a long word, such as an address. A line may break between two pieces."""

_LONGEST = 24  # characters of the longest word that is not cut
# Lines break between characters of scripts without spaces, and after hyphens, dashes and slashes.
_TOKEN = re.compile(rf"[{UNSPACED}]|[^{UNSPACED}\-‐–—/]+[\-‐–—/]*|[\-‐–—/]+")
_ADDRESS_TOKEN = re.compile(r"[^\W\d_]+|\d+|.", re.DOTALL)  # where Typst breaks addresses
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
_PLAIN = ("Span", "Link", "Cite", "SmallCaps", "Underline")  # inlines without a style of their own
_QUOTES = {"DoubleQuote": "“”", "SingleQuote": "‘’"}


def styled_leaves(nodes: Iterable[Node], styles: tuple[Style, ...]) -> Iterator[tuple[Node, tuple[Style, ...]]]:
    """Yield the innermost inlines, each with the styles around it."""
    for node in nodes:
        kind, content = node["t"], node.get("c", [])
        if kind in _STYLES:
            own = _STYLES[kind]
            yield from styled_leaves(content, styles if own in styles else (*styles, own))
        elif kind == "Quoted":
            quotes = _QUOTES[content[0]["t"]]
            yield {"t": "Str", "c": quotes[0]}, styles
            yield from styled_leaves(content[1], styles)
            yield {"t": "Str", "c": quotes[1]}, styles
        elif kind == "Link" and _unresolved(content):
            yield {"t": "Str", "c": "??"}, styles  # as LaTeX prints it
        elif kind == "Cite" and any(inside["t"] == "RawInline" for inside in content[1]):
            yield {"t": "Str", "c": "[?]"}, styles
        elif kind == "Math" and _BLANK.fullmatch(content[1]):  # an invisible formula: "$~$", "$\\!$"
            yield {"t": "Space"} if _GAP.search(content[1]) else {"t": "Str", "c": ""}, styles
        elif kind in _PLAIN:
            yield from styled_leaves(content if kind in ("SmallCaps", "Underline") else content[1], styles)
        else:
            yield node, styles


def tokens(text: str, space: bool) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a text, each with whether a space is before it."""
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
    return IS_UNSPACED.match(text[-1:]) is not None


def plain(nodes: Iterable[Node]) -> str:
    """Return the words of inlines on one line."""
    spaces = {"Space": " ", "SoftBreak": " ", "LineBreak": " "}
    texts = (spaces.get(node["t"], node["c"] if node["t"] == "Str" else "") for node, _ in styled_leaves(nodes, ()))
    return " ".join("".join(texts).split())


def item_marker(attributes: Any, number: int) -> str:
    """Return an item's number as printed, such as "(iv)"."""
    start, style, delimiter = attributes[0], attributes[1]["t"], attributes[2]["t"]
    write = _letters if style.endswith("Alpha") else _roman if style.endswith("Roman") else str
    text = write(start + number).upper() if style.startswith("Upper") else write(start + number)
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
    """Whether a link is a reference that pandoc has no number for."""
    attributes, inside = dict(link[0][2]), link[1]
    return "reference-type" in attributes and len(inside) == 1 and inside[0].get("c") == f"[{attributes['reference']}]"
