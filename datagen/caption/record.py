"""What every form of captions is read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from varyforge.outcome import Failed
from varyforge.sample import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """An image and what is said about it, or why a record is none."""

    name: str  # of the record in its file, unique there
    image: str = ""  # the image's file name in the folder of the images
    piece: tuple[int, int] | None = None  # or where in the file itself the image lies: offset and size, bytes
    captions: tuple[str, ...] = ()  # as they stand there
    document: str = ""  # what a split must keep together; "": the record
    content: str = ""  # tells the image from every other; "": its name (and size) does
    origin: Mapping[str, Scalar] = field(default_factory=dict)  # licence, url …
    notes: Mapping[str, int] = field(default_factory=dict)  # what was left out while reading
    failure: Failed | None = None


def wrong_form(name: str, detail: str) -> Captioned:
    """A record that is not of the form."""
    return Captioned(name=name, failure=Failed(reason="wrong_form", detail=detail))


def texts_of(value: object) -> tuple[str, ...] | None:
    """The captions in a field that holds a text, a list of texts, or nothing; None where it holds something else."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    return None


def link_to(**fields: object) -> dict[str, Scalar]:
    """Entries of `Sample.origin` for the fields that say something: text of a sensible length, and not "?"."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and value not in ("", "?") and len(value) <= 2000
    }
