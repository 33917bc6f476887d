"""From the encoders' tokens to the language model's embeddings: one connector per encoder, then the fusion of all.

Shape legend: N images, P tokens of an image, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from datagen.errors import UserError


class Fusion(Protocol):
    """How the tokens of several encoders become one sequence per image."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Channels that each connector has to give; UserError when there is no such number."""

    def num_tokens(self, tokens_of: Mapping[str, int]) -> int:
        """Tokens of an image for the language model, from those of each encoder; UserError when they do not fit."""

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """One (N, P, D) per encoder, in the recipe's order → one (N, P, D) in the language model's width."""


class ChannelFusion:
    """Token k of every encoder side by side on the channel axis (Vary, arXiv 2312.06109, section 3.3)."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """An equal share of the hidden size."""
        if hidden_size % num_encoders:
            raise UserError(
                f"fusion channel: {num_encoders} encoders cannot share the language model's hidden size {hidden_size} "
                "equally"
            )
        return hidden_size // num_encoders

    def num_tokens(self, tokens_of: Mapping[str, int]) -> int:
        """The number that all encoders have in common."""
        if len(set(tokens_of.values())) != 1:
            found = ", ".join(f"{name} {count}" for name, count in tokens_of.items())
            raise UserError(f"fusion channel: encoders must give equally many tokens per image, found {found}")
        return next(iter(tokens_of.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate channels, first encoder first."""
        return torch.cat(list(tokens), dim=-1)


CONNECTORS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear}
"""By name: (channels in, channels out) → module."""

FUSIONS: dict[str, Fusion] = {"channel": ChannelFusion()}
