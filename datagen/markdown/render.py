"""A document in one piece → its typeset and audited pages, each with its Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import PIL.Image

from datagen.markdown.blocks import Block, heads_of, pieces_of
from datagen.markdown.latex import Flat, with_plain_preamble
from datagen.markdown.page_content import PageContent, divide
from datagen.markdown.page_templates import fit, running, template_for
from datagen.markdown.pandoc import ConvertError, Tree, read
from datagen.markdown.to_markdown import to_markdown
from datagen.markdown.tree import build, words
from datagen.markdown.typeset import Typeset, typeset
from datagen.pdf.audit.gates import PageGates, judge, measure
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Page
from datagen.pdf.text.glyphs import cleaner
from varyforge.language import Reading, language_of
from varyforge.language import read as read_letters

_CHARS_PER_PAGE = 8000  # more than fits on a page of any template
_SPARE_CHARS = 50_000  # because a whole list or table is one block
_LONG_SIDE_PX = 4096
_MATH = "Math"  # in the names of fonts for formulas, whose text is not compared
_LEAST_AGREEMENT = 0.97
_SEAMS = 8  # three-letter pieces across edges of columns, notes and footer, whose order in the layer differs
_GATES = PageGates(  # the layer against the ink; gates on letters are off, because the text is known
    min_chars=1,
    max_chars=1_000_000,
    max_lone=1.0,
    max_word_letters=1e9,
    min_plausible=0.0,
    min_forward=-1e9,
    max_ink_between=1e9,
    min_ink_in_glyphs=0.0,  # ink_between and ink_in_glyphs are noise on pages of two lines
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPage:
    """A page that passed the audit."""

    number: int  # from 1
    picture: PIL.Image.Image
    markdown: str
    language: str  # of the Markdown


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedDocument:
    """The pages of a document that passed the audit."""

    pages: tuple[RenderedPage, ...]
    template: str
    language: str
    notes: Mapping[str, int]  # counts of what was left out, by reason
    measures: Mapping[str, float]  # number of pages, and the lowest agreement of a page with its text layer


def make(
    flat: Flat,
    format: Literal["latex", "markdown"],
    *,
    content: str,
    max_pages: int,
    short_side_px: int,
    converter_s: float,
) -> RenderedDocument:
    """Convert, typeset, render and audit a document.

    A page is left out and counted where a formula or table row is broken across its edge, where the PDF audit rejects
    it, and where text layer and Markdown differ in their letters.

    Pages beyond `max_pages` are left out too. `content`, a digest of the document, chooses its template. Pandoc has
    `converter_s` seconds of wall clock.

    Raises:
        ConvertError, TypesetError: there is no page; `reason` tells why.
        RecursionError: lists, quotes or brackets are nested too deeply.
    """
    notes = Counter(flat.notes)
    tree = _tree(flat, format, converter_s, notes)
    language = language_of(words(tree))
    text = build(tree, numbered=format == "latex", language=language)
    notes.update(text.notes)
    if not text.blocks:
        left_out = ", ".join(f"{count} {name}" for name, count in sorted(notes.items()))
        raise ConvertError("empty", f"no text but for {left_out}" if left_out else "no text")
    template = template_for(content, language)
    blocks = _first(fit(text.blocks, template, notes), _SPARE_CHARS + max_pages * _CHARS_PER_PAGE, notes)
    if not blocks:
        raise ConvertError("too_large", f"its first block has more text than {max_pages} pages")
    document = typeset(blocks, template, running(template, text.title))
    notes.update(document.notes)
    contents = divide(document.blocks, document.pages, document.running, document.count)
    broken = _broken(document)
    pages, agreements = [], []
    for page, number in _rendered(document, short_side_px, max_pages, notes):
        markdown = to_markdown(contents[number - 1], grid=template.grid)
        agreement, reading = _agreement(contents[number - 1], page), read_letters(markdown)
        wrong = "with_a_broken_piece" if number in broken else _what_is_wrong(page, markdown, reading, agreement)
        if wrong:
            notes[f"pages_{wrong}"] += 1
            continue
        pages.append(RenderedPage(number=number, picture=page.picture, markdown=markdown, language=reading.language))
        agreements.append(agreement)
    return RenderedDocument(
        pages=tuple(pages),
        template=template.name,
        language=language,
        notes=dict(notes),
        measures={"pages": float(len(pages)), "agreement": min(agreements, default=0.0)},
    )


def _tree(flat: Flat, format: Literal["latex", "markdown"], seconds: float, notes: Counter[str]) -> Tree:
    """Return pandoc's tree of a document. If pandoc cannot read the preamble, a plain one replaces it."""
    try:
        return read(flat.text, format, bibliography=flat.bibliography, seconds=seconds)
    except ConvertError as error:
        text = with_plain_preamble(flat.text)
        if error.reason != "converter" or format == "markdown" or text == flat.text:
            raise
        notes["simplified_preambles"] += 1
        return read(text, format, bibliography=flat.bibliography, seconds=seconds)


def _first(blocks: Sequence[Block], chars: int, notes: Counter[str]) -> tuple[Block, ...]:
    """Return the first blocks with at most `chars` characters, to typeset only the first pages of a long book."""
    first: list[Block] = []
    for block in blocks:
        chars -= sum(len(piece.text) for piece in pieces_of([block]))
        if chars < 0:
            notes["blocks_beyond_max_pages"] += len(blocks) - len(first)
            break
        first.append(block)
    return tuple(first)


def _rendered(document: Typeset, short_side_px: int, max_pages: int, notes: Counter[str]) -> Iterator[tuple[Page, int]]:
    """Yield the pages that are not empty, with their numbers."""
    filled = set().union(*document.pages.values())
    if document.count > max_pages:
        notes["pages_beyond_max_pages"] += document.count - max_pages
    with open_document(document.pdf) as pdf:
        for number in range(1, min(document.count, max_pages) + 1):
            if number in filled:
                yield pdf.page(number - 1, short_side_px=short_side_px, long_side_px=_LONG_SIDE_PX), number


def _broken(document: Typeset) -> set[int]:
    """Return the pages with only a part of a piece, such as a long inline formula or a table row."""
    repeated = heads_of(document.blocks)
    return {page for number, on in document.pages.items() if len(on) > 1 and number not in repeated for page in on}


def _what_is_wrong(page: Page, markdown: str, reading: Reading, agreement: float) -> str:
    """Return the reason to leave a page out; "" for a good page."""
    if agreement < _LEAST_AGREEMENT:
        return "of_other_letters"
    rejected = judge(measure(page, markdown, reading), "", _GATES)
    return f"refused_by_{rejected.gate}" if rejected else ""


def _agreement(content: PageContent, page: Page) -> float:
    """Return the share of three-letter pieces that Markdown and text layer share, without formulas."""
    layer = "".join(span.text for line in page.lines for span in line.spans if _MATH not in span.font and span.visible)
    truth, printed = _pieces("".join(content.texts())), _pieces(layer)
    return min(1.0, ((truth & printed).total() + _SEAMS) / max(truth.total(), printed.total(), 1))


def _pieces(text: str) -> Counter[str]:
    letters = "".join(char for char in cleaner("letters", "keep")(text) if char.isalnum())
    return Counter(letters[start : start + 3] for start in range(len(letters) - 2))
