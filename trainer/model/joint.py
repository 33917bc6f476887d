"""The image part of the language model's input: the fused tokens of all encoders, projected and put in order.

Shape legend: V views of all images, P tokens of a view, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.images.layout import ImageLayout
from trainer.images.sizes import Size
from trainer.model.fusions import Fusion


class ImageSequence(nn.Module):
    """A module that maps one (V, P, ·) per encoder to the sequence of image tokens, (tokens of all images, H = width).

    The order of the tokens is that of `layout`. Without a projector the fusion gives H channels.
    """

    def __init__(self, fusion: Fusion, projector: nn.Module | None, layout: ImageLayout, width: int) -> None:
        super().__init__()
        self.fusion = fusion
        self.layout = layout
        self.projector = projector
        # Initialised as in LLaVA-1.6, with the standard deviation of an embedding.
        self.separator = nn.Parameter(torch.randn(width) * width**-0.5) if layout.tiling.separates_rows else None

    def forward(self, tokens: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        """Return (tokens of all images, H). Without an image (0, H), with zeros as gradients of all parameters."""
        joined = self.fusion.join(tokens)
        if self.projector is not None:
            joined = self.projector(joined)
        if self.separator is None:
            return self.layout.arrange(joined, sizes, None)
        separator = self.separator.to(joined.dtype)
        # The empty slice gives the separator a gradient of zeros when no image has a row.
        return torch.cat([self.layout.arrange(joined, sizes, separator), separator[None, :][:0]])
