"""A formula or a part of one: Typst's code, and the glyphs and rules that the code draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datagen.markdown.formulas.alphabets import in_alphabet

_MOST_BACK_EM = 0.4


class FormulaError(ValueError):
    """A formula that is not typeset. `reason` is the note's word for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Setting:
    """A part of a formula in Typst's language for mathematics."""

    typst: str = ""
    glyphs: str = ""  # in the order in which Typst draws them, without spaces
    rules: int = 0  # drawn lines: bars of fractions and roots, lines of arrays
    has_limits: bool = False  # whether scripts may be above and below

    def __add__(self, other: Setting) -> Setting:
        return Setting(self.typst + other.typst, self.glyphs + other.glyphs, self.rules + other.rules)

    def within(self, pattern: str, *, rules: int = 0) -> Setting:
        """Return the part with code around it. "{}" in the pattern is the part's own code."""
        return replace(self, typst=pattern.replace("{}", self.typst or '""', 1), rules=self.rules + rules)


def joined(parts: list[Setting]) -> Setting:
    """Return parts side by side."""
    return Setting(
        "".join(part.typst for part in parts),
        "".join(part.glyphs for part in parts),
        sum(part.rules for part in parts),
    )


def call(name: str, *parts: Setting, options: str = "", rules: int = 0) -> Setting:
    """Return a call of one of Typst's functions on parts that it draws in this order."""
    code = ", ".join(part.typst or '""' for part in parts)
    return replace(joined(list(parts)), typst=f"{name}({code}{options})", rules=sum(p.rules for p in parts) + rules)


def char(text: str) -> Setting:
    """Return a character as it is. The escape keeps Typst from reading it as markup or as a delimiter to be grown."""
    return Setting("".join(f"\\u{{{ord(one):x}}}" for one in text), text)


def letter(text: str, alphabet: str) -> Setting:
    """Return a letter or digit in an alphabet."""
    styled = in_alphabet(text, alphabet)
    return upright_words(styled) if styled == text and text.isalpha() else char(styled)


def upright_words(text: str) -> Setting:
    """Return text as it is, with spaces, in upright letters."""
    code = text.replace("\\", "\\\\").replace('"', '\\"')
    return Setting(f'upright("{code}")', "".join(text.split()))


def space(em: float) -> Setting:
    """Return a gap. A negative one is a box, so that the gaps that Typst sets between symbols remain.

    Raises:
        FormulaError: it goes back behind a whole letter.
    """
    if em < -_MOST_BACK_EM:
        raise FormulaError("with_letters_over_letters")
    return Setting(f"#h({em:.4g}em)" if em >= 0 else f"#box(width: {em:.4g}em)")
