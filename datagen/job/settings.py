"""The settings of a data job."""

from __future__ import annotations

from dataclasses import dataclass, field

from datagen.job.held_out import Amount
from datagen.job.isolate import Limits
from datagen.job.watchdog import STALL_MINUTES
from varyforge.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """The settings of a data job besides those of its source."""

    units_per_shard: int = 64  # at most; most shards hold half of that or more
    validation_share: float = 0.05  # share of the documents held out from training
    validation: int = 0  # about so many samples are held out; 0: the share
    limit: int | None = None  # make only so many units, the first ones
    limits: Limits = field(default_factory=Limits)
    update: bool = False  # make shards again that changed inputs or settings concern, instead of refusing
    retry: str | None = None  # "failed" or "failed:REASON": make such units again
    stall_minutes: float = STALL_MINUTES

    @property
    def held_out(self) -> Amount:
        """The amount of validation data."""
        return Amount(share=self.validation_share, samples=self.validation)

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise UserError(f"validation share {self.validation_share} must be from 0 to below 1")
        if self.validation < 0:
            raise UserError(f"validation {self.validation} must be 0 or a number of samples")
        if self.units_per_shard < 1 or self.stall_minutes <= 0:
            raise UserError("units per shard and stall minutes must be above 0")
        if self.retry and self.retry.partition(":")[0] != "failed":
            raise UserError(f"--retry {self.retry}: expected failed or failed:REASON, e.g. failed:timeout")
