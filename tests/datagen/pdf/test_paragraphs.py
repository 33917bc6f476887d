from __future__ import annotations

from datagen.pdf.text.glyphs import Joiner
from datagen.pdf.text.paragraphs import paragraphs, printed_lines
from datagen.pdf.text.regions import Region, Row
from datagen.pdf.text.rows import rows_of
from tests.datagen.pdf.page_lines import row, rows, run

FULL = "a line that goes as far as the margin"


def joined(*lines: Row) -> list[str]:
    return paragraphs(Region(list(lines)), Joiner(str))


def styled(text: str, y: float, x: float = 100, **style: bool) -> Row:
    return Row([run(text, x, y, **style)])


def test_printed_lines_keep_wide_gaps_as_tabs() -> None:
    lines = [row(("left", 100.0), ("near", 160.0), ("far", 300.0)), row("alone")]
    assert printed_lines(Region(lines)) == ["left near\tfar", "alone"]
    assert printed_lines(Region([])) == []


def test_a_short_line_ends_a_paragraph() -> None:
    assert joined(*rows([FULL, "and ends.", FULL, FULL])) == [f"{FULL} and ends.", f"{FULL} {FULL}"]


def test_a_line_whose_next_word_did_not_fit_goes_on() -> None:
    almost, long = FULL[:-7], "extraordinarily long words follow it."
    assert joined(*rows([FULL, almost, long, FULL])) == [f"{FULL} {almost} {long} {FULL}"]


def test_an_indent_begins_a_paragraph() -> None:
    lines = [*rows([FULL, FULL]), row(FULL[:-3], x=130, y=348), *rows([FULL], y=372)]
    assert joined(*lines) == [f"{FULL} {FULL}", f"{FULL[:-3]} {FULL}"]


def test_a_wider_distance_or_another_size_begins_a_stack() -> None:
    assert joined(*rows([FULL, FULL]), *rows([FULL], y=380)) == [f"{FULL} {FULL}", FULL]
    large = [row("A heading", y=270, size=28), *rows([FULL, FULL])]
    assert joined(*large) == ["A heading", f"{FULL} {FULL}"]


def test_bold_text_is_apart_unless_it_goes_on_in_small_letters() -> None:
    heading = [styled("A heading in bold letters, to the margin", 300, bold=True), styled("The text below it", 324)]
    assert joined(*heading) == ["A heading in bold letters, to the margin", "The text below it"]
    words = [styled("Bold words begin a paragraph that goes on", 300, bold=True), styled("in plain letters here", 324)]
    assert joined(*words) == ["Bold words begin a paragraph that goes on in plain letters here"]


def test_code_is_not_joined() -> None:
    assert joined(*[styled(FULL, 300 + 24 * number, mono=True) for number in range(3)]) == [FULL] * 3
    commented = [
        Row([run("make all", 100, y, mono=True), run("# a comment in another font", 200, y)]) for y in (300, 324, 348)
    ]
    assert joined(*commented) == ["make all  # a comment in another font"] * 3
    far = Row([run("make all", 100, 300, mono=True), run("a cell beside it", 400, 300)])
    assert joined(far) == ["make all\ta cell beside it"]


def test_code_keeps_indents_gaps_and_the_numbers_of_its_lines() -> None:
    lines = [styled("def f(x):", 300, mono=True), styled("return x", 324, 140, mono=True)]
    assert joined(*lines) == ["def f(x):", "    return x"]
    assert printed_lines(Region(lines)) == ["def f(x):", "    return x"]
    runs = [(9, "def f(x):", 100.0), (10, "return x", 140.0), (11, "}", 100.0)]
    numbered = [
        part
        for line, (number, text, x) in enumerate(runs)
        for part in (run(str(number), 40, 300 + 24 * line, size=14), run(text, x, 300 + 24 * line, mono=True))
    ]
    assert joined(*rows_of(numbered)[0]) == ["9 def f(x):", "10     return x", "11 }"]
    two = [run("a", 100, 300, mono=True, index=0), run("b", 130, 300, mono=True, index=1)]
    assert joined(*rows_of(two)[0]) == ["a  b"]


def test_centred_lines_stay_lines_and_a_centred_heading_is_one() -> None:
    verse = [
        row(text, x=500 - 5 * len(text), y=300 + 24 * number) for number, text in enumerate(("one", FULL, "three"))
    ]
    assert joined(*verse) == ["one", FULL, "three"]
    heading = [
        styled(text, 300 + 24 * number, 500 - 5 * len(text), bold=True)
        for number, text in enumerate(("A heading that is longer than", "a line of it"))
    ]
    assert joined(*heading) == ["A heading that is longer than a line of it"]


def test_items_begin_paragraphs_and_their_lines_go_on() -> None:
    item = f"1. {FULL}"
    lines = [row(item, y=300), row(FULL, x=130, y=324), row(f"2. {FULL}", y=348), row("ends.", x=130, y=372)]
    assert joined(*lines) == [f"{item} {FULL}", f"2. {FULL} ends."]


def test_leaders_end_a_line_of_contents() -> None:
    lines = rows(["Introduction . . . . . . . . . . . . 1", "Methods . . . . . . . . . . . . . . 12"])
    assert joined(*lines) == ["Introduction . . . . . . . . . . . . 1", "Methods . . . . . . . . . . . . . . 12"]


def test_a_joiner_counts_the_hyphens_that_it_removes() -> None:
    joiner = Joiner(lambda: "some text")
    assert joiner.join("exam-", "ple") == "example"
    assert joiner.join("soft\u00ad", "ened") == "softened"
    assert joiner.join("GPT-", "4") == "GPT-4"
    assert joiner.join("", "word") == "word"
    assert joiner.join("word", "  ") == "word"
    assert joiner.hyphens == 2


def test_the_items_of_an_index_stay_apart() -> None:
    index = ["center, 24", "list, 24, 25", "flush, 28", "strip, 25", "minipage, 28, 29, 30"]
    last = row("a very long entry, 28, 29", x=130, y=300 + 24 * len(index))
    assert joined(*rows(index), last) == [*index, "a very long entry, 28, 29"]


def test_a_wrapped_item_of_a_narrow_list_goes_on() -> None:
    wide = row(3 * FULL, y=200)
    items = [row("• the first item of it", y=300), row("wraps", x=120, y=324), row("• second", y=348)]
    assert joined(wide, *items) == [3 * FULL, "• the first item of it wraps", "• second"]
    lines = [row("an address of the street", y=300), row("In a town", x=120, y=324)]
    assert joined(wide, *lines) == [3 * FULL, "an address of the street", "In a town"]


def test_an_item_whose_first_line_is_indented_goes_on_at_the_margin() -> None:
    lines = [row(f"1. {FULL[:-3]}", x=130, y=300), row(FULL, y=324), row(f"2. {FULL[:-3]}", x=130, y=348)]
    assert joined(*lines, row("ends.", y=372)) == [f"1. {FULL[:-3]} {FULL}", f"2. {FULL[:-3]} ends."]


def test_items_of_terms_go_on_below_their_first_lines() -> None:
    def item(term: str, y: float) -> list[Row]:
        return [row(f"{term} {FULL}"[: len(FULL)], x=100, y=y), row("the text of it.", x=140, y=y + 24)]

    items = [*item(".log", 300), *item(".toc", 380), row("short", y=460)]
    assert joined(*items) == [
        ".log a line that goes as far as the m the text of it.",
        ".toc a line that goes as far as the m the text of it.",
        "short",
    ]
    roomy = [row(FULL[:19], y=540), row("An indented paragraph.", x=140, y=564)]  # its first word had room above
    assert joined(*items, *roomy)[-2:] == [FULL[:19], "An indented paragraph."]
    assert joined(*items[:2]) == [".log a line that goes as far as the m", "the text of it."]  # one alone tells nothing
