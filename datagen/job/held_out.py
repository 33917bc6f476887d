"""The choice of the samples that are held out for validation: a share of the documents, or a number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datagen.job.duplicates import group_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The amount that is held out: a share of the documents, or about a number of samples if that is not 0."""

    share: float
    samples: int = 0

    def __bool__(self) -> bool:
        return bool(self.share or self.samples)


@dataclass(frozen=True, slots=True)
class Division:
    """The division of N samples of D documents into two sides."""

    documents: np.ndarray  # (D,) uint64, hashes of the documents' names
    groups: np.ndarray  # (D,) number of the first document of each document's group
    held_out: np.ndarray  # (N,) bool
    is_forced: bool  # the share alone would have held out no group, or every group

    @property
    def count(self) -> int:
        """The number of groups."""
        return len(np.unique(self.groups))


def divide_samples(names: np.ndarray, positions: np.ndarray, clusters: np.ndarray, amount: Amount) -> Division:
    """Group documents with near duplicates, and hold out the groups with the lowest positions.

    At least one group is held out, and at least one is not. With another document, samples move from training to
    validation only if their group changes: no cut rises by it.

    Args:
        names: (N,) uint64, a hash of the document of each sample.
        positions: (N,) uint64, `datagen.source.split_position` of the document. A group's is its highest.
        clusters: (N,) number of the first near duplicate of each sample, −1 for none.
        amount: how much to hold out.
    """
    documents, document = np.unique(names, return_inverse=True)
    groups = group_documents(clusters, document)
    group = groups[document]
    highest = np.zeros(len(documents), np.uint64)
    np.maximum.at(highest, group, positions)
    present = np.unique(group)
    samples = np.bincount(group, minlength=len(documents))[present]
    cut, is_forced = _cut(highest[present], samples, amount)
    return Division(documents, groups, highest[group] < np.uint64(cut), is_forced)


def _cut(positions: np.ndarray, samples: np.ndarray, amount: Amount) -> tuple[int, bool]:
    """Return the position below which groups are held out, and whether the rule alone would take none or all."""
    if not amount or len(positions) < 2:
        return 0, bool(amount)
    order = np.argsort(positions)
    if amount.samples:
        count = int(np.searchsorted(np.cumsum(samples[order]), amount.samples, side="right"))
    else:
        count = int(np.searchsorted(positions[order], np.uint64(math.ceil(amount.share * 2**64))))
    allowed = min(max(count, 1), len(positions) - 1)
    return int(positions[order][allowed]), allowed != count
