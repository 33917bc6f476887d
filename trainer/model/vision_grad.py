"""Calls an encoder that trains only where there are images, and gives its gradients in one order everywhere.

Shape legend: N images, P tokens of an image, D channels.

Ranks sum their gradients bucket by bucket, in the order in which the backward pass finishes parameters. That order must
be the same on every rank, and every rank must have a gradient for every parameter, or they add up different parameters
or wait for each other for ever. What a rank's rows hold must therefore not show in the graph: to autograd an encoder is
one node whose inputs are its parameters in the order of `Module.parameters()`, with an image or without.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from trainer.model.vision import VisionEncoder


def encode(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    """`encoder(pixels)`, (N, 3, H, W) normalised → (N, P, D); with N = 0 the encoder is not called.

    Without images the result is (0, P, D) and, where the encoder trains, sends zeros to its parameters. No gradient
    goes to `pixels`. `backward` may run once over a result: its graph is freed as it goes, also with `retain_graph`.
    """
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if trained and torch.is_grad_enabled():
        return cast(Tensor, _Encode.apply(encoder, pixels, *trained))
    return encoder(pixels) if len(pixels) else _nothing(encoder, pixels)


def _nothing(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    return pixels.new_empty((0, encoder.view.count, encoder.width))


class _Encode(torch.autograd.Function):
    """The encoder's own graph, from its parameters to its features, inside one node of the model's graph."""

    @staticmethod
    def forward(ctx: Any, encoder: VisionEncoder, pixels: Tensor, *trained: Tensor) -> Tensor:
        ctx.trained = trained
        ctx.features = None
        ctx.empty = len(pixels) == 0
        if ctx.empty:
            return _nothing(encoder, pixels)
        with torch.enable_grad():
            ctx.features = encoder(pixels.detach())
        return cast(Tensor, ctx.features.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found: tuple[Tensor | None, ...] = (None,) * len(ctx.trained)
        if not ctx.empty:
            if ctx.features is None:
                raise RuntimeError("second backward pass through an encoder: its graph has been freed by the first")
            features, ctx.features = ctx.features, None
            found = torch.autograd.grad(features, ctx.trained, gradient, allow_unused=True)
        # A zero that is one element, however large the parameter: where it is not needed it takes no memory.
        gradients = (
            parameter.new_zeros(()).expand_as(parameter) if each is None else each
            for parameter, each in zip(ctx.trained, found, strict=True)
        )
        return None, None, *gradients
