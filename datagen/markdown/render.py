"""A document in one piece → its typeset pages, each with the Markdown of what it shows and audited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import PIL.Image

from datagen.markdown.blocks import Block, heads_of, pieces_of
from datagen.markdown.latex import Flat, with_plain_preamble
from datagen.markdown.page_content import Shown, divide
from datagen.markdown.page_templates import fit, running, template_for
from datagen.markdown.pandoc import ConvertError, Tree, read
from datagen.markdown.to_markdown import to_markdown
from datagen.markdown.tree import build, words
from datagen.markdown.typeset import Typeset, TypesetError, typeset
from datagen.pdf.audit.gates import PageGates, judge, measure
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Page
from datagen.pdf.text.glyphs import cleaner
from varyforge.language import language_of

ERRORS = (ConvertError, TypesetError)
"""What `make` raises; each has the ledger's `reason`."""

_CHARS_PER_PAGE = 8000  # more than any template has room for
_SPARE_CHARS = 50_000  # a list or a table is one block
_LONG_SIDE_PX = 4096
_MATH = "Math"  # in the names of fonts for formulas, which the comparison leaves out
_LEAST_AGREEMENT = 0.97
_SEAMS = 8  # three-letter pieces over the edges of columns, notes and footer, whose order in the layer is its own
_GATES = PageGates(  # the layer against the ink; what the letters say is no matter where the text is known
    min_chars=1,
    max_chars=1_000_000,
    max_lone=1.0,
    max_word_letters=1e9,
    min_plausible=0.0,
    min_forward=-1e9,
    max_ink_between=1e9,
    min_ink_in_glyphs=0.0,  # both are noise on pages of two lines
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A page that passed the audit."""

    page: int  # from 1
    picture: PIL.Image.Image
    markdown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheets:
    """What a document gave."""

    sheets: tuple[Sheet, ...]
    template: str
    language: str
    notes: Mapping[str, int]  # what was left out, by reason
    measures: Mapping[str, float]  # pages, and the lowest agreement of one with its text layer


def make(
    flat: Flat,
    form: Literal["latex", "markdown"],
    *,
    content: str,
    max_pages: int,
    short_side_px: int,
    converter_s: float,
) -> Sheets:
    """Converts, typesets, renders.

    A page is left out and counted where a formula or a row is broken over its edge, where the PDF audit refuses it, or
    where its text layer and its Markdown do not have the same letters.

    Args:
        flat: the document.
        form: what it is written in.
        content: what its template is chosen by.
        max_pages: further ones are left out.
        short_side_px: of the pictures.
        converter_s: wall clock that pandoc may take.

    Raises:
        ConvertError, TypesetError: there is no page; `reason` says why.
    """
    try:
        return _made(flat, form, content, max_pages, short_side_px, converter_s)
    except RecursionError:
        raise ConvertError("too_deep", "lists, quotes or brackets are nested too deeply") from None


def _tree(flat: Flat, form: Literal["latex", "markdown"], seconds: float, notes: Counter[str]) -> Tree:
    """What pandoc makes of a document; if need be without the preamble, where TeX speaks to itself."""
    try:
        return read(flat.text, form, bibliography=flat.bibliography, seconds=seconds)
    except ConvertError as error:
        text = with_plain_preamble(flat.text)
        if error.reason != "converter" or form == "markdown" or text == flat.text:
            raise
        notes["simplified_preambles"] += 1
        return read(text, form, bibliography=flat.bibliography, seconds=seconds)


def _made(
    flat: Flat,
    form: Literal["latex", "markdown"],
    content: str,
    max_pages: int,
    short_side_px: int,
    converter_s: float,
) -> Sheets:
    notes = Counter(flat.notes)
    tree = _tree(flat, form, converter_s, notes)
    language = language_of(words(tree))
    text = build(tree, numbered=form == "latex", language=language)
    notes.update(text.notes)
    if not text.blocks:
        left_out = ", ".join(f"{count} {name}" for name, count in sorted(notes.items()))
        raise ConvertError("empty", f"no text but for {left_out}" if left_out else "no text")
    template = template_for(content, language)
    blocks = _first(fit(text.blocks, template, notes), _SPARE_CHARS + max_pages * _CHARS_PER_PAGE, notes)
    if not blocks:
        raise ConvertError("too_large", f"its first block has more text than {max_pages} pages")
    made = typeset(blocks, template, running(template, text.title))
    notes.update(made.notes)
    shown, broken = divide(made.blocks, made.pages, made.running, made.count), _broken(made)
    sheets, agreements = [], []
    for page, number in _rendered(made, short_side_px, max_pages, notes):
        markdown = to_markdown(shown[number - 1], grid=template.grid)
        agreement = _agreement(shown[number - 1], page)
        wrong = "with_a_broken_piece" if number in broken else _what_is_wrong(page, markdown, agreement)
        if wrong:
            notes[f"pages_{wrong}"] += 1
            continue
        sheets.append(Sheet(page=number, picture=page.picture, markdown=markdown))
        agreements.append(agreement)
    return Sheets(
        sheets=tuple(sheets),
        template=template.name,
        language=language,
        notes=dict(notes),
        measures={"pages": float(len(sheets)), "agreement": min(agreements, default=0.0)},
    )


def _first(blocks: Sequence[Block], chars: int, notes: Counter[str]) -> tuple[Block, ...]:
    """The blocks up to so many characters: a book of thousands of pages need not be typeset for its first hundred."""
    kept: list[Block] = []
    for block in blocks:
        chars -= sum(len(piece.text) for piece in pieces_of([block]))
        if chars < 0:
            notes["blocks_beyond_max_pages"] += len(blocks) - len(kept)
            break
        kept.append(block)
    return tuple(kept)


def _rendered(made: Typeset, short_side_px: int, max_pages: int, notes: Counter[str]) -> Iterator[tuple[Page, int]]:
    """Pages with something on them, and their numbers."""
    filled = set().union(*made.pages.values())
    if made.count > max_pages:
        notes["pages_beyond_max_pages"] += made.count - max_pages
    with open_document(made.pdf) as document:
        for number in range(1, min(made.count, max_pages) + 1):
            if number in filled:
                size = {"short_side_px": short_side_px, "long_side_px": _LONG_SIDE_PX}
                yield document.page(number - 1, **size), number


def _broken(made: Typeset) -> set[int]:
    """Pages with part of a piece that lies on two: a long formula within a line, a row."""
    repeated = heads_of(made.blocks)
    return {page for number, on in made.pages.items() if len(on) > 1 and number not in repeated for page in on}


def _what_is_wrong(page: Page, markdown: str, agreement: float) -> str:
    """Why the audit leaves a page out; "" where it is good."""
    if agreement < _LEAST_AGREEMENT:
        return "of_other_letters"
    refused = judge(measure(page, markdown), "", _GATES)
    return f"refused_by_{refused.gate}" if refused else ""


def _agreement(shown: Shown, page: Page) -> float:
    """Share of three-letter pieces that Markdown and text layer have in common; formulas are left out on both sides."""
    layer = "".join(span.text for line in page.lines for span in line.spans if _MATH not in span.font and span.visible)
    truth, found = _pieces("".join(shown.texts())), _pieces(layer)
    return min(1.0, ((truth & found).total() + _SEAMS) / max(truth.total(), found.total(), 1))


def _pieces(text: str) -> Counter[str]:
    letters = "".join(char for char in cleaner("letters", "keep")(text) if char.isalnum())
    return Counter(letters[start : start + 3] for start in range(len(letters) - 2))
