"""How a mixture that is written out is cut into shards: in its order, so many positions to each.

The plan of a data job (`plan.py`) cuts by a hash, so that one more input moves few samples. Here the order is what
is asked for: shard k holds the positions k·n to (k+1)·n − 1, and read one after the other the shards have the mixture's
ratios in every prefix. So the plan is two numbers, and job.json alone says what each shard must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datagen.job.change import digest_of

SOURCE = "mix"
"""What job.json calls the maker of such a set; also the prefix of its shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedShard:
    """One shard to be: consecutive positions of the mixture."""

    name: str  # without ".tar"
    first: int  # position
    units: int  # positions

    @property
    def units_sha256(self) -> str:
        """SHA-256 of which positions it holds."""
        return digest_of({"first": self.first, "units": self.units})

    def unit_ids(self) -> list[str]:
        """What the ledger calls its positions."""
        return [unit_id(self.first + number) for number in range(self.units)]


def unit_id(position: int) -> str:
    """What index and ledger call a position."""
    return f"{position:09d}"


def ordered_shards(positions: int, per_shard: int) -> list[OrderedShard]:
    """The positions 0 to `positions` - 1 in shards of `per_shard`; the last one may hold fewer."""
    starts = range(0, positions, per_shard)
    width = max(6, len(str(len(starts) - 1)))  # names sort as the positions do
    return [
        OrderedShard(name=f"{SOURCE}-{number:0{width}d}", first=first, units=min(per_shard, positions - first))
        for number, first in enumerate(starts)
    ]


def shards_of(job: Mapping[str, Any]) -> list[OrderedShard]:
    """The shards that the job.json of a written mixture plans.

    Raises:
        KeyError, TypeError, ValueError: it is not whole.
    """
    return ordered_shards(int(job["plan"]["units"]), int(job["job"]["samples_per_shard"]))
