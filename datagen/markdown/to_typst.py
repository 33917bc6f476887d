"""Blocks → Typst source for `data/template.typ`: a line per top-level block, a mark per piece."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from datagen.markdown.blocks import (
    Block,
    Cell,
    Code,
    Display,
    Front,
    Heading,
    Items,
    Paragraph,
    Piece,
    Quote,
    Rule,
    Table,
    TableRow,
    pieces_of,
)
from datagen.markdown.inlines import CHUNK
from datagen.markdown.page_templates import Template, code_size, table_size
from datagen.pdf.text.glyphs import IS_UNSPACED

_LONG_FORMULA = 60  # characters of LaTeX; a shorter inline formula is not broken
_WRAPPERS = {
    "strong": "#strong[{}]",
    "emph": "#emph[{}]",
    "strike": "#strike[{}]",
    "sup": "#super[{}]",
    "sub": "#sub[{}]",
    "code": "{}",
}


def formulas_of(blocks: Sequence[Block]) -> dict[str, str]:
    """Return Typst formula → the name that replaces it in the source."""
    formulas = dict.fromkeys(piece.formula.typst for piece in pieces_of(blocks) if piece.formula)
    return {typst: f"f{number}" for number, typst in enumerate(formulas)}


class TypstWriter:
    """A writer of the blocks of one document for one template."""

    def __init__(self, template: Template, formulas: Mapping[str, str]) -> None:
        self._template = template
        self._formulas = formulas

    def line(self, block: Block) -> str:  # noqa: PLR0911  # a case per kind
        """Return a block on one line. Its text is in strings, so that no text of a document is read as markup."""
        match block:
            case Paragraph(pieces=pieces, role=role):
                text = self._pieces(pieces)
                return f"{text}#parbreak()" if role == "text" else f"#{role}[{text}]"
            case Heading(level=level, pieces=pieces):
                return f"#heading(level: {level})[{self._pieces(pieces, bold=True)}]"
            case Display(formula=formula):
                return f"#displayed({formula.id}, {self._name(formula)})"
            case Code(lines=lines):
                inside = ", ".join(f"({line.id}, {quoted(line.text)})" for line in lines)
                return f"#code({code_size(block, self._template):.3f}, {inside})"
            case Items():
                return self._items(block)
            case Quote(blocks=blocks):
                return f"#quoted[{self._lines(blocks)}]"
            case Front(blocks=blocks):
                return self._front(blocks)
            case Table():
                return self._table(block)
            case Rule(id=number):
                return f"#rule({number})"

    def _lines(self, blocks: Iterable[Block]) -> str:
        return "".join(map(self.line, blocks))

    def _front(self, blocks: Sequence[Block]) -> str:
        """Return the front. On two columns it floats. Typst drops a float's footnotes, so the text below has them."""
        if self._template.columns == 1:
            return f"#front[{self._lines(blocks)}]"
        notes = [piece for piece in pieces_of(blocks) if piece.kind == "note"]
        inner = {piece.id for note in notes for piece in pieces_of(note.note)}  # these come with their note
        hanging = "".join(f"#place(hide[{self._note(note)}])" for note in notes if note.id not in inner)
        return f"#front[{_FloatingWriter(self._template, self._formulas)._lines(blocks)}]{hanging}"

    def _note(self, piece: Piece) -> str:
        return f"#footnote(numbering: _ => {quoted(piece.text)})[{self._lines(piece.note)}]"

    def _items(self, block: Items) -> str:
        numbered = any(item.marker != "-" for item in block.items)
        markers = "".join(f"{quoted(item.marker)}, " for item in block.items)
        items = ", ".join(f"[{self._lines(item.blocks)}]" for item in block.items)
        return f"#listing({str(block.tight).lower()}, {f'({markers})' if numbered else 'none'}, {items})"

    def _table(self, table: Table) -> str:
        head = "".join(map(self._row, table.head))
        rules = "" if self._template.grid else "table.hline(stroke: 0.8pt), "
        rule = "" if self._template.grid else "table.hline(stroke: 0.5pt), "
        body = "".join(map(self._row, table.body))
        header = f"(head({rules}{head}{rule}),)" if table.head else f"({rules})"
        size, columns = table_size(table, self._template), len(table.aligns)
        return f"#grid-table({size}, {columns}, {header}, {body}{rules})"

    def _row(self, row: TableRow) -> str:
        """Return a row with a mark at its start and its end. Marks on two pages tell that the row was broken."""
        cells = []
        for number, cell in enumerate(row.cells):
            start = f"#m({row.id})" if number == 0 else ""
            end = f"#m({row.id})" if number == len(row.cells) - 1 else ""
            cells.append(f"cell({_about(cell)})[{start}{self._pieces(cell.pieces, marked=False)}{end}], ")
        return "".join(cells)

    def _pieces(self, pieces: Iterable[Piece], *, marked: bool = True, bold: bool = False) -> str:
        parts, last = [], ""
        for piece in pieces:
            if piece.kind == "break":  # a mark after it would be on the next line
                parts.append((f"#m({piece.id})" if marked else "") + "#linebreak()")
                continue
            gap = " " if piece.space else "#sym.zws" if len(last) >= CHUNK else ""  # where a line may break
            parts.append(gap + self._piece(piece, bold) + (f"#m({piece.id})" if marked else ""))
            last = piece.text if piece.kind == "text" else ""
        # A mark at the end would move to the text that comes next, perhaps on the next page.
        return "".join(parts) + ("#h(0pt)" if marked else "")

    def _name(self, piece: Piece) -> str:
        assert piece.formula is not None  # of a formula
        return self._formulas[piece.formula.typst]

    def _piece(self, piece: Piece, bold: bool) -> str:
        if piece.kind == "note":
            return self._note(piece)
        if piece.kind == "math":
            name = self._name(piece)
            inside = f"#box({name})" if len(piece.text) < _LONG_FORMULA else f"#m({piece.id})#{name}"
        elif "code" in piece.styles:
            inside = f"#raw({quoted(piece.text)})"
        else:
            inside = f"#{quoted(piece.text)}"
            if (bold or "strong" in piece.styles) and IS_UNSPACED.search(piece.text):
                inside = f"#han[{inside}]"
        for style in reversed(piece.styles):
            inside = _WRAPPERS[style].format(inside)
        return inside


class _FloatingWriter(TypstWriter):
    """A writer that leaves only the mark of a footnote."""

    def _note(self, piece: Piece) -> str:
        return f"#super[#{quoted(piece.text)}]"


def quoted(text: str) -> str:
    """Return text as a string literal of Typst."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _about(cell: Cell) -> str:
    spans = [f"{name}: {value}" for name, value in (("rowspan", cell.rows), ("colspan", cell.columns)) if value > 1]
    return ", ".join([f"align: {cell.align}", *spans])
