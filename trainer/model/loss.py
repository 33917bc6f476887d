"""Cross-entropy of the supervised tokens and its gradient, computed in chunks so that few logits exist at a time.

Shape legend: M supervised tokens, m of a chunk, H hidden size, V vocabulary rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

_CHUNK_BYTES = {"cpu": 128 * 2**20}  # of logits; 220 tokens of Vary-toy's 151,936 rows in fp32
_CHUNK_BYTES_ELSEWHERE = 512 * 2**20  # 589 tokens in 16 bits: GPUs need large matrices and few additions to d weight
_SCALE = 256.0
"""Factor of the stored gradient, because many probabilities are below fp16's smallest number, 6e-8.

d weight is also stored as a mean over tokens (`_share`), so that its sum does not exceed fp16's 65,504. Both factors
are powers of two, so they change no digit in other dtypes.
"""


def token_losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk_bytes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies in nats, an fp32 scalar, and the M of them, (M,) fp32 without gradient.

    The gradient is computed in the forward pass together with the losses, in chunks of positions, as in Liger (arXiv
    2410.10989, section 3.2). The backward pass only multiplies it by the upstream scalar, and may run once, because it
    hands the stored gradient over. d weight is summed in the weight's dtype, as gradients of micro-batches are, so 16
    bits round once per chunk. With M = 0 the sum is 0 and gives zeros as gradients of `hidden` and `weight`.

    `hidden` (M, H) are the last hidden states at positions that predict a supervised token, `weight` (V, H) is the
    language model's head, `labels` (M,) are the tokens. `chunk_bytes` limits the logits that exist at a time.
    """
    if chunk_bytes is None:
        chunk_bytes = _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES_ELSEWHERE)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        total, losses = _Losses.apply(hidden, weight, labels, chunk_bytes)
        return total, losses
    losses = _losses(hidden, weight, labels, chunk_bytes, None, None)
    return losses.sum(), losses


class _Losses(torch.autograd.Function):
    """A function (hidden, weight) → (sum, losses) that saves the two gradients and not its inputs."""

    @staticmethod
    @override
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk_bytes: int) -> tuple[Tensor, Tensor]:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = torch.zeros_like(weight) if to_weight and len(labels) else None
        losses = _losses(hidden, weight, labels, chunk_bytes, d_hidden, d_weight)
        if to_weight and d_weight is None:  # zeros as one expanded element, which takes no memory
            d_weight = weight.new_zeros(()).expand_as(weight)
        ctx.gradients, ctx.share = [d_hidden, d_weight], _share(len(labels))
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @override
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("second backward pass through token_losses: the first one has taken its gradient")
        (d_hidden, d_weight), ctx.gradients = ctx.gradients, None  # no second reference, so autograd need not copy
        factor = upstream / _SCALE
        if d_hidden is not None:
            d_hidden.mul_(factor)
        if d_weight is not None and ctx.share:
            d_weight.mul_(factor / ctx.share)
        return d_hidden, d_weight, None, None


def _losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunk_bytes: int, d_hidden: Tensor | None, d_weight: Tensor | None
) -> Tensor:
    """Return the losses (M,). Write `_SCALE` × gradient to `d_hidden`, add `_SCALE` × `_share` × it to `d_weight`."""
    losses = hidden.new_empty(len(hidden)).float()
    size = _chunk(len(hidden), weight, chunk_bytes)
    buffer = hidden.new_empty(size, len(weight))
    for start in range(0, len(hidden), size):
        chunk = slice(start, start + size)
        states, targets = hidden[chunk], labels[chunk, None]
        logits = torch.mm(states, weight.T, out=buffer[: len(states)])
        scores = logits.float()  # for fp32 logits the same memory
        scores -= scores.amax(dim=1, keepdim=True)
        of_target = scores.gather(1, targets)
        scores.exp_()
        total = scores.sum(dim=1, keepdim=True)
        losses[chunk] = (total.log() - of_target)[:, 0]
        if d_hidden is None and d_weight is None:
            continue
        # softmax - one-hot, in fp32, which still has digits left for a token with a probability near 1.
        scores.scatter_add_(1, targets, -total)
        d_logits = torch.mul(scores, _SCALE / total, out=logits)
        del scores
        if d_hidden is not None:
            torch.mm(d_logits, weight, out=d_hidden[chunk])
        if d_weight is not None:
            d_weight.addmm_(d_logits.T, states, alpha=_share(len(hidden)))
    return losses


def _chunk(count: int, weight: Tensor, chunk_bytes: int) -> int:
    """Return the positions per chunk, for chunks of about equal size and as few as `chunk_bytes` allows."""
    fp32 = torch.finfo(weight.dtype).bits == 32
    row_bytes = len(weight) * (weight.element_size() + (0 if fp32 else 4))  # logits, and their copy in fp32
    most = max(1, chunk_bytes // row_bytes)
    return max(1, math.ceil(count / max(1, math.ceil(count / most))))


def _share(count: int) -> float:
    """Return about 1 / count as a power of two, or 0 for a count of 0."""
    return 2.0 ** -(count.bit_length()) if count else 0.0
