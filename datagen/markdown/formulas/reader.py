r"""A formula of LaTeX, token by token, with the arguments of commands."""

from __future__ import annotations

import re

from datagen.markdown.formulas.setting import FormulaError

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|\s+|.", re.DOTALL)
_LENGTH = re.compile(r"\s*(-?)\s*(\d*\.?\d+|\d+\.)\s*(pt|em|ex|mu|cm|mm|in|pc|bp|sp)\s*")
_EM = {"em": 1, "ex": 0.43, "mu": 1 / 18, "pt": 0.1, "bp": 0.1, "mm": 0.285, "cm": 2.85, "in": 7.2, "pc": 1.2, "sp": 0}
_ROW_GAP = re.compile(r"\s*-?\s*(?:[\d.]+\s*(?:[a-z]{2}|\\[A-Za-z]+)|\\(?:baselineskip|jot|parskip|[a-z]+skipamount))")
_MOST_EM = 10  # of a gap; a wider one is a layout of its own


class FormulaReader:
    """The tokens of a formula and the place that was read up to."""

    def __init__(self, tex: str) -> None:
        self._tokens = _TOKEN.findall(tex)
        self._next = 0

    def peek(self) -> str:
        """Return the next token that is not blank; "" at the end."""
        while self._next < len(self._tokens) and self._tokens[self._next].isspace():
            self._next += 1
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def take(self) -> str:
        """Return the next token that is not blank, and go on.

        Raises:
            FormulaError: the formula ends.
        """
        token = self.peek()
        if not token:
            raise FormulaError("not_read")
        self._next += 1
        return token

    def take_if(self, *tokens: str) -> str:
        """Return the next token if it is one of these, and go on; else ""."""
        return self.take() if self.peek() in tokens else ""

    def expect(self, token: str) -> None:
        """Go on behind a token.

        Raises:
            FormulaError: another token is next.
        """
        if self.take() != token:
            raise FormulaError("not_read")

    def raw(self, opening: str = "{", closing: str = "}") -> str:
        """Return the source of an argument in braces or, without braces, of one token."""
        if self.peek() != opening:
            return self.take()
        self.take()
        depth = 1
        parts: list[str] = []
        while self._next < len(self._tokens):
            token = self._tokens[self._next]
            self._next += 1
            depth += {"{": 1, "}": -1}.get(token, 0) if opening == "{" else 0
            if token == closing and depth <= 1 and (opening != "{" or depth == 0):
                return "".join(parts)
            parts.append(token)
        raise FormulaError("not_read")

    def option(self) -> str | None:
        """Return the source of an optional argument in brackets; None without one."""
        return self.raw("[", "]") if self.peek() == "[" else None

    def row_gap(self) -> None:
        r"""Go on behind the star and the length that may follow a line break.

        Raises:
            FormulaError: brackets hold something else, which some environments print and others do not.
        """
        self.take_if("*")
        gap = self.option()
        if gap is not None and not _ROW_GAP.match(gap):
            raise FormulaError("not_read")

    def word(self) -> str:
        """Return an argument that is a plain word of several letters, and go on behind it; else ""."""
        start = self._next
        if self.peek() == "{":
            inside = self.raw()
            if len(inside) > 1 and inside.isascii() and inside.isalpha():
                return inside
        self._next = start
        return ""

    def length(self) -> float:
        r"""Return a length in em, which is in braces or, behind \hskip and \kern, without."""
        if self.peek() == "{":
            return em(self.raw())
        rest = "".join(self._tokens[self._next : self._next + 20])
        match = _LENGTH.match(rest)
        if not match:
            raise FormulaError("not_read")
        read = 0
        while read < match.end():
            read += len(self._tokens[self._next])
            self._next += 1
        return em(match[0])


def em(text: str) -> float:
    """Return a length in em, for a font of 10 points.

    Raises:
        FormulaError: not a length, or a longer one than a gap has.
    """
    match = _LENGTH.fullmatch(text)
    if not match:
        raise FormulaError("not_read")
    length = float(match[1] + match[2]) * _EM[match[3]]
    if abs(length) > _MOST_EM:
        raise FormulaError("not_read")
    return length
