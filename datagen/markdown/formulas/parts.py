"""Symbols with scripts, and parts one above the other."""

from __future__ import annotations

from dataclasses import replace

from datagen.markdown.formulas.arrays import fenced
from datagen.markdown.formulas.setting import Setting, char, joined


def sided(symbol: str, side: str) -> Setting:
    """Return a symbol with the gaps of an opening or closing one."""
    return char(symbol).within(f'class("{side}", {{}})')


def sides(name: str, mark: Setting) -> tuple[Setting, Setting]:
    """Return a mark as (upper, lower)."""
    return (Setting(), mark) if name.startswith("under") else (mark, Setting())


def attached(base: Setting, up: Setting, down: Setting) -> Setting:
    """Return a base with its scripts, which Typst draws behind it: the upper one first."""
    if not up.typst and not down.typst:
        return base
    names = ("t", "b") if base.has_limits else ("tr", "br")
    options = "".join(f", {name}: {part.typst}" for name, part in zip(names, (up, down), strict=True) if part.typst)
    drawn = joined([base, up, down])
    return Setting(f"attach({base.typst or chr(34) * 2}{options})", drawn.glyphs, drawn.rules)


def piled(sides: tuple[str, str], above: Setting, below: Setting) -> Setting:
    """Return two parts one above the other, between delimiters."""
    drawn = above + below
    stack = replace(drawn, typst=f"mat(delim: #none, row-gap: #0.3em, {above.typst or chr(34) * 2}; {below.typst})")
    return fenced(sides[0], stack, sides[1]) if any(sides) else stack
