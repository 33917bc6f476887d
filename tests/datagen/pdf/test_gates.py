from __future__ import annotations

import PIL.Image
import pytest

from datagen.pdf.audit.gates import _GATES, MEASURES, PageGates, judge, measure
from datagen.pdf.page import Page
from tests.datagen.pdf.test_audit import fine
from varyforge.language import Reading, read

THRESHOLDS = [gate for gate in PageGates.__dataclass_fields__ if gate != "languages"]


def measures_of(text: str) -> dict[str, float]:
    """Measures of a text on an empty page of 1000 x 500 pixels."""
    return measure(Page(picture=PIL.Image.new("RGB", (1000, 500), "white"), lines=()), text, read(text))


@pytest.mark.parametrize("gate", THRESHOLDS)
def test_a_threshold_itself_passes_and_a_step_beyond_does_not(gate: str) -> None:
    threshold = getattr(PageGates(), gate)
    name, meaning = _GATES[gate]
    assert name in MEASURES
    step = -1e-6 if gate.startswith("min_") else 1e-6
    assert judge(fine(**{name: threshold}), "en", PageGates()) is None
    rejected = judge(fine(**{name: threshold + step}), "en", PageGates())
    assert rejected is not None
    assert (rejected.gate, rejected.threshold, rejected.detail) == (gate, threshold, meaning)


def test_the_gates_are_the_settings_in_their_order() -> None:
    assert list(PageGates.__dataclass_fields__) == list(_GATES)


@pytest.mark.parametrize("gate", THRESHOLDS)
def test_a_gate_that_is_no_number_is_refused(gate: str) -> None:
    with pytest.raises(ValueError, match=f"{gate} is "):
        PageGates(**{gate: float("nan")})


def test_a_page_without_text_is_no_sample() -> None:
    with pytest.raises(ValueError, match="needs at least 1"):
        PageGates(min_chars=0)


def test_the_reading_is_used_as_it_is_given() -> None:
    page = Page(picture=PIL.Image.new("RGB", (10, 10)), lines=())
    measures = measure(page, "text", Reading(language="en", plausible=0.25, forward=-3.0, word_letters=7.5, lone=0.125))
    assert [measures[name] for name in ("plausible", "forward", "word_letters", "lone")] == [0.25, -3.0, 7.5, 0.125]


def test_spaces_do_not_count_as_print() -> None:
    measures = measures_of("ab c\n\td\u00a0e\u3000f")
    assert measures["printed_chars"] == 6
    assert measures["chars_per_mpx"] == pytest.approx(12)
    assert measures_of("")["printed_chars"] == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [("good text", 0), ("\ufffd\ufffdab", 0.5), ("\ue000abc", 0.25), ("a\x07", 0.5), ("\U0001f600", 0), ("", 0)],
)
def test_garbled_characters(text: str, share: float) -> None:
    assert measures_of(text)["garbled"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "share"),
    [("Ã©tÃ©", 4 / 5), ("été", 0), ("Â° and Â§ and more", 4 / 14), ("â€œquotedâ€\u009d", 6 / 12)],
)
def test_mojibake(text: str, share: float) -> None:
    assert measures_of(text)["mojibake"] == pytest.approx(share)


def test_cyrillic_read_as_latin_letters_is_mojibake() -> None:
    text = "Знаки кавычек, тире, дефисы и многоточие в тексте этого руководства"
    assert measures_of(text.encode("cp1251").decode("latin-1"))["mojibake"] > 0.5
    assert measures_of("À Á Â Ã Ä Å Æ ÇÈÉÊË ÌÍÎÏÐ")["mojibake"] == 0  # a table of characters
