"""The content of each page of a typeset document: its blocks, divided among the pages by the marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from datagen.markdown.blocks import Block, block_texts, ids_of, keep_blocks, pieces_of
from datagen.markdown.page_templates import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """The content of a page, from top to bottom."""

    header: str
    blocks: tuple[Block, ...]
    rest: tuple[Block, ...]  # of footnotes that began on an earlier page
    notes: tuple[tuple[str, tuple[Block, ...]], ...]  # number and text of each footnote
    footer: str

    def texts(self) -> Iterator[str]:
        """Yield all printed text except formulas."""
        yield self.header
        for block in self.blocks + self.rest:
            yield from block_texts(block)
        for number, blocks in self.notes:
            yield number
            for block in blocks:
                yield from block_texts(block)
        yield self.footer


def divide(
    blocks: Sequence[Block], pages: Mapping[int, frozenset[int]], running: Running, count: int
) -> tuple[PageContent, ...]:
    """Return the content of each page of a document.

    Args:
        blocks: of the document.
        pages: id of a piece, row or rule → the pages, from 1, that it is on.
        running: header and footer.
        count: number of pages.
    """
    by_page: defaultdict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        notes = (inside for piece in pieces_of([block]) for inside in piece.note)
        for page in sorted({page for number in ids_of([block, *notes]) for page in pages.get(number, ())}):
            by_page[page].append(block)
    return tuple(_content(by_page[page], pages, page, running.printed(page, count)) for page in range(1, count + 1))


def _content(
    blocks: Sequence[Block], pages: Mapping[int, frozenset[int]], page: int, printed: tuple[str, str]
) -> PageContent:
    def here(number: int) -> bool:
        return page in pages.get(number, ())

    rest: list[Block] = []
    notes: list[tuple[str, tuple[Block, ...]]] = []
    for piece in pieces_of(blocks):
        note = keep_blocks(piece.note, here)
        if note and here(next(ids_of(piece.note))):
            notes.append((piece.text, note))
        else:
            rest += note
    return PageContent(
        header=printed[0],
        blocks=keep_blocks(blocks, here),
        rest=tuple(rest),
        notes=tuple(notes),
        footer=printed[1],
    )
