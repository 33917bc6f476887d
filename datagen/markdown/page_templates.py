"""The templates of pages (`data/templates.toml`): the choice for a document, and the fitting of code and tables."""

from __future__ import annotations

import hashlib
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Literal

from datagen.markdown.blocks import Block, Code, Paragraph, Piece, Table, change_inside, ids_of, inner_blocks, pieces_of

Side = Literal["left", "center", "right"]

CODE_EM = 0.85  # size of code, relative to the text
_CODE_CHAR = 0.602  # em; DejaVu Sans Mono
_TEXT_CHAR = 0.55  # em, an upper estimate
_CELL_PT = 11.0  # between two columns of a table
_SMALLEST = 0.7  # of the usual size, for wide tables and code
_TITLE_CHARS = 60  # of a title in a header
_MARGIN_EM = 2.5  # of a line of code, for lists and fills


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template. `data/templates.toml` has the meaning and unit of each field."""

    name: str
    language: str
    width: float
    height: float
    margin: list[float]
    columns: int
    gutter: float
    fonts: list[str]
    heading_fonts: list[str]
    size: float
    leading: float
    spacing: float
    indent: float
    justify: bool
    header: str
    header_rule: bool
    footer: str
    footer_side: Side
    heading_sizes: list[float]
    heading_side: Side
    title_side: Side
    grid: bool
    code_fill: str
    list_marker: str

    @property
    def column_pt(self) -> float:
        """Return the width of a column of text in points."""
        inner = self.width - self.margin[0] - self.margin[2]
        return (inner - self.gutter * (self.columns - 1)) / self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The header and footer of every page, with {page} and {pages} as placeholders."""

    header: tuple[str, ...] = ()  # one part, or a part at each side
    footer: str = ""

    def printed(self, page: int, pages: int) -> tuple[str, str]:
        """Return header and footer of page `page`, from 1."""
        header, footer = (
            text.replace("{page}", str(page)).replace("{pages}", str(pages))
            for text in (" ".join(filter(None, self.header)), self.footer)
        )
        return header, footer


@cache
def all_templates() -> tuple[Template, ...]:
    """Return all templates in the file's order."""
    data = tomllib.loads((files("datagen.markdown") / "data" / "templates.toml").read_text(encoding="utf-8"))
    return tuple(Template(name=name, **(data["defaults"] | own)) for name, own in data["templates"].items())


def template_for(content: str, language: str) -> Template:
    """Return the template of a document: its content chooses one among those of its language."""
    group = "zh" if language == "zh" else "en"
    among = [template for template in all_templates() if template.language == group]
    digest = hashlib.sha256(f"template\x1f{content}".encode()).digest()
    return among[int.from_bytes(digest[:8]) % len(among)]


def digest() -> str:
    """Return a digest of all files that templates consist of."""
    data = (
        files("datagen.markdown") / "data" / name for name in ("templates.toml", "template.typ", "formula_symbols.toml")
    )
    return hashlib.sha256(b"\x1f".join(file.read_bytes() for file in data)).hexdigest()[:12]


def running(template: Template, title: str) -> Running:
    """Return header and footer of a document."""
    short = title if len(title) <= _TITLE_CHARS else title[:_TITLE_CHARS].rpartition(" ")[0] or title[:_TITLE_CHARS]
    short = short.replace("{", "(").replace("}", ")")
    parts = tuple(part.replace("{title}", short) for part in template.header.split("|")) if template.header else ()
    return Running(header=parts if any(parts) else (), footer=template.footer)


def fit(blocks: Sequence[Block], template: Template, notes: Counter[str]) -> tuple[Block, ...]:
    """Wrap lines of code that are wider than a column, and leave out tables that cannot fit."""
    every = [*ids_of(blocks), *(piece.id for piece in pieces_of(blocks)), -1]
    fresh = count(max(every) + 1)

    def fitted(inside: Iterable[Block]) -> tuple[Block, ...]:
        return tuple(part for block in inside if (part := fitted_block(block)) is not None)

    def fitted_block(block: Block) -> Block | None:
        match block:
            case Table() if table_size(block, template) < _SMALLEST:
                notes["wide_tables"] += 1
                return None
            case Code(lines=lines):
                room = int(_code_chars(template) / _SMALLEST)
                return Code(lines=tuple(part for line in lines for part in _wrapped(line, room, fresh)))
            case Paragraph(pieces=pieces):
                noted = (replace(piece, note=fitted(piece.note)) if piece.note else piece for piece in pieces)
                return replace(block, pieces=tuple(noted))
            case _:
                return change_inside(block, fitted) if inner_blocks(block) else block

    return fitted(blocks)


def _wrapped(line: Piece, room: int, fresh: Iterator[int]) -> Iterator[Piece]:
    """Yield a line of code in parts of at most `room` characters' width."""
    start = used = 0
    number = line.id
    for position, char in enumerate(line.text):
        wide = _columns(char)
        if used + wide > room:
            yield replace(line, id=number, text=line.text[start:position])
            start, used, number = position, 0, next(fresh)
        used += wide
    yield replace(line, id=number, text=line.text[start:])


def code_size(code: Code, template: Template) -> float:
    """Return the font size of a block of code, relative to the usual size of code."""
    longest = max(_columns(line.text) for line in code.lines)
    return min(1.0, max(_SMALLEST, _code_chars(template) / max(longest, 1)))


def table_size(table: Table, template: Template) -> float:
    """Return the font size of a table, relative to the text: 1, or less for a wide table; 0 if it cannot fit."""
    number = len(table.aligns)
    words, wholes = [0] * number, [0] * number  # of each column: characters of the longest word, and of all
    for row in (*table.head, *table.body):
        column = 0
        for cell in row.cells:
            if cell.columns == 1 and column < number:
                words[column] = max(words[column], max(map(len, _unbroken(cell.pieces)), default=0))
                wholes[column] = max(wholes[column], sum(len(piece.text) + piece.space for piece in cell.pieces))
            column += cell.columns
    room = (template.column_pt - _CELL_PT * number) / (template.size * _TEXT_CHAR)
    if room <= 0 or sum(words) > room / _SMALLEST:
        return 0.0
    width = sum(max(word, min(whole, 30)) for word, whole in zip(words, wholes, strict=True))
    return round(min(1.0, max(_SMALLEST, room / max(width, 1))), 2)


def _unbroken(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield the stretches of text without a possible line break."""
    word = ""
    for piece in pieces:
        if piece.space or piece.kind == "break":
            yield word
            word = ""
        word += piece.text
    yield word


def _code_chars(template: Template) -> float:
    return (template.column_pt - _MARGIN_EM * template.size) / (template.size * CODE_EM * _CODE_CHAR)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
