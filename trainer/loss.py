"""Cross-entropy per supervised token, without ever holding the logits of all of them.

Shape legend: M supervised tokens, H hidden size, V vocabulary rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def token_losses(hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk: int = 1024) -> Tensor:
    """Cross-entropy of each position in nats, (M,) fp32; equals `F.cross_entropy(..., reduction="none")`.

    `hidden` (M, H) are the last hidden states at the positions that predict a supervised token, `weight` (V, H) the
    language model's head, `labels` (M,) the tokens they have to predict. Positions go through the head `chunk` at a
    time and each chunk's logits are computed again in the backward pass, so at most chunk × V logits exist: with
    Vary-toy's 151,936 rows, 0.6 GB in fp32 where 4 × 4096 positions would take 10 GB.

    With M = 0 the result is empty, but still a function of `hidden` and `weight`: its sum sends zeros backwards.
    """
    pieces = [
        checkpoint(
            _chunk_losses,
            hidden[start : start + chunk],
            weight,
            labels[start : start + chunk],
            use_reentrant=False,
            preserve_rng_state=False,  # nothing random inside
        )
        for start in range(0, max(len(labels), 1), chunk)
    ]
    return torch.cat(pieces)


def _chunk_losses(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="none")
