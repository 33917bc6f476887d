"""The index: one row per sample, with what a mixture may filter by."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from datagen.job.duplicates import fingerprint
from varyforge.lengths import estimate_tokens
from varyforge.sample import Sample
from varyforge.shards import IndexRow

_TEXT_IS_CONTENT = ("ocr", "markdown", "text")  # tasks in which equal answers mean equal samples
_COLUMNS = tuple(item.name for item in fields(IndexRow))

Row = dict[str, Any]
"""A row of an index or a ledger: column → value."""


def index_row(sample: Sample, *, language: str = "") -> Row:
    """Return the fields of `IndexRow` that follow from the sample alone. Position, unit, group and split stay empty.

    Args:
        sample: the sample.
        language: used where the sample's origin names none.
    """
    answers = [turn.text for turn in sample.turns if turn.role == "assistant"]
    row = IndexRow(
        key=sample.key,
        task=sample.task,
        shard="",
        offset=0,
        size=0,
        unit="",
        document="",
        group="",
        twins="",
        split="",
        language=str(sample.origin.get("language", language)),
        licence=str(sample.origin.get("licence", "")),
        prompt=str(sample.origin.get("prompt", "")),
        images=len(sample.images),
        width=sample.images[0].width if sample.images else 0,
        height=sample.images[0].height if sample.images else 0,
        boxes=int(sample.origin.get("boxes", 0)),
        answer_chars=sum(map(len, answers)),
        tokens=sum(estimate_tokens(turn.text) for turn in sample.turns),
        fingerprint=fingerprint("\n".join(answers)) if sample.task in _TEXT_IS_CONTENT else b"",
    )
    return {name: getattr(row, name) for name in _COLUMNS}
