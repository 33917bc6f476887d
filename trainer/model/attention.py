"""Causal attention within each sample of a packed row, for transformers' models.

The kernel is called once per sample, on a view of the row. So no mask is built, padding is not computed, and the work
is the sum of the samples' squares, not the square of the row. This works with every kernel that
`scaled_dot_product_attention` chooses (flash, memory-efficient, math) and with the plain arithmetic of `eager`.

Shape legend: B rows, A heads, K key and value heads, T tokens of a row, L tokens of a sample, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from varyforge.errors import UserError

BY_SAMPLE = {"sdpa": "sdpa_by_sample", "eager": "eager_by_sample"}
"""transformers' name of an implementation → our name of its variant that attends within samples.

transformers has no mask function under our names and builds no mask for them. They take `lengths` instead.
"""

Lengths = Sequence[Sequence[int]]
"""For each of B rows the tokens of each sample, in order. The rest of a row is padding."""


_Kernel = Callable[..., Tensor]
"""A function like `fused`: causal attention in one sample, query, key and value (A, L, D) → (A, L, D)."""


def fused(query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float) -> Tensor:
    """Attend with the fastest kernel that torch has for the device and dtype.

    Only torch's math kernel holds (A, L, L) weights.
    """
    # With three dimensions torch would choose its math kernel; the others need a batch.
    batch = F.scaled_dot_product_attention(
        query[None], key[None], value[None], dropout_p=dropout, is_causal=True, scale=scale
    )
    return batch[0]


def plain(query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float) -> Tensor:
    """Attend by the formula, with the softmax in fp32, as transformers' `eager` does."""
    weights = query @ key.transpose(-1, -2) * scale
    later = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
    weights = weights.masked_fill(later, -torch.inf).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout) @ value


def attend(
    kernel: _Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    lengths: Lengths,
    dropout: float = 0.0,
    scale: float,
) -> Tensor:
    """Attend within samples: (B, A, T, D) queries, (B, K, T, D) keys and values → (B, T, A, D).

    Positions of padding get zeros without gradient. A batch of padding alone, which stands in for a missing
    micro-batch, is computed as one sample per row, so that all parameters get a gradient, of zeros.
    """
    width = query.shape[2]
    rows = lengths if any(lengths) else [[width]] * len(query)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # some kernels do not support grouped heads, and torch would fall back to its math kernel
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outputs = []
    for row, *states in zip(rows, query, key, value, strict=True):
        left = width - sum(row)
        assert left >= 0, (row, width)
        # `split` and not slices, so that the gradient of all pieces is one concatenation.
        pieces = [state.split([*row, left], dim=1) for state in states]
        for q, k, v in list(zip(*pieces, strict=True))[:-1]:
            outputs.append(kernel(q, k, v, dropout=dropout, scale=scale).transpose(0, 1))
        outputs.append(query.new_zeros(left, query.shape[1], query.shape[3]))
    return torch.cat(outputs).view(len(query), width, *outputs[0].shape[1:])


def _interface(kernel: _Kernel) -> Callable[..., tuple[Tensor, None]]:
    """Wrap `attend` in the signature by which transformers calls attention. The model call passes `lengths` on."""

    def attention(
        _module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: None,
        *,
        scaling: float,
        lengths: Lengths,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        **_other: Any,
    ) -> tuple[Tensor, None]:
        longest = max((length for row in lengths for length in row), default=0)
        if sliding_window is not None and longest > sliding_window:
            raise UserError(
                f"a sample of {longest} tokens: the language model has a sliding window of {sliding_window}, which "
                "training does not support; set model.language.config.sliding_window=null or lower data.max_length"
            )
        return attend(kernel, query, key, value, lengths=lengths, dropout=dropout, scale=scaling), None

    return attention


AttentionInterface.register(BY_SAMPLE["sdpa"], _interface(fused))
AttentionInterface.register(BY_SAMPLE["eager"], _interface(plain))
