"""Calls an encoder where there are images, a bounded number at a time, and gives its gradients in one order everywhere.

Shape legend: N images, S px a side, P tokens of an image, D channels.

Ranks sum their gradients bucket by bucket, in the order in which the backward pass finishes parameters. That order must
be the same on every rank, and every rank must have a gradient for every parameter, or they add up different parameters
or wait for each other for ever. What a rank's rows hold must therefore not show in the graph: to autograd an encoder is
one node whose inputs are its parameters in the order of `Module.parameters()`, with an image or without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from trainer.model.encoders.base import VisionEncoder

_CHUNK_BYTES = 512 * 2**20  # of an encoder's activations at once


def encode(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 → features (N, P, D) in the encoder's own precision; with N = 0 it is not called.

    Without images the result is (0, P, D) and, where the encoder trains, sends zeros to its parameters. Pixels are
    normalised and encoded a chunk at a time, and so is the backward pass: with gradient checkpointing its peak is one
    chunk's. `backward` may run once over a result: its graph is freed as it goes, also with `retain_graph`.
    """
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if trained and torch.is_grad_enabled():
        return cast(Tensor, _Encode.apply(encoder, pixels, *trained))
    with torch.no_grad():
        return torch.cat([_nothing(encoder, pixels), *(encoder(chunk) for chunk in _chunks(encoder, pixels))])


def _chunks(encoder: VisionEncoder, pixels: Tensor) -> Iterator[Tensor]:
    """Normalised (n, 3, S, S), as few and as equal in size as the memory for a chunk allows; none for no images."""
    dtype = next(encoder.parameters()).dtype
    image_bytes = pixels[:1].numel() * encoder.numbers_per_pixel * dtype.itemsize
    most = max(1, int(_CHUNK_BYTES // max(1, image_bytes)))
    for chunk in pixels.tensor_split(math.ceil(len(pixels) / most)) if len(pixels) else ():
        yield encoder.preprocess.normalise(chunk, dtype)


def _nothing(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    dtype = next(encoder.parameters()).dtype
    return pixels.new_empty((0, encoder.view.count, encoder.width), dtype=dtype)


class _Encode(torch.autograd.Function):
    """The encoder's own graphs, one a chunk, from its parameters to its features, inside one node of the model's."""

    @staticmethod
    def forward(ctx: Any, encoder: VisionEncoder, pixels: Tensor, *trained: Tensor) -> Tensor:
        ctx.trained = trained
        with torch.enable_grad():
            ctx.features = [encoder(chunk) for chunk in _chunks(encoder, pixels)]
        return torch.cat([_nothing(encoder, pixels), *(features.detach() for features in ctx.features)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.features is None:
            raise RuntimeError("second backward pass through an encoder: its graph has been freed by the first")
        chunks, ctx.features = ctx.features, None
        found: Sequence[Tensor | None] = [None] * len(ctx.trained)
        if chunks:
            # In one call, not one a chunk: autograd finishes the last chunk's graph before it enters the one before,
            # and adds to gradients in place where that is safe. With a call for each, they would be held twice.
            of_chunks = gradient.split([len(features) for features in chunks])
            found = torch.autograd.grad(chunks, ctx.trained, of_chunks, allow_unused=True)
        # A zero that is one element, however large the parameter: where it is not needed it takes no memory.
        gradients = (
            parameter.new_zeros(()).expand_as(parameter) if each is None else each
            for parameter, each in zip(ctx.trained, found, strict=True)
        )
        return None, None, *gradients
