"""What pages look like (`data/templates.toml`), which document looks how, and what has to give where room is short."""

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

from datagen.markdown.blocks import Block, Code, Front, Items, Paragraph, Piece, Quote, Table, ids_of, pieces_of

Side = Literal["left", "center", "right"]

CODE_EM = 0.85  # size of code relative to the text
_CODE_CHAR = 0.602  # em; DejaVu Sans Mono
_TEXT_CHAR = 0.55  # em, generously
_CELL_PT = 11.0  # between the texts of two columns
_SMALLEST = 0.7  # of the usual size, for tables and code that do not fit
_TITLE_CHARS = 60  # of a title in a header
_MARGIN_EM = 2.5  # what lists and fills take from a line of code


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """See `data/templates.toml` for the meaning of each and its unit."""

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
        """Width of a column of text in points."""
        inner = self.width - self.margin[0] - self.margin[2]
        return (inner - self.gutter * (self.columns - 1)) / self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What stands above and below the text of each page, with {page} and {pages} in it."""

    header: tuple[str, ...] = ()  # one part, or those at the two sides
    footer: str = ""

    def printed(self, page: int, pages: int) -> tuple[str, str]:
        """Header and footer of page `page`, from 1."""
        header, footer = (
            text.replace("{page}", str(page)).replace("{pages}", str(pages))
            for text in (" ".join(filter(None, self.header)), self.footer)
        )
        return header, footer


def all_templates() -> tuple[Template, ...]:
    """All templates, in the file's order."""
    return tuple(_templates())


def template_for(content: str, language: str) -> Template:
    """The template of a document: chosen by its content, among those of its language."""
    wanted = "zh" if language == "zh" else "en"
    among = [template for template in _templates() if template.language == wanted]
    digest = hashlib.sha256(f"template\x1f{content}".encode()).digest()
    return among[int.from_bytes(digest[:8]) % len(among)]


def digest() -> str:
    """Changes with whatever templates consist of."""
    data = (
        files("datagen.markdown") / "data" / name
        for name in ("templates.toml", "template.typ", "formulas.lua", "symbols.toml")
    )
    return hashlib.sha256(b"\x1f".join(file.read_bytes() for file in data)).hexdigest()[:12]


def running(template: Template, title: str) -> Running:
    """Header and footer of a document."""
    short = title if len(title) <= _TITLE_CHARS else title[:_TITLE_CHARS].rpartition(" ")[0] or title[:_TITLE_CHARS]
    short = short.replace("{", "(").replace("}", ")")
    parts = tuple(part.replace("{title}", short) for part in template.header.split("|")) if template.header else ()
    return Running(header=parts if any(parts) else (), footer=template.footer)


def fit(blocks: Sequence[Block], template: Template, notes: Counter[str]) -> tuple[Block, ...]:
    """Wraps lines of code that do not fit into a column, as they are then seen; leaves out tables that never will."""
    every = [*ids_of(blocks), *(piece.id for piece in pieces_of(blocks)), -1]
    fresh = count(max(every) + 1)
    return tuple(_fitted(blocks, template, notes, fresh))


def _fitted(blocks: Iterable[Block], template: Template, notes: Counter[str], fresh: Iterator[int]) -> Iterator[Block]:
    for block in blocks:
        match block:
            case Table() if table_size(block, template) < _SMALLEST:
                notes["wide_tables"] += 1
            case Code(lines=lines):
                room = int(_code_chars(template) / _SMALLEST)
                yield Code(lines=tuple(part for line in lines for part in _wrapped(line, room, fresh)))
            case Quote(blocks=inside) | Front(blocks=inside):
                kept = tuple(_fitted(inside, template, notes, fresh))
                if kept:
                    yield replace(block, blocks=kept)
            case Items(items=items):
                made = [replace(item, blocks=tuple(_fitted(item.blocks, template, notes, fresh))) for item in items]
                left = tuple(item for item in made if item.blocks)
                if left:
                    yield replace(block, items=left)
            case Paragraph(pieces=pieces):
                yield replace(block, pieces=tuple(_with_fitting_notes(pieces, template, notes, fresh)))
            case _:
                yield block


def _with_fitting_notes(
    pieces: Iterable[Piece], template: Template, notes: Counter[str], fresh: Iterator[int]
) -> Iterator[Piece]:
    for piece in pieces:
        yield replace(piece, note=tuple(_fitted(piece.note, template, notes, fresh))) if piece.note else piece


def _wrapped(line: Piece, room: int, fresh: Iterator[int]) -> Iterator[Piece]:
    """A line of code in parts of at most `room` columns."""
    start = used = 0
    number = line.id
    for place, char in enumerate(line.text):
        wide = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if used + wide > room:
            yield replace(line, id=number, text=line.text[start:place])
            start, used, number = place, 0, next(fresh)
        used += wide
    yield replace(line, id=number, text=line.text[start:])


def code_size(code: Code, template: Template) -> float:
    """Font size of a block of code, relative to what code usually has."""
    longest = max(_columns(line.text) for line in code.lines)
    return min(1.0, max(_SMALLEST, _code_chars(template) / max(longest, 1)))


def table_size(table: Table, template: Template) -> float:
    """Font size of a table, relative to that of the text: 1, or less where it would not fit; 0 where it cannot."""
    number = len(table.aligns)
    words, wholes = [0] * number, [0] * number  # of each column, characters of the longest word and of all
    for row in (*table.head, *table.body):
        place = 0
        for cell in row.cells:
            if cell.columns == 1 and place < number:
                words[place] = max(words[place], max(map(len, _unbroken(cell.pieces)), default=0))
                wholes[place] = max(wholes[place], sum(len(piece.text) + piece.space for piece in cell.pieces))
            place += cell.columns
    room = (template.column_pt - _CELL_PT * number) / (template.size * _TEXT_CHAR)
    if room <= 0 or sum(words) > room / _SMALLEST:
        return 0.0
    wanted = sum(max(word, min(whole, 30)) for word, whole in zip(words, wholes, strict=True))
    return round(min(1.0, max(_SMALLEST, room / max(wanted, 1))), 2)


def _unbroken(pieces: Iterable[Piece]) -> Iterator[str]:
    """Texts that no line break divides."""
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


@cache
def _templates() -> tuple[Template, ...]:
    data = tomllib.loads((files("datagen.markdown") / "data" / "templates.toml").read_text(encoding="utf-8"))
    return tuple(Template(name=name, **(data["defaults"] | own)) for name, own in data["templates"].items())
