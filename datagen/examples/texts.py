"""The text bank of the sample documents and chats."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "zh")
"""The languages that documents and chats alternate between."""


@cache
def text_bank() -> Mapping[str, Any]:
    """Return `data/texts.toml`: one table per language, and the colours."""
    return tomllib.loads(_data("texts.toml"))


@cache
def page_css() -> str:
    """Return the style sheet of all sample documents."""
    return _data("page.css")


def _data(name: str) -> str:
    return (files("datagen.examples") / "data" / name).read_text(encoding="utf-8")
