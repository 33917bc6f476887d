"""A run's state and the result of one step: plain values, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """A run's progress. The next step reads the mixture from position `step * global_batch_size` on."""

    step: int = 0  # optimiser steps done
    samples: int = 0  # trained on
    supervised_tokens: int = 0
    source_tokens: dict[str, int] = field(default_factory=dict)  # supervised tokens by source of the mixture
    skipped: int = 0  # samples that could not be used
    dropped: int = 0  # samples left out for their length (data.too_long: drop)
    truncated: int = 0  # samples whose answer was cut at max_length
    data_sha256: str = ""  # of the mixture and its shards


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The result of one optimiser step, over all ranks. The defaults are those of a step without a supervised token."""

    skipped: int
    dropped: int
    truncated: int
    loss: float | None = None  # nats per supervised token of the whole step; None: no supervised token, no update
    task_losses: dict[str, float] = field(default_factory=dict)  # nats per supervised token, by task that occurred
    task_samples: dict[str, int] = field(default_factory=dict)  # samples trained on, by task that occurred
    grad_norm: float = 0.0  # before clipping
    supervised_tokens: int = 0
    source_tokens: dict[str, int] = field(default_factory=dict)  # supervised tokens by source of the mixture
    row_tokens: float = 0.0  # tokens of samples per row
    padding: float = 0.0  # share of all tokens that are padding
    skipped_updates: int = 0  # since the run was started: fp16 gradients that overflowed
