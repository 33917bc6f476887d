"""The blocks of a document, from which both its pages and its Markdown are made.

The text is cut into `Piece`s, each so small that it lies on one page. The typeset page has a mark for the id of every
piece, rule and table row. These marks tell which Markdown belongs to a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from datagen.pdf.text.glyphs import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]")

Style = Literal["strong", "emph", "strike", "sup", "sub", "code"]
Align = Literal["left", "center", "right"]
Keep = Callable[[int], bool]
"""Tells whether a piece, rule or table row, by its id, is part of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A word or less of running text, a formula, a footnote's mark, a line of code, or a line break."""

    id: int
    kind: Literal["text", "math", "note", "break"]
    text: str = ""  # TeX of a formula, number of a note
    styles: tuple[Style, ...] = ()  # outermost first
    space: bool = False  # whether a space is before it
    typst: str = ""  # of a formula
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


def keep_blocks(blocks: Sequence[Block], keep: Keep) -> tuple[Block, ...]:
    """Return the parts of the blocks that `keep` accepts. A list item that loses its beginning loses its marker."""
    return tuple(part for block in blocks if (part := _part(block, keep)) is not None)


def _part(block: Block, keep: Keep) -> Block | None:  # noqa: PLR0911  # a case per kind
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
            parts = tuple(item for old in items if (item := _part_of_item(old, keep)) is not None)
            return replace(block, items=parts) if parts else None
        case Quote(blocks=blocks) | Front(blocks=blocks):
            inside = keep_blocks(blocks, keep)
            return replace(block, blocks=inside) if inside else None
        case Table(head=head, body=body):
            rows = tuple(row for row in body if keep(row.id))
            return replace(block, head=tuple(row for row in head if keep(row.id)), body=rows) if rows else None
        case Rule(id=number):
            return block if keep(number) else None


def _part_of_item(item: Item, keep: Keep) -> Item | None:
    blocks = keep_blocks(item.blocks, keep)
    first = next(ids_of(item.blocks), None)
    if not blocks:
        return None
    return Item(marker=item.marker if first is None or keep(first) else "", blocks=blocks)


def pieces_of(blocks: Sequence[Block]) -> Iterator[Piece]:
    """Yield all pieces in order. The pieces of a footnote follow its mark."""
    for block in blocks:
        for piece in _own_pieces(block):
            yield piece
            yield from pieces_of(piece.note)


def ids_of(blocks: Sequence[Block]) -> Iterator[int]:
    """Yield all ids in order, without those inside footnotes."""
    for block in blocks:
        match block:
            case Rule(id=number):
                yield number
            case Table(head=head, body=body):
                yield from (row.id for row in (*head, *body))
            case Items(items=items):
                yield from (number for item in items for number in ids_of(item.blocks))
            case Quote(blocks=inside) | Front(blocks=inside):
                yield from ids_of(inside)
            case _:
                yield from (piece.id for piece in _own_pieces(block))


def heads_of(blocks: Sequence[Block]) -> frozenset[int]:
    """Return the ids of the rows that are repeated on every page of their table."""
    rows: set[int] = set()
    for block in blocks:
        match block:
            case Table(head=head):
                rows.update(row.id for row in head)
            case Items(items=items):
                rows |= heads_of([inside for item in items for inside in item.blocks])
            case Quote(blocks=inside) | Front(blocks=inside):
                rows |= heads_of(inside)
    return frozenset(rows)


def block_texts(block: Block) -> Iterator[str]:
    """Yield the printed text of a block: words, numbers of items, marks of footnotes.

    A formula gives only its characters of scripts that fonts for formulas lack. The text of footnotes is left out.
    """
    match block:
        case Items(items=items):
            for item in items:
                yield item.marker
                yield from (text for inside in item.blocks for text in block_texts(inside))
        case Quote(blocks=blocks) | Front(blocks=blocks):
            yield from (text for inside in blocks for text in block_texts(inside))
        case _:
            for piece in _own_pieces(block):
                yield "".join(_UNSPACED.findall(piece.text)) if piece.kind == "math" else piece.text


def _own_pieces(block: Block) -> Iterator[Piece]:
    match block:
        case Paragraph(pieces=pieces) | Heading(pieces=pieces) | Code(lines=pieces):
            yield from pieces
        case Display(formula=formula):
            yield formula
        case Items(items=items):
            yield from (piece for item in items for inside in item.blocks for piece in _own_pieces(inside))
        case Quote(blocks=blocks) | Front(blocks=blocks):
            yield from (piece for inside in blocks for piece in _own_pieces(inside))
        case Table(head=head, body=body):
            yield from (piece for row in (*head, *body) for cell in row.cells for piece in cell.pieces)


def drop_blocks(blocks: Sequence[Block], bad: Callable[[Piece], bool]) -> tuple[Block, ...]:
    """Return the blocks without the innermost ones (paragraph, table, code …) that hold a bad piece, also in a note."""

    def is_bad(block: Block) -> bool:
        return any(bad(piece) or any(map(bad, pieces_of(piece.note))) for piece in _own_pieces(block))

    good: list[Block] = []
    for block in blocks:
        if not is_bad(block):
            good.append(block)
        elif isinstance(block, Quote | Front):
            inside = drop_blocks(block.blocks, bad)
            good += [replace(block, blocks=inside)] if inside else []
        elif isinstance(block, Items):
            items = [replace(item, blocks=drop_blocks(item.blocks, bad)) for item in block.items]
            left = tuple(item for item in items if item.blocks)
            good += [replace(block, items=left)] if left else []
    return tuple(good)
