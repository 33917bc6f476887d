r"""Commands with one argument: accents, lines, gaps, boxes and classes around a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from datagen.markdown.formulas import commands
from datagen.markdown.formulas.parts import sided
from datagen.markdown.formulas.setting import Setting, call, char, joined, space, upright_words
from datagen.markdown.formulas.symbols import ACCENTS

_HEIGHT = "set par(leading: 0pt);"  # Typst else takes 0.7 of a line gap off the height of a formula in a box
_HIDDEN = {
    "phantom": "#hide(${}$)",
    "hphantom": "#box(height: 0pt, hide(${}$))",
    "vphantom": f"#box(width: 0pt, {{{_HEIGHT} hide(${{}}$)}})",
}


def _accent(inside: Setting, name: str) -> Setting:
    grows = "" if name.startswith(("wide", "over")) or len(inside.glyphs) == 1 else ", size: #0%"
    return call("accent", inside, char(ACCENTS[name]), options=f"{grows}, dotless: #false")


def _line(inside: Setting, name: str) -> Setting:
    return call("underline" if name.startswith("under") else "overline", inside, rules=1)


def _mathop(inside: Setting, _: str) -> Setting:
    return replace(call("op", inside, options=", limits: #true"), has_limits=True)


def _class(inside: Setting, name: str) -> Setting:
    return inside.within(f'class("{commands.CLASSES[name]}", {{}})')


def _modulo(inside: Setting, name: str) -> Setting:
    if name == "mod":
        return joined([space(2 / 3), upright_words("mod"), space(1 / 3), inside])
    word = [upright_words("mod"), space(1 / 3)] if name == "pmod" else []
    return joined([space(0.444), char("("), *word, inside, char(")")])


def _phantom(inside: Setting, name: str) -> Setting:
    return Setting(inside.within(_HIDDEN[name]).typst)


def _boxed(inside: Setting, _: str) -> Setting:
    return inside.within(f"#box(stroke: 0.5pt, inset: 3pt, {{{_HEIGHT} $display({{}})$}})", rules=1)


def _cancel(inside: Setting, _: str) -> Setting:
    return inside.within("cancel({})", rules=1)


def _ensured(inside: Setting, _: str) -> Setting:
    return inside


def _ket(inside: Setting, name: str) -> Setting:
    pair = ("⟨", "|") if name == "bra" else ("|", "⟩")
    return joined([sided(pair[0], "opening"), inside, sided(pair[1], "closing")])


UNARY: Mapping[str, Callable[[Setting, str], Setting]] = {
    **dict.fromkeys(ACCENTS, _accent),
    **dict.fromkeys(("overline", "underline", "underbar"), _line),
    "mathop": _mathop,
    **dict.fromkeys(commands.CLASSES, _class),
    **dict.fromkeys(("mod", "pmod", "pod"), _modulo),
    **dict.fromkeys(_HIDDEN, _phantom),
    "boxed": _boxed,
    "cancel": _cancel,
    "ensuremath": _ensured,
    "ket": _ket,
    "bra": _ket,
}
"""Each command's setting of the argument that it is handed."""
