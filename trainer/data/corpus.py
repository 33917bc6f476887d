"""The samples of a mixture by position: which samples a run reads, and in which order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from trainer.data.cache import Cache
from trainer.data.catalog import Catalog, Item
from trainer.data.mixture import SourceSize, resolve, sources_of
from trainer.settings import DataSettings


class Corpus:
    """The catalogs of all sources with a share in the mixture, and the mixture. Reads no sample.

    Raises:
        UserError: a source cannot be opened, or the mixture asks for more than its sources hold.
    """

    def __init__(self, settings: DataSettings, cache: Cache) -> None:
        used = sources_of(settings.mixture)
        catalogs = {name: Catalog(name, source, cache) for name, source in used.items()}
        sizes = {name: SourceSize(samples=len(one), tokens=one.sums[1]) for name, one in catalogs.items()}
        self.mixture = resolve(settings.mixture, sizes)
        self.catalogs = [catalogs[source.name] for source in self.mixture.sources]
        """In the order of `mixture.sources`."""

    @property
    def sha256(self) -> str:
        """A hash of the order of samples and of the bytes they are read from, independent of the shards' location."""
        sources = [asdict(source) for source in self.mixture.sources]
        about = [self.mixture.seed, sources, [catalog.identity for catalog in self.catalogs]]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def items(self, positions: Sequence[int] | np.ndarray) -> list[Item]:
        """Locate the samples at `positions`, which count from 0 through all epochs."""
        sources, rows = self.mixture.at(np.asarray(positions, np.int64))
        return [self.catalogs[source].item(row) for source, row in zip(sources.tolist(), rows.tolist(), strict=True)]

    def key(self, position: int) -> str:
        """Return the key of the sample at a position. Reads the index of its shard, not the sample."""
        source, row = self.mixture.at(np.array([position], np.int64))
        return str(self.catalogs[int(source[0])].key(int(row[0])))

    def asked_by_task(self, epochs: int) -> dict[str, int]:
        """Estimate the samples of each task in `epochs` epochs, from the share of the task in each source."""
        counts: Counter[str] = Counter()
        for source, catalog in zip(self.mixture.sources, self.catalogs, strict=True):
            for task, count in catalog.tasks.items():
                counts[task] += round(source.asked * epochs * count / source.available)
        return dict(counts.most_common())
