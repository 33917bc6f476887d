"""What travels between loader, model and loop: typed tensors.

Shape legend: B rows, T tokens (padded to the longest row), N images of all rows in reading order, M supervised tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE_INDEX = -100
"""Label of a token that is not supervised (torch's cross-entropy convention)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One sample as ids. `labels[t]` is the label of token t itself; the model shifts."""

    key: str
    task: str
    input_ids: list[int]  # T
    labels: list[int]  # T, IGNORE_INDEX where not supervised
    truncated: bool = False  # the answer's tail was cut at max_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch of one rank."""

    input_ids: Tensor  # (B, T) int64, padded on the right
    labels: Tensor  # (B, T) int64, IGNORE_INDEX where not supervised or padded
    attention_mask: Tensor  # (B, T) int64, 1 for tokens, 0 for padding
    pixels: dict[str, Tensor]  # per encoder: (N, 3, H, W) uint8; N may be 0
    keys: tuple[str, ...]  # B sample keys; none for the row of padding that stands in for an empty batch
    tasks: tuple[str, ...]  # B tasks, likewise
    skipped: tuple[tuple[str, str], ...] = ()  # (key, reason) of samples that could not be used
    truncated: int = 0  # samples whose answer was cut at max_length

    @property
    def num_supervised(self) -> int:
        """Tokens that carry a loss: labels from position 1 on (position 0 has no prediction)."""
        return int((self.labels[:, 1:] != IGNORE_INDEX).sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from where copies to a GPU do not block; DataLoader calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            input_ids=change(self.input_ids),
            labels=change(self.labels),
            attention_mask=change(self.attention_mask),
            pixels={name: change(pixels) for name, pixels in self.pixels.items()},
        )
