from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from datagen.card.html import _duration, render_page


def page(folder: Path, template: str, **values: object) -> str:
    (folder / "page.html.jinja").write_text(template)
    return render_page(folder / "page.html.jinja", **values)


def test_texts_are_escaped(tmp_path: Path) -> None:
    assert page(tmp_path, "<p>{{ text }}</p>", text="<b>&") == "<p>&lt;b&gt;&amp;</p>"


def test_a_missing_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'gone' is undefined"):
        page(tmp_path, "{{ gone }}")


def test_numbers_and_durations_are_for_people(tmp_path: Path) -> None:
    assert page(tmp_path, "{{ n | count }}, {{ s | duration }}", n=1234567, s=61.4) == "1,234,567, 1 min 01 s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3600, "1 h 00 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_a_template_includes_from_its_own_folder_and_from_the_cards(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("own")
    text = page(tmp_path, '{% include "own.jinja" %} {% include "style.html.jinja" %}')
    assert text.startswith("own ") and "--accent" in text
