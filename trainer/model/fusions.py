"""Fusion of the tokens of several encoders, behind their connectors, into one sequence per view.

Shape legend: V views of all images, P tokens of a view, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainer.images.sizes import ViewTokens
from varyforge.errors import UserError


class ChannelFusion:
    """The fusion of Vary (arXiv 2312.06109, section 3.3): token k of all encoders, concatenated along the channels."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Return the channels that each connector has to give: an equal share. UserError if there is none."""
        if hidden_size % num_encoders:
            raise UserError(
                f"fusion channel: {num_encoders} encoders cannot share the language model's hidden size {hidden_size} "
                "equally; change their number, or take fusion sequence"
            )
        return hidden_size // num_encoders

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Return the tokens of a view, the same as of each connector. UserError if these differ."""
        if len(set(views.values())) != 1:
            listed = ", ".join(f"{name} {view}" for name, view in views.items())
            raise UserError(
                f"fusion channel: encoders must give equally many tokens per image, found {listed}; change their sizes "
                "or connectors, or take fusion sequence"
            )
        return next(iter(views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Join one (V, P, D) per encoder, in the recipe's order, to one (V, P, encoders × D)."""
        return torch.cat(list(tokens), dim=-1)


class SequenceFusion:
    """The fusion of all tokens of the first encoder, then all of the second, and so on, in any numbers."""

    def connector_width(self, hidden_size: int, num_encoders: int) -> int:
        """Return the channels that each connector has to give: the hidden size."""
        return hidden_size

    def view(self, views: Mapping[str, ViewTokens]) -> ViewTokens:
        """Return the tokens of a view: the sum over connectors, without rows and columns if there are several."""
        if len(views) == 1:
            return next(iter(views.values()))
        return ViewTokens(sum(view.count for view in views.values()))

    def join(self, tokens: Sequence[Tensor]) -> Tensor:
        """Join one (V, P, D) per encoder, in the recipe's order, to one (V, sum of P, D)."""
        return torch.cat(list(tokens), dim=1)


Fusion = ChannelFusion | SequenceFusion

FUSIONS: dict[str, Fusion] = {"channel": ChannelFusion(), "sequence": SequenceFusion()}
