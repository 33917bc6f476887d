"""Cleaning of captions, the same for a data job and for a mixture of tars that others wrote."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable

POLICY_VERSION = 2  # version of these rules, on which shards depend

MISSING = ("none", "nan", "null", "<na>")
"""Captions, in lower case, that a program wrote where it had none: Python, pandas and SQL."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INVISIBLE = re.compile(  # control characters except white space, and invisible formatting except joiners of emoji
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]"
)


def clean(captions: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Return cleaned captions without empty and repeated ones, and counts of changed and dropped captions.

    HTML entities become characters (once: `&amp;lt;` becomes `&lt;`). Invisible characters are removed. White space of
    any kind and length becomes one space. Case, punctuation, spelling and markup stay. A caption that is a word of
    `MISSING` is dropped.
    """
    texts: dict[str, None] = {}
    notes: Counter[str] = Counter()
    for caption in captions:
        decoded = _ENTITY.sub(lambda entity: html.unescape(entity[0]), caption)
        visible = _INVISIBLE.sub("", decoded)
        text = " ".join(visible.split())
        notes["captions_with_entities"] += decoded != caption
        notes["captions_with_invisible_characters"] += visible != decoded
        if text.lower() in MISSING:
            notes["missing_captions"] += 1
            continue
        notes["empty_captions"] += not text
        notes["repeated_captions"] += text in texts
        if text:
            texts[text] = None
    return list(texts), +notes
