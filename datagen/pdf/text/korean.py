"""The joining of Korean lines: a line may end inside a word, and many documents have no space where it does not."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

HANGUL = "\uac00-\ud7a3"

_IS_HANGUL = re.compile(f"[{HANGUL}]")
_TAIL = 8  # characters by which a line's end is known again
_KEPT_SPACES = (2, 0.08)  # lines, and share of them, that end with a space where the document has such spaces
_LEAST_BOUND = (2, 0.03)  # lines, and share of them, that begin with the rest of a word where words are broken
_DOUBT = 3.0  # times that a syllable is counted before its own statistics count as much as those of all syllables
_BOUND = re.compile(
    r"(?:은|는|을|를|의|에|에서|에는|에게|으로|로|와|과|까지|부터|처럼|이다|입니다|습니다|니다|한다|된다|하며|하고|하는|하여|되는|되어|된|다|며|고|면)(?![가-힣])"
)
"""Particles and endings, which are never words of their own."""


class KoreanLines:
    """The printed lines of a page, as evidence of whether a word goes on behind a line's end."""

    def __init__(self, page_text: str) -> None:
        """Count in the page's printed lines, each with the space at its end if the document has one."""
        lines = page_text.split("\n")
        ends = [line for line in lines if _IS_HANGUL.match(line.rstrip()[-1:])]
        whole = set(ends)
        self._spaced = {line.rstrip()[-_TAIL:]: line[-1:].isspace() for line in ends}
        self._keeps_spaces = _enough(sum(self._spaced.values()), len(ends), _KEPT_SPACES)
        starts = [line.lstrip() for above, line in pairwise(lines) if above in whole]
        self._breaks_words = _enough(sum(bool(_BOUND.match(line)) for line in starts), len(starts), _LEAST_BOUND)
        inner = [word for line in lines for word in line.split()[1:-1]]
        self._words = Counter(inner)
        text = " ".join(re.findall(f"[{HANGUL}]+", " ".join(inner)))
        self._count, self._last, self._first = Counter(text), Counter[str](), Counter[str]()
        for left, right in pairwise(text):
            if right == " ":
                self._last[left] += 1
            if left == " ":
                self._first[right] += 1

    def space(self, before: str, after: str) -> str:
        """Return what stands between two lines that end and begin with hangul: a space, or nothing."""
        if self._keeps_spaces:
            spaced = self._spaced.get(before[-_TAIL:])
            if spaced is not None:
                return " " if spaced else ""
        head, tail = before.rsplit(maxsplit=1)[-1], after.split(maxsplit=1)[0]
        if _BOUND.match(tail) or head + tail in self._words:
            return ""
        if not self._breaks_words or (head in self._words and tail in self._words):
            return " "
        return " " if self._parted(head[-1], tail[0]) else ""

    def _parted(self, last: str, first: str) -> bool:
        """Whether a space is likelier than not between two syllables, by the places of both elsewhere on the page."""
        usual = (sum(self._last.values()) + 1) / (sum(self._count.values()) - self._count[" "] + 3)
        odds = (1 - usual) / usual
        for counts, syllable in ((self._last, last), (self._first, first)):
            share = (counts[syllable] + _DOUBT * usual) / (self._count[syllable] + _DOUBT)
            odds *= share / (1 - share) if share < 1 else len(self._words)
        return odds > 1


def _enough(count: int, of: int, least: tuple[int, float]) -> bool:
    return count >= least[0] and count >= least[1] * of
