"""The ledger: one row per input unit, whatever its outcome, and counts over all rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datagen.source import Unit
from varyforge.outcome import Failed, Outcome, Rejected, Written

_FAILURES_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """The outcome of one unit. Fields that do not apply are empty or 0. The source's measures are further columns."""

    unit: str
    document: str
    content: str  # `Unit.content`
    shard: str  # file name of the unit's tar, also where the unit gave no sample
    outcome: str  # "written", "rejected" or "failed"
    samples: int
    gate: str  # of a rejected unit
    value: float
    threshold: float
    reason: str  # of a failed unit
    detail: str  # one line of text
    notes: str  # JSON object: counts of the parts left out of a written unit, by reason
    language: str


def ledger_row(unit: Unit, outcome: Outcome, shard: str) -> dict[str, Any]:
    """Return the unit's row: the fields of `LedgerRow`, then the measures of the outcome."""
    row: dict[str, Any] = {"unit": unit.id, "document": unit.document, "content": unit.content, "shard": shard}
    row |= {"samples": 0, "gate": "", "value": 0.0, "threshold": 0.0, "reason": "", "detail": "", "notes": "{}"}
    row |= {"language": ""}
    match outcome:
        case Written(samples=samples, notes=notes):
            row |= {"outcome": "written", "samples": len(samples), "notes": json.dumps(dict(notes), sort_keys=True)}
        case Rejected(gate=gate, value=value, threshold=threshold, detail=detail):
            row |= {"outcome": "rejected", "gate": gate, "value": float(value), "threshold": float(threshold)}
            row |= {"detail": detail}
        case Failed(reason=reason, detail=detail):
            row |= {"outcome": "failed", "reason": reason, "detail": detail}
    if not isinstance(outcome, Failed):
        row |= {"language": outcome.language, **outcome.measures}
    return row


def cause_of(row: Mapping[str, Any]) -> str:
    """Return "written", "rejected: GATE" or "failed: REASON" for a ledger row."""
    return ": ".join(filter(None, (row["outcome"], row["gate"] or row["reason"])))


def matches(row: Mapping[str, Any], retry: str | None) -> bool:
    """Whether `retry` ("failed", "failed:timeout") selects a ledger row."""
    if retry is None:
        return False
    outcome, _, reason = retry.partition(":")
    return bool(row["outcome"] == outcome and (not reason or row["reason"] == reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSummary:
    """The counts over a ledger."""

    units: int
    samples: int
    by_outcome: dict[str, int]  # written, rejected, failed
    by_cause: dict[tuple[str, str], int]  # (outcome, gate or reason), most frequent first
    notes: dict[str, int]  # parts left out of written units or changed there, by reason
    failures: tuple[str, ...]  # the first five failed units with reason and detail


def summarise(ledgers: Iterable[pa.Table]) -> LedgerSummary:
    """Count the rows of ledgers by outcome and cause. Each table is one shard's; one is held at a time."""
    outcomes: Counter[str] = Counter({"written": 0, "rejected": 0, "failed": 0})
    causes: Counter[tuple[str, str]] = Counter()
    notes: Counter[str] = Counter()
    failures: list[str] = []
    units = samples = 0
    for ledger in ledgers:
        units += ledger.num_rows
        samples += pc.sum(ledger.column("samples")).as_py() or 0
        columns = [ledger.column(name).to_pylist() for name in ("outcome", "gate", "reason", "notes")]
        for outcome, gate, reason, note in zip(*columns, strict=True):
            outcomes[outcome] += 1
            if outcome != "written":
                causes[outcome, gate or reason] += 1
            if note != "{}":
                notes.update(json.loads(note))
        if len(failures) < _FAILURES_NAMED:
            failed = ledger.filter(pc.equal(ledger.column("outcome"), "failed")).slice(0, _FAILURES_NAMED)
            failures += [f"{row['unit']}: {row['reason']}: {row['detail']}" for row in failed.to_pylist()]
    return LedgerSummary(
        units=units,
        samples=samples,
        by_outcome=dict(outcomes),
        by_cause=dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
        notes=dict(sorted(notes.items(), key=lambda item: (-item[1], item[0]))),
        failures=tuple(failures[:_FAILURES_NAMED]),
    )
