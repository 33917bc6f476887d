"""Pandoc's syntax tree → the blocks of pages, with LaTeX's numbers of sections, captions and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from typing import Any, cast

from datagen.markdown.blocks import (
    Align,
    Block,
    Cell,
    Code,
    Display,
    Front,
    Heading,
    Item,
    Items,
    Paragraph,
    Piece,
    Quote,
    Rule,
    Style,
    Table,
    TableRow,
)
from datagen.markdown.formulas.translate import translate
from datagen.markdown.inlines import UNSEEN, Node, is_unspaced, item_marker, plain, styled_leaves, tokens
from datagen.markdown.pandoc import Tree, bare

_TAB = 4
_MOST_PIECES = 10_000  # of a paragraph; nobody writes more, and the compiler's stack is limited
_MOST_NODES = 10 * _MOST_PIECES  # of pandoc's in a paragraph; a longer one is not cut into pieces
_NUMBERED_LEVELS = 3  # of headings; LaTeX numbers down to \subsubsection
_ALIGNS: dict[str, Align] = {"AlignRight": "right", "AlignCenter": "center"}
_WORDS = {
    "en": {"Figure": "Figure ", "Table": "Table ", "Abstract": "Abstract", "References": "References", "colon": ": "},
    "zh": {"Figure": "图 ", "Table": "表 ", "Abstract": "摘要", "References": "参考文献", "colon": "："},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A document as blocks."""

    title: str  # plain, for the header of pages; "" for none
    blocks: tuple[Block, ...]
    notes: Counter[str]


def build(tree: Tree, *, numbered: bool, language: str) -> Text:
    """Return the blocks of a document. Sections may have numbers, as in LaTeX.

    LaTeX's own words, such as "Figure", are Chinese for "zh", else English.
    """
    builder = _Builder(tree, numbered, _WORDS.get(language, _WORDS["en"]))
    front = builder.front()
    blocks = (*front, *builder.blocks(tree.blocks))
    title = plain(_inlines(tree.meta.get("title")))
    return Text(title=title, blocks=blocks, notes=builder.notes + Counter(tree.notes))


def words(tree: Tree) -> str:
    """Return all words of a document, which tell its language."""

    def strings(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("t") == "Str":
                yield node["c"]
            else:
                yield from (word for inside in node.values() for word in strings(inside))
        elif isinstance(node, list):
            yield from (word for inside in node for word in strings(inside))

    return " ".join(strings([tree.meta, tree.blocks]))


class _Builder:
    """A walk through the tree, once and in order, with LaTeX's counters."""

    def __init__(self, tree: Tree, numbered: bool, words: dict[str, str]) -> None:
        self._tree, self._numbered, self._words = tree, numbered, words
        self._ids = count()
        self._sections: list[int] = []
        self._counts: Counter[str] = Counter()  # of figures, tables and footnotes so far
        self._shift = 0
        self.notes: Counter[str] = Counter()

    def front(self) -> tuple[Block, ...]:
        """Return title, authors, date and abstract from the document's metadata."""
        meta = self._tree.meta
        blocks: list[Block] = []
        if title := self._pieces(_inlines(meta.get("title"))):
            self._shift = 1
            blocks.append(Heading(level=1, pieces=title))
            authors = meta.get("author", {"t": "MetaList", "c": []})
            for about in (*(authors["c"] if authors["t"] == "MetaList" else [authors]), meta.get("date")):
                blocks += [Paragraph(pieces=line, role="author") for line in self._lines(_inlines(about))]
        if abstract := meta.get("abstract"):
            inside = self.blocks(_blocks(abstract))
            head = Heading(level=1 + self._shift, pieces=self._added(self._words["Abstract"]))
            blocks += [head, *inside] if inside else []
        return (Front(blocks=tuple(blocks)),) if title else tuple(blocks)

    def blocks(self, nodes: Iterable[Node]) -> tuple[Block, ...]:
        """Return the blocks of a list of pandoc's blocks."""
        return tuple(block for node in nodes for block in self._block(node))

    def _block(self, node: Node) -> Iterator[Block]:  # noqa: C901, PLR0912  # a case per kind
        kind, content = node["t"], node.get("c", [])
        match kind:
            case "Para" | "Plain":
                yield from self._paragraph(content)
            case "LineBlock":
                yield from self._paragraph([one for line in content for one in (*line, {"t": "LineBreak"})][:-1])
            case "Header":
                yield from self._heading(*content)
            case "CodeBlock":
                lines = [UNSEEN.sub("", line.expandtabs(_TAB)).rstrip() for line in content[1].split("\n")]
                if any(lines):
                    yield Code(lines=tuple(Piece(id=next(self._ids), kind="text", text=line) for line in lines))
            case "BlockQuote":
                inside = self.blocks(content)
                yield from [Quote(blocks=inside)] if inside else []
            case "BulletList" | "OrderedList":
                yield from self._list(kind, content)
            case "DefinitionList":
                for term, meanings in content:
                    yield from self._paragraph([{"t": "Strong", "c": term}])
                    for meaning in meanings:
                        yield from self.blocks(meaning)
            case "HorizontalRule":
                yield Rule(id=next(self._ids))
            case "Div":
                yield from self._div(*content)
            case "Figure":
                yield from self.blocks(content[2])
                yield from self._caption("Figure", content[1])
            case "Table":
                yield from self._table(*content)
            case _:
                self.notes["raw_blocks"] += 1

    def _paragraph(self, nodes: Sequence[Node]) -> Iterator[Block]:
        """Yield running text, cut at display formulas."""
        if len(nodes) > _MOST_NODES:
            self.notes["endless_paragraphs"] += 1
            return
        run: list[Piece] = []
        for piece, display in self._pieces_and_displays(nodes):
            if not display:
                run.append(piece)
                continue
            yield from self._as_paragraph(run)
            run = []
            yield Display(formula=piece)
        yield from self._as_paragraph(run)

    def _as_paragraph(self, run: list[Piece]) -> Iterator[Block]:
        while run and run[-1].kind == "break":
            run.pop()
        if len(run) > _MOST_PIECES:
            self.notes["endless_paragraphs"] += 1
        elif run:
            yield Paragraph(pieces=(replace(run[0], space=False), *run[1:]))

    def _heading(self, level: int, attributes: list[Any], nodes: list[Node]) -> Iterator[Block]:
        number = ""
        if self._numbered and "unnumbered" not in attributes[1] and level <= _NUMBERED_LEVELS:
            before = (self._sections + [0] * level)[:level]
            self._sections = [*before[:-1], before[-1] + 1]
            number = ".".join(map(str, self._sections))
        prefix = self._added(number)
        pieces = tuple(piece for piece, display in self._pieces_and_displays(nodes) if not display)
        if pieces:
            gap = (replace(pieces[0], space=bool(prefix)), *pieces[1:])
            yield Heading(level=min(level + self._shift, 6), pieces=prefix + gap)

    def _list(self, kind: str, content: Any) -> Iterator[Block]:
        items = content[1] if kind == "OrderedList" else content
        parts = []
        for number, nodes in enumerate(items):
            blocks = self.blocks(nodes)
            if blocks:
                marker = item_marker(content[0], number) if kind == "OrderedList" else "-"
                parts.append(Item(marker=marker, blocks=blocks))
        tight = all(nodes and nodes[0]["t"] == "Plain" for nodes in items)
        if parts:
            yield Items(items=tuple(parts), tight=tight)

    def _div(self, attributes: list[Any], nodes: list[Node]) -> Iterator[Block]:
        classes = attributes[1]
        if "references" not in classes:
            yield from self.blocks(nodes)
            return
        entries = [
            replace(block, role="entry") if isinstance(block, Paragraph) else block for block in self.blocks(nodes)
        ]
        if entries:
            yield Heading(level=1 + self._shift, pieces=self._added(self._words["References"]))
            yield from entries

    def _caption(self, kind: str, caption: list[Any]) -> Iterator[Block]:
        if not caption[1]:
            return
        self._counts[kind] += 1
        prefix = self._added(f"{self._words[kind]}{self._counts[kind]}{self._words['colon'].strip()}")
        for block in self.blocks(caption[1]):
            if isinstance(block, Paragraph):
                first = replace(block.pieces[0], space=self._words["colon"].endswith(" ") and bool(prefix))
                yield replace(block, role="caption", pieces=(*prefix, first, *block.pieces[1:]))
                prefix = ()
            else:
                yield block

    def _table(self, _: object, caption: Any, columns: Any, head: Any, bodies: Any, foot: Any) -> Iterator[Block]:
        yield from self._caption("Table", caption)
        aligns = tuple(_ALIGNS.get(align["t"], "left") for align, _ in columns)
        rows = [row for body in bodies for part in body[2:] for row in part] + foot[1]
        if any(_is_complex(row) for row in (*head[1], *rows)):
            self.notes["complex_tables"] += 1
            return
        top = tuple(self._row(row, aligns) for row in head[1])
        body = tuple(self._row(row, aligns) for row in rows)
        if any(cell.pieces for row in body for cell in row.cells):
            yield Table(aligns=aligns, head=top, body=body)

    def _row(self, row: Any, aligns: Sequence[Align]) -> TableRow:
        number, column, cells = next(self._ids), 0, []
        for _, align, rows, columns, blocks in row[1]:
            nodes = [one for block in blocks for one in (*block["c"], {"t": "LineBreak"})][:-1]
            pieces = tuple(replace(piece, id=number) for piece in self._pieces(nodes))
            own = _ALIGNS.get(align["t"], "left" if align["t"] == "AlignLeft" else aligns[min(column, len(aligns) - 1)])
            cells.append(Cell(pieces=pieces, align=own, rows=rows, columns=columns))
            column += columns
        return TableRow(id=number, cells=tuple(cells))

    def _added(self, text: str) -> tuple[Piece, ...]:
        """Return the pieces of words that LaTeX adds."""
        return self._pieces([{"t": "Str", "c": text}]) if text else ()

    def _pieces(self, nodes: Iterable[Node]) -> tuple[Piece, ...]:
        return tuple(piece for piece, _ in self._pieces_and_displays(nodes))

    def _lines(self, nodes: Iterable[Node]) -> Iterator[tuple[Piece, ...]]:
        """Yield the pieces of each printed line."""
        for is_break, line in groupby(self._pieces(nodes), key=lambda piece: piece.kind == "break"):
            if not is_break:
                yield tuple(line)

    def _pieces_and_displays(self, nodes: Iterable[Node]) -> Iterator[tuple[Piece, bool]]:
        """Yield the pieces of inlines, each with whether it is a display formula."""
        last, soft, space = "", False, False
        for node, styles in styled_leaves(nodes, ()):
            if node["t"] in ("Space", "SoftBreak"):
                space, soft = bool(last), node["t"] == "SoftBreak"
                continue
            for piece, display in self._leaf(node, styles, space):
                if piece.kind == "break" and not last:
                    continue  # a break with nothing before it
                joined = soft and is_unspaced(last) and is_unspaced(piece.text)  # Chinese over two source lines
                yield replace(piece, id=next(self._ids), space=piece.space and bool(last) and not joined), display
                last = "" if display or piece.kind == "break" else piece.text or "x"
                space = soft = False
            if node["t"] == "Str" and node["c"].endswith("\u00a0"):
                space, soft = bool(last), False

    def _leaf(self, node: Node, styles: tuple[Style, ...], space: bool) -> Iterator[tuple[Piece, bool]]:
        kind, content = node["t"], node.get("c", [])
        match kind:
            case "Str" | "Code":
                text = content if kind == "Str" else content[1]
                own = styles if kind == "Str" else (*styles, cast(Style, "code"))
                for word in tokens(text, space):
                    yield Piece(id=0, kind="text", styles=own, text=word[0], space=word[1]), False
            case "Math":
                display = content[0]["t"] == "DisplayMath"
                tex = bare(content[1])
                formula = translate(tex, display=display)
                yield Piece(id=0, kind="math", text=tex, formula=formula, space=space), display
            case "LineBreak":
                yield Piece(id=0, kind="break"), False
            case "Note":
                self._counts["Note"] += 1
                number = str(self._counts["Note"])
                yield Piece(id=0, kind="note", text=number, note=self.blocks(content)), False
            case "Image":
                self.notes["images"] += 1
            case _:
                self.notes["raw_inlines"] += 1


def _is_complex(row: Any) -> bool:
    """Whether a cell of the row holds more than running text: a list, code or a table."""
    return any(block["t"] not in ("Plain", "Para") for cell in row[1] for block in cell[4])


def _inlines(meta: Any) -> list[Node]:
    """Return the inlines of a value in a document's metadata."""
    if meta is None:
        return []
    if meta["t"] == "MetaInlines":
        return cast(list[Node], meta["c"])
    if meta["t"] == "MetaBlocks":
        lines = [[*block["c"], {"t": "LineBreak"}] for block in meta["c"] if block["t"] in ("Para", "Plain")]
        return [node for nodes in lines for node in nodes][:-1]
    return [{"t": "Str", "c": str(meta["c"])}] if meta["t"] == "MetaString" else []


def _blocks(meta: Any) -> list[Node]:
    return cast(list[Node], meta["c"]) if meta["t"] == "MetaBlocks" else [{"t": "Para", "c": _inlines(meta)}]
