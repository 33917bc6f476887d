"""What every vision encoder has, whatever is inside."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.model.flops import counted
from trainer.model.weights import Loaded


class VisionEncoder(nn.Module):
    """Images to tokens: (N, 3, H, W) normalised pixels → (N, P, D), row by row over the image."""

    view: ViewTokens  # P, and their rows and columns
    width: int  # D
    preprocess: ImagePreprocess
    numbers_per_pixel: float = 30.0  # held at once by a forward pass without gradient, per channel of a pixel

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """The encoder of a recipe and what was loaded into it.

        `attention` is the implementation for parts that come from transformers. UserError for an unknown key of
        `config` and for weights that do not fit.
        """
        raise NotImplementedError

    @classmethod
    def sizes(cls, config: dict[str, Any], weights: str | None) -> dict[str, Any]:
        """`config` with what weights on this machine say beside it: `build` makes of it alone what it makes of both.

        UserError where neither says anything.
        """
        return config

    def configuration(self) -> dict[str, Any]:
        """All of the part's configuration, also what came with its weights: `build` makes the same part of it."""
        raise NotImplementedError

    def enable_gradient_checkpointing(self) -> None:
        """Keep only each block's input for the backward pass and compute the rest again."""
        raise NotImplementedError

    def flops(self) -> int:
        """FLOPs of one view, forward; a subclass that computes more than its model asks for states the model's."""
        size = self.preprocess.size
        return counted(self, (1, 3, size, size))[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels → (N, P, D)."""
        raise NotImplementedError
