"""Cleaning of captions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.caption.record import captions_in, link_to
from varyforge.external.captions import clean

CAPTIONS = st.lists(
    st.text(st.sampled_from("aB .,\u200b\ufeff\t\n\u3000é汉&;#3") | st.characters(), max_size=12), max_size=6
)


@given(CAPTIONS)
def test_every_caption_is_in_the_result_or_counted(captions: list[str]) -> None:
    texts, notes = clean(captions)
    dropped = ("empty_captions", "repeated_captions", "missing_captions")
    assert len(texts) + sum(notes[reason] for reason in dropped) == len(captions)
    assert len(set(texts)) == len(texts)
    assert all(text and text == " ".join(text.split()) for text in texts)


@given(st.lists(st.text(st.characters(exclude_characters="&"), max_size=12), max_size=6))
def test_clean_text_stays_as_it_is(captions: list[str]) -> None:
    texts, _ = clean(captions)
    again, notes = clean(texts)
    assert (again, dict(notes)) == (texts, {})


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("5 &lt; 6 &#8364; &#x20AC;", "5 < 6 € €"),
        ("AT&T; &nonsense; & so on", "AT&T; &nonsense; & so on"),
        ("a\u00a0b\u2003c\r\nd", "a b c d"),
        ("zero\u200bwidth \ufeffmark\u00ad", "zerowidth mark"),
        ("👩\u200d🚀 in orbit", "👩\u200d🚀 in orbit"),
        ("<b>Bold</b>, “quoted”…", "<b>Bold</b>, “quoted”…"),
    ],
)
def test_one_caption(caption: str, text: str) -> None:
    assert clean([caption])[0] == [text]


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        (None, ()),
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([], ()),
        (5, None),
        (["a", 5], None),
        ({}, None),
    ],
)
def test_captions_in_a_field(value: object, captions: tuple[str, ...] | None) -> None:
    assert captions_in(value) == captions


def test_fields_without_information_are_left_out_of_the_origin() -> None:
    fields = link_to(url="https://example.org/a.jpg", licence="?", title="", id=7, text="x" * 2001, note="x" * 2000)
    assert fields == {"url": "https://example.org/a.jpg", "note": "x" * 2000}
