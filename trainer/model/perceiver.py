"""The perceiver resampler: learned queries attend to any number of tokens, so the output has a fixed number.

Flamingo's (arXiv 2204.14198, section 3.1) as Idefics2 builds it (arXiv 2405.02246, section 3.2), but with as many heads
for keys as for queries: https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/idefics2/modeling_idefics2.py

Shape legend: V views, P tokens of a view, Q queries, D channels, A heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6
_MLP_RATIO = 4


class Perceiver(nn.Module):
    """A module that maps (V, P, D) to (V, Q, D)."""

    def __init__(self, width: int, *, queries: int, depth: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (V, Q, D)."""
        x = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        out: Tensor = self.norm(x)
        return out


class Layer(nn.Module):
    """A layer of attention from queries to tokens and queries, and a gated MLP; each pre-norm and with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries = nn.RMSNorm(width, eps=_EPS)
        self.norm_tokens = nn.RMSNorm(width, eps=_EPS)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_mlp = nn.RMSNorm(width, eps=_EPS)
        self.gate_up = nn.Linear(width, 2 * _MLP_RATIO * width, bias=False)
        self.down = nn.Linear(_MLP_RATIO * width, width, bias=False)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return the updated queries (V, Q, D) from (V, Q, D) and the tokens (V, P, D)."""
        x = x + self._attend(self.norm_queries(x), self.norm_tokens(tokens))
        gate, up = self.gate_up(self.norm_mlp(x)).chunk(2, dim=-1)
        x = x + self.down(F.silu(gate) * up)
        return x

    def _attend(self, x: Tensor, tokens: Tensor) -> Tensor:
        q = self._heads(self.q(x))
        k, v = (self._heads(each) for each in self.kv(torch.cat([tokens, x], dim=1)).chunk(2, dim=-1))
        # Without a view plain products: fused kernels refuse an empty batch, or cut its graph, which gives zeros.
        mixed = F.scaled_dot_product_attention(q, k, v) if len(x) else q @ k.transpose(2, 3) @ v
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def _heads(self, x: Tensor) -> Tensor:
        """Reshape (V, any, D) to (V, A, any, E)."""
        views, count, width = x.shape
        return x.view(views, count, self.heads, width // self.heads).transpose(1, 2)
