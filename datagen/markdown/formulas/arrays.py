r"""Matrices, arrays, cases and aligned lines: rows of cells → Typst."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.markdown.formulas.setting import FormulaError, Setting, char, joined

ARRAYS = {  # environment → delimiters around it, size of its cells
    "matrix": ("", "", "inline"),
    "pmatrix": ("(", ")", "inline"),
    "bmatrix": ("[", "]", "inline"),
    "Bmatrix": ("{", "}", "inline"),
    "vmatrix": ("|", "|", "inline"),
    "Vmatrix": ("‖", "‖", "inline"),
    "smallmatrix": ("", "", "script"),
    "array": ("", "", "inline"),
    "subarray": ("", "", "script"),
    "cases": ("{", "", "inline"),
    "dcases": ("{", "", "display"),
    "rcases": ("", "}", "inline"),
    "drcases": ("", "}", "display"),
    "gathered": ("", "", "display"),
}
ALIGNED = ("aligned", "alignedat", "split")
_LEFT = ("cases", "dcases", "rcases", "drcases")
_GAPS = {"smallmatrix": (0.4, 0.2), "subarray": (0.0, 0.2), "gathered": (0.0, 0.5)}
_USUAL_GAP = (1.0, 0.4)  # em: between columns, between rows
_COLUMN = re.compile(
    r"\s*(?:([lcr|])|[pmb]\s*\{[^{}]*\}|[@!>]\s*\{\s*(?:\\[,:;! ]|\\quad|\\hspace\{[^{}]*\})*\s*\})\s*"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of an environment and the numbers of rows that a line lies above."""

    rows: Sequence[Sequence[Setting]]
    lines: Sequence[int]


@dataclass(frozen=True, slots=True)
class ArrayPreamble:
    """The preamble of an array: a letter per column, and the numbers of columns that a line lies before."""

    aligns: str
    lines: Sequence[int]


def array_preamble(preamble: str) -> ArrayPreamble:
    r"""Read the preamble of an array, such as "l|cr".

    Raises:
        FormulaError: something is printed between columns, or two lines lie side by side.
    """
    aligns, lines, read = "", list[int](), 0
    while read < len(preamble):
        match = _COLUMN.match(preamble, read)
        if not match:
            raise FormulaError("with_unknown_commands")
        read = match.end()
        if match[1] == "|":
            lines.append(len(aligns))
        elif match[1] or match[0].strip()[0] in "pmb":
            aligns += match[1] or "l"
    if len(set(lines)) < len(lines):
        raise FormulaError("with_unknown_commands")
    return ArrayPreamble(aligns, lines)


def array(name: str, body: Rows, about: ArrayPreamble | None = None) -> Setting:
    """Return an environment with cells in columns. Typst draws it column by column."""
    count = max(map(len, body.rows), default=0)
    if about and count > len(about.aligns):
        raise FormulaError("not_read")
    count = len(about.aligns) if about else count
    aligns = about.aligns if about else ("l" if name in _LEFT else "c") * count
    before, after, size = ARRAYS[name]
    rows = [[*row, *[Setting()] * (count - len(row))] for row in body.rows]
    cells = [[cell.within(f"{size}({{}})") if cell.typst else cell for cell in row] for row in rows]
    mixed = len(set(aligns)) > 1
    code = "; ".join(
        ", ".join(_aligned(cell.typst or '""', side if mixed else "c") for cell, side in zip(row, aligns, strict=True))
        for row in cells
    )
    drawn = joined([cells[row][column] for column in range(count) for row in range(len(cells))])
    lines = list(about.lines) if about else []
    grid = Setting(
        f"{_start(name, aligns, lines, body.lines)}, {code})", drawn.glyphs, drawn.rules + len(lines) + len(body.lines)
    )
    return fenced(before, grid, after) if before or after else grid


def aligned(name: str, body: Rows) -> Setting:
    """Return lines that are aligned at their marks. Typst draws them line by line."""
    if body.lines:
        raise FormulaError("with_unknown_commands")
    gap = "" if name == "alignedat" else "#h(2em)"
    lines = [
        "&".join(
            (gap if number and number % 2 == 0 else "") + (f"display({cell.typst})" if cell.typst else '""')
            for number, cell in enumerate(row)
        )
        for row in body.rows
    ]
    drawn = joined([cell for row in body.rows for cell in row])
    return Setting(f"mat(delim: #none, row-gap: #0.6em, {'; '.join(lines)})", drawn.glyphs, drawn.rules)


def fenced(before: str, inside: Setting, after: str) -> Setting:
    """Return a part between delimiters of its height. "" is no delimiter."""
    left, right = char(before), char(after)
    return Setting(
        f"lr({left.typst or chr(34) * 2}{inside.typst}{right.typst or chr(34) * 2})",
        left.glyphs + inside.glyphs + right.glyphs,
        inside.rules,
    )


def _start(name: str, aligns: str, verticals: Sequence[int], horizontals: Sequence[int]) -> str:
    between, rows = _GAPS.get(name, _USUAL_GAP)
    side = {"l": "left", "r": "right"}.get(aligns[:1], "center") if len(set(aligns)) == 1 else "center"
    start = f"mat(delim: #none, align: #{side}, column-gap: #{between}em, row-gap: #{rows}em"
    if verticals or horizontals:
        lines = ", ".join(
            f"{way}: ({''.join(f'{number}, ' for number in numbers)})"
            for way, numbers in (("hline", horizontals), ("vline", verticals))
            if numbers
        )
        start += f", augment: #({lines}, stroke: 0.5pt)"
    return start


def _aligned(code: str, side: str) -> str:
    return {"l": f'""&{code}', "r": f'{code}&""'}.get(side, code)
