"""What travels between loader, model and loop: typed tensors.

Shape legend: B rows, T tokens (of the longest row), S samples of all rows in reading order, N images of all rows in
reading order, V views of all images. A row holds one sample after the other, then padding; samples in a row do not see
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE_INDEX = -100
"""Label of a token that is not supervised (torch's cross-entropy convention)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """One sample as ids. `labels[t]` is the label of token t itself; the model shifts. `labels[0]` is never used."""

    key: str
    task: str
    input_ids: NDArray[np.int32]  # T
    labels: NDArray[np.int32]  # T, IGNORE_INDEX where not supervised; labels[0] always is
    image_sizes: tuple[tuple[int, int], ...] = ()  # (height, width) of each image, in pixels
    truncated: bool = False  # cut at max_length: an answer's tail, or whole rounds at the end
    source: str = ""  # name of the mixture's source that it was read from


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch of one rank."""

    input_ids: Tensor  # (B, T) int64, padded on the right
    labels: Tensor  # (B, T) int64, IGNORE_INDEX where not supervised, at the first token of a sample, and in padding
    positions: Tensor  # (B, T) int64, from 0 in each sample; 0 in padding
    sample_of: Tensor  # (B, T) int64, number of the sample in 0..S-1; -1 in padding
    lengths: tuple[tuple[int, ...], ...]  # B tuples: tokens of each sample of the row, in order; () for padding alone
    pixels: dict[str, Tensor]  # per encoder: (V, H, W, 3) uint8; V may be 0
    image_sizes: tuple[tuple[int, int], ...]  # N times (height, width) in pixels, before any resizing
    keys: tuple[str, ...]  # S sample keys; none for the row of padding that stands in for an empty batch
    tasks: tuple[str, ...]  # S tasks
    sources: tuple[str, ...]  # S names of sources

    @property
    def num_supervised(self) -> int:
        """Tokens that carry a loss."""
        return int((self.labels != IGNORE_INDEX).sum())

    @property
    def supervised_of(self) -> list[int]:
        """Of each of the S samples, its tokens that carry a loss."""
        samples = self.sample_of[self.labels != IGNORE_INDEX]
        counts: list[int] = torch.bincount(samples, minlength=len(self.keys)).tolist()
        return counts

    @property
    def num_tokens(self) -> int:
        """Tokens that belong to a sample; the rest is padding."""
        return sum(map(sum, self.lengths))

    @property
    def num_rows(self) -> int:
        """Rows that hold a sample."""
        return sum(map(bool, self.lengths))

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from where copies to a GPU do not block."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            input_ids=change(self.input_ids),
            labels=change(self.labels),
            positions=change(self.positions),
            sample_of=change(self.sample_of),
            pixels={name: change(pixels) for name, pixels in self.pixels.items()},
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is through a source."""

    drawn: int  # samples since the first step, of no use ones too
    available: int  # samples that there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rank's part of an optimiser step."""

    batches: list[Batch]  # micro-batches; ranks may have differently many
    skipped: tuple[tuple[str, str], ...] = ()  # key and reason of each sample that could not be used
    dropped: tuple[tuple[str, str], ...] = ()  # the same of each that was left out for its length, as the recipe says
    truncated: int = 0  # samples whose answer was cut at max_length
    progress: Mapping[str, Progress] = field(default_factory=dict)  # by source, after this step, over all ranks


class Unusable(ValueError):
    """A sample that cannot be trained on; the message is the reason it is counted under."""


class TooLong(Unusable):
    """A sample beyond `max_length` where such are to be dropped: what was asked for, so no fault of the sample."""
