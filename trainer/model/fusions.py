"""Fusion of the tokens of several encoders, behind their connectors, into one sequence per view.

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
    """A rule by which the tokens of several encoders become one sequence per view."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Return the channels that each connector has to give. UserError if no number is possible."""

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Return the tokens of a view from those of each connector. UserError if they do not fit each other."""

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Join one (V, P, D) per encoder, in the recipe's order, to one (V, P, D)."""


class ChannelFusion:
    """The fusion of Vary (arXiv 2312.06109, section 3.3): token k of all encoders, concatenated along the channels."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Return an equal share of the hidden size."""
        if hidden_size % num_encoders:
            raise UserError(
                f"fusion channel: {num_encoders} encoders cannot share the language model's hidden size {hidden_size} "
                "equally; change their number, or take fusion sequence"
            )
        return hidden_size // num_encoders

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Return the view, which must be the same for all encoders."""
        if len(set(views.values())) != 1:
            listed = ", ".join(f"{name} {view}" for name, view in views.items())
            raise UserError(
                f"fusion channel: encoders must give equally many tokens per image, found {listed}; change their sizes "
                "or connectors, or take fusion sequence"
            )
        return next(iter(views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate channels, first encoder first."""
        return torch.cat(list(tokens), dim=-1)


class SequenceFusion:
    """The fusion of all tokens of the first encoder, then all of the second, and so on, in any numbers."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Return the hidden size."""
        return hidden_size

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Return the sum of the tokens, without rows and columns if there are several encoders."""
        if len(views) == 1:
            return next(iter(views.values()))
        return ViewTokens(sum(view.count for view in views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Concatenate tokens, first encoder first."""
        return torch.cat(list(tokens), dim=1)


FUSIONS: dict[str, Fusion] = {"channel": ChannelFusion(), "sequence": SequenceFusion()}
