"""The plan of a written mixture: shard k has the positions k·n to (k+1)·n − 1 of the mixture's order.

Read one after the other, the shards therefore have the mixture's ratios in every prefix. A data job's plan cuts by a
hash instead, so that one more input moves few samples. The plan is two numbers, which are in job.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datagen.job.change import digest_of

SOURCE = "mix"
"""The source in job.json, and the prefix of the shards' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedShard:
    """A planned shard of consecutive positions."""

    name: str  # without ".tar"
    first: int  # its first position
    units: int  # number of positions

    @property
    def units_sha256(self) -> str:
        """The SHA-256 of its range of positions."""
        return digest_of({"first": self.first, "units": self.units})


def unit_id(position: int) -> str:
    """Return the unit id of a position in index and ledger."""
    return f"{position:09d}"


def ordered_shards(positions: int, per_shard: int) -> list[OrderedShard]:
    """Cut the positions 0 to `positions` - 1 into shards of `per_shard`. The last shard may have fewer."""
    starts = range(0, positions, per_shard)
    width = max(6, len(str(len(starts) - 1)))  # names sort like positions
    return [
        OrderedShard(name=f"{SOURCE}-{number:0{width}d}", first=first, units=min(per_shard, positions - first))
        for number, first in enumerate(starts)
    ]


def shards_of(job: Mapping[str, Any]) -> list[OrderedShard]:
    """Return the shards that the job.json of a written mixture plans.

    Raises:
        KeyError, TypeError, ValueError: a value is missing or has the wrong type.
    """
    return ordered_shards(int(job["plan"]["units"]), int(job["job"]["samples_per_shard"]))
