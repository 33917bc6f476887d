from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pymupdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.markdown import typeset
from datagen.markdown.blocks import Display, Piece
from datagen.markdown.formulas.translate import translate
from datagen.markdown.page_templates import Running, all_templates

NESTED = st.recursive(
    st.sampled_from(["x", "12", r"\alpha", r"\mathbf{A}", r"\sin y", "f'", r"\infty", r"\text{if }"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "=", r"\le", r"\otimes", ","]), inner).map(" ".join),
        st.builds(
            lambda command, one, other: f"{command}{{{one}}}{{{other}}}",
            st.sampled_from([r"\frac", r"\binom", r"\overset", r"\underset", r"\tfrac"]),
            inner,
            inner,
        ),
        st.builds(
            lambda command, one: f"{command}{{{one}}}",
            st.sampled_from(
                [r"\sqrt", r"\overline", r"\widehat", r"\underbrace", r"\boxed", r"\pmod", r"\mathrm", r"\phantom{x}"]
            ),
            inner,
        ),
        st.builds(lambda base, up, down: f"{{{base}}}^{{{up}}}_{{{down}}}", inner, inner, inner),
        st.builds(lambda up, inside: rf"\sum_{{i}}^{{{up}}}{{{inside}}}", inner, inner),
        st.builds(
            lambda sides, one: rf"\left{sides[0]} {one} \right{sides[1]}",
            st.sampled_from([("(", ")"), (".", "|"), (r"\|", r"\|"), (r"\langle", "]")]),
            inner,
        ),
        st.builds(
            lambda name, one, other: rf"\begin{{{name}}}{one}&{other}\\{other}&{one}\end{{{name}}}",
            st.sampled_from(["matrix", "pmatrix", "cases", "aligned", "smallmatrix", "Vmatrix"]),
            inner,
            inner,
        ),
    ),
    max_leaves=6,
)
USUAL = Path(__file__).with_name("formulas.txt").read_text(encoding="utf-8").splitlines()


def displays(formulas: list[str]) -> list[Display]:
    return [
        Display(formula=Piece(id=number, kind="math", text=tex, formula=translate(tex, display=True)))
        for number, tex in enumerate(formulas)
    ]


def test_usual_constructs_are_drawn_as_they_say() -> None:
    assert len(USUAL) > 200
    made = typeset.typeset(displays(USUAL), all_templates()[0], Running())
    assert made.notes == {} and len(made.blocks) == len(USUAL)


@pytest.mark.slow
@given(formulas=st.lists(NESTED, min_size=10, max_size=30, unique=True))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_known_constructs_are_drawn_as_they_say_at_any_depth(formulas: list[str]) -> None:
    made = typeset.typeset(displays(["x", *formulas]), all_templates()[0], Running())
    assert set(made.notes) <= {"wide_formulas"}


@pytest.mark.parametrize(
    ("tex", "glyphs", "rules"),
    [
        (r"\bigl\Vert x\bigr\|", "‖𝑥‖", 0),
        (r"\bigl.x\bigr|_0", "𝑥|0", 0),
        (r"\frac{a}{\frac bc}", "𝑎𝑏𝑐", 2),
        (r"\begin{array}{l|r}a&10\\\hline b&2\end{array}", "𝑎𝑏102", 2),
        (r"\begin{vmatrix}a\end{vmatrix}", "|𝑎|", 0),
        (r"\mathbf x\mathrm d\mathbb R", "𝐱dℝ", 0),
    ],
)
def test_glyphs(tex: str, glyphs: str, rules: int) -> None:
    formula = translate(tex, display=False)
    assert (formula.glyphs, formula.rules, formula.fault) == (glyphs, rules, "")


def test_a_frame_stands_around_all_of_its_formula() -> None:
    pages = pymupdf.open(stream=typeset.typeset(displays([r"\boxed{\frac{M}{y}}"]), all_templates()[0], Running()).pdf)
    frame = max((drawing["rect"] for drawing in pages[0].get_drawings()), key=lambda rect: rect.height)
    letters = [
        char["bbox"]
        for block in pages[0].get_text("rawdict")["blocks"]
        for line in block["lines"]
        for span in line["spans"]
        for char in span["chars"]
        if char["c"] in "𝑀𝑦"
    ]
    middles = [(box[1] + box[3]) / 2 for box in letters]
    assert len(middles) == 2
    assert min(middles) - frame.y0 > 5 and frame.y1 - max(middles) > 5


def test_a_step_back_before_a_fence_takes_back_the_gap_that_only_tex_sets() -> None:
    assert translate(r"f\!\left(x\right)", display=False) == translate(r"f\left(x\right)", display=False)
    assert translate(r"f\!(x)", display=False) != translate(r"f(x)", display=False)


@pytest.mark.parametrize(
    "tex",
    [
        r"\color{red}x",
        r"\rlap{x}y",
        r"\sideset{_a}{}\sum",
        r"\raisebox{1pt}{x}",
        r"\gone",
        r"\begin{array}{c||c}a&b\end{array}",
        r"\begin{array}{c@{x}c}a&b\end{array}",
        r"\begin{aligned}a\\\hline b\end{aligned}",
        r"\begin{pmatrix*}[r]a\end{pmatrix*}",
    ],
)
def test_unknown_commands_are_refused(tex: str) -> None:
    assert translate(tex, display=False).fault == "with_unknown_commands"


def test_brackets_behind_a_line_break_are_a_length_or_refused() -> None:
    assert translate(r"\begin{aligned}a\\ [x] b\end{aligned}", display=False).fault == "not_read"
    for gap in ("2pt", "-.5ex", r"0.3\baselineskip", r"\jot", "1em plus 2pt"):
        assert translate(rf"\begin{{aligned}}a\\[{gap}]b\end{{aligned}}", display=False).glyphs == "𝑎𝑏"


def test_a_formula_drawn_otherwise_is_left_out() -> None:
    """The sheet's glyphs are compared: a word for a bar, a lost letter, a letter over another one."""
    (good, word, lost, over) = displays(["x+y", r"\Vert x", "abc", "a b"])
    word = change(word, typst='$ "bar.v.double" x $')
    lost = change(lost, typst="$ a c $", glyphs="𝑎𝑐")
    over = change(over, typst="$ a#box(width: -0.6em)b $")
    made = typeset.typeset([good, word, lost, over], all_templates()[0], Running())
    assert made.blocks == (good,)
    assert made.notes == {"formulas_with_other_symbols": 2, "formulas_with_letters_over_letters": 1}


def change(display: Display, **changes: str) -> Display:
    assert display.formula.formula is not None
    return Display(formula=replace(display.formula, formula=replace(display.formula.formula, **changes)))
