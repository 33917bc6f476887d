"""How the tokens of several encoders, behind their connectors, become one sequence per image.

Shape legend: V views of all images, P tokens of a view, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from trainer.images.sizes import ViewTokens
from varyforge.errors import UserError


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
                "equally; change their number, or take fusion sequence"
            )
        return hidden_size // num_encoders

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """What all encoders have in common."""
        if len(set(views.values())) != 1:
            found = ", ".join(f"{name} {view}" for name, view in views.items())
            raise UserError(
                f"fusion channel: encoders must give equally many tokens per image, found {found}; change their sizes "
                "or connectors, or take fusion sequence"
            )
        return next(iter(views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate channels, first encoder first."""
        return torch.cat(list(tokens), dim=-1)


class SequenceFusion:
    """The tokens of the first encoder, then those of the second, …; there may be differently many of each."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """The hidden size."""
        return hidden_size

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """The sum; tokens of several encoders have no rows and columns in common."""
        if len(views) == 1:
            return next(iter(views.values()))
        return ViewTokens(sum(view.count for view in views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate tokens, first encoder first."""
        return torch.cat(list(tokens), dim=1)


FUSIONS: dict[str, Fusion] = {"channel": ChannelFusion(), "sequence": SequenceFusion()}
