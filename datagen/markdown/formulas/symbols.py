"""Commands of LaTeX that print one character, from `data/formula_symbols.toml`, and commands that name an accent."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

ACCENTS = {
    "hat": "\u0302",
    "widehat": "\u0302",
    "check": "\u030c",
    "widecheck": "\u030c",
    "tilde": "\u0303",
    "widetilde": "\u0303",
    "acute": "\u0301",
    "grave": "\u0300",
    "dot": "\u0307",
    "ddot": "\u0308",
    "dddot": "\u20db",
    "ddddot": "\u20dc",
    "breve": "\u0306",
    "bar": "\u0304",
    "vec": "\u20d7",
    "mathring": "\u030a",
    "overrightarrow": "\u20d7",
    "overleftarrow": "\u20d6",
    "overleftrightarrow": "\u20e1",
}
BRACES = {
    "overbrace": "⏞",
    "underbrace": "⏟",
    "overbracket": "⎴",
    "underbracket": "⎵",
    "overparen": "⏜",
    "underparen": "⏝",
}
CHARS = {"-": "−", "*": "∗", "'": "′"}
"""Characters that print another one than in text."""


@cache
def symbols() -> dict[str, str]:
    """Return the character of each command."""
    return {name: char for group in _groups().values() for name, char in group.items()}


@cache
def with_limits() -> frozenset[str]:
    """Return the characters that have limits above and below in displayed formulas."""
    return frozenset(_groups()["limits"].values())


@cache
def delimiters() -> dict[str, str]:
    r"""Return the character of each delimiter, as it follows \left: "(", "\\{", "\\langle". "." has none."""
    plain = {char: char for char in "()[]|/"} | {"<": "⟨", ">": "⟩", ".": "", r"\{": "{", r"\}": "}", r"\|": "‖"}
    return plain | {f"\\{name}": char for name, char in _groups()["delimiters"].items()}


@cache
def _groups() -> dict[str, dict[str, str]]:
    text = (files("datagen.markdown") / "data" / "formula_symbols.toml").read_text(encoding="utf-8")
    pairs = {group: words.split() for group, words in tomllib.loads(text).items()}
    return {group: dict(zip(words[::2], words[1::2], strict=True)) for group, words in pairs.items()}
