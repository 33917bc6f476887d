"""Moved from datagen.job.job."""

from __future__ import annotations

from dataclasses import dataclass, field

from datagen.job.isolate import Limits
from varyforge.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What a job needs besides its source."""

    units_per_shard: int = 64  # at most; most shards hold half of that or more
    validation_share: float = 0.05  # of the documents kept out of training
    limit: int | None = None  # only the first so many units
    limits: Limits = field(default_factory=Limits)
    update: bool = False  # make again what a change of inputs or settings concerns, instead of refusing
    retry: str | None = None  # "failed" or "failed:REASON": make those units again
    stall_minutes: float = 10.0  # report where everything stands when nothing moved for so long

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise UserError(f"validation share {self.validation_share} must be from 0 to below 1")
        if self.units_per_shard < 1 or self.stall_minutes <= 0:
            raise UserError("units per shard and stall minutes must be above 0")
        if self.retry and self.retry.partition(":")[0] != "failed":
            raise UserError(f"--retry {self.retry}: expected failed or failed:REASON, e.g. failed:timeout")
