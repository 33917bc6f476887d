r"""Blocks → Markdown in the manner of Mathpix: `$…$`, `$$…$$`, pipe tables, and `tabular` for complex tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from datagen.markdown.blocks import (
    Align,
    Block,
    Code,
    Display,
    Front,
    Heading,
    Items,
    Paragraph,
    Piece,
    Quote,
    Rule,
    Style,
    Table,
    TableRow,
)
from datagen.markdown.page_content import PageContent
from datagen.pdf.text.glyphs import IS_UNSPACED

_OPEN: dict[Style, str] = {"strong": "**", "emph": "*", "strike": "~~", "sup": "<sup>", "sub": "<sub>"}
_CLOSE: dict[Style, str] = _OPEN | {"sup": "</sup>", "sub": "</sub>"}
_SPECIAL = re.compile(r"[\\`*$]|_(?![^\W_])|(?<![^\W_])_|<(?=[A-Za-z/!?]|$)")
_STARTS_BLOCK = re.compile(r"(?=[#>+-](?:\s|$)|={3,}|-{3,}|~{3,})|(\d{1,9})(?=[.)](?:\s|$))")
_LETTERS: dict[Align, str] = {"left": "l", "center": "c", "right": "r"}
_RULES: dict[Align, str] = {"left": "---", "center": ":---:", "right": "---:"}


def to_markdown(content: PageContent, *, grid: bool) -> str:
    """Return the Markdown of a page: header, text, footnotes, footer. With `grid`, tables have all rules."""
    parts = [*_blocks(content.blocks, grid), *_blocks(content.rest, grid)]
    notes = [
        f"[^{number}]: " + _indented("\n\n".join(_blocks(blocks, grid)), "    ") for number, blocks in content.notes
    ]
    return "\n\n".join(filter(None, [_escaped(content.header), *parts, *notes, _escaped(content.footer)]))


def _blocks(blocks: Iterable[Block], grid: bool) -> Iterator[str]:
    for block in blocks:
        yield from _block(block, grid)


def _block(block: Block, grid: bool) -> Iterator[str]:
    match block:
        case Paragraph(pieces=pieces):
            text = _inline(pieces)
            start = _STARTS_BLOCK.match(text)
            yield f"{start[0]}\\{text[start.end() :]}" if start else text
        case Heading(level=level, pieces=pieces):
            yield f"{'#' * level} {_inline(pieces)}"
        case Display(formula=formula):
            yield f"$$\n{formula.text}\n$$"
        case Code(lines=lines):
            code = [line.text for line in lines]
            fence = _fence("\n".join(code), 3)
            yield "\n".join([fence, *code, fence])
        case Items():
            yield _items(block, grid)
        case Quote(blocks=blocks):
            yield "> " + _indented("\n\n".join(_blocks(blocks, grid)), "> ")
        case Front(blocks=blocks):
            yield from _blocks(blocks, grid)
        case Table():
            yield _pipe_table(block) if _is_plain(block) else _tabular(block, grid)
        case Rule():
            yield "---"


def _items(block: Items, grid: bool) -> str:
    texts = []
    for item in block.items:
        text = ("\n" if block.tight else "\n\n").join(_blocks(item.blocks, grid))
        texts.append(f"{item.marker} " + _indented(text, " " * (len(item.marker) + 1)) if item.marker else text)
    return ("\n" if block.tight else "\n\n").join(texts)


def _indented(text: str, by: str) -> str:
    """Return the text with `by` before each line but the first."""
    return "\n".join(f"{by}{line}".rstrip() if number else line for number, line in enumerate(text.split("\n")))


def _inline(pieces: Iterable[Piece]) -> str:
    """Return running text. Marks of emphasis surround whole runs and close before a space."""
    line = list(pieces)
    while line and line[-1].kind == "break":
        line.pop()
    out: list[str] = []
    open_: tuple[Style, ...] = ()
    opening = closing = "`"
    for position, piece in enumerate(line):
        styles = _visible_styles(piece)
        common = next((n for n, (a, b) in enumerate(zip(open_, styles, strict=False)) if a != b), None)
        common = min(len(open_), len(styles)) if common is None else common
        out += [_CLOSE.get(style, closing) for style in reversed(open_[common:])]
        out += [" "] if piece.space and out else []
        if "code" in styles[common:]:
            opening, closing = _marks_of_code(takewhile(lambda one: "code" in one.styles, line[position:]))
        out += [_OPEN.get(style, opening) for style in styles[common:]]
        out.append(_text(piece))
        open_ = styles
    out += [_CLOSE.get(style, closing) for style in reversed(open_)]
    return "".join(out)


def _marks_of_code(run: Iterable[Piece]) -> tuple[str, str]:
    """Return the marks before and after inline code, longer than any marks inside the code."""
    text = "".join(piece.text for piece in run)
    fence = _fence(text, 1)
    gap = " " if text.startswith("`") or text.endswith("`") else ""
    return fence + gap, gap + fence


def _fence(code: str, least: int) -> str:
    """Return more backticks than the code has in a row, and at least `least`."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", code))])


def _visible_styles(piece: Piece) -> tuple[Style, ...]:
    """Return the styles that are visible. The Chinese font has no italics."""
    if piece.kind in ("break", "math", "note"):
        return ()
    slanted = not IS_UNSPACED.search(piece.text)
    return tuple(style for style in piece.styles if style != "emph" or slanted)


def _text(piece: Piece) -> str:
    match piece.kind:
        case "math":
            return f"${piece.text}$"
        case "note":
            return f"[^{piece.text}]"
        case "break":
            return "  \n"
        case _:
            return piece.text if "code" in piece.styles else _escaped(piece.text)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _is_plain(table: Table) -> bool:
    """Whether a pipe table can express it: one head row, a cell in each place, no line breaks, no bars."""
    rows = (*table.head, *table.body)
    cells = [cell for row in rows for cell in row.cells]
    return (
        len(table.head) == 1
        and all(len(row.cells) == len(table.aligns) for row in rows)
        and all(cell.rows == cell.columns == 1 for cell in cells)
        and not any(piece.kind == "break" or "|" in piece.text for cell in cells for piece in cell.pieces)
    )


def _pipe_table(table: Table) -> str:
    lines = [[_inline(cell.pieces) for cell in row.cells] for row in (*table.head, *table.body)]
    lines.insert(1, [_RULES[align] for align in table.aligns])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tabular(table: Table, grid: bool) -> str:
    """Return the table in LaTeX, with the rules of the page. The text of a cell is Markdown, as in Mathpix."""
    bar = "|" if grid else ""
    columns = bar + bar.join(_LETTERS[align] for align in table.aligns) + bar
    head, body = _rows(table.head, len(table.aligns), bar), _rows(table.body, len(table.aligns), bar)
    lines = [r"\hline", *([*head, r"\hline"] if head else []), *body, r"\hline"]
    if grid:
        lines = [r"\hline", *(part for row in (*head, *body) for part in (row, r"\hline"))]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *lines, r"\end{tabular}"])


def _rows(rows: Sequence[TableRow], columns: int, bar: str) -> list[str]:
    """Return the rows of a tabular. The place below a cell of several rows stays empty."""
    lines = []
    covered: dict[int, tuple[int, int]] = {}  # column → further rows, width
    for row in rows:
        cells, texts, column = iter(row.cells), [], 0
        while column < columns:
            if column in covered:
                left, width = covered.pop(column)
                if left > 1:
                    covered[column] = (left - 1, width)
                texts.append(rf"\multicolumn{{{width}}}{{{bar}c{bar}}}{{}}" if width > 1 else "")
                column += width
                continue
            cell = next(cells, None)
            if cell is None:
                break
            text = _inline(cell.pieces).replace("&", r"\&").replace("  \n", r" \newline ")
            text = rf"\multirow{{{cell.rows}}}{{*}}{{{text}}}" if cell.rows > 1 else text
            if cell.columns > 1:
                text = rf"\multicolumn{{{cell.columns}}}{{{bar}{_LETTERS[cell.align]}{bar}}}{{{text}}}"
            texts.append(text)
            if cell.rows > 1:
                covered[column] = (cell.rows - 1, cell.columns)
            column += cell.columns
        lines.append(" & ".join(texts) + r" \\")
    return lines
