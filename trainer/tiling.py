"""How an image is cut into views of an encoder's size, and in which order their tokens stand.

Shape legend: V views of an image, P tokens of a view, H hidden size, S side of a view in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer.preprocess import ImagePreprocess

Size = tuple[int, int]
"""(height, width) of an image in pixels."""


@dataclass(frozen=True, slots=True)
class ViewTokens:
    """Tokens that one view becomes."""

    count: int  # P
    grid: tuple[int, int] | None = None  # rows, columns; None: they have no places in the image

    def __str__(self) -> str:
        return str(self.count) if self.grid is None else f"{self.grid[0]}x{self.grid[1]}"


class Tiling(Protocol):
    """A way of cutting. `side_px` is the side of a view by which it chooses; every method is a function of its inputs.

    A constructor takes the keys of a recipe's `model.tiling.config` and raises UserError for what it cannot do.
    """

    @property
    def most_views(self) -> int:
        """V of an image at most."""

    @property
    def separates_rows(self) -> bool:
        """Whether `arrange` needs a learned separator."""

    def num_views(self, size: Size, side_px: int) -> int:
        """V of an image."""

    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        """Tokens of an image, separators among them."""

    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """Tokens of an image at most, whatever its size."""

    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """An RGB picture, (height, width, 3), as (V, S, S, 3)."""

    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        """(V, P, H) of one image → (tokens, H); separator (H,)."""

    def check(self, view: ViewTokens) -> None:
        """Raises UserError where tokens of such views cannot be put in order."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One view: the image as the encoder's preprocessing makes it."""

    @property
    def most_views(self) -> int:
        """See `Tiling`."""
        return 1

    @property
    def separates_rows(self) -> bool:
        """See `Tiling`."""
        return False

    def num_views(self, size: Size, side_px: int) -> int:
        """See `Tiling`."""
        return 1

    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`."""
        return view.count

    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`."""
        return view.count

    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """See `Tiling`."""
        return how.to_uint8(picture)[None]

    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        """See `Tiling`."""
        return views[0]

    def check(self, view: ViewTokens) -> None:
        """See `Tiling`; always possible."""


TILINGS: dict[str, Any] = {"whole": Whole}
"""By name: a class that takes the keys of `model.tiling.config`."""
