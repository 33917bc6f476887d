"""Blocks and what is made of them without pandoc and without the compiler."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from datagen.markdown.blocks import (
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
    Table,
    TableRow,
    block_texts,
    drop_blocks,
    heads_of,
    ids_of,
    keep_blocks,
    pieces_of,
)
from datagen.markdown.formulas.translate import Formula
from datagen.markdown.inlines import is_unspaced, item_marker, plain, styled_leaves, tokens
from datagen.markdown.page_content import divide
from datagen.markdown.page_templates import Running, all_templates, code_size, fit, running, table_size
from datagen.markdown.to_markdown import to_markdown
from datagen.markdown.to_typst import TypstWriter, formulas_of, quoted

TEMPLATE = next(template for template in all_templates() if template.name == "book")


def piece(number: int, text: str, **more: object) -> Piece:
    """A word; those with an id above 0 follow a space."""
    return Piece(id=number, kind="text", text=text, space=number > 0, **more)  # type: ignore[arg-type]


def words(text: str, first: int = 0) -> tuple[Piece, ...]:
    return tuple(piece(first + number, word) for number, word in enumerate(text.split()))


def table(*lines: str, first: int = 100) -> Table:
    """A table of a head and rows; cells are separated by "|", ids count from `first`."""
    rows = [
        TableRow(id=first + number, cells=tuple(Cell(pieces=words(cell)) for cell in line.split("|")))
        for number, line in enumerate(lines)
    ]
    return Table(aligns=("left",) * len(rows[0].cells), head=(rows[0],), body=tuple(rows[1:]))


NOTE = Piece(id=3, kind="note", text="1", note=(Paragraph(pieces=words("a note", 40)),))
DOCUMENT: tuple[Block, ...] = (
    Front(blocks=(Heading(level=1, pieces=words("The title")),)),
    Paragraph(pieces=(piece(2, "text"), NOTE)),
    Items(items=(Item(marker="1.", blocks=(Paragraph(pieces=words("one two", 10)),)), Item(marker="2.", blocks=()))),
    Quote(blocks=(Code(lines=(piece(20, "code()"),)),)),
    Display(formula=Piece(id=21, kind="math", text="x", formula=Formula(typst="$x$", glyphs="𝑥"))),
    table("head", "first", "second"),
    Rule(id=30),
)


def test_all_ids_in_order() -> None:
    assert list(ids_of(DOCUMENT)) == [0, 1, 2, 3, 10, 11, 20, 21, 100, 101, 102, 30]
    assert [each.id for each in pieces_of(DOCUMENT[:2])] == [0, 1, 2, 3, 40, 41], "a note's pieces follow its mark"
    assert heads_of([Quote(blocks=DOCUMENT)]) == {100}


def test_the_text_of_blocks() -> None:
    texts = [list(block_texts(block)) for block in DOCUMENT]
    assert texts == [["The", "title"], ["text", "1"], ["1.", "one", "two", "2."], ["code()"], [""],
                     ["head", "first", "second"], []]  # fmt: skip
    chinese = Display(
        formula=Piece(id=0, kind="math", text=r"x \text{ 若 } y", formula=Formula(typst="$x$", glyphs="𝑥"))
    )
    assert list(block_texts(chinese)) == ["若"], "fonts for formulas lack it"


def test_parts_of_blocks() -> None:
    assert keep_blocks(DOCUMENT, lambda number: False) == ()
    assert keep_blocks(DOCUMENT[3:], lambda number: True) == DOCUMENT[3:]
    (items,) = keep_blocks(DOCUMENT[2:3], lambda number: number == 11)
    assert isinstance(items, Items)
    assert [item.marker for item in items.items] == [""], "an item that began before"
    (part,) = keep_blocks(DOCUMENT[5:6], lambda number: number in (100, 102))
    assert isinstance(part, Table)
    assert ([row.id for row in part.head], [row.id for row in part.body]) == ([100], [102])
    assert keep_blocks(DOCUMENT[5:6], lambda number: number == 100) == (), "a head alone is no table"


@pytest.mark.parametrize(
    ("bad", "left"),
    [("title", 6), ("a", 6), ("two", 6), ("code()", 6), ("x", 6), ("second", 6), ("absent", 7)],
)
def test_a_bad_piece_costs_its_innermost_block(bad: str, left: int) -> None:
    assert len(drop_blocks(DOCUMENT, lambda each: each.text == bad)) == left


def test_blocks_around_a_bad_one_stay() -> None:
    inner = (Paragraph(pieces=words("good")), Paragraph(pieces=words("bad")))
    items = Items(items=(Item(marker="-", blocks=inner), Item(marker="-", blocks=inner[1:])))
    left = drop_blocks([Quote(blocks=inner), items], lambda each: each.text == "bad")
    assert left == (Quote(blocks=inner[:1]), Items(items=(Item(marker="-", blocks=inner[:1]),)))


def test_pages_have_their_blocks_and_the_rest_of_notes() -> None:
    pages = {2: frozenset({1}), 3: frozenset({1}), 40: frozenset({1}), 41: frozenset({2}), 30: frozenset({2})}
    first, second = divide(DOCUMENT, pages, Running(header=("Page", "{page}"), footer="of {pages}"), 2)
    assert (first.header, first.footer, second.header) == ("Page 1", "of 2", "Page 2")
    assert [(number, list(block_texts(blocks[0]))) for number, blocks in first.notes] == [("1", ["a"])]
    assert [list(block_texts(block)) for block in second.rest] == [["note"]]
    assert to_markdown(first, grid=False) == "Page 1\n\ntext[^1]\n\n[^1]: a\n\nof 2"
    assert to_markdown(second, grid=False) == "Page 2\n\n---\n\nnote\n\nof 2"


def markdown(*blocks: Block, grid: bool = False) -> str:
    everywhere = {*ids_of(blocks), *(each.id for each in pieces_of(blocks))}
    (page,) = divide(blocks, dict.fromkeys(everywhere, frozenset({1})), Running(), 1)
    return to_markdown(page, grid=grid)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("5*3", r"5\*3"), ("snake_case", "snake_case"), ("_x", r"\_x"), ("a<b", r"a\<b"), ("a < b", "a < b"),
        ("$5", r"\$5"), ("`x`", r"\`x\`"), ("#", r"\#"), ("1.", r"1\."), ("+", r"\+"), ("-x", "-x"), ("====", r"\===="),
    ],
)  # fmt: skip
def test_text_is_no_markup(text: str, escaped: str) -> None:
    assert markdown(Paragraph(pieces=(piece(0, text),))) == escaped


def test_marks_of_emphasis_surround_runs() -> None:
    pieces = [
        piece(0, "a", styles=("strong",)), piece(1, "b", styles=("strong", "emph")), piece(2, "c", styles=("emph",)),
        piece(3, "d"), piece(4, "斜", styles=("emph",)),
    ]  # fmt: skip
    assert markdown(Paragraph(pieces=tuple(pieces))) == "**a *b*** *c* d 斜"


def test_code_within_a_line_and_in_a_block() -> None:
    line = Paragraph(pieces=(piece(0, "a`b", styles=("code",)), piece(1, "`c", styles=("code",)), piece(2, "end")))
    assert markdown(line) == "``a`b `c`` end"
    edge = Paragraph(pieces=(piece(0, "`", styles=("code",)),))
    assert markdown(edge) == "`` ` ``"
    assert markdown(Code(lines=(piece(0, "```"), piece(1, "x")))) == "````\n```\nx\n````"


def test_lists_and_quotes_are_indented() -> None:
    inner = Items(items=(Item(marker="-", blocks=(Paragraph(pieces=words("inside")),)),))
    outer = Items(
        items=(Item(marker="10.", blocks=(Paragraph(pieces=words("out", 5)), inner)),
               Item(marker="", blocks=(Paragraph(pieces=words("rest", 6)),)))
    )  # fmt: skip
    assert markdown(outer) == "10. out\n    - inside\nrest"
    assert markdown(replace(outer, tight=False)) == "10. out\n\n    - inside\n\nrest"
    assert markdown(Quote(blocks=(Rule(id=0), Rule(id=1)))) == "> ---\n>\n> ---"


def test_tables_are_pipes_or_latex() -> None:
    assert markdown(table("A|B", "1|2")) == "| A | B |\n| --- | --- |\n| 1 | 2 |"
    spans = (Cell(pieces=words("x"), rows=2), Cell(pieces=words("y"), columns=2, align="right"))
    below = (Cell(pieces=words("1")), Cell(pieces=words("2 & 3")))
    complex_ = Table(
        aligns=("left", "center", "right"), head=(), body=(TableRow(id=0, cells=spans), TableRow(id=1, cells=below))
    )
    rows = [r"\multirow{2}{*}{x} & \multicolumn{2}{r}{y} \\", r" & 1 & 2 \& 3 \\"]
    assert markdown(complex_).split("\n") == [r"\begin{tabular}{lcr}", r"\hline", *rows, r"\hline", r"\end{tabular}"]
    grid = markdown(complex_, grid=True).replace("{|r|}", "{r}").split("\n")
    assert grid == [r"\begin{tabular}{|l|c|r|}", r"\hline", rows[0], r"\hline", rows[1], r"\hline", r"\end{tabular}"]


def test_typst_has_text_in_strings_alone() -> None:
    assert quoted('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'
    formula = Piece(id=1, kind="math", text="x", formula=Formula(typst="$x$", glyphs="𝑥"))
    blocks = (Paragraph(pieces=(piece(0, '#let "x"'), formula)), Display(formula=replace(formula, id=2)))
    formulas = formulas_of(blocks)
    assert formulas == {"$x$": "f0"}
    line = TypstWriter(TEMPLATE, formulas).line(blocks[0])
    assert line == '#"#let \\"x\\""#m(0)#box(f0)#m(1)#h(0pt)#parbreak()'
    assert TypstWriter(TEMPLATE, formulas).line(blocks[1]) == "#displayed(2, f0)"


def test_running_headers_have_the_title_without_placeholders() -> None:
    template = replace(TEMPLATE, header="{title}|{page}", footer="{page} of {pages}")
    assert running(template, "A {odd} title").printed(3, 9) == ("A (odd) title 3", "3 of 9")
    assert len(running(template, "word " * 40).header[0]) <= 60
    assert running(replace(TEMPLATE, header="{title}"), "") == Running(footer=TEMPLATE.footer)


def test_wide_code_is_wrapped_and_shrunk() -> None:
    short, long = Code(lines=(piece(0, "x" * 10),)), Code(lines=(piece(0, "x" * 500),))
    assert code_size(short, TEMPLATE) == 1
    assert code_size(long, TEMPLATE) == 0.7
    notes: Counter[str] = Counter()
    (wrapped,) = fit([long], TEMPLATE, notes)
    assert isinstance(wrapped, Code)
    assert "".join(line.text for line in wrapped.lines) == "x" * 500
    assert len(wrapped.lines) > 2 and len({line.id for line in wrapped.lines}) == len(wrapped.lines)
    (chinese,) = fit([Code(lines=(piece(0, "字" * 500),))], TEMPLATE, notes)
    assert isinstance(chinese, Code) and len(chinese.lines) >= 2 * len(wrapped.lines) - 1
    assert not notes


def test_tables_that_never_fit_are_left_out() -> None:
    narrow, wide = table("A|B", "1|2"), table("|".join(["endless" * 5] * 12), "|".join(["x"] * 12))
    assert (table_size(narrow, TEMPLATE), table_size(wide, TEMPLATE)) == (1, 0)
    notes: Counter[str] = Counter()
    assert fit([Quote(blocks=(wide,)), narrow], TEMPLATE, notes) == (narrow,)
    assert notes == {"wide_tables": 1}


@pytest.mark.parametrize(
    ("style", "delimiter", "number", "marker"),
    [
        ("Decimal", "Period", 0, "3."), ("LowerAlpha", "OneParen", 0, "c)"), ("UpperAlpha", "TwoParens", 25, "(AB)"),
        ("LowerRoman", "Period", 1, "iv."), ("UpperRoman", "Period", 6, "IX."), ("DefaultStyle", "Default", 0, "3."),
    ],
)  # fmt: skip
def test_numbers_of_items(style: str, delimiter: str, number: int, marker: str) -> None:
    assert item_marker([3, {"t": style}, {"t": delimiter}], number) == marker


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("two words", [("two", False), ("words", True)]), (" led", [("led", True)]),
        ("either/or", [("either/", False), ("or", False)]), ("中文a", [("中", False), ("文", False), ("a", False)]),
        ("x" * 30, [("x" * 12, False), ("x" * 12, False), ("x" * 6, False)]), ("soft\u00adened", [("softened", False)]),
        ("http://a.b", [(part, False) for part in ("http", ":", "/", "/", "a", ".", "b")]),
    ],
)  # fmt: skip
def test_pieces_of_a_text(text: str, pieces: list[tuple[str, bool]]) -> None:
    assert list(tokens(text, space=False)) == pieces


def test_inlines_and_their_styles() -> None:
    text = {"t": "Str", "c": "x"}
    nodes = [
        {"t": "Strong", "c": [{"t": "Emph", "c": [text]}, {"t": "Strong", "c": [text]}]},
        {"t": "Quoted", "c": [{"t": "DoubleQuote"}, [text]]}, {"t": "SmallCaps", "c": [text]},
    ]  # fmt: skip
    leaves = [(node.get("c"), styles) for node, styles in styled_leaves(nodes, ())]
    assert leaves == [
        ("x", ("strong", "emph")), ("x", ("strong",)), ("“", ()), ("x", ()), ("”", ()), ("x", ()),
    ]  # fmt: skip
    assert plain([text, {"t": "Space"}, {"t": "SoftBreak"}, text]) == "x x"
    assert is_unspaced("the 文") and not is_unspaced("文 a") and not is_unspaced("")
