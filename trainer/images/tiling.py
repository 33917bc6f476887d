"""How an image is cut into views of an encoder's size, and in which order their tokens stand.

Shape legend: V views of an image, P tokens of a view, H hidden size, S side of a view in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.images.preprocess import ImagePreprocess
from varyforge.errors import UserError

_CONFIG = "model.tiling.config"

Grids = tuple[tuple[int, int], ...]

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

    A constructor takes the keys of a recipe's `model.tiling.config` and raises UserError for what it cannot do. An
    encoder's `fit` says nothing where an image is cut: the tiling decides it.
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


@dataclass(frozen=True, slots=True)
class AnyRes:
    """LLaVA-1.6's: the whole image in one view, then the image in tiles, as one map of tokens.

    The tiles' map is unpadded and a learned separator stands at the end of each of its rows. Rules and rounding are
    those of https://github.com/haotian-liu/LLaVA/blob/main/llava/mm_utils.py (`select_best_resolution`,
    `resize_and_pad_image`) and llava_arch.py (`unpad_image`), as transformers' LlavaNext has them.
    """

    grids: Grids = ((2, 2), (1, 4), (4, 1))  # rows and columns of tiles to choose from

    def __post_init__(self) -> None:
        grids = self.grids
        if not isinstance(grids, (list, tuple)) or not grids or not all(map(_is_grid, grids)):
            raise UserError(
                f"{_CONFIG}.grids: found {_shown(grids)}, expected a list of [rows, columns], as [[2, 2], [1, 4]]"
            )
        object.__setattr__(self, "grids", tuple((rows, columns) for rows, columns in grids))

    @property
    def most_views(self) -> int:
        """See `Tiling`."""
        return 1 + max(rows * columns for rows, columns in self.grids)

    @property
    def separates_rows(self) -> bool:
        """See `Tiling`."""
        return True

    def num_views(self, size: Size, side_px: int) -> int:
        """See `Tiling`."""
        rows, columns = self.grid(size, side_px)
        return 1 + rows * columns

    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`."""
        rows, columns = self._kept(size, view, side_px)
        return view.count + len(rows) * (len(columns) + 1)

    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`; an image that fills the largest grid has as many."""
        maps = [_map_of(grid, view) for grid in self.grids]
        return view.count + max(high * (wide + 1) for high, wide in maps)

    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """See `Tiling`. The whole image is squeezed to a square; in the tiles it keeps its ratio, on black."""
        height, width = picture.shape[:2]
        grid = self.grid((height, width), side_px)
        canvas = np.zeros((grid[0] * how.size, grid[1] * how.size, 3), np.uint8)
        high, wide = canvas.shape[:2]
        by_height, by_width = high / height, wide / width
        if by_width < by_height:
            high = min(math.ceil(height * by_width), high)
        else:
            wide = min(math.ceil(width * by_height), wide)
        top, left = (canvas.shape[0] - high) // 2, (canvas.shape[1] - wide) // 2
        canvas[top : top + high, left : left + wide] = how.resize(picture, high, wide)
        return np.concatenate([how.resize(picture, how.size, how.size)[None], _tiles(canvas, grid)])

    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        """See `Tiling`."""
        assert separator is not None and view.grid is not None  # by `separates_rows` and `check`
        grid = self.grid(size, side_px)
        tiles = views[1:].unflatten(1, view.grid).unflatten(0, grid)  # (rows, columns, high, wide, H)
        tokens = tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # one map
        rows, columns = self._kept(size, view, side_px)
        kept = tokens[rows.start : rows.stop, columns.start : columns.stop]
        lines = torch.cat([kept, separator.expand(len(rows), 1, -1)], dim=1)
        return torch.cat([views[0], lines.flatten(0, 1)])

    def check(self, view: ViewTokens) -> None:
        """See `Tiling`."""
        if view.grid is None:
            raise UserError(
                f"model.tiling.type: any_res puts a view's tokens in rows and columns, and this model's {view.count} "
                "have none; choose other connectors and fusion, or thumbnail"
            )

    def grid(self, size: Size, side_px: int) -> tuple[int, int]:
        """Rows and columns of tiles: those in which most of the image's pixels are seen, and of these the least waste.

        An image so thin that it has no pixel in any grid is given the smallest grid.
        """
        height, width = size

        def rank(grid: tuple[int, int]) -> tuple[int, int]:
            high, wide = grid[0] * side_px, grid[1] * side_px
            scale = min(wide / width, high / height)
            seen = min(int(width * scale) * int(height * scale), width * height)
            return seen, seen - high * wide

        return max(self.grids, key=rank)  # the first of equals

    def _kept(self, size: Size, view: ViewTokens, side_px: int) -> tuple[range, range]:
        """Rows and columns of the map of tokens that are no padding, rounded as LLaVA does; of slivers at least one."""
        (height, width), (high, wide) = size, _map_of(self.grid(size, side_px), view)
        if width / height > wide / high:
            padding = (high - max(1, int(round(height * (wide / width), 7)))) // 2
            return range(padding, high - padding), range(wide)
        padding = (wide - max(1, int(round(width * (high / height), 7)))) // 2
        return range(high), range(padding, wide - padding)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """InternVL 1.5's (arXiv 2404.16821, section 3.3): the image in up to `max_tiles` tiles, then the whole of it small.

    The grid is the one whose ratio of sides is nearest to the image's, which is stretched to it. One tile alone is the
    whole image, and has no thumbnail.
    """

    max_tiles: int = 12

    def __post_init__(self) -> None:
        if not _is_count(self.max_tiles):
            raise UserError(f"{_CONFIG}.max_tiles: found {self.max_tiles!r}, expected a whole number of 1 or more")

    @property
    def most_views(self) -> int:
        """See `Tiling`."""
        return _with_thumbnail(self.max_tiles)

    @property
    def separates_rows(self) -> bool:
        """See `Tiling`."""
        return False

    def num_views(self, size: Size, side_px: int) -> int:
        """See `Tiling`."""
        rows, columns = self.grid(size, side_px)
        return _with_thumbnail(rows * columns)

    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`."""
        return self.num_views(size, side_px) * view.count

    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """See `Tiling`; a line of pixels has as many."""
        return self.most_views * view.count

    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """See `Tiling`."""
        rows, columns = self.grid((picture.shape[0], picture.shape[1]), side_px)
        tiles = _tiles(how.resize(picture, rows * how.size, columns * how.size), (rows, columns))
        if len(tiles) == 1:
            return tiles
        return np.concatenate([tiles, how.resize(picture, how.size, how.size)[None]])

    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        """See `Tiling`."""
        return views.flatten(0, 1)

    def check(self, view: ViewTokens) -> None:
        """See `Tiling`; always possible."""

    def grid(self, size: Size, side_px: int) -> tuple[int, int]:
        """Rows and columns of tiles. Of grids equally near the larger, if it has less than twice the image's pixels."""
        height, width = size
        best, nearest = (1, 1), math.inf
        for columns, rows in _grids_by_tiles(self.max_tiles):
            distance = abs(width / height - columns / rows)
            if distance < nearest or (
                distance == nearest and width * height > 0.5 * side_px * side_px * columns * rows
            ):
                best, nearest = (rows, columns), distance
        return best


TILINGS: dict[str, Any] = {"whole": Whole, "any_res": AnyRes, "thumbnail": Thumbnail}
"""By name: a dataclass whose fields are the keys of `model.tiling.config`."""


@cache
def _grids_by_tiles(most: int) -> list[tuple[int, int]]:
    """Columns and rows of at most so many tiles, fewest tiles first."""
    grids = [(columns, rows) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _with_thumbnail(tiles: int) -> int:
    return tiles + (tiles > 1)


def _map_of(grid: tuple[int, int], view: ViewTokens) -> tuple[int, int]:
    """Rows and columns of the tokens of a grid of tiles."""
    assert view.grid is not None  # by `check`
    return grid[0] * view.grid[0], grid[1] * view.grid[1]


def _tiles(picture: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """(rows · S, columns · S, 3) → (rows · columns, S, S, 3), row by row."""
    rows, columns = grid
    high, wide = picture.shape[0] // rows, picture.shape[1] // columns
    return picture.reshape(rows, high, columns, wide, 3).swapaxes(1, 2).reshape(rows * columns, high, wide, 3)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_grid(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_count, value))


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)
