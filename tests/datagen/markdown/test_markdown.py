from __future__ import annotations

import gzip
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Literal

import pymupdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.inputs.listing import name_of
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.scan import batches
from datagen.job.settings import JobSettings
from datagen.markdown import render, typeset
from datagen.markdown.blocks import Block, block_texts, heads_of, ids_of, keep_blocks, pieces_of
from datagen.markdown.latex import Flat
from datagen.markdown.page_content import divide
from datagen.markdown.page_templates import Running, Template, all_templates, fit, running, template_for
from datagen.markdown.pandoc import ConvertError, Tree, read
from datagen.markdown.source import MarkdownSource
from datagen.markdown.to_markdown import to_markdown
from datagen.markdown.to_typst import TypstWriter
from datagen.markdown.tree import build
from datagen.pdf.text.glyphs import cleaner
from tests.datagen.made_papers import CHINESE, ENGLISH, everything, latex, pack, write_project
from varyforge.errors import UserError
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.shards import ShardSet

Form = Literal["latex", "markdown"]


def blocks_of(text: str, form: Form, language: str = "en", bibliography: str = "") -> tuple[Block, ...]:
    tree = read(text, form, bibliography=bibliography, seconds=30)
    return build(tree, numbered=form == "latex", language=language).blocks


def markdown_of(text: str, form: Form = "latex", *, grid: bool = False, language: str = "en", bib: str = "") -> str:
    """A whole document, as if it were on one page."""
    blocks = blocks_of(text, form, language, bib)
    everywhere = {*ids_of(blocks), *(piece.id for piece in pieces_of(blocks))}
    for piece in pieces_of(blocks):
        everywhere |= set(ids_of(piece.note))
    (page,) = divide(blocks, dict.fromkeys(everywhere, frozenset({1})), Running(), 1)
    return to_markdown(page, grid=grid)


def outcome(path: Path, **options: int) -> Outcome:
    """Of the one unit of an input."""
    source = MarkdownSource(paths=[str(path)], **options)
    units = source.units(str(path), str(path))
    if isinstance(units, Failed):
        return units
    (unit,) = units
    return source.make(unit, [str(path)])


MINI = {
    "headings": (
        latex(r"\section{One}a\subsection{Two $x$}b\section*{Three}c\subsubsection{Four}d\paragraph{Five}e"),
        "# 1 One\n\na\n\n## 1.1 Two $x$\n\nb\n\n# Three\n\nc\n\n### 1.1.1 Four\n\nd\n\n#### Five\n\ne",
    ),
    "title": (
        latex(
            r"\maketitle\begin{abstract}Short.\end{abstract}\section{One}a",
            r"\title{A \emph{B}}\author{C \and D}\date{May}",
        ),
        "# A *B*\n\nC\n\nD\n\nMay\n\n## Abstract\n\nShort.\n\n## 1 One\n\na",
    ),
    "emphasis": (
        latex(r"\textbf{two words} \emph{x}\texttt{a b} \sout{no} x\textsuperscript{2}"),
        "**two words** *x*`a b` ~~no~~ x<sup>2</sup>",
    ),
    "special characters": (latex(r"5*3 \$4 \_a\_ a\_b c<d {\textless}b> \#1"), r"5\*3 \$4 \_a\_ a_b c\<d \<b> #1"),
    "macros": (
        latex(
            r"$x\in\R$, \term{field} and $\norm{y}$",
            r"\newcommand\R{\mathbb R}\newcommand\term[1]{\emph{#1}}\def\norm#1{\|#1\|}",
        ),
        r"$x\in\mathbb R$, *field* and $\|y\|$",
    ),
    "formulas": (
        latex(
            r"Let $a<b$.\begin{equation}\label{e}x=1\tag{2}\end{equation} so "
            r"\begin{align*}a&=b\\c&=d\nonumber\end{align*}\[z\]"
        ),
        "Let $a<b$.\n\n$$\nx=1\n$$\n\nso\n\n$$\n\\begin{aligned} a&=b\\\\c&=d \\end{aligned}\n$$\n\n$$\nz\n$$",
    ),
    "formulas of several lines": (
        latex(
            "\\begin{align}a &= b % a note\n\\\\ 5\\% &= c\n% \\\\ old &= line\n\\end{align}"
            r"\begin{alignat*}{2}a &= b\end{alignat*}\begin{multline}a\\b\end{multline}"
            r"\begin{eqnarray}a&=&b\end{eqnarray}"
        ),
        "$$\n\\begin{aligned} a &= b \\\\ 5\\% &= c \\end{aligned}\n$$\n\n"
        "$$\n\\begin{alignedat}{2}a &= b \\end{alignedat}\n$$\n\n"
        "$$\n\\begin{gathered} a\\\\b \\end{gathered}\n$$\n\n$$\n\\begin{aligned} a&=&b \\end{aligned}\n$$",
    ),
    "formulas with nothing to see": (latex(r"a$\!$b$~$c $\quad$ $x$"), "ab c $x$"),
    "an abstract without a title": (
        latex(r"\begin{abstract}Short.\end{abstract}\section{One}a"),
        "# Abstract\n\nShort.\n\n# 1 One\n\na",
    ),
    "lists": (
        latex(
            r"\begin{itemize}\item a\item b\begin{enumerate}\item c\item d\end{enumerate}\end{itemize}"
            r"\begin{description}\item[T] means\end{description}"
        ),
        "- a\n\n- b\n\n  1. c\n\n  2. d\n\n**T**\n\nmeans",
    ),
    "code": (
        latex("\\begin{verbatim}\nif x:\n    y = `a`\n\n\tz\n\\end{verbatim}"),
        "```\nif x:\n    y = `a`\n\n    z\n```",
    ),
    "footnotes": (
        latex(r"a\footnote{First $x$.} b\footnote{Second.}"),
        "a[^1] b[^2]\n\n[^1]: First $x$.\n\n[^2]: Second.",
    ),
    "table": (
        latex(r"\begin{tabular}{lrc}A & B & $c$\\\hline 1 & 2 & \textbf{x y}\\\end{tabular}"),
        "| A | B | $c$ |\n| --- | ---: | :---: |\n| 1 | 2 | **x y** |",
    ),
    "table with spans": (
        latex(r"\begin{tabular}{lr}A & B\\\hline \multicolumn{2}{c}{both \& all}\\1 & 2\\\end{tabular}"),
        "\\begin{tabular}{lr}\n\\hline\nA & B \\\\\n\\hline\n"
        "\\multicolumn{2}{c}{both \\& all} \\\\\n1 & 2 \\\\\n\\hline\n\\end{tabular}",
    ),
    "captions": (
        latex(
            r"\begin{figure}\includegraphics{x}\caption{A cap.}\label{f}\end{figure}"
            r"\begin{table}\begin{tabular}{l}x\\\hline y\end{tabular}\caption{Tab}\end{table}"
            r" See Figure~\ref{f} and \ref{gone}."
        ),
        "Figure 1: A cap.\n\nTable 1: Tab\n\n| x |\n| --- |\n| y |\n\nSee Figure 1 and ??.",
    ),
    "references": (
        latex(r"As \cite{k}.\begin{references}{[1]} Knuth.\end{references}"),
        "As [?].\n\n# References\n\n[1] Knuth.",
    ),
    "quotes and breaks": (latex(r"``Yes''\\new \begin{quote}said\end{quote}"), "“Yes”  \nnew\n\n> said"),
    "missing style": (latex(r"\strange{arg} text", r"\usepackage{nowhere}"), "text"),
    "picture": (latex(r"a \begin{tikzpicture}\draw (0,0) -- (1,1);\end{tikzpicture} b"), "a\n\nb"),
    "Chinese": (
        latex("中文\n文字，English 混排。\\textbf{粗体} \\emph{斜体}"),
        "中文文字，English 混排。**粗体** 斜体",
    ),
    "no numbers": (latex("1986. A year. "), "1986\\. A year."),
}


@pytest.mark.parametrize("name", MINI)
def test_mini_documents(name: str) -> None:
    text, expected = MINI[name]
    assert markdown_of(text) == expected


def test_markdown_stays_what_it_shows() -> None:
    """But for what is not seen: the target of a link, a picture, which of the table's rules the page has not."""
    text = (
        "# A *b*\n\n3. three\n4. four\n\n- [x] done\n\n[link](http://x.y) ![pic](p.png)\n\nx[^n]\n\n---\n\n[^n]: note\n"
    )
    shown = "# A *b*\n\n3. three\n4. four\n\n- ☒ done\n\nlink\n\nx[^1]\n\n---\n\n[^1]: note"
    assert markdown_of(text, "markdown") == shown
    assert markdown_of("``a`b`` x `` `c` ``", "markdown") == "``a`b`` x `` `c` ``"
    bars = "\\begin{tabular}{|l|l|}\n\\hline\na \\| b & c \\\\\n\\hline\n1 & 2 \\\\\n\\hline\n\\end{tabular}"
    assert markdown_of("| a \\| b | c |\n|---|---|\n| 1 | 2 |", "markdown", grid=True) == bars.replace("\\|", "|")


def test_a_bibliography_of_entries_is_set() -> None:
    bib = "@article{k, author={Knuth, Donald}, title={Texts}, journal={J}, year={1984}}"
    made = markdown_of(latex(r"See \cite{k}."), bib=bib)
    assert made == "See (Knuth 1984).\n\n# References\n\nKnuth, Donald. 1984. “Texts.” *J*."
    assert markdown_of(latex(r"See \cite{k}."), bib="@article{k,,, title={") == "See [?]."


def test_a_language_has_its_words() -> None:
    text = latex(r"\begin{figure}\includegraphics{x}\caption{说明}\end{figure}")
    assert markdown_of(text, language="zh") == "图 1：说明"


FAILURES = {
    "macro_loop": latex(r"\loop", r"\def\loop{\loop\loop}"),
    "converter": latex(r"\section{never closed"),
    "empty": latex(""),
    "missing_file": latex(r"\input{gone}"),
    "input_loop": latex(r"\input{main}"),
    "outside": latex(r"\input{../main}"),
    "typesetting": latex(r"$\unknown{x}$"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_failures_have_a_reason(tmp_path: Path, reason: str) -> None:
    made = outcome(write_project(tmp_path, {"main.tex": FAILURES[reason]}))
    assert isinstance(made, Failed) and made.reason == reason


def test_a_users_own_pandoc_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    write_project(home, {"pandoc/init.lua": "error('from home')"})
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    assert markdown_of("text $x$", "markdown") == "text $x$"


def test_an_endless_paragraph_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its pieces are made, where there are very many."""
    for most in ("_MOST_PIECES", "_MOST_NODES"):
        with monkeypatch.context() as patch:
            patch.setattr(f"datagen.markdown.tree.{most}", 3)
            tree = read("a b c d e\n\nf", "markdown", seconds=30)
            made = build(tree, numbered=False, language="en")
        assert [piece.text for piece in pieces_of(made.blocks)] == ["f"]
        assert made.notes["endless_paragraphs"] == 1


def test_old_fonts_of_formulas_are_typeset(tmp_path: Path) -> None:
    deep = "{" * 30 + "z" + "}" * 30  # deeper ones are refused
    body = rf"$x_{{\rm eff}}$ and $\hat{{\bf n}} + \frac{{\rm a}}{{\cal B}}$ {ENGLISH} ${deep}$"
    made = outcome(write_project(tmp_path, {"main.tex": latex(body)}))
    assert isinstance(made, Written) and r"$x_{\rm eff}$ and $\hat{\bf n}" in made.samples[0].answer
    assert not any(note.startswith("formulas_") for note in made.notes)


def test_macros_that_explode_end_in_time() -> None:
    """Each is ten of the one before: a text of 10 GB."""
    macros = "".join(f"\\newcommand\\{a}{{{f'{chr(92)}{b}' * 10}}}" for a, b in itertools.pairwise("zyxwvuts"))
    with pytest.raises(ConvertError) as error:
        read(latex(r"\z\z\z", r"\newcommand\s{xxxxxxxxxx}" + macros), "latex", seconds=1)
    assert error.value.reason in ("timeout", "memory")


def test_archives_are_inputs(tmp_path: Path) -> None:
    packed = pack(tmp_path / "p.tar.gz", [], {"main.tex": latex(r"\input{a}"), "a.tex": ENGLISH})
    made = outcome(packed)
    assert isinstance(made, Written) and ENGLISH.strip() in made.samples[0].answer
    inside = pack(tmp_path / "f.tgz", [], {"p/MAIN.TEX": latex(r"\input{a} \input{p/a}"), "p/a.tex": ENGLISH})
    made = outcome(inside)
    assert isinstance(made, Written) and made.samples[0].answer.count(ENGLISH.strip()) == 2
    (tmp_path / "one.gz").write_bytes(gzip.compress(b"%PDF-1.5"))
    made = outcome(tmp_path / "one.gz")
    assert isinstance(made, Failed) and made.reason == "not_latex"


def test_one_bad_formula_or_character_costs_a_paragraph(tmp_path: Path) -> None:
    body = (
        rf"Good. {ENGLISH}"
        + "\n\nBad $\\unknown{x}$.\n\nOdd \U00013000.\n\n\\begin{itemize}\\item stays\\item $\\gone$\\end{itemize}"
    )
    made = outcome(write_project(tmp_path, {"main.tex": latex(body)}))
    assert isinstance(made, Written)
    assert "stays" in made.samples[0].answer and "Bad" not in made.samples[0].answer
    assert "Odd" not in made.samples[0].answer
    assert made.notes["formulas_with_unknown_commands"] == 2 and made.notes["blocks_without_glyphs"] == 1


def test_partial_rules_of_tables_are_no_cells(tmp_path: Path) -> None:
    table = (
        r"\begin{tabular}{lrr}\multirow{2}{*}{A} & \multicolumn{2}{c}{B}\\\cmidrule[1pt](l{2pt}r){2-3}\cline{1-1}"
        r" & c & d\\\hline 1 & 2 & 3\\\end{tabular} \verb|\cline{2-3}|"
    )
    made = outcome(write_project(tmp_path, {"main.tex": latex(table)}))
    assert isinstance(made, Written)
    assert "\\multirow{2}{*}{A} & \\multicolumn{2}{c}{B} \\\\\n & c & d \\\\\n" in made.samples[0].answer
    assert "`\\cline{2-3}`" in made.samples[0].answer


def test_what_is_too_wide(tmp_path: Path) -> None:
    long = "+".join(f"a_{{{n}}}" for n in range(200))
    row = " & ".join(["uncommonly-long-words"] * 30)
    table = rf"\begin{{tabular}}{{{'l' * 30}}}{row}\\\hline {row}\end{{tabular}}"
    made = outcome(write_project(tmp_path, {"main.tex": latex(f"{ENGLISH}\\[{long}\\] {table}")}))
    assert isinstance(made, Written)
    assert made.notes["wide_formulas"] == 1 and made.notes["wide_tables"] == 1


def pages_and_layers(made: typeset.Typeset) -> list[tuple[str, str]]:
    """Letters that each page should show, and those that its text layer has; formulas left out."""
    found = []
    shown = divide(made.blocks, made.pages, made.running, made.count)
    with pymupdf.open("pdf", made.pdf) as document:
        for said, page in zip(shown, document, strict=True):
            spans = (s for b in page.get_text("dict")["blocks"] for line in b.get("lines", ()) for s in line["spans"])
            layer = "".join(span["text"] for span in spans if "Math" not in span["font"])
            found.append((letters("".join(said.texts())), letters(layer)))
    return found


def pages_of(made: typeset.Typeset, running: Running) -> list[str]:
    return [to_markdown(page, grid=False) for page in divide(made.blocks, made.pages, running, made.count)]


def letters(text: str) -> str:
    return "".join(char for char in cleaner("letters", "keep")(text) if char.isalnum())


def set_in(template: Template, text: str, form: Form = "markdown") -> typeset.Typeset:
    made = build(read(text, form, seconds=30), numbered=form == "latex", language=template.language)
    return typeset.typeset(fit(made.blocks, template, Counter()), template, running(template, made.title))


@pytest.mark.parametrize("template", all_templates(), ids=lambda template: template.name)
def test_every_template_shows_what_the_markdown_says(template: Template) -> None:
    """The letters of each page are those of its text layer, in English and Chinese."""
    made = set_in(template, everything(ENGLISH + CHINESE, "Part 章节"))
    assert made.notes == {} and made.count > 1
    for number, (said, shown) in enumerate(pages_and_layers(made), 1):
        assert sorted(said) == sorted(shown), number
    assert not render._broken(made)


WORDS = st.sampled_from(
    "alpha beta, gamma. to office fluffy long-winded either/or mid—dash 中文 排版， http://example.org/a_b?c=1 x "
    "Elektrizitätenhauptbetriebswerkbauunterbeamten **bold run** *slanted* `code` $x^2$".split()
)
PARAGRAPHS = st.lists(WORDS, min_size=1, max_size=120).map(" ".join)
BLOCKS = st.one_of(
    PARAGRAPHS,
    PARAGRAPHS.map("## {}".format),
    st.lists(PARAGRAPHS, min_size=1, max_size=3).map(lambda items: "\n".join(f"- {item}" for item in items)),
    st.lists(PARAGRAPHS, min_size=1, max_size=3).map(lambda items: "\n\n".join(f"1.  {item}" for item in items)),
    PARAGRAPHS.map("> {}".format),
    st.just("$$\\frac{a}{b} = c$$"),
    st.lists(st.text('ab{} ="\\', max_size=60), min_size=1, max_size=30).map(
        lambda lines: "\n".join(["~~~", *lines, "~~~"])
    ),
    st.just("| h | k |\n|---|---|\n" + "| one | two |\n" * 12),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(BLOCKS, min_size=4, max_size=14).map("\n\n".join),
    st.sampled_from(["book", "conference", "zh-book", "manual"]),
)
def test_pages_divide_the_document(text: str, name: str) -> None:
    """Nothing is lost, doubled or moved: the pages' pieces, one after the other, are the document's."""
    template = next(template for template in all_templates() if template.name == name)
    made = set_in(template, text)
    repeated = heads_of(made.blocks)
    assert all(len(on) == 1 for number, on in made.pages.items() if number not in repeated)
    parts = []
    for page in range(1, made.count + 1):
        kept = keep_blocks(
            made.blocks, lambda number, page=page: page in made.pages.get(number, ()) and number not in repeated
        )
        parts += [text for block in kept for text in block_texts(block)]
    whole = keep_blocks(made.blocks, lambda number: number not in repeated)
    assert "".join("".join(parts).split()) == "".join("".join(t for b in whole for t in block_texts(b)).split())
    for said, shown in pages_and_layers(made):
        assert said == shown if template.columns == 1 else sorted(said) == sorted(shown)


def test_a_paragraph_is_cut_at_the_word(tmp_path: Path) -> None:
    """The Markdown of the pages, without header and footer, is that of the document."""
    words = " ".join(f"word{n}" for n in range(3000))
    template = next(template for template in all_templates() if template.name == "book")
    made = set_in(template, words)
    pages = pages_of(made, Running())
    assert made.count > 5 and " ".join(pages) == words


def test_a_list_goes_on_without_a_number_and_a_table_with_its_head() -> None:
    template = next(template for template in all_templates() if template.name == "book")
    words = " ".join(f"word{n}" for n in range(700))
    rows = "\n".join(f"| {n} | x |" for n in range(60))
    made = set_in(template, f"1. first\n2. {words}\n\n| A | B |\n|---|---|\n{rows}")
    pages = pages_of(made, made.running)
    assert pages[0].startswith("1\n\n1. first\n2. word0 word1")
    assert re.match(r"2\n\nword\d+ word", pages[1])  # below the page's number
    assert sum(page.count("| A | B |") for page in pages) > 1
    assert [int(n) for page in pages for n in re.findall(r"^\| (\d+) \|", page, re.M)] == list(range(60))


@pytest.mark.parametrize("name", ["conference", "book", "zh-manual"])
def test_footnotes_wherever_they_are(name: str) -> None:
    body = (
        r"\maketitle\begin{abstract}Abs\footnote{in abstract\footnote{and deeper}} text.\end{abstract}"
        r"\section{Head\footnote{in heading}} "
        + ENGLISH
        * 9
        + r"\begin{table}\caption{Cap\footnote{in caption}}\begin{tabular}{ll}A & B\footnote{in head}\\\hline "
        r"c\footnote{in cell} & d\end{tabular}\end{table}\begin{itemize}\item x\footnote{in item}\end{itemize}"
        r"\begin{quote}q\footnote{in quote\footnote{nested}}\end{quote}" + ENGLISH * 30
    )
    template = next(template for template in all_templates() if template.name == name)
    made = set_in(template, latex(body, r"\title{T\thanks{money}}\author{A\thanks{uni} \and B}"), "latex")
    assert all(sorted(said) == sorted(shown) for said, shown in pages_and_layers(made))
    text = "\n".join(pages_of(made, made.running))
    assert sorted(map(int, re.findall(r"^\[\^(\d+)\]: ", text, re.M))) == list(range(1, 12))


def test_a_table_over_two_columns_has_its_head_once() -> None:
    template = next(template for template in all_templates() if template.name == "conference")
    made = set_in(template, "| Head | k |\n|---|---|\n" + "| one | two |\n" * 50)
    assert [(sorted(said), said.count("Head")) for said, _ in pages_and_layers(made)] == [
        (sorted(shown), shown.count("Head")) for _, shown in pages_and_layers(made)
    ]
    assert made.count == 1


@pytest.mark.parametrize("word", ["http://host{}.example.org?" + "key{}=value&" * 5, "{}deadbeef" * 12])
def test_long_words_are_broken_where_pages_are_cut(word: str) -> None:
    """So that they are in nobody's way, and a page ends where the compiler breaks them."""
    template = next(template for template in all_templates() if template.name == "book")
    made = set_in(template, " ".join(f"x{n} {word.format(*[n] * 12)}" for n in range(150)))
    assert made.count > 3 and all(said == shown for said, shown in pages_and_layers(made))
    with pymupdf.open("pdf", made.pdf) as document:
        right = template.width - template.margin[2]
        assert all(word[2] <= right + 1 for page in document for word in page.get_text("words"))


def test_a_footnote_that_goes_on_says_its_number_once() -> None:
    template = next(template for template in all_templates() if template.name == "book")
    words = " ".join(f"note{n}" for n in range(600))
    made = set_in(template, f"Text.[^a]\n\n{ENGLISH * 10}\n\n[^a]: {words}")
    pages = pages_of(made, Running())
    assert sum(page.count("[^1]: note0") for page in pages) == 1
    assert re.findall(r"note\d+", " ".join(pages)) == words.split()


@pytest.mark.parametrize("name", ["article", "conference", "zh-article", "manual"])
def test_marks_are_not_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each glyph is where it would be without marks, to a tenth of a point: the PDF's rounding adds up along a line."""
    template = next(template for template in all_templates() if template.name == name)
    text = everything(CHINESE if template.language == "zh" else ENGLISH, "Part")
    marked = glyphs(set_in(template, text).pdf)
    line, prelude = TypstWriter.line, typeset._prelude
    one_mark = "if id == 0 [#metadata(id)<m>]"  # says that there are pages
    monkeypatch.setattr(typeset, "_prelude", lambda: prelude().replace("[#metadata(id)<m>]", one_mark))
    monkeypatch.setattr(TypstWriter, "line", lambda self, block: line(self, block).replace("#h(0pt)", ""))
    plain = glyphs(set_in(template, text).pdf)
    assert [glyph[:2] for glyph in marked] == [glyph[:2] for glyph in plain]
    assert all(
        abs(a - b) < 0.1 for one, two in zip(marked, plain, strict=True) for a, b in zip(one[2], two[2], strict=True)
    )


def glyphs(pdf: bytes) -> list[tuple[int, str, tuple[float, float]]]:
    """Page, character and place of everything that is printed, in the document's order."""
    with pymupdf.open("pdf", pdf) as document:
        blocks = [(page.number, block) for page in document for block in page.get_text("rawdict")["blocks"]]
        spans = [(n, span) for n, block in blocks for line in block.get("lines", ()) for span in line["spans"]]
        return [(n, c["c"], c["origin"]) for n, span in spans for c in span["chars"] if not c["c"].isspace()]


def test_every_symbol_that_pandoc_writes_is_known_to_typst() -> None:
    chars = [chr(code) for code in itertools.chain(range(0x391, 0x3D0), range(0x2190, 0x2300), range(0x27C0, 0x2B00))]
    tree: Tree = read("\n\n".join(f"$a {char} b$" for char in chars), "latex", seconds=60)
    blocks = build(tree, numbered=True, language="en").blocks
    made = typeset.typeset(blocks, all_templates()[0], Running())
    assert made.notes.get("formulas_not_typeset", 0) == 0


def test_the_same_bytes_twice() -> None:
    flat = Flat(text=everything(ENGLISH, "Part"))
    options = {"content": "abc", "max_pages": 3, "short_side_px": 300, "converter_s": 30.0}
    first, second = (render.make(flat, "markdown", **options) for _ in range(2))
    assert [s.markdown for s in first.pages] == [s.markdown for s in second.pages]
    assert all(a.picture.tobytes() == b.picture.tobytes() for a, b in zip(first.pages, second.pages, strict=True))
    assert set_in(all_templates()[0], "text").pdf == set_in(all_templates()[0], "text").pdf


def test_templates_are_chosen_by_content_and_language() -> None:
    chosen = {template_for(str(n), "en").name for n in range(300)}
    assert len(chosen) >= 12 and not any(name.startswith("zh") for name in chosen)
    assert all(template_for(str(n), "zh").name.startswith("zh") for n in range(50))
    assert template_for("a", "de") == template_for("a", "en")


def test_a_page_with_other_letters_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit compares with what is rendered: here, with pages that hide every third word."""
    path = write_project(tmp_path, {"a.md": ENGLISH * 5})
    piece = TypstWriter._piece
    hide = itertools.cycle([False, False, True])
    monkeypatch.setattr(TypstWriter, "_piece", lambda self, one, bold: "" if next(hide) else piece(self, one, bold))
    made = outcome(path)
    assert isinstance(made, Rejected) and made.gate == "pages"


def test_a_job(tmp_path: Path) -> None:
    """Every input ends in the ledger; parts of projects are no inputs of their own; the pages of a file are samples."""
    folder = tmp_path / "in"
    write_project(folder / "paper", {"main.tex": latex(r"\input{part}"), "part.tex": ENGLISH * 3})
    write_project(
        folder, {"a.md": everything(ENGLISH * 3, "Part"), "broken.tex": latex(r"\input{gone}"), "b.md": CHINESE * 5}
    )
    pack(folder / "bad.tgz", [], {"x.txt": "no tex"})
    summary = run_job(
        MarkdownSource(paths=[str(folder)], short_side_px=400, max_pages=2),
        tmp_path / "out",
        JobSettings(),
        LocalRunner(),
    )
    assert summary.units == 5
    assert summary.by_cause == {("failed", "missing_file"): 1, ("failed", "not_latex"): 1}
    shards = ShardSet(tmp_path / "out")
    rows = shards.table().to_pylist()
    assert sorted(row["document"] for row in rows) == ["a.md", "a.md", "b.md", "paper/main.tex"]
    assert {row["language"] for row in rows} == {"en", "zh"}
    sample = shards.read(rows[0]["shard"], rows[0]["offset"], rows[0]["size"])
    assert sample.task == "markdown" and min(sample.images[0].width, sample.images[0].height) == 400
    ledger = {row["unit"]: row for row in shards.ledger().to_pylist()}
    assert "pages_beyond_max_pages" in str(ledger["a.md"]["notes"])
    assert ledger["paper/main.tex"]["agreement"] > 0.97


def test_a_changed_chapter_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_project(folder, {"paper/main.tex": latex(r"\input{parts/a}"), "paper/parts/a.tex": ENGLISH})
    write_project(folder, {f"{n}.md": f"{ENGLISH} {n}" for n in range(4)})
    source = MarkdownSource(paths=[str(folder)])

    def names() -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("datagen.job.scan._INPUTS_PER_BATCH", 1)
            return {path: batch.name for batch in batches(source, "", 10, None) for path in batch.inputs}

    before = names()
    (folder / "paper/parts/a.tex").write_text(CHINESE, encoding="utf-8")
    after = names()
    assert {name_of(path, source.paths) for path in before if before[path] != after[path]} == {
        "paper/main.tex",
        "paper/parts/a.tex",
    }
    assert source.companion_files(str(folder / "0.md")) == ()
    write_project(folder, {f"paper/more/{n}.txt": "" for n in range(1000)})
    assert source.companion_files(str(folder / "paper/main.tex")) == []  # that much is no project


def test_markdown_in_old_encodings(tmp_path: Path) -> None:
    for name, text, encoding in (("a.md", "Caf\xe9 ol\xe9 au lait. " * 9, "latin-1"), ("b.md", CHINESE * 2, "gbk")):
        (tmp_path / name).write_bytes(text.encode(encoding))
        made = outcome(tmp_path / name)
        assert isinstance(made, Written) and text.strip() in made.samples[0].answer


def test_content_follows_every_file(tmp_path: Path) -> None:
    root = write_project(tmp_path, {"main.tex": latex(r"\input{part}"), "part.tex": "one"})
    source = MarkdownSource(paths=[str(tmp_path)])
    (before,) = source.units(str(root), str(root))  # type: ignore[misc]
    (tmp_path / "part.tex").write_text("two")
    (after,) = source.units(str(root), str(root))  # type: ignore[misc]
    assert before.content != after.content
    assert source.units(str(tmp_path / "part.tex"), str(tmp_path / "part.tex")) == []


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(MarkdownSource(paths=[str(tmp_path / "gone")]).inputs())
    with pytest.raises(UserError, match=r"no \*\.tex or \*\.tar\.gz"):
        list(MarkdownSource(paths=[str(tmp_path)]).inputs())
    with pytest.raises(ValueError, match="max_pages"):
        MarkdownSource(paths=[], max_pages=0)
