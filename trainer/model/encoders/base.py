"""The interface of vision encoders."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.model.flops import counted
from trainer.model.weights import Loaded


class VisionEncoder(nn.Module):
    """A module that maps normalised pixels (N, 3, H, W) to tokens (N, P, D), row by row over the image."""

    view: ViewTokens  # P, and the rows and columns of the tokens
    width: int  # D
    preprocess: ImagePreprocess
    gradient_checkpointing: bool = False  # in training only each block's input is saved, and the block computed again
    numbers_per_pixel: float = 30.0  # floats that a forward pass without gradient holds, per channel of a pixel

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """Build the encoder of a recipe. Return also the source of its weights.

        `attention` is the implementation in transformers' models, sdpa or eager.

        Raises:
            UserError: an unknown key of `config`, or weights that do not fit.
        """
        raise NotImplementedError

    @classmethod
    def sizes(cls, config: dict[str, Any], weights: str | None) -> dict[str, Any]:
        """Return `config` completed by the configuration of `weights`, if these are on this machine.

        `build` with the result alone has the sizes of `build` with `config` and `weights`. UserError if neither states
        any size.
        """
        return config

    def configuration(self) -> dict[str, Any]:
        """Return the whole configuration, from which `build` builds the same encoder without the weights' own."""
        raise NotImplementedError

    def enable_gradient_checkpointing(self) -> None:
        """Turn on `gradient_checkpointing`. UserError if the encoder does not support it."""
        self.gradient_checkpointing = True

    def flops(self) -> int:
        """Return the forward FLOPs of one view, without any that the published model does not need."""
        size = self.preprocess.size
        return counted(self, (1, 3, size, size))[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens (N, P, D) for normalised pixels (N, 3, H, W)."""
        raise NotImplementedError
