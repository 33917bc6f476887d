r"""Compares each formula's glyphs, as Typst has drawn them, with what its LaTeX asks for.

A sheet has every formula of a document on a page of its own. Three readings must agree: the glyphs in the order in
which they were drawn, those that the translation expects, and those of `printed`, which reads the LaTeX without
translating it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from datagen.markdown.formulas.printed import folded, printed
from datagen.markdown.formulas.translate import Formula

_MOST_OVERLAP = 0.3  # of the smaller glyph; a slanted letter over its neighbour reaches 0.26
_SAME = str.maketrans("𝚤𝚥ıȷ", "𝑖𝑗𝑖𝑗")  # one glyph, which a PDF may call by either name
_STRETCHED = frozenset("√⏞⏟⎴⎵⏜⏝")
_SLANTED = frozenset("∫∬∭⨌∮∯∰∱∲∳⨏⨖")


class DrawnFormula(NamedTuple):
    """A page of the sheet."""

    glyphs: str  # without spaces, in the order in which they were drawn; "\ufffd" for one that no font has
    boxes: Sequence[tuple[str, tuple[float, float, float, float]]]  # ink of each glyph in points
    rules: int


def fault(tex: str, formula: Formula, drawn: DrawnFormula) -> str:
    """Return the reason why a formula is not what its LaTeX says; "" if it is."""
    glyphs = _plain(drawn.glyphs)
    if glyphs != _plain(formula.glyphs) or drawn.rules != formula.rules:
        return "with_other_symbols"
    if folded(glyphs, tex) != printed(tex):
        return "with_other_symbols"
    return "with_letters_over_letters" if _overlap(drawn.boxes) else ""


def _plain(glyphs: str) -> str:
    return "".join(
        unicodedata.normalize("NFKC", char) if "ﬀ" <= char <= "ﬆ" else char for char in glyphs.translate(_SAME)
    )


def _overlap(boxes: Sequence[tuple[str, tuple[float, float, float, float]]]) -> bool:
    solid = [
        (char, box)
        for char, box in boxes
        if char not in _STRETCHED and char not in _SLANTED and not unicodedata.combining(char)
    ]
    solid.sort(key=lambda one: one[1][0])
    for number, (_, one) in enumerate(solid):
        for _, other in solid[number + 1 :]:
            if other[0] >= one[2]:
                break  # sorted by left edges
            if _shared(one, other) > _MOST_OVERLAP * min(_area(one), _area(other)):
                return True
    return False


def _shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
