"""Encoding of images in chunks of bounded memory, as one node of the autograd graph.

Shape legend: N images, S px a side, P tokens of an image, D channels.

Ranks sum their gradients bucket by bucket, in the order in which the backward pass finishes parameters. Every rank must
have a gradient for every parameter, in the same order. Otherwise ranks would add up different parameters, or wait for
each other for ever. So the graph must not depend on whether a rank has images: for autograd an encoder is one node with
its parameters as inputs, in the order of `Module.parameters()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import override

from trainer.model.encoders.base import VisionEncoder

_CHUNK_BYTES = 512 * 2**20  # activations of one forward pass of an encoder


def encode(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    """Encode (N, S, S, 3) uint8 pixels to features (N, P, D) in the encoder's own precision.

    With N = 0 the encoder is not called. The result is then (0, P, D), with zeros as gradients of trained parameters.
    Pixels are normalised and encoded in chunks, and the backward pass runs in the same chunks, so with gradient
    checkpointing peak memory is that of one chunk. `backward` may run once per result, because it frees the graph on
    the way, also with `retain_graph`.
    """
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if trained and torch.is_grad_enabled():
        return cast(Tensor, _Encode.apply(encoder, pixels, *trained))
    with torch.no_grad():
        return torch.cat([_nothing(encoder, pixels), *(encoder(chunk) for chunk in _chunks(encoder, pixels))])


def _chunks(encoder: VisionEncoder, pixels: Tensor) -> Iterator[Tensor]:
    """Yield normalised chunks (n, 3, S, S): as few as `_CHUNK_BYTES` allows, of about equal size."""
    dtype = next(encoder.parameters()).dtype
    image_bytes = pixels[:1].numel() * encoder.numbers_per_pixel * dtype.itemsize
    most = max(1, int(_CHUNK_BYTES // max(1, image_bytes)))
    for chunk in pixels.tensor_split(math.ceil(len(pixels) / most)) if len(pixels) else ():
        yield encoder.preprocess.normalise(chunk, dtype)


def _nothing(encoder: VisionEncoder, pixels: Tensor) -> Tensor:
    dtype = next(encoder.parameters()).dtype
    return pixels.new_empty((0, encoder.view.count, encoder.width), dtype=dtype)


class _Encode(torch.autograd.Function):
    """One autograd node of the model that contains the encoder's own graphs, one per chunk."""

    @staticmethod
    @override
    def forward(ctx: Any, encoder: VisionEncoder, pixels: Tensor, *trained: Tensor) -> Tensor:
        ctx.trained = trained
        with torch.enable_grad():
            ctx.features = [encoder(chunk) for chunk in _chunks(encoder, pixels)]
        return torch.cat([_nothing(encoder, pixels), *(features.detach() for features in ctx.features)])

    @staticmethod
    @override
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.features is None:
            raise RuntimeError("second backward pass through an encoder: the first one has freed its graph")
        chunks, ctx.features = ctx.features, None
        computed: Sequence[Tensor | None] = [None] * len(ctx.trained)
        if chunks:
            # One call for all chunks: autograd finishes the last chunk's graph before it enters the one before, and
            # adds to gradients in place where that is safe. One call per chunk would hold the gradients twice.
            of_chunks = gradient.split([len(features) for features in chunks])
            computed = torch.autograd.grad(chunks, ctx.trained, of_chunks, allow_unused=True)
        # Zeros as one expanded element, which takes no memory however large the parameter is.
        gradients = (
            parameter.new_zeros(()).expand_as(parameter) if each is None else each
            for parameter, each in zip(ctx.trained, computed, strict=True)
        )
        return None, None, *gradients
