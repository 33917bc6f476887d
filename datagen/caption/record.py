"""The record that the readers of all caption formats yield."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datagen.inputs.record import ImageRef
from varyforge.outcome import Failed
from varyforge.sample import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRecord:
    """An image and its captions, or the failure of a record."""

    name: str  # of the record, unique in its file
    image: ImageRef = ""  # file name in the folder of the images, or an image in the record of the file
    piece: tuple[int, int] | None = None  # or the image's offset and size in the file itself, bytes
    captions: tuple[str, ...] = ()  # as in the file
    document: str = ""  # group that a split keeps together; "": the record alone
    content: str = ""  # identity of the image's content; "": its name (and size)
    origin: Mapping[str, Scalar] = field(default_factory=dict)  # licence, url …
    notes: Mapping[str, int] = field(default_factory=dict)  # counts of dropped annotations by reason
    failure: Failed | None = None


def wrong_format(name: str, detail: str) -> CaptionRecord:
    """Return the failure of a record that does not follow the format."""
    return CaptionRecord(name=name, failure=Failed(reason="wrong_form", detail=detail))


def captions_in(value: object) -> tuple[str, ...] | None:
    """Return the captions in a field: a text, a list of texts, or nothing (null, NaN). Return None for other types."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    texts: list[Any] = value if isinstance(value, list) else [] if missing else [value]
    return tuple(texts) if all(isinstance(text, str) for text in texts) else None


def link_to(**fields: object) -> dict[str, Scalar]:
    """Return the fields for `Sample.origin`: texts of at most 2000 characters that are neither empty nor "?"."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and value not in ("", "?") and len(value) <= 2000
    }
