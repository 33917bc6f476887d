"""The text bank that documents and chats are put together from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "zh")
"""Documents and chats alternate between these."""


@cache
def text_bank() -> Mapping[str, Any]:
    """What `data/texts.toml` holds: one table per language, and the colours."""
    return tomllib.loads(_data("texts.toml"))


@cache
def page_css() -> str:
    """What all sample documents look like."""
    return _data("page.css")


def _data(name: str) -> str:
    return (files("datagen.examples") / "data" / name).read_text(encoding="utf-8")
