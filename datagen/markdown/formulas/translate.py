r"""Formulas: LaTeX → Typst. Each command is in a table here; a formula with another command is refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from datagen.markdown.formulas import arrays, commands
from datagen.markdown.formulas.alphabets import bolder
from datagen.markdown.formulas.arrays import fenced
from datagen.markdown.formulas.parts import attached, piled, sides
from datagen.markdown.formulas.reader import FormulaReader, em
from datagen.markdown.formulas.setting import FormulaError, Setting, call, char, joined, letter, space, upright_words
from datagen.markdown.formulas.symbols import BRACES, CHARS, delimiters, symbols, with_limits
from datagen.markdown.formulas.text import text
from datagen.markdown.formulas.unary import UNARY

_DEEPEST = 40  # groups in groups
_ENDS = ("}", "&", "\\\\", "\\cr", "\\end", "\\right", "\\middle")


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula in Typst with its glyphs and rules, or the reason why there is none."""

    typst: str = ""
    glyphs: str = ""
    rules: int = 0
    fault: str = ""


@cache
def translate(tex: str, *, display: bool) -> Formula:
    """Return a formula, which is LaTeX as it stands between dollars, for Typst."""
    try:
        parser = _Parser(tex)
        whole = parser.whole()
        if not whole.glyphs and not whole.rules:
            raise FormulaError("not_read")
    except FormulaError as error:
        return Formula(fault=error.reason)
    typst = f"$ {whole.typst} $" if display else f"${whole.typst}$"
    return Formula(typst=typst, glyphs=whole.glyphs, rules=whole.rules)


class _Parser:
    """A walk over the tokens of a formula."""

    def __init__(self, tex: str, alphabet: str = "it", depth: int = 0) -> None:
        self._reader = FormulaReader(tex)
        self._alphabet = alphabet
        self._depth = depth

    def whole(self) -> Setting:
        """Return the whole formula. Line breaks and marks outside of environments mean `aligned`."""
        lines = self._rows("")
        if len(lines.rows) == 1 and len(lines.rows[0]) == 1 and not lines.lines:
            return lines.rows[0][0]
        is_aligned = any(len(row) > 1 for row in lines.rows)
        return arrays.aligned("aligned", lines) if is_aligned else arrays.array("gathered", lines)

    def _row(self) -> Setting:
        """Return the parts up to the end of the group, cell or formula."""
        parts: list[Setting] = []
        while (token := self._reader.peek()) and token not in _ENDS:
            name = token[1:]
            if name in commands.INFIX and token[0] == "\\":
                self._reader.take()
                return self._infix(name, joined(parts), self._row())
            if name in commands.STYLES and token[0] == "\\":
                self._reader.take()
                return joined([*parts, self._row().within(commands.STYLES[name] + "({})")])
            if name in commands.SWITCHES and token[0] == "\\":
                self._reader.take()
                self._alphabet = commands.SWITCHES[name]
                continue
            parts.append(self._scripted())
        return joined(parts)

    def _group(self) -> Setting:
        """Return an argument: a group in braces, or one symbol or command."""
        if not self._reader.take_if("{"):
            return self._nucleus()
        alphabet, self._alphabet = self._alphabet, self._alphabet
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FormulaError("not_read")
        inside = self._row()
        self._reader.expect("}")
        self._depth -= 1
        self._alphabet = alphabet
        return inside

    def _inner(self, tex: str, alphabet: str = "") -> Setting:
        """Return a formula inside this one, such as an optional argument."""
        if self._depth >= _DEEPEST:
            raise FormulaError("not_read")
        return _Parser(tex, alphabet or self._alphabet, self._depth + 1).whole()

    def _in_alphabet(self, alphabet: str) -> Setting:
        before, self._alphabet = self._alphabet, alphabet
        inside = self._group()
        self._alphabet = before
        return inside

    def _scripted(self) -> Setting:
        base = Setting() if self._reader.peek() in ("^", "_", "'") else self._nucleus()
        primes, up, down = "", None, None
        while token := self._reader.take_if("^", "_", "'", "\\limits", "\\nolimits", "\\displaylimits"):
            match token:
                case "'":
                    primes += CHARS["'"]
                case "^" if up is None:
                    up = self._group()
                case "_" if down is None:
                    down = self._group()
                case "\\limits":
                    base = replace(base.within("limits({})"), has_limits=True)
                case "\\nolimits":
                    base = replace(base.within("scripts({})"), has_limits=False)
                case "\\displaylimits":
                    pass
                case _:
                    raise FormulaError("not_read")
        return attached(base, joined([char(primes), up or Setting()]), down or Setting())

    def _nucleus(self) -> Setting:  # a case per kind of token
        token = self._reader.peek()
        if token == "{":
            inside = self._group()
            # A group is a symbol of its own: {=} has no gaps, and {p_1}^k no common place of scripts.
            return replace(inside.within('class("normal", {})') if inside.glyphs else inside, has_limits=False)
        if not token or token in _ENDS:
            raise FormulaError("not_read")
        self._reader.take()
        if token[0] == "\\":
            return self._command(token[1:])
        if token == "~":
            return space(1 / 3)
        if token in '#$%&^_"`':
            raise FormulaError("not_read")
        if token == "/":
            return char(token).within('class("normal", {})')
        token = CHARS.get(token, token)
        return letter(unicodedata.normalize("NFC", token), self._alphabet)

    def _command(self, name: str) -> Setting:
        handler = _HANDLERS.get(name)
        if handler:
            return handler(self, name)
        if name in UNARY:
            return UNARY[name](self._group(), name)
        if name in symbols():
            return self._symbol(symbols()[name], name)
        if name in commands.LENGTHS:
            self._reader.take_if("*")
            return space(self._reader.length())
        if name in ("!", "negthinspace") and self._reader.peek() == "\\left":
            return Setting()  # it takes back the gap that TeX alone sets before \left
        return _plain(name)

    def _symbol(self, symbol: str, name: str) -> Setting:
        if name == "colon":
            return char(symbol).within('class("punctuation", {})')
        if symbol in with_limits():
            return replace(char(symbol), has_limits=True)
        alphabet = "it" if self._alphabet == "rm" else self._alphabet  # \mathrm{\alpha} is no upright alpha
        return letter(symbol, alphabet) if symbol.isalpha() or symbol in "∂∇" else char(symbol)

    def _infix(self, name: str, above: Setting, below: Setting) -> Setting:
        pair = commands.INFIX[name]
        return call("frac", above, below, rules=1) if pair is None else piled(pair, above, below)

    def _fraction(self, name: str) -> Setting:
        if name == "cfrac":
            self._reader.option()
        above, below = self._group(), self._group()
        if name == "cfrac":
            above, below = above.within("display({})"), below.within("display({})")
        return call("frac", above, below, rules=1).within(commands.FRACTIONS[name])

    def _binomial(self, name: str) -> Setting:
        above, below = self._group(), self._group()
        return piled(("(", ")"), above, below).within(commands.BINOMIALS[name])

    def _genfrac(self, _: str) -> Setting:
        left, right, thickness, style = (self._reader.raw().strip() for _ in range(4))
        above, below = self._group(), self._group()
        if {left, right} - set(delimiters()) - {""} or style not in ("", "0", "1", "2", "3"):
            raise FormulaError("not_read")
        pair = delimiters().get(left, ""), delimiters().get(right, "")
        if thickness and em(thickness) == 0:
            built = piled(pair, above, below)
        elif thickness:
            raise FormulaError("with_unknown_commands")
        else:
            built = fenced(pair[0], call("frac", above, below, rules=1), pair[1])
        return built.within(("display({})", "inline({})", "script({})", "sscript({})")[int(style)] if style else "{}")

    def _root(self, _: str) -> Setting:
        index = self._reader.option()
        sign = Setting("", "√")
        if index is None:
            inside = self._group()
            return replace(call("sqrt", inside, rules=1), glyphs=sign.glyphs + inside.glyphs)
        power, inside = self._inner(index), self._group()
        return replace(call("root", power, inside, rules=1), glyphs=power.glyphs + sign.glyphs + inside.glyphs)

    def _brace(self, name: str) -> Setting:
        inside = self._group()
        note = self._group() if self._reader.take_if("^" if name.startswith("over") else "_") else None
        brace = Setting("", BRACES[name])
        parts = [inside] if note is None else [inside, note]
        glyphs = "".join(part.glyphs for part in (inside, brace, note or Setting()))
        return replace(call(name, *parts), glyphs=glyphs, has_limits=True)

    def _over(self, name: str) -> Setting:
        mark = self._group()
        base = self._group()
        built = attached(replace(base.within("limits({})"), has_limits=True), *sides(name, mark))
        return built.within('class("relation", {})') if name == "stackrel" else built

    def _arrow(self, name: str) -> Setting:
        below = self._reader.option()
        above = self._group()
        arrow = char(commands.ARROWS[name]).within("limits(stretch({}))")
        return attached(replace(arrow, has_limits=True), above, self._inner(below) if below else Setting())

    def _font(self, name: str) -> Setting:
        if commands.FONTS[name] == "rm":
            word = self._reader.word()
            if word:
                return upright_words(word)
        return self._in_alphabet(commands.FONTS[name])

    def _bold(self, _: str) -> Setting:
        return self._in_alphabet(bolder(self._alphabet))

    def _operator(self, _: str) -> Setting:
        starred = bool(self._reader.take_if("*"))
        word = self._reader.word()
        inside = Setting(f'"{word}"', word) if word else self._in_alphabet("rm")
        return replace(call("op", inside, options=", limits: #true" if starred else ""), has_limits=starred)

    def _text(self, name: str) -> Setting:
        return text(self._reader.raw(), commands.TEXTS[name], self._inner)

    def _delimiter(self) -> str:
        token = self._reader.take()
        if token not in delimiters():
            raise FormulaError("with_unknown_commands" if token[0] == "\\" else "not_read")
        return delimiters()[token]

    def _left(self, _: str) -> Setting:
        before = self._delimiter()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FormulaError("not_read")
        alphabet = self._alphabet
        parts = [self._row()]
        while self._reader.take_if("\\middle"):
            bar = self._delimiter()
            parts += [char(bar).within("mid({})") if bar else Setting(), self._row()]
        self._reader.expect("\\right")
        self._depth -= 1
        self._alphabet = alphabet
        return fenced(before, joined(parts), self._delimiter())

    def _sized(self, name: str) -> Setting:
        size = name if name in commands.SIZES else name[:-1]
        side = commands.SIDES[name[len(size) :]]
        symbol = self._delimiter()
        if not symbol:
            return Setting()
        return char(symbol).within(f'class("{side}", lr(size: #{commands.SIZES[size]}em, {{}}))')

    def _not(self, _: str) -> Setting:
        symbol = self._nucleus()
        negated = unicodedata.normalize("NFC", symbol.glyphs + "\u0338")
        if len(symbol.glyphs) != 1 or len(negated) != 1:
            raise FormulaError("with_unknown_commands")
        return char(negated)

    def _substack(self, _: str) -> Setting:
        return arrays.array("subarray", self._nested_rows())

    def _nested_rows(self) -> arrays.Rows:
        self._reader.expect("{")
        rows = self._rows("}")
        return rows

    def _environment(self, _: str) -> Setting:
        written = self._reader.raw()
        name = written.removesuffix("*")
        has_side = name != written and self._reader.peek() == "["  # \begin{pmatrix*}[r]
        if (name not in arrays.ARRAYS and name not in arrays.ALIGNED) or has_side:
            raise FormulaError("with_unknown_commands")
        about = None
        if name in ("array", "aligned", "gathered", "split"):
            self._reader.option()
        if name == "alignedat":
            self._reader.raw()
        if name in ("array", "subarray"):
            about = arrays.array_preamble(self._reader.raw())
        alphabet = self._alphabet
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FormulaError("not_read")
        body = self._rows("\\end")
        self._depth -= 1
        self._alphabet = alphabet
        if self._reader.raw() != written:
            raise FormulaError("not_read")
        return arrays.aligned(name, body) if name in arrays.ALIGNED else arrays.array(name, body, about)

    def _rows(self, end: str) -> arrays.Rows:
        """Return the rows of an environment, and go on behind the token that ends it ("": the end of the formula)."""
        rows: list[list[Setting]] = [[]]
        lines: list[int] = []
        while True:
            while self._reader.take_if("\\hline"):
                lines.append(len(rows) - 1)
            rows[-1].append(self._row())
            token = self._reader.take() if self._reader.peek() else ""
            if token == end:
                break
            if token in ("\\\\", "\\cr"):
                self._reader.row_gap()
                rows.append([])
            elif token != "&":
                raise FormulaError("not_read")
        if len(rows) > 1 and len(rows[-1]) == 1 and not rows[-1][0].typst:
            rows.pop()
        if len(set(lines)) < len(lines):
            raise FormulaError("with_unknown_commands")
        return arrays.Rows(rows, lines)


def _plain(name: str) -> Setting:  # noqa: PLR0911  # a case per kind of command
    """Return a command without arguments that is no symbol.

    Raises:
        FormulaError: the command is not known.
    """
    if name in "#$%&_{}":
        return char(name)
    if name == "|":
        return char("‖")
    if name == "bmod":
        return upright_words("mod").within('class("binary", {})')
    if name in commands.SPACES:
        return space(commands.SPACES[name])
    if name in commands.UNSEEN:
        return Setting()
    if name in commands.WORDS:
        return Setting(f'op("{name}")', name)
    if name in commands.WORDS_WITH_LIMITS:
        words = commands.WORDS_WITH_LIMITS[name].replace(" ", "\u2009")
        return Setting(f'op("{words}", limits: #true)', words.replace("\u2009", ""), has_limits=True)
    raise FormulaError("with_unknown_commands")


_Handler = Callable[[_Parser, str], Setting]
_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(commands.FRACTIONS, _Parser._fraction),
    **dict.fromkeys(commands.BINOMIALS, _Parser._binomial),
    "genfrac": _Parser._genfrac,
    "sqrt": _Parser._root,
    **dict.fromkeys(BRACES, _Parser._brace),
    **dict.fromkeys(("overset", "underset", "stackrel"), _Parser._over),
    **dict.fromkeys(commands.ARROWS, _Parser._arrow),
    **dict.fromkeys(commands.FONTS, _Parser._font),
    **dict.fromkeys(("boldsymbol", "bm", "pmb"), _Parser._bold),
    **dict.fromkeys(("operatorname", "operatornamewithlimits"), _Parser._operator),
    **dict.fromkeys(commands.TEXTS, _Parser._text),
    "left": _Parser._left,
    **{size + side: _Parser._sized for size in commands.SIZES for side in commands.SIDES},
    "not": _Parser._not,
    "substack": _Parser._substack,
    "begin": _Parser._environment,
}
