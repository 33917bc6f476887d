r"""Words in formulas: \text and its relatives."""

from __future__ import annotations

import re
from collections.abc import Callable

from datagen.markdown.formulas.alphabets import in_alphabet
from datagen.markdown.formulas.setting import FormulaError, Setting, joined, upright_words

_TOKEN = re.compile(
    r"\$(?P<math>[^$]*)\$|\\\((?P<paren>.*?)\\\)|\\(?P<name>[A-Za-z]+|.)|(?P<brace>[{}])|[^\\${}]+", re.S
)
_CHARS = {"textbackslash": "\\", "ldots": "…", "dots": "…", "textasciitilde": "~", "S": "§", "ss": "ß", "P": "¶"}
_LIGATURES = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"), ("`", "‘"), ("'", "’"), ("~", "\u00a0"))
_UNSEEN = {"relax", "rm", "normalfont", "textrm", "text", "mbox", "textnormal", "textup", "scriptsize", "small", "tiny"}
_GAPS = {" ": " ", ",": "\u2009", "quad": "\u2003", "qquad": "\u2003\u2003", ";": "\u2005", ":": "\u2005", "space": " "}


def text(source: str, alphabet: str, formula: Callable[[str], Setting]) -> Setting:
    """Return the words of an argument; `formula` reads the formulas among them.

    Raises:
        FormulaError: a command is not known.
    """
    parts: list[Setting] = []
    words = ""
    for match in _TOKEN.finditer(source):
        inside = match["math"] or match["paren"]
        if inside is not None:
            parts += [_words(words, alphabet), formula(inside)]
            words = ""
        elif match["name"]:
            words += _command(match["name"])
        elif match["brace"] is None:
            if "$" in match[0] or "%" in match[0]:
                raise FormulaError("not_read")
            words += re.sub(r"\s+", " ", match[0])
    return joined([*parts, _words(words, alphabet)])


def _command(name: str) -> str:
    if name in _UNSEEN:
        return ""
    if name in _GAPS:
        return _GAPS[name]
    if name in _CHARS:
        return _CHARS[name]
    if name in "#$%&_{}":
        return name
    raise FormulaError("with_unknown_commands")


def _words(words: str, alphabet: str) -> Setting:
    if not words:
        return Setting()
    for ascii_form, printed in _LIGATURES:
        words = words.replace(ascii_form, printed)
    words = words.replace(" ", "\u00a0")  # Typst keeps no blank at an edge
    return upright_words("".join(in_alphabet(one, alphabet) for one in words) if alphabet != "it" else words)
