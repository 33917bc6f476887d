from __future__ import annotations

import pytest

from datagen.pdf.text.glyphs import cleaner
from datagen.pdf.text.own_script import own_script


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("вiдкриту систему i мову", "відкриту систему і мову"),
        ("Iснує декiлька", "Існує декілька"),
        ("украïна", "україна"),
        ("jе Jован", "је Јован"),
        ("элемент i матрицы", "элемент i матрицы"),  # a number in a formula
        ("APIфункция, i-й", "APIфункция, i-й"),
        ("naïve i j", "naïve i j"),
        ("Devіce Іndependent file (.dvі), файл і мова", "Device Independent file (.dvi), файл і мова"),
    ],
)
def test_cyrillic_words_have_cyrillic_letters(text: str, spelt: str) -> None:
    assert own_script(text) == spelt
    assert cleaner("letters", "keep")(text) == spelt


def test_the_breathing_of_a_greek_capital_is_part_of_it() -> None:
    assert own_script("᾿Α ῎Ε ῟Ω ΄Η ῾Ρ") == "\u1f08 \u1f1c \u1f6f \u0389 \u1fec"
    assert own_script("᾿ alone, ῎α") == "᾿ alone, ῎α"
