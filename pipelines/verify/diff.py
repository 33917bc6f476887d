"""The differences between two shard sets, by document and reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.job.change import differences
from datagen.job.ledger import cause_of
from varyforge.shards import ShardRecord, ShardSet
from varyforge.tables import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The differences between two sets in shards, units and configuration."""

    config: tuple[tuple[str, str], ...]  # (key, "old → new")
    shards_equal: int  # with equal bytes
    shards_changed: int
    shards_added: int
    shards_removed: int
    units: Counter[tuple[str, str]]  # units that differ, by (document, difference)


@dataclass(frozen=True, slots=True)
class _Unit:
    document: str
    cause: str  # "written", "rejected: min_chars" …
    verdict: tuple[Any, ...]  # value, threshold, detail
    content: str
    samples: str  # SHA-256 of their bytes
    about: tuple[Any, ...]  # split, group and twins of each sample


def compare(old: str | Path, new: str | Path) -> Difference:
    """Compare two shard sets. Only shards whose bytes differ are read.

    Raises:
        UserError: `old` or `new` is no finished shard set.
    """
    sets = ShardSet(old), ShardSet(new)
    before, after = ({record.name: record for record in one.records} for one in sets)
    equal = {name for name in before.keys() & after.keys() if _bytes(before[name]) == _bytes(after[name])}
    units = [
        {name: unit for record in one.records if record.name not in equal for name, unit in _units(one, record)}
        for one in sets
    ]
    counts: Counter[tuple[str, str]] = Counter()
    for name in units[0].keys() | units[1].keys():
        reason = _reason(units[0].get(name), units[1].get(name))
        if reason:
            counts[(units[1].get(name) or units[0][name]).document, reason] += 1
    changed = (before.keys() & after.keys()) - equal
    parts = ("config", "job", "inputs")
    old_config, new_config = ({part: one.job.get(part) for part in parts} for one in sets)
    return Difference(
        config=tuple((key.removeprefix("config."), change) for key, change in differences(old_config, new_config)),
        shards_equal=len(equal),
        shards_changed=len(changed),
        shards_added=len(after.keys() - before.keys()),
        shards_removed=len(before.keys() - after.keys()),
        units=counts,
    )


def _bytes(record: ShardRecord) -> tuple[str, ...]:
    return record.tar_sha256, record.index_sha256, record.ledger_sha256


def _units(one: ShardSet, record: ShardRecord) -> Iterator[tuple[str, _Unit]]:
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in read_table(one.folder, f"index/{record.name}.parquet").to_pylist():
        samples.setdefault(row["unit"], []).append(row)
    for row in read_table(one.folder, f"ledger/{record.name}.parquet").to_pylist():
        rows = samples.get(row["unit"], [])
        digest = hashlib.sha256()
        for sample in rows:
            digest.update(one.folder.read(sample["shard"], sample["offset"], sample["size"]))
        yield (
            row["unit"],
            _Unit(
                document=row["document"],
                cause=cause_of(row),
                verdict=(row["value"], row["threshold"], row["detail"]),
                content=row["content"],
                samples=digest.hexdigest(),
                about=tuple((sample["split"], sample["group"], sample["twins"]) for sample in rows),
            ),
        )


def _reason(old: _Unit | None, new: _Unit | None) -> str:
    """Return the difference of a unit, or "" if there is none."""
    if old is None or new is None:
        return f"added, {new.cause}" if new else f"removed, was {old.cause if old else ''}"
    if old.content != new.content:
        return f"input changed, {old.cause} → {new.cause}" if old.cause != new.cause else "input changed"
    if old.cause != new.cause:
        return f"{old.cause} → {new.cause}"
    if old.verdict != new.verdict:
        before, after = old.verdict[1], new.verdict[1]
        return new.cause + (", other measures" if before == after else f" (threshold {before:g} → {after:g})")
    if old.samples != new.samples:
        return "sample differs (prompt, text or image)"
    return "other group, near duplicate or split" if old.about != new.about else ""
