"""Moved from trainer.train.checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Where a run stands. The data position is `step`: the next one reads the mixture from `step * global batch` on."""

    step: int = 0  # optimiser steps done
    samples: int = 0  # trained on
    supervised_tokens: int = 0
    source_tokens: dict[str, int] = field(default_factory=dict)  # the same by source of the mixture
    skipped: int = 0  # samples that could not be used
    dropped: int = 0  # samples left out for their length (data.too_long: drop)
    truncated: int = 0  # samples whose answer was cut at max_length
    data_sha256: str = ""  # of the mixture and the shards it reads


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimiser step did, over all ranks."""

    loss: float | None  # nats per supervised token of the whole step; None: it had none, and nothing was updated
    task_losses: dict[str, float]  # the same for each task that occurred
    task_samples: dict[str, int]  # samples trained on, for each task that occurred
    grad_norm: float  # before clipping
    supervised_tokens: int
    source_tokens: dict[str, int]  # supervised tokens by source of the mixture
    skipped: int
    dropped: int
    truncated: int
    row_tokens: float  # tokens of samples per row
    padding: float  # share of all tokens that are padding
    skipped_updates: int  # since the run was started: fp16 gradients that overflowed
