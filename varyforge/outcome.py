"""Moved from datagen.source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from varyforge.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The unit gave samples (one or more). `notes` counts what was left out inside it, by reason."""

    samples: tuple[Sample, ...]
    notes: Mapping[str, int] = field(default_factory=dict)
    language: str = ""  # "en", "zh", … or "" where unknown
    measures: Mapping[str, float] = field(default_factory=dict)  # what gates judge by; names as in `Source.measures`


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A gate refused the unit: `value` is on the wrong side of `threshold`."""

    gate: str
    value: float
    threshold: float
    detail: str = ""
    language: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The unit could not be read or processed. `reason` is one of few words, `detail` one line for a person."""

    reason: str
    detail: str = ""


Outcome = Written | Rejected | Failed


def check_outcome(outcome: object) -> None:
    """Whether a source's answer is one that a ledger can hold; called where a mistake costs one unit.

    Raises:
        TypeError, ValueError: it is none, or holds what is neither number nor text.
    """
    if not isinstance(outcome, Written | Rejected | Failed):
        raise TypeError(f"make gave a {type(outcome).__name__}, expected Written, Rejected or Failed")
    if isinstance(outcome, Written):
        numbers: list[object] = [*outcome.notes.values(), *outcome.measures.values()]
        texts = [*outcome.notes, outcome.language]
    elif isinstance(outcome, Rejected):
        numbers = [outcome.value, outcome.threshold, *outcome.measures.values()]
        texts = [outcome.gate, outcome.detail, outcome.language]
    else:
        numbers, texts = [], [outcome.reason, outcome.detail]
    wrong = [number for number in numbers if not isinstance(number, int | float)]
    if wrong:
        raise TypeError(f"make gave {wrong[0]!r} for a number")
    for text in texts:
        text.encode()  # half a character cannot be written
