"""What each page of a typeset document shows: its blocks divided among the pages by the marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from datagen.markdown.blocks import Block, ids_of, keep_blocks, pieces_of, texts_of
from datagen.markdown.page_templates import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page, from top to bottom."""

    header: str
    blocks: tuple[Block, ...]
    rest: tuple[Block, ...]  # of footnotes that began on an earlier page
    notes: tuple[tuple[str, tuple[Block, ...]], ...]  # number and text of each footnote
    footer: str

    def texts(self) -> Iterator[str]:
        """All that is printed but for formulas."""
        yield self.header
        for block in self.blocks + self.rest:
            yield from texts_of(block)
        for number, blocks in self.notes:
            yield number
            for block in blocks:
                yield from texts_of(block)
        yield self.footer


def divide(
    blocks: Sequence[Block], pages: Mapping[int, frozenset[int]], running: Running, count: int
) -> tuple[Shown, ...]:
    """The pages of a document.

    Args:
        blocks: all of it.
        pages: the pages, from 1, that each id is on.
        running: header and footer.
        count: number of pages.
    """
    found: defaultdict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        notes = (inside for piece in pieces_of([block]) for inside in piece.note)
        for page in sorted({page for number in ids_of([block, *notes]) for page in pages.get(number, ())}):
            found[page].append(block)
    return tuple(_shown(found[page], pages, page, running.printed(page, count)) for page in range(1, count + 1))


def _shown(blocks: Sequence[Block], pages: Mapping[int, frozenset[int]], page: int, printed: tuple[str, str]) -> Shown:
    def here(number: int) -> bool:
        return page in pages.get(number, ())

    rest: list[Block] = []
    notes: list[tuple[str, tuple[Block, ...]]] = []
    for piece in pieces_of(blocks):
        kept = keep_blocks(piece.note, here)
        if kept and here(next(ids_of(piece.note))):
            notes.append((piece.text, kept))
        else:
            rest += kept
    return Shown(
        header=printed[0],
        blocks=keep_blocks(blocks, here),
        rest=tuple(rest),
        notes=tuple(notes),
        footer=printed[1],
    )
