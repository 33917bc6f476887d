from __future__ import annotations

import time
from pathlib import Path

import PIL.Image
import pymupdf
import pytest

from datagen.pdf.audit.gates import MEASURES, PageGates, judge, measure
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Page
from tests.datagen import made_bad, made_good
from tests.datagen.made_pdfs import MADE
from varyforge.language import read
from varyforge.outcome import Rejected

assert made_good and made_bad  # importing them registers their pages

GOOD = sorted(name for name, made in MADE.items() if not made.gate)
BAD = sorted(name for name, made in MADE.items() if made.gate)


def page_of(name: str, folder: Path) -> Page:
    path = folder / f"{name}.pdf"
    with pymupdf.open() as document:
        MADE[name].draw(document)
        document.save(path)
    with open_document(str(path)) as opened:
        return opened.page(0, short_side_px=1024, long_side_px=4096)


def text_of(page: Page) -> str:
    return "\n".join(line.text.strip() for line in page.lines if line.text.strip())


def measures_of(page: Page, text: str) -> dict[str, float]:
    return measure(page, text, read(text))


def verdict_on(page: Page, text: str, gates: PageGates) -> Rejected | None:
    return judge(measures_of(page, text), read(text).language, gates)


@pytest.mark.parametrize("name", GOOD)
def test_good_pages_stay(name: str, tmp_path: Path) -> None:
    page = page_of(name, tmp_path)
    assert verdict_on(page, text_of(page), PageGates(**MADE[name].gates)) is None


@pytest.mark.parametrize("name", BAD)
def test_bad_pages_go_by_the_gate_meant_for_them(name: str, tmp_path: Path) -> None:
    page = page_of(name, tmp_path)
    refused = verdict_on(page, text_of(page), PageGates(**MADE[name].gates))
    assert refused is not None
    assert refused.gate == MADE[name].gate


def test_the_set_is_large_enough() -> None:
    assert len(BAD) >= 36
    assert len(GOOD) >= 20


def fine(**changed: float) -> dict[str, float]:
    """Measures of a page that all gates let through."""
    good = dict.fromkeys(MEASURES, 0.0)
    good |= {"printed_chars": 1000, "plausible": 1, "forward": 1, "glyphs_on_ink": 1, "font_px": 18, "ink_in_glyphs": 1}
    return good | changed


def test_the_first_gate_that_refuses_is_named_with_value_and_threshold() -> None:
    assert judge(fine(), "en", PageGates()) is None
    refused = judge(fine(hidden=0.5, garbled=0.5), "en", PageGates(max_hidden=0.25))
    assert refused == Rejected(
        gate="max_hidden", value=0.5, threshold=0.25, detail="text that is not painted, or painted over"
    )
    assert judge(fine(hidden=0.25), "en", PageGates(max_hidden=0.25)) is None, "a threshold itself is allowed"
    assert judge(fine(printed_chars=20), "en", PageGates(min_chars=20)) is None


def test_languages_are_asked_for_by_name() -> None:
    assert judge(fine(), "de", PageGates(languages=["en", "de"])) is None
    for language in ("fr", ""):
        refused = judge(fine(), language, PageGates(languages=["en", "de"]))
        assert refused
        assert (refused.gate, refused.detail) == ("languages", f"language {language!r}, wanted en, de")


def test_every_gate_refuses_and_every_measure_is_a_number(tmp_path: Path) -> None:
    measures = measures_of(page_of("one_column", tmp_path), "text")
    assert tuple(sorted(measures)) == tuple(sorted(MEASURES))
    assert all(type(value) is float for value in measures.values())
    assert {MADE[name].gate for name in BAD} >= set(PageGates.__dataclass_fields__) - {"max_outside"}


def test_text_beyond_the_edge(tmp_path: Path) -> None:
    page = page_of("one_column", tmp_path)
    cut = Page(picture=page.picture.crop((0, 0, 1024, 300)), lines=page.lines)  # as a backend without clipping gives it
    refused = verdict_on(cut, text_of(cut), PageGates())
    assert refused
    assert refused.gate == "max_outside"


def test_odd_pages_have_measures(tmp_path: Path) -> None:
    empty = Page(picture=PIL.Image.new("RGB", (3, 5)), lines=())
    assert measures_of(empty, "")["ink"] == 0
    page = page_of("one_column", tmp_path)
    only_dots = Page(picture=page.picture, lines=page_of("blank", tmp_path).lines)
    assert measures_of(only_dots, "... \ud800 \U0010ffff \x00")["garbled"] == 0.5
    assert measures_of(Page(picture=PIL.Image.new("RGB", (2, 2)), lines=page.lines), "x")["outside"] > 0.9


def test_a_page_takes_little_time(tmp_path: Path) -> None:
    page = page_of("two_columns", tmp_path)
    text = text_of(page)
    measures_of(page, text)
    before = time.process_time()
    for _ in range(20):
        measures_of(page, text)
    assert (time.process_time() - before) / 20 < 0.02  # seconds; eight times what it takes alone on the machine
