"""The index: one row per sample, with what a mixture may filter by."""

from __future__ import annotations

from typing import Any

from datagen.job.duplicates import fingerprint
from varyforge.lengths import estimate_tokens
from varyforge.sample import Sample

_TEXT_IS_CONTENT = ("ocr", "markdown", "text")  # tasks in which equal answers mean equal samples

Row = dict[str, Any]
"""A row of an index or a ledger: column → value."""


def index_row(sample: Sample, *, language: str = "") -> Row:
    """Return the columns of `IndexRow` that follow from the sample alone. Position, unit, group and split stay empty.

    `language` is used where the sample's origin names none.
    """
    answers = [turn.text for turn in sample.turns if turn.role == "assistant" and turn.supervised]
    return {
        **dict.fromkeys(("shard", "unit", "document", "group", "twins", "split"), ""),
        **dict.fromkeys(("offset", "size"), 0),
        "key": sample.key,
        "task": sample.task,
        "language": str(sample.origin.get("language", language)),
        "licence": str(sample.origin.get("licence", "")),
        "prompt": str(sample.origin.get("prompt", "")),
        "images": len(sample.images),
        "width": sample.images[0].width if sample.images else 0,
        "height": sample.images[0].height if sample.images else 0,
        "boxes": int(sample.origin.get("boxes", 0)),
        "answer_chars": sum(map(len, answers)),
        "tokens": sum(estimate_tokens(turn.text) for turn in sample.turns),
        "fingerprint": fingerprint("\n".join(answers)) if sample.task in _TEXT_IS_CONTENT else b"",
    }
