"""SAM's attention with relative positions, in forms that fused kernels compute without a bias in memory.

Shape legend: B fields (images or windows), S side of a field in patches, C width, A heads, E channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.model.recompute import recompute

_WIDE_NUMBERS = {"cpu": 2**22}  # floats of the extended queries per call; heads are processed in groups
_WIDE_NUMBERS_ELSEWHERE = 2**25  # 3 images of SAM-B, 64 MB in 16 bits: few launches, each of which fills a GPU
_BIAS_NUMBERS = 2**22  # floats of the bias in `attend_by_rows` per call: 16 MB in fp32
_KERNEL_ALIGNMENT = 8  # channels: attention kernels for 16-bit floats need rows of 16 bytes


class RelativeAttention(nn.Module):
    """Multi-head attention over square fields (B, S, S, C) with decomposed relative positions (arXiv 2112.01526, 4.1).

    The score of query (i, j) and key (m, n) is `scale * q·k + q·Rh[i - m] + q·Rw[j - n]`. The last two terms are S
    numbers each per query, selected by the key's row and column. They are folded into the dot product: the query is
    extended by its 2S numbers, the key by two one-hot vectors. So a fused kernel needs no bias of (S², S²), which for
    S = 64 would be 400 MB per image and layer in 16 bits. On a CPU, where arithmetic is slow, the bias is computed
    instead, for some rows of queries at a time. This works only without gradient, which no kernel has for a bias.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape, (B, S, S, C)."""
        fields, side, _, width = x.shape
        head = width // self.heads
        qkv = self.qkv(x).reshape(fields, side * side, 3, self.heads, head)
        by_rows = x.device.type == "cpu" and not torch.is_grad_enabled()
        tables = self._tables(side, 1.0 if by_rows else head**0.5)
        # q, k and v have equal widths, because the fused kernels that need no (S², S²) buffer require it.
        wide = -(-(head + 2 * side) // _KERNEL_ALIGNMENT) * _KERNEL_ALIGNMENT
        most = _WIDE_NUMBERS.get(x.device.type, _WIDE_NUMBERS_ELSEWHERE)
        at_once = max(1, most // (fields * side * side * wide))
        q, k, v = (each.split(at_once, dim=1) for each in qkv.permute(2, 0, 3, 1, 4))  # (B, at most at_once, S², E)
        groups = zip(q, k, v, strict=True)
        if by_rows:
            outs = [attend_by_rows(*heads, *tables).transpose(1, 2) for heads in groups]
        else:
            outs = [self._attend(*heads, tables, wide).transpose(1, 2) for heads in groups]
        del qkv, q, k, v
        joined = torch.cat(outs, dim=2)
        with recompute((joined, lambda: torch.cat(outs, dim=2))):
            projected: Tensor = self.proj(joined.view(fields, side, side, width))
        return projected

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor], wide: int) -> Tensor:
        """Attend for some of the heads: three times (B, any, S², E) → (B, any, S², E)."""
        head = q.shape[-1]
        long_q = _LongQueries.apply(q, *tables, wide)
        long_k = long_keys(k, len(tables[0]), wide)
        long_v = widen([v], wide)
        with recompute(
            (long_q, lambda: long_queries(q, *tables, wide)),
            (long_k, lambda: long_keys(k, len(tables[0]), wide)),
            (long_v, lambda: widen([v], wide)),
        ):
            return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=head**-0.5)[..., :head]

    def _tables(self, side: int, factor: float) -> tuple[Tensor, Tensor]:
        """Return `factor` × the relative positions (S, S, E) of (query row, key row), and the same of the columns."""
        positions = torch.arange(side, device=self.rel_pos_h.device)
        offset = positions[:, None] - positions[None, :] + side - 1
        return factor * self.rel_pos_h[offset], factor * self.rel_pos_w[offset]


class _LongQueries(torch.autograd.Function):
    """The function `long_queries`, which saves only its arguments for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, by_row: Tensor, by_column: Tensor, wide: int) -> Tensor:
        ctx.save_for_backward(q, by_row, by_column)
        return long_queries(q, by_row, by_column, wide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, by_row, by_column = ctx.saved_tensors
        side, head = len(by_row), q.shape[-1]
        grid, d_grid = (each.unflatten(2, (side, side)) for each in (q, gradient))
        d_q, d_rows, d_columns, _ = d_grid.split([head, side, side, gradient.shape[-1] - head - 2 * side], dim=-1)
        to_q = d_q + torch.einsum("baijm,imc->baijc", d_rows, by_row)
        to_q += torch.einsum("baijn,jnc->baijc", d_columns, by_column)
        to_row = torch.einsum("baijm,baijc->imc", d_rows, grid)
        to_column = torch.einsum("baijn,baijc->jnc", d_columns, grid)
        return to_q.flatten(2, 3), to_row, to_column, None


def attend_by_rows(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Attend with q, k, v (B, A, S², E) and relative positions (S, S, E) of rows and columns → (B, A, S², E)."""
    fields, heads, positions, _ = q.shape
    side = len(by_row)
    rows, columns = relative_scores(q, by_row, by_column)
    at_once = min(side, max(1, _BIAS_NUMBERS // (fields * heads * side * positions)))
    buffer = q.new_empty(fields, heads, at_once, side, side, side)
    out = q.new_empty(q.shape)
    for start in range(0, side, at_once):
        some = slice(start, start + at_once)
        bias = buffer[:, :, : min(at_once, side - start)]
        torch.add(rows[:, :, some, :, :, None], columns[:, :, some, :, None, :], out=bias)
        queries = slice(start * side, (start + at_once) * side)
        out[:, :, queries] = F.scaled_dot_product_attention(
            q[:, :, queries], k, v, attn_mask=bias.reshape(fields, heads, -1, positions)
        )
    return out


def relative_scores(q: Tensor, by_row: Tensor, by_column: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply queries (B, A, S², E) with the tables (S, S, E) of their row and column → two of (B, A, S, S, S)."""
    grid = q.unflatten(2, by_row.shape[:2])
    return torch.einsum("baijc,imc->baijm", grid, by_row), torch.einsum("baijc,jnc->baijn", grid, by_column)


def long_queries(q: Tensor, by_row: Tensor, by_column: Tensor, wide: int) -> Tensor:
    """Extend queries (B, A, S², E) by `relative_scores` with the tables (S, S, E), and by zeros to `wide` channels."""
    return widen([q, *(scores.flatten(2, 3) for scores in relative_scores(q, by_row, by_column))], wide)


def long_keys(k: Tensor, side: int, wide: int) -> Tensor:
    """Extend keys (B, A, S², E) by their one-hot row and column, and by zeros to `wide` channels."""
    one_hot = torch.eye(side, dtype=k.dtype, device=k.device)
    rows, columns = one_hot.repeat_interleave(side, dim=0), one_hot.repeat(side, 1)  # (S², S) each
    return widen([k, *(each.expand(*k.shape[:2], -1, -1) for each in (rows, columns))], wide)


def widen(parts: list[Tensor], width: int) -> Tensor:
    """Concatenate the parts (..., any) along the channels, and pad with zeros to `width` channels."""
    missing = width - sum(part.shape[-1] for part in parts)
    return torch.cat([*parts, parts[0].new_zeros(()).expand(*parts[0].shape[:-1], missing)], dim=-1)
