"""The tokens of all encoders, joined: fusion, what stands behind it, and their order in the sequence.

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
    """One (V, P, ·) per encoder → (tokens of all images, H).

    Args:
        projector: behind the fusion; None: the fusion gives H channels.
        width: H.
    """

    def __init__(self, fusion: Fusion, projector: nn.Module | None, layout: ImageLayout, width: int) -> None:
        super().__init__()
        self.fusion = fusion
        self.layout = layout
        self.projector = projector
        # Drawn as LLaVA-1.6 does: of the size of an embedding.
        separator = nn.Parameter(torch.randn(width) * width**-0.5) if layout.tiling.separates_rows else None
        self.separator = separator

    def forward(self, tokens: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        """See the class; without an image (0, H), which sends zeros to all that trains."""
        joined = self.fusion.join(tokens)
        if self.projector is not None:
            joined = self.projector(joined)
        if self.separator is None:
            return self.layout.arrange(joined, sizes, None)
        separator = self.separator.to(joined.dtype)
        # So that it has a gradient, of zeros, where no image has a row.
        return torch.cat([self.layout.arrange(joined, sizes, separator), separator[None, :][:0]])
