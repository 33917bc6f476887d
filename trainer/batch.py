"""Batches and steps: the typed tensors that travel from the loader to the loop and the model.

Shape legend: B rows, T tokens of the longest row, S samples of all rows, N images of all rows, both in reading order,
V views of all images. A row holds one sample after the other, then padding. Samples in a row do not attend to each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE_INDEX = -100
"""The label of a token that is not supervised, as in torch's cross-entropy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """A sample as ids. `labels[t]` is the label of token t itself; the model shifts. `labels[0]` is never used."""

    key: str
    task: str
    input_ids: NDArray[np.int32]  # T
    labels: NDArray[np.int32]  # T, IGNORE_INDEX where not supervised
    image_sizes: tuple[tuple[int, int], ...] = ()  # (height, width) of each image, in pixels
    truncated: bool = False  # cut at max_length: the end of an answer, or whole rounds
    source: str = ""  # name of its source in the mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch of one rank."""

    input_ids: Tensor  # (B, T) int64, padded on the right
    labels: Tensor  # (B, T) int64, IGNORE_INDEX where not supervised, at the first token of a sample, and in padding
    positions: Tensor  # (B, T) int64, from 0 in each sample; 0 in padding
    sample_of: Tensor  # (B, T) int64, index of the sample in 0..S-1; -1 in padding
    lengths: tuple[tuple[int, ...], ...]  # B tuples: tokens of each sample of the row, in order; () for padding alone
    pixels: dict[str, Tensor]  # per encoder: (V, H, W, 3) uint8; V may be 0
    image_sizes: tuple[tuple[int, int], ...]  # N times (height, width) in pixels, before any resizing
    keys: tuple[str, ...]  # S sample keys; empty for the row of padding that replaces an empty batch
    tasks: tuple[str, ...]  # S tasks
    sources: tuple[str, ...]  # S names of sources

    @property
    def num_supervised(self) -> int:
        """The number of supervised tokens."""
        return int((self.labels != IGNORE_INDEX).sum())

    @property
    def supervised_of(self) -> list[int]:
        """The number of supervised tokens of each of the S samples."""
        samples = self.sample_of[self.labels != IGNORE_INDEX]
        counts: list[int] = torch.bincount(samples, minlength=len(self.keys)).tolist()
        return counts

    @property
    def num_tokens(self) -> int:
        """The number of tokens without padding."""
        return sum(map(sum, self.lengths))

    @property
    def num_rows(self) -> int:
        """The number of rows with a sample."""
        return sum(map(bool, self.lengths))

    def to(self, device: torch.device) -> Batch:
        """Copy the batch's tensors to `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, from which copies to a GPU do not block."""
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
    """A run's progress in a source."""

    drawn: int  # samples since the first step, unusable ones included
    available: int  # samples in the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rank's part of an optimiser step."""

    batches: list[Batch]  # micro-batches; their number may differ between ranks
    skipped: tuple[tuple[str, str], ...] = ()  # key and reason of each unusable sample
    dropped: tuple[tuple[str, str], ...] = ()  # the same for samples left out for their length
    truncated: int = 0  # samples that were cut at max_length
    progress: Mapping[str, Progress] = field(default_factory=dict)  # by source, after this step, over all ranks


class Unusable(ValueError):
    """A sample that cannot be trained on. The message is the reason in the run's log."""


class TooLong(Unusable):
    """A sample beyond `max_length` with `data.too_long: drop`. It does not count as a bad sample."""
