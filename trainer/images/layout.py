"""From an image to tokens: their number, the views they come from, and their order.

Tokenising, packing, the loader, planning and the model's splice all ask an `ImageLayout`. It depends only on the parts
of a model and on an image's size.

Shape legend: N images, V views of all images, P tokens of a view, H hidden size, S side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import Size, ViewTokens
from trainer.images.tiling import Tiling


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """The way from an image to a model's views and tokens. Small and picklable: it travels to the loader's workers."""

    preprocess: Mapping[str, ImagePreprocess]  # of each encoder, for one view
    view: ViewTokens  # behind encoders, connectors and fusion
    tiling: Tiling = field(default_factory=Tiling)

    @property
    def side_px(self) -> int:
        """The side of the first encoder's views in pixels. The tiling chooses its grid by this number."""
        return next(iter(self.preprocess.values())).size

    @property
    def most_views(self) -> int:
        """The largest number of views of one image."""
        return self.tiling.most_views

    @property
    def planned_tokens(self) -> int:
        """The tokens of an image of unknown size: exact for one view, an upper bound for tilings that cut."""
        return self.tiling.most_tokens(self.view, self.side_px)

    def num_views(self, size: Size) -> int:
        """Return the number of views that each encoder gets of an image."""
        return self.tiling.num_views(size, self.side_px)

    def num_tokens(self, size: Size) -> int:
        """Return the tokens of an image in the language model's sequence, without its start and end tokens."""
        return self.tiling.num_tokens(size, self.view, self.side_px)

    def views(self, picture: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """Cut an RGB picture, (height, width, 3), into (views, S, S, 3) for each encoder.

        Nothing is copied where the picture already fits.
        """
        return {name: self.tiling.cut(picture, how, self.side_px) for name, how in self.preprocess.items()}

    def arrange(self, features: Tensor, sizes: Sequence[Size], separator: Tensor | None) -> Tensor:
        """Put the views' features of N images, (V, P, H), in the order of the sequence, (tokens of all images, H).

        `separator` (H,) stands at the end of each row of tokens where the tiling has separators.
        """
        views = features.split([self.num_views(size) for size in sizes])
        pieces = [
            self.tiling.arrange(of_image, size, self.view, self.side_px, separator)
            for of_image, size in zip(views, sizes, strict=True)
        ]
        return torch.cat(pieces) if pieces else features.flatten(0, 1)
