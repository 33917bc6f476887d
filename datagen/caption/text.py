"""The words of a caption as they go into an answer."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable

POLICY_VERSION = 1  # of the rules here; shards depend on it

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = (
    re.compile(  # control characters but for white space, and formatting that no reader sees; joiners of emoji stay
        "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]"
    )
)


def clean(captions: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Captions cleaned, each once, without empty ones, and counts of what was changed or left out.

    HTML's entities become characters (once: `&amp;lt;` becomes `&lt;`), invisible characters go, white space of any
    kind and length becomes a space. Case, punctuation and spelling stay, markup too.
    """
    kept: dict[str, None] = {}
    notes: Counter[str] = Counter()
    for caption in captions:
        decoded = _ENTITY.sub(lambda found: html.unescape(found[0]), caption)
        visible = _INVISIBLE.sub("", decoded)
        text = " ".join(visible.split())
        notes["captions_with_entities"] += decoded != caption
        notes["captions_with_invisible_characters"] += visible != decoded
        notes["empty_captions"] += not text
        notes["repeated_captions"] += text in kept
        if text:
            kept[text] = None
    return list(kept), +notes
