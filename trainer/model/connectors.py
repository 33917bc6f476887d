"""From the encoders' tokens to the language model's embeddings: one connector per encoder, then the fusion of all.

Shape legend: V views of all images, P tokens of a view, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from datagen.errors import UserError
from trainer.layout import ViewTokens
from trainer.model.tables import check_keys


class Fusion(Protocol):
    """How the tokens of several encoders become one sequence per image."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Channels that each connector has to give; UserError when there is no such number."""

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Tokens of a view for the language model, from those of each connector; UserError when they do not fit."""

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """One (V, P, D) per encoder, in the recipe's order → one (V, P, D)."""


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

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """What all encoders have in common."""
        if len(set(views.values())) != 1:
            found = ", ".join(f"{name} {view}" for name, view in views.items())
            raise UserError(f"fusion channel: encoders must give equally many tokens per image, found {found}")
        return next(iter(views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate channels, first encoder first."""
        return torch.cat(list(tokens), dim=-1)


Connect = Callable[[Mapping[str, Any], int, int, ViewTokens], tuple[nn.Module, ViewTokens]]
"""(config, channels in, channels out, tokens in) → the module and the tokens that it gives.

The module maps (V, P, channels in) to (V, P out, channels out); UserError for an unknown key and what does not fit.
"""


def linear(config: Mapping[str, Any], width_in: int, width_out: int, view: ViewTokens) -> tuple[nn.Module, ViewTokens]:
    """One linear layer on each token (Vary; LLaVA, arXiv 2304.08485)."""
    check_keys(config, (), "connector linear")
    return nn.Linear(width_in, width_out), view


CONNECTORS: dict[str, Connect] = {"linear": linear}

FUSIONS: dict[str, Fusion] = {"channel": ChannelFusion()}
