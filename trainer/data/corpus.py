"""The samples of a mixture by position: what a run reads, and in which order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from trainer.data.cache import Pieces, cache_folder
from trainer.data.catalog import Catalog, Item
from trainer.data.mixture import Holding, key_of, resolve, sources_of
from trainer.settings import DataSettings


class Corpus:
    """The catalogs of all sources that are used, and their mixture. Reads no sample.

    Raises:
        UserError: a source cannot be opened, or the mixture asks for what is not there.
    """

    def __init__(self, settings: DataSettings) -> None:
        used = sources_of(settings.mixture)
        made = {name: Catalog(name, source, settings.cache, at=key_of(name)) for name, source in used.items()}
        holdings = {name: Holding(samples=len(one), tokens=one.sums[1]) for name, one in made.items()}
        self.mixture = resolve(settings.mixture, holdings)
        self.catalogs = [made[source.name] for source in self.mixture.sources]
        """In the order of `mixture.sources`."""
        limit = int(settings.cache_gb * 1e9)
        self.pieces = Pieces(folder=str(cache_folder(settings.cache)), limit_bytes=limit)
        """What `read_item` keeps of sources behind URLs."""

    @property
    def sha256(self) -> str:
        """Identifies the order of samples and the bytes they are read from, wherever these lie."""
        sources = [asdict(source) for source in self.mixture.sources]
        about = [self.mixture.seed, sources, [catalog.identity for catalog in self.catalogs]]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def items(self, positions: Sequence[int] | np.ndarray) -> list[Item]:
        """Where the samples at positions lie, which are counted from 0 through all epochs."""
        sources, rows = self.mixture.at(np.asarray(positions, np.int64))
        return [self.catalogs[source].item(row) for source, row in zip(sources.tolist(), rows.tolist(), strict=True)]

    def key(self, position: int) -> str:
        """Key of the sample at a position; reads the index of its shard, and nothing of the sample."""
        source, row = self.mixture.at(np.array([position], np.int64))
        return str(self.catalogs[int(source[0])].key(int(row[0])))

    def asked_by_task(self, epochs: int) -> dict[str, int]:
        """Samples that `epochs` epochs ask for, per task; a source's tasks in the proportion in which it holds them."""
        asked: Counter[str] = Counter()
        for source, catalog in zip(self.mixture.sources, self.catalogs, strict=True):
            for task, count in catalog.tasks.items():
                asked[task] += round(source.asked * epochs * count / source.available)
        return dict(asked.most_common())
