"""What a shard set holds: its index in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from datagen.shards import ShardSet
from datagen.tokens import Lengths, length_histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Counts over the samples of a set."""

    languages: dict[str, int]  # most frequent first; "" where unknown
    splits: dict[str, int]
    twins: int  # samples that are near duplicates of another
    lengths: Lengths  # by estimated tokens


def contents_of(shards: ShardSet) -> Contents:
    """Counts the samples of a set, shard by shard."""
    languages: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    twins, tokens, images = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for table in shards.tables(["language", "split", "twins", "tokens", "images"]):
        for counts, name in ((languages, "language"), (splits, "split")):
            counts.update({row["values"]: row["counts"] for row in pc.value_counts(table.column(name)).to_pylist()})
        twins += pc.sum(pc.not_equal(table.column("twins"), "")).as_py() or 0
        tokens.append(table.column("tokens").to_numpy())
        images.append(table.column("images").to_numpy())
    return Contents(
        languages=dict(languages.most_common()),
        splits=dict(splits.most_common()),
        twins=twins,
        lengths=length_histogram(np.concatenate(tokens), np.concatenate(images)),
    )
