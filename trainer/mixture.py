"""The mixture: a pure function from (seed, epoch, position) to (source, row of its index)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSource:
    """A source as the mixture sees it."""

    name: str
    available: int  # samples there are
    asked: int  # samples wanted per epoch
    max_repeats: int = 1

    def __post_init__(self) -> None:
        if self.asked > self.available * self.max_repeats:
            raise UserError(
                f"data.sources.{self.name}: {self.asked} samples asked per epoch, {self.available} available, "
                f"each at most {self.max_repeats} times; ask for fewer, make more, or raise max_repeats"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The order of one epoch."""

    source: NDArray[np.int16]  # (positions,) number of the source
    row: NDArray[np.int64]  # (positions,) row in that source's index


class Mixture:
    """The order of samples over all epochs. Knows nothing of ranks, workers or batches."""

    def __init__(self, sources: Sequence[MixtureSource], seed: int) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.per_epoch = sum(source.asked for source in sources)
        if self.per_epoch == 0:
            raise UserError("data.sources: no source is asked for a sample; give one samples of 1 or more")
        self._epochs: dict[int, Epoch] = {}

    def at(self, position: int) -> tuple[int, int]:
        """(number of the source, row in its index) at `position`, counted from 0 through all epochs."""
        number, within = divmod(position, self.per_epoch)
        if number not in self._epochs:
            self._epochs = {number: self._order(number)}  # the last one only: positions move forward
        epoch = self._epochs[number]
        return int(epoch.source[within]), int(epoch.row[within])

    def _order(self, epoch: int) -> Epoch:
        """Spreads each source evenly over the epoch: its k-th sample is due at (k + 1/2) / asked of the way."""
        due = np.concatenate([(np.arange(s.asked) + 0.5) / max(s.asked, 1) for s in self.sources])
        number = np.repeat(np.arange(len(self.sources), dtype=np.int16), [s.asked for s in self.sources])
        rows = np.concatenate([self._rows(source, epoch) for source in self.sources])
        order = np.argsort(due, kind="stable")
        return Epoch(source=number[order], row=rows[order])

    def _rows(self, source: MixtureSource, epoch: int) -> NDArray[np.int64]:
        """A fresh permutation per pass over the source; as many passes as `asked` needs."""
        passes = -(-source.asked // max(source.available, 1))
        drawn = [
            np.random.default_rng(_seed(self.seed, epoch, source.name, n)).permutation(source.available)
            for n in range(passes)
        ]
        return np.concatenate([np.empty(0, np.int64), *drawn])[: source.asked]


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8])
