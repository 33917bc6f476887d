"""The blocks of a document, from which both its pages and its Markdown are made.

The text is cut into `Piece`s, each so small that it lies on one page. The typeset page has a mark for the id of every
piece, rule and table row. These marks tell which Markdown belongs to a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from datagen.markdown.formulas.translate import Formula
from datagen.pdf.text.glyphs import IS_UNSPACED

Style = Literal["strong", "emph", "strike", "sup", "sub", "code"]
Align = Literal["left", "center", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A word or less of running text, a formula, a footnote's mark, a line of code, or a line break."""

    id: int
    kind: Literal["text", "math", "note", "break"]
    text: str = ""  # TeX of a formula, number of a note
    styles: tuple[Style, ...] = ()  # outermost first
    space: bool = False  # whether a space is before it
    formula: Formula | None = None
    note: tuple[Block, ...] = ()  # text of the footnote


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph of running text."""

    pieces: tuple[Piece, ...]
    role: Literal["text", "caption", "author", "entry"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading. Its number, if any, is part of the text."""

    level: int  # from 1
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """A formula on lines of its own."""

    formula: Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A block of code lines."""

    lines: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of a list."""

    marker: str  # as printed: "-", "3.", "(a)"; "" for the rest of an item that began on an earlier page
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    items: tuple[Item, ...]
    tight: bool = True  # no space between items


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A block of quoted text."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The title, authors and abstract, which span all columns of the page."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table. Its pieces have the id of the row."""

    pieces: tuple[Piece, ...]
    align: Align = "left"
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row of a table, never broken across pages. A cell that an earlier row reaches down with is not repeated."""

    id: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table. Its head is repeated on every page of it."""

    aligns: tuple[Align, ...]
    head: tuple[TableRow, ...]
    body: tuple[TableRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line between parts."""

    id: int


Block = Paragraph | Heading | Display | Code | Items | Quote | Front | Table | Rule


def keep_blocks(blocks: Sequence[Block], keep: Callable[[int], bool]) -> tuple[Block, ...]:
    """Return the pieces, rules and table rows whose id `keep` accepts. An item without its beginning has no marker."""
    return tuple(part for block in blocks if (part := _part(block, keep)) is not None)


def _part(block: Block, keep: Callable[[int], bool]) -> Block | None:  # noqa: PLR0911  # a case per kind
    match block:
        case Paragraph(pieces=pieces) | Heading(pieces=pieces):
            left = tuple(piece for piece in pieces if keep(piece.id))
            return replace(block, pieces=left) if left else None
        case Display(formula=formula):
            return block if keep(formula.id) else None
        case Code(lines=lines):
            left = tuple(line for line in lines if keep(line.id))
            return replace(block, lines=left) if left else None
        case Items(items=items):
            begun = (item if keep(next(ids_of(item.blocks), -1)) else replace(item, marker="") for item in items)
            return change_inside(replace(block, items=tuple(begun)), lambda inside: keep_blocks(inside, keep))
        case Quote() | Front():
            return change_inside(block, lambda inside: keep_blocks(inside, keep))
        case Table(head=head, body=body):
            rows = tuple(row for row in body if keep(row.id))
            return replace(block, head=tuple(row for row in head if keep(row.id)), body=rows) if rows else None
        case Rule(id=number):
            return block if keep(number) else None


def change_inside(block: Block, change: Callable[[Sequence[Block]], tuple[Block, ...]]) -> Block | None:
    """Return a list, quote or front with other blocks inside. None where nothing is left, or for other blocks."""
    match block:
        case Items(items=items):
            parts = tuple(replace(item, blocks=left) for item in items if (left := change(item.blocks)))
            return replace(block, items=parts) if parts else None
        case Quote(blocks=blocks) | Front(blocks=blocks):
            inside = change(blocks)
            return replace(block, blocks=inside) if inside else None
        case _:
            return None


def inner_blocks(block: Block) -> Sequence[Block]:
    """Return the blocks inside a list, quote or front. Other blocks have none."""
    match block:
        case Items(items=items):
            return [inside for item in items for inside in item.blocks]
        case Quote(blocks=blocks) | Front(blocks=blocks):
            return blocks
        case _:
            return ()


def pieces_of(blocks: Sequence[Block]) -> Iterator[Piece]:
    """Yield all pieces in order. The pieces of a footnote follow its mark."""
    for block in blocks:
        for piece in _own_pieces(block):
            yield piece
            yield from pieces_of(piece.note)
        yield from pieces_of(inner_blocks(block))


def ids_of(blocks: Sequence[Block]) -> Iterator[int]:
    """Yield all ids in order, without those inside footnotes."""
    for block in blocks:
        match block:
            case Rule(id=number):
                yield number
            case Table(head=head, body=body):
                yield from (row.id for row in (*head, *body))
            case _:
                yield from (piece.id for piece in _own_pieces(block))
                yield from ids_of(inner_blocks(block))


def heads_of(blocks: Sequence[Block]) -> frozenset[int]:
    """Return the ids of the rows that are repeated on every page of their table."""
    rows: set[int] = set()
    for block in blocks:
        rows.update(row.id for row in (block.head if isinstance(block, Table) else ()))
        rows |= heads_of(inner_blocks(block))
    return frozenset(rows)


def block_texts(block: Block) -> Iterator[str]:
    """Yield the printed text of a block: words, numbers of items, marks of footnotes.

    A formula gives only its characters of scripts that fonts for formulas lack. The text of footnotes is left out.
    """
    if isinstance(block, Items):
        for item in block.items:
            yield item.marker
            yield from (text for inside in item.blocks for text in block_texts(inside))
        return
    for piece in _own_pieces(block):
        yield "".join(IS_UNSPACED.findall(piece.text)) if piece.kind == "math" else piece.text
    yield from (text for inside in inner_blocks(block) for text in block_texts(inside))


def _own_pieces(block: Block) -> Iterator[Piece]:
    """Yield the pieces of a block without those of the blocks inside it."""
    match block:
        case Paragraph(pieces=pieces) | Heading(pieces=pieces) | Code(lines=pieces):
            yield from pieces
        case Display(formula=formula):
            yield formula
        case Table(head=head, body=body):
            yield from (piece for row in (*head, *body) for cell in row.cells for piece in cell.pieces)


def drop_blocks(blocks: Sequence[Block], bad: Callable[[Piece], bool]) -> tuple[Block, ...]:
    """Return the blocks without the innermost ones (paragraph, table, code …) that hold a bad piece, also in a note."""

    def good(block: Block) -> Block | None:
        if not any(map(bad, pieces_of([block]))):
            return block
        return change_inside(block, lambda inside: drop_blocks(inside, bad))

    return tuple(part for block in blocks if (part := good(block)) is not None)
