"""The ledger: one row per input unit, whatever happened to it, and the sums over it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from datagen.unit import Failed, Outcome, Rejected, Unit, Written

_FAILURES_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """How a unit ended. Fields that do not apply are empty or 0."""

    unit: str
    group: str
    shard: str  # file name of the tar it belongs to, also when nothing of it was written
    outcome: str  # "written", "rejected" or "failed"
    samples: int
    gate: str  # of a rejected unit
    value: float
    threshold: float
    reason: str  # of a failed unit
    detail: str  # one line for a person
    notes: str  # JSON object: what was left out inside a written unit, by reason


def ledger_row(unit: Unit, outcome: Outcome, shard: str) -> LedgerRow:
    """The row of a unit that ended with `outcome`."""
    common = {"unit": unit.id, "group": unit.group, "shard": shard}
    nothing = {"samples": 0, "gate": "", "value": 0.0, "threshold": 0.0, "reason": "", "detail": "", "notes": "{}"}
    match outcome:
        case Written(samples=samples, notes=notes):
            fields = {
                "outcome": "written",
                "samples": len(samples),
                "notes": json.dumps(dict(notes), sort_keys=True),
            }
        case Rejected(gate=gate, value=value, threshold=threshold, detail=detail):
            fields = {
                "outcome": "rejected",
                "gate": gate,
                "value": float(value),
                "threshold": float(threshold),
                "detail": detail,
            }
        case Failed(reason=reason, detail=detail):
            fields = {"outcome": "failed", "reason": reason, "detail": detail}
    return LedgerRow(**{**nothing, **common, **fields})  # type: ignore[arg-type]  # names checked by the class


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSummary:
    """Counts over a ledger."""

    units: int
    samples: int
    by_outcome: dict[str, int]  # written, rejected, failed
    by_cause: dict[tuple[str, str], int]  # (outcome, gate or reason), most frequent first
    notes: dict[str, int]  # what was left out or changed inside written units
    failures: tuple[str, ...]  # the first few failed units with their reason and detail


def summarise(ledger: pa.Table) -> LedgerSummary:
    """Counts the rows of a ledger by outcome and cause."""
    outcomes: Counter[str] = Counter({"written": 0, "rejected": 0, "failed": 0})
    causes: Counter[tuple[str, str]] = Counter()
    notes: Counter[str] = Counter()
    failed = ledger.filter(pc.equal(ledger.column("outcome"), "failed")).slice(0, _FAILURES_NAMED).to_pylist()
    columns = ("outcome", "gate", "reason", "notes")
    for outcome, gate, reason, note in zip(*(ledger.column(name).to_pylist() for name in columns), strict=True):
        outcomes[outcome] += 1
        if outcome != "written":
            causes[outcome, gate or reason] += 1
        notes.update(json.loads(note))
    return LedgerSummary(
        units=ledger.num_rows,
        samples=sum(ledger.column("samples").to_pylist()),
        by_outcome=dict(outcomes),
        by_cause=dict(causes.most_common()),
        notes=dict(notes.most_common()),
        failures=tuple(f"{row['unit']}: {row['reason']}: {row['detail']}" for row in failed),
    )
