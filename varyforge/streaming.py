"""A shard set as a `webdataset` pipeline, for training loops that are not ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import webdataset

from varyforge.shards import ShardSet

if TYPE_CHECKING:
    from pyarrow.compute import Expression


def pipeline(
    shards: ShardSet, split: str | None, filters: Expression | None, options: Mapping[str, Any]
) -> webdataset.WebDataset:
    """Build the pipeline that `ShardSet.webdataset` describes."""
    urls = [f"{shards.folder}/{record.name}.tar" for record in shards.records]
    defaults = {"nodesplitter": webdataset.split_by_node, "shardshuffle": False, "empty_check": False}
    samples = webdataset.WebDataset(urls, **{**defaults, **options})
    return samples if split is filters is None else samples.select(_Selected(shards, split, filters))


class _Selected:
    """A predicate on raw samples: whether the sample's index row passes. It holds the index of one tar at a time."""

    def __init__(self, shards: ShardSet, split: str | None, filters: Expression | None) -> None:
        self._numbers = {f"{record.name}.tar": number for number, record in enumerate(shards.records)}
        self._shards, self._split, self._filters = shards, split, filters
        self._tar, self._keys = "", frozenset[str]()

    def __call__(self, sample: Mapping[str, Any]) -> bool:
        tar = str(sample["__url__"]).rpartition("/")[2]
        if tar != self._tar:
            rows = self._shards.rows(self._numbers[tar], self._split, self._filters)
            self._tar, self._keys = tar, frozenset(rows.column("key").to_pylist())
        return sample["__key__"] in self._keys
