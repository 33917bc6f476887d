"""What travels between loader, model and loop: typed tensors.

Shape legend: B rows, T tokens (padded to the longest row), N images of all rows in reading order, M supervised tokens.
"""

from __future__ import annotations

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
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            pixels={name: pixels.to(device, non_blocking=True) for name, pixels in self.pixels.items()},
        )
