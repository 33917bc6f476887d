"""The optimiser and its learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from trainer.settings import OptimSettings


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters, without weight decay on biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=settings.betas, fused=True
    )


def learning_rate(step: int, total: int, settings: OptimSettings) -> float:
    """Return the rate of step `step` (from 0) of `total`: linear warm-up, then cosine to 0.

    A pure function, so a resumed run needs no scheduler state. The first step has 1 / warm-up steps of the peak rate
    and not 0, so every step has an effect.
    """
    warmup = math.ceil(total * settings.warmup_ratio)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
