"""Cross-entropy of the supervised tokens with its gradient, without ever holding the logits of all of them.

Shape legend: M supervised tokens, m of a chunk, H hidden size, V vocabulary rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = {"cpu": 128 * 2**20}  # of logits at once: 220 tokens of Vary-toy's 151,936 rows in fp32
_CHUNK_BYTES_ELSEWHERE = 512 * 2**20  # 589 in 16 bits: a GPU wants large matrices, and few additions to d weight
_SCALE = 256.0
"""Factor of the gradient while it waits for its upstream: many probabilities are below fp16's smallest number, 6e-8.

With it d weight is kept as a mean over tokens, so that a sum over many of them does not pass fp16's 65,504. Both
factors are powers of two: they change no digit of the other types.
"""


def token_losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk_bytes: int | None = None
) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies in nats, an fp32 scalar, and each of them, (M,) fp32 without gradient.

    `hidden` (M, H) are the last hidden states at the positions that predict a supervised token, `weight` (V, H) the
    language model's head, `labels` (M,) the tokens they have to predict.

    Where something trains, the gradient is made beside the losses, a chunk of positions at a time (as Liger does, arXiv
    2410.10989, section 3.2): the backward pass only multiplies it by the upstream scalar. Logits exist for as many
    positions as fit into `chunk_bytes` (None: what suits the device) and are computed once. `backward` may run once: it
    gives the gradient away. d weight is added up in the weight's type, as gradients of micro-batches are: 16 bits round
    once per chunk.

    With M = 0 the sum is 0 and still a function of `hidden` and `weight`: it sends zeros backwards.
    """
    if chunk_bytes is None:
        chunk_bytes = _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES_ELSEWHERE)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        total, losses = _Losses.apply(hidden, weight, labels, chunk_bytes)
        return total, losses
    losses = _losses(hidden, weight, labels, chunk_bytes, None, None)
    return losses.sum(), losses


class _Losses(torch.autograd.Function):
    """(hidden, weight) → (sum, losses); holds their gradients, and neither of them, until the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk_bytes: int) -> tuple[Tensor, Tensor]:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = torch.zeros_like(weight) if to_weight and len(labels) else None
        losses = _losses(hidden, weight, labels, chunk_bytes, d_hidden, d_weight)
        if to_weight and d_weight is None:  # a zero that is one element, however large the weight
            d_weight = weight.new_zeros(()).expand_as(weight)
        ctx.gradients, ctx.share = [d_hidden, d_weight], _share(len(labels))
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("second backward pass through token_losses: the first has given its gradient away")
        (d_hidden, d_weight), ctx.gradients = ctx.gradients, None  # handed over, not copied: nobody else may hold them
        factor = upstream / _SCALE
        if d_hidden is not None:
            d_hidden.mul_(factor)
        if d_weight is not None and ctx.share:
            d_weight.mul_(factor / ctx.share)
        return d_hidden, d_weight, None, None


def _losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunk_bytes: int, d_hidden: Tensor | None, d_weight: Tensor | None
) -> Tensor:
    """The losses (M,). `d_hidden` is filled with `_SCALE` times its gradient; to `d_weight` goes `_share` of that."""
    losses = hidden.new_empty(len(hidden)).float()
    size = _chunk(len(hidden), weight, chunk_bytes)
    buffer = hidden.new_empty(size, len(weight))
    for start in range(0, len(hidden), size):
        chunk = slice(start, start + size)
        states, targets = hidden[chunk], labels[chunk, None]
        logits = torch.mm(states, weight.T, out=buffer[: len(states)])
        scores = logits.float()  # fp32: the same memory
        scores -= scores.amax(dim=1, keepdim=True)
        of_target = scores.gather(1, targets)
        scores.exp_()
        total = scores.sum(dim=1, keepdim=True)
        losses[chunk] = (total.log() - of_target)[:, 0]
        if d_hidden is None and d_weight is None:
            continue
        # (softmax - one-hot): subtracted in fp32, where what is left of a sure token's probability still shows.
        scores.scatter_add_(1, targets, -total)
        d_logits = torch.mul(scores, _SCALE / total, out=logits)
        del scores
        if d_hidden is not None:
            torch.mm(d_logits, weight, out=d_hidden[chunk])
        if d_weight is not None:
            d_weight.addmm_(d_logits.T, states, alpha=_share(len(hidden)))
    return losses


def _chunk(count: int, weight: Tensor, chunk_bytes: int) -> int:
    """Positions at a time: chunks of about equal size, as few as `chunk_bytes` allow."""
    fp32 = torch.finfo(weight.dtype).bits == 32
    row_bytes = len(weight) * (weight.element_size() + (0 if fp32 else 4))  # logits, and their fp32 form
    most = max(1, chunk_bytes // row_bytes)
    return max(1, math.ceil(count / max(1, math.ceil(count / most))))


def _share(count: int) -> float:
    """About 1 / count, a power of two; 0 where nothing is counted."""
    return 2.0 ** -(count.bit_length()) if count else 0.0
