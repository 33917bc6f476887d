"""Outcomes of an input unit: written, rejected by a gate, or failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from varyforge.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A unit that gave one or more samples. `notes` counts what was left out inside it, by reason."""

    samples: tuple[Sample, ...]
    notes: Mapping[str, int] = field(default_factory=dict)
    language: str = ""  # "en", "zh", … or "" where unknown
    measures: Mapping[str, float] = field(default_factory=dict)  # the gates' measures; names as in `Source.measures`


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A unit that a gate (a filter) refused: `value` is on the wrong side of `threshold`."""

    gate: str
    value: float
    threshold: float
    detail: str = ""
    language: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A unit that could not be read or processed. `reason` is one of few words, `detail` a line for a person."""

    reason: str
    detail: str = ""


Outcome = Written | Rejected | Failed


def check_outcome(outcome: object) -> None:
    """Check that a ledger can hold a source's outcome. Called where a mistake costs one unit.

    Raises:
        TypeError, ValueError: it is no outcome, or a field is neither number nor text.
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
