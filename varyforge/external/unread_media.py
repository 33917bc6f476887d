"""Recognition of records about video, sound, or images in another notation. They are refused, not read as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from varyforge.outcome import Rejected

_KEYS = ("video", "videos", "audio", "audios", "sound", "speech")
_KINDS = r"video|audio|sound|speech|image|img|picture"
_PLACEHOLDER = re.compile(
    r"<(?P<kind>video|audio|sound|speech)>(?!.*</(?P=kind)>)"  # HTML closes it
    r"|<(?P<wrap>video|audio|img)>[^<>\n]+</(?P=wrap)>"  # <img>path</img>, as Qwen-VL has it
    rf"|<(?:{_KINDS})[ _-]?\d+>"
    rf"|<\|(?:{_KINDS}|vision)\w*\|>"
    r"|<(?:image|video|audio)_?(?:placeholder|here|soft_token)>",
    re.DOTALL | re.IGNORECASE,
)
_LONE_IMAGE = re.compile(r"\A\s*<image>\s*\n|\n\s*<image>\s*\Z")


def unread_media(record: Mapping[str, Any], questions: Iterable[str], *, remedy: str) -> Rejected | None:
    """Return the rejection of a record with video, sound, or a placeholder of an image, or None.

    Args:
        record: of which the keys are tried.
        questions: texts in which a placeholder stands for something to see or hear, without the markers that are read.
        remedy: how images are to be written.
    """
    if keys := [key for key in _KEYS if record.get(key)]:
        return Rejected(gate="media", value=len(keys), threshold=0, detail=f"key {keys[0]!r}: only images are read")
    places = [place for text in questions for place in placeholders(text)]
    if not places:
        return None
    names_image = re.match(r"<\|?(?:im|pic|vis)", places[0], re.IGNORECASE)
    detail = f"{places[0][:40]!r} in a question: {remedy if names_image else 'only images are read, no video or sound'}"
    return Rejected(gate="media", value=len(places), threshold=0, detail=detail)


def placeholders(text: str) -> Sequence[str]:
    """List the placeholders of video, sound and images in a question. Quoted ones (`<video>`) are talk about HTML."""
    if "<" not in text:
        return []
    places = [match for match in _PLACEHOLDER.finditer(text) if not text[: match.start()].endswith(("`", '"', "'"))]
    return [match[0] for match in places] + [match[0].strip() for match in _LONE_IMAGE.finditer(text)]
