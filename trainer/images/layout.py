"""From an image to tokens: how many, from which views, in which order. The one place that knows.

Tokenising, packing, the loader, planning and the model's splice all ask an `ImageLayout`, which follows from the parts
of a model and an image's size alone.

Shape legend: N images, V views of all images, P tokens of a view, H hidden size, S side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.images.preprocess import ImagePreprocess
from trainer.images.tiling import Size, Tiling, ViewTokens, Whole

__all__ = ["ImageLayout", "Size", "ViewTokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """What an image becomes. Small, picklable: it travels to the loader's workers."""

    preprocess: Mapping[str, ImagePreprocess]  # of each encoder, for one view
    view: ViewTokens  # behind encoders, connectors and fusion
    tiling: Tiling = field(default_factory=Whole)

    @property
    def side_px(self) -> int:
        """Side of a view by which the tiling chooses: of the first encoder's, in pixels."""
        return next(iter(self.preprocess.values())).size

    @property
    def most_views(self) -> int:
        """Views of an image at most."""
        return self.tiling.most_views

    @property
    def planned_tokens(self) -> int:
        """Tokens of an image whose size is not known: exact where images are not cut up, else the most there can be."""
        return self.tiling.most_tokens(self.view, self.side_px)

    def num_views(self, size: Size) -> int:
        """Views that each encoder is given of an image."""
        return self.tiling.num_views(size, self.side_px)

    def num_tokens(self, size: Size) -> int:
        """Tokens of an image in the language model's sequence, its marks not counted."""
        return self.tiling.num_tokens(size, self.view, self.side_px)

    def views(self, picture: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """An RGB picture, (height, width, 3), as (views, S, S, 3) for each encoder; of equal memory where possible."""
        return {name: self.tiling.cut(picture, how, self.side_px) for name, how in self.preprocess.items()}

    def arrange(self, features: Tensor, sizes: Sequence[Size], separator: Tensor | None) -> Tensor:
        """(V, P, H) of the views of N images → (tokens of all images, H), in the order of the sequence.

        `separator` (H,) stands at the end of a row where the tiling writes one.
        """
        views = features.split([self.num_views(size) for size in sizes])
        pieces = [
            self.tiling.arrange(of_image, size, self.view, self.side_px, separator)
            for of_image, size in zip(views, sizes, strict=True)
        ]
        return torch.cat(pieces) if pieces else features.flatten(0, 1)


class PlannedImage(NamedTuple):
    """What an image is taken for before its sample is read and its size known."""

    tokens: int  # its marks among them
    views: int
