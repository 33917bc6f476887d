"""Causal attention that stops at the borders of the samples of a row, for transformers' models.

Each sample is a call of its own on a view of the row: no mask exists, dense or other, padding is not computed, and the
work is the sum of the samples' squares, not the square of the row. It serves every kernel that
`scaled_dot_product_attention` chooses (flash, memory-efficient, math) and the plain arithmetic of `eager`.

Shape legend: B rows, A heads, K key and value heads, T tokens of a row, L tokens of a sample, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from varyforge.errors import UserError

BY_SAMPLE = {"sdpa": "sdpa_by_sample", "eager": "eager_by_sample"}
"""transformers' name of an implementation → the name of the same with borders.

The latter have no mask function in transformers, which thus builds no mask for them; they want `lengths` instead.
"""

Lengths = Sequence[Sequence[int]]
"""B rows: tokens of each sample of the row, in order; what is left of a row is padding."""


class _Kernel(Protocol):
    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float) -> Tensor:
        """Causal attention in one sample: three times (A, L, D) → (A, L, D)."""


def fused(query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float) -> Tensor:
    """Whatever kernel torch has for this device and type; only its math kernel holds (A, L, L) weights."""
    # The kernels are for batches: with three dimensions, only the math kernel would be chosen.
    batch = F.scaled_dot_product_attention(
        query[None], key[None], value[None], dropout_p=dropout, is_causal=True, scale=scale
    )
    return batch[0]


def plain(query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float) -> Tensor:
    """The formula, with the softmax in fp32, as transformers' `eager` computes it."""
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
    """(B, A, T, D) queries, (B, K, T, D) keys and values → (B, T, A, D); zeros, without gradient, at padding.

    A batch of padding alone is computed as if it were samples, so that what led here gets a gradient, of zeros, also
    from the batch that stands in for none.
    """
    width = query.shape[2]
    rows = lengths if any(lengths) else [[width]] * len(query)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # not every kernel does it by itself, and those that do not would fall back to math
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outputs = []
    for row, *states in zip(rows, query, key, value, strict=True):
        left = width - sum(row)
        assert left >= 0, (row, width)
        # Split, not sliced: the gradient of all pieces is then one concatenation.
        pieces = [state.split([*row, left], dim=1) for state in states]
        for q, k, v in list(zip(*pieces, strict=True))[:-1]:
            outputs.append(kernel(q, k, v, dropout=dropout, scale=scale).transpose(0, 1))
        outputs.append(query.new_zeros(left, query.shape[1], query.shape[3]))
    return torch.cat(outputs).view(len(query), width, *outputs[0].shape[1:])


def _interface(kernel: _Kernel) -> Callable[..., tuple[Tensor, None]]:
    """`attend` as transformers calls attention; `lengths` come through from the call of the model."""

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
                f"a sample of {longest} tokens: the language model's layers look back {sliding_window} only, which "
                "training does not do; set model.language.config.sliding_window=null or lower data.max_length"
            )
        return attend(kernel, query, key, value, lengths=lengths, dropout=dropout, scale=scaling), None

    return attention


AttentionInterface.register(BY_SAMPLE["sdpa"], _interface(fused))
AttentionInterface.register(BY_SAMPLE["eager"], _interface(plain))
