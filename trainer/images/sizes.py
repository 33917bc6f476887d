"""Sizes of images in pixels, views and tokens. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Size = tuple[int, int]
"""(height, width) of an image in pixels."""


def is_count(value: object) -> bool:
    """Return whether a value of a recipe is a whole number of 1 or more."""
    return type(value) is int and value >= 1


@dataclass(frozen=True, slots=True)
class ViewTokens:
    """The tokens that one view becomes."""

    count: int  # P
    grid: tuple[int, int] | None = None  # rows, columns; None: the tokens have no positions in the image

    def __str__(self) -> str:
        return str(self.count) if self.grid is None else f"{self.grid[0]}x{self.grid[1]}"


class PlannedImage(NamedTuple):
    """The cost of an image whose size is unknown, because its sample has not been read yet."""

    tokens: int  # the image's start and end tokens included
    views: int

    def sample_size(self, text_tokens: int, images: int, max_length: int) -> tuple[int, int]:
        """Estimate a sample's tokens in a row, at most `max_length`, and the views of its images."""
        return min(text_tokens + self.tokens * images, max_length), self.views * images
