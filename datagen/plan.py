"""Planning: units in order → shards, each a fixed list of units. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from datagen.errors import UserError
from datagen.shards import shard_name
from datagen.unit import Rejected, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard to be: one task of the job."""

    name: str  # without ".tar"
    units: tuple[Unit, ...]


def plan_shards(prefix: str, units: Iterable[Unit], units_per_shard: int) -> list[ShardPlan]:
    """Cuts `units`, in their order, into runs of `units_per_shard`.

    A unit with the content of an earlier one is marked rejected, so that no sample key occurs twice in the set.

    Raises:
        UserError: two units have the same id.
    """
    first_by_content: dict[str, str] = {}
    seen: set[str] = set()
    planned: list[Unit] = []
    for unit in units:
        if unit.id in seen:
            raise UserError(f"two inputs have the same name {unit.id!r}; rename one, or give a folder that holds both")
        seen.add(unit.id)
        first = first_by_content.setdefault(unit.content, unit.id)
        if first != unit.id and unit.verdict is None:
            verdict = Rejected(gate="duplicate", value=2, threshold=1, detail=f"same content as {first}")
            unit = replace(unit, verdict=verdict)  # noqa: PLW2901  # the marked unit stands in for the read one
        planned.append(unit)
    return [
        ShardPlan(name=shard_name(prefix, number), units=tuple(planned[start : start + units_per_shard]))
        for number, start in enumerate(range(0, len(planned), units_per_shard))
    ]


def plan_hash(shards: Sequence[ShardPlan]) -> str:
    """SHA-256 over what is planned, wherever the inputs lie on this machine."""
    digest = hashlib.sha256()
    for shard in shards:
        for unit in shard.units:
            digest.update(json.dumps([shard.name, unit.id, unit.content], ensure_ascii=False).encode())
    return digest.hexdigest()
