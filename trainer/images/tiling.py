"""Cutting an image into views of an encoder's size, and putting the views' tokens in order.

Shape legend: V views of an image, P tokens of a view, H hidden size, S side of a view in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import Size, ViewTokens, is_count
from varyforge.errors import UserError

_CONFIG = "model.tiling.config"

Grids = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Tiling:
    """A way of cutting images into views. The base class cuts nothing: the image is one view.

    Every method is a pure function of its arguments. `side_px` is the side of a view in pixels by which a tiling
    chooses its grid. The fields are the keys of a recipe's `model.tiling.config`, and the constructor raises UserError
    for values that the tiling does not support. A tiling that cuts ignores the encoder's `fit`.
    """

    @property
    def most_views(self) -> int:
        """The largest V of one image."""
        return 1

    @property
    def separates_rows(self) -> bool:
        """Whether `arrange` needs a learned separator."""
        return False

    def num_views(self, size: Size, side_px: int) -> int:
        """Return V of an image."""
        return 1

    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        """Return the tokens of an image, separators included."""
        return self.num_views(size, side_px) * view.count

    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """Return the largest number of tokens of an image of any size."""
        return self.most_views * view.count

    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """Cut an RGB picture, (height, width, 3), into (V, S, S, 3)."""
        return how.to_uint8(picture)[None]

    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        """Put the tokens of one image's views, (V, P, H), in order: (tokens, H). `separator` is (H,)."""
        return views.flatten(0, 1)

    def check(self, view: ViewTokens) -> None:
        """Raise UserError where the tokens of such views cannot be put in order."""
        return


@dataclass(frozen=True, slots=True)
class AnyRes(Tiling):
    """LLaVA-1.6's tiling: the whole image in one view, then the image in tiles, whose tokens form one map.

    The map is cropped to the image, without padding, and a learned separator stands at the end of each row. Rules and
    rounding follow https://github.com/haotian-liu/LLaVA/blob/main/llava/mm_utils.py (`select_best_resolution`,
    `resize_and_pad_image`) and llava_arch.py (`unpad_image`), as in transformers' LlavaNext.
    """

    grids: Grids = ((2, 2), (1, 4), (4, 1))  # rows and columns of tiles to choose from

    def __post_init__(self) -> None:
        grids = self.grids
        if not isinstance(grids, (list, tuple)) or not grids or not all(map(_is_grid, grids)):
            written = list(grids) if isinstance(grids, tuple) else grids
            raise UserError(
                f"{_CONFIG}.grids: found {written!r}, expected a list of [rows, columns], as [[2, 2], [1, 4]]"
            )
        object.__setattr__(self, "grids", tuple((rows, columns) for rows, columns in grids))

    @property
    @override
    def most_views(self) -> int:
        return 1 + max(rows * columns for rows, columns in self.grids)

    @property
    @override
    def separates_rows(self) -> bool:
        return True

    @override
    def num_views(self, size: Size, side_px: int) -> int:
        rows, columns = self.grid(size, side_px)
        return 1 + rows * columns

    @override
    def num_tokens(self, size: Size, view: ViewTokens, side_px: int) -> int:
        rows, columns = self._unpadded(size, view, side_px)
        return view.count + len(rows) * (len(columns) + 1)

    @override
    def most_tokens(self, view: ViewTokens, side_px: int) -> int:
        """An image that fills the largest grid reaches this number."""
        maps = [_map_of(grid, view) for grid in self.grids]
        return view.count + max(high * (wide + 1) for high, wide in maps)

    @override
    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        """The first view is the whole image stretched to a square. In the tiles the image keeps its ratio, on black."""
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

    @override
    def arrange(self, views: Tensor, size: Size, view: ViewTokens, side_px: int, separator: Tensor | None) -> Tensor:
        assert separator is not None and view.grid is not None  # by `separates_rows` and `check`
        grid = self.grid(size, side_px)
        tiles = views[1:].unflatten(1, view.grid).unflatten(0, grid)  # (rows, columns, high, wide, H)
        tokens = tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # one map
        rows, columns = self._unpadded(size, view, side_px)
        unpadded = tokens[rows.start : rows.stop, columns.start : columns.stop]
        lines = torch.cat([unpadded, separator.expand(len(rows), 1, -1)], dim=1)
        return torch.cat([views[0], lines.flatten(0, 1)])

    @override
    def check(self, view: ViewTokens) -> None:
        if view.grid is None:
            raise UserError(
                f"model.tiling.type: any_res puts a view's tokens in rows and columns, and this model's {view.count} "
                "have none; choose other connectors and fusion, or thumbnail"
            )

    def grid(self, size: Size, side_px: int) -> tuple[int, int]:
        """Choose rows and columns of tiles: the grid that shows most of the image's pixels, then the least padding.

        An image so thin that every grid shows none of its pixels gets the smallest grid.
        """
        height, width = size

        def rank(grid: tuple[int, int]) -> tuple[int, int]:
            high, wide = grid[0] * side_px, grid[1] * side_px
            scale = min(wide / width, high / height)
            visible = min(int(width * scale) * int(height * scale), width * height)
            return visible, visible - high * wide

        return max(self.grids, key=rank)  # the first of equals

    def _unpadded(self, size: Size, view: ViewTokens, side_px: int) -> tuple[range, range]:
        """Return the rows and columns of the token map that are not padding: rounded as in LLaVA, at least one each."""
        (height, width), (high, wide) = size, _map_of(self.grid(size, side_px), view)
        if width / height > wide / high:
            padding = (high - max(1, int(round(height * (wide / width), 7)))) // 2
            return range(padding, high - padding), range(wide)
        padding = (wide - max(1, int(round(width * (high / height), 7)))) // 2
        return range(high), range(padding, wide - padding)


@dataclass(frozen=True, slots=True)
class Thumbnail(Tiling):
    """InternVL 1.5's tiling (arXiv 2404.16821, section 3.3): up to `max_tiles` tiles, then a thumbnail of the whole.

    The image is stretched to the grid whose aspect ratio is nearest to its own. A single tile is the whole image and
    gets no thumbnail.
    """

    max_tiles: int = 12

    def __post_init__(self) -> None:
        if not is_count(self.max_tiles):
            raise UserError(f"{_CONFIG}.max_tiles: found {self.max_tiles!r}, expected a whole number of 1 or more")

    @property
    @override
    def most_views(self) -> int:
        return _with_thumbnail(self.max_tiles)

    @override
    def num_views(self, size: Size, side_px: int) -> int:
        rows, columns = self.grid(size, side_px)
        return _with_thumbnail(rows * columns)

    @override
    def cut(self, picture: NDArray[np.uint8], how: ImagePreprocess, side_px: int) -> NDArray[np.uint8]:
        rows, columns = self.grid((picture.shape[0], picture.shape[1]), side_px)
        tiles = _tiles(how.resize(picture, rows * how.size, columns * how.size), (rows, columns))
        if len(tiles) == 1:
            return tiles
        return np.concatenate([tiles, how.resize(picture, how.size, how.size)[None]])

    def grid(self, size: Size, side_px: int) -> tuple[int, int]:
        """Choose rows and columns of tiles. Of equally near grids the larger wins if below twice the image's pixels."""
        height, width = size
        best, nearest = (1, 1), math.inf
        for columns, rows in _grids_by_tiles(self.max_tiles):
            distance = abs(width / height - columns / rows)
            if distance < nearest or (
                distance == nearest and width * height > 0.5 * side_px * side_px * columns * rows
            ):
                best, nearest = (rows, columns), distance
        return best


TILINGS: dict[str, type[Tiling]] = {"whole": Tiling, "any_res": AnyRes, "thumbnail": Thumbnail}
"""Tilings by name. The fields of each dataclass are the keys of `model.tiling.config`."""


@cache
def _grids_by_tiles(most: int) -> list[tuple[int, int]]:
    """Return (columns, rows) of all grids of at most `most` tiles, fewest tiles first."""
    grids = [(columns, rows) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _with_thumbnail(tiles: int) -> int:
    return tiles + (tiles > 1)


def _map_of(grid: tuple[int, int], view: ViewTokens) -> tuple[int, int]:
    """Return rows and columns of the tokens of a grid of tiles."""
    assert view.grid is not None  # by `check`
    return grid[0] * view.grid[0], grid[1] * view.grid[1]


def _tiles(picture: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut (rows · S, columns · S, 3) into (rows · columns, S, S, 3), row by row."""
    rows, columns = grid
    high, wide = picture.shape[0] // rows, picture.shape[1] // columns
    return picture.reshape(rows, high, columns, wide, 3).swapaxes(1, 2).reshape(rows * columns, high, wide, 3)


def _is_grid(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_count, value))
