"""The contents of a shard set: its index in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from varyforge.lengths import Lengths, length_histogram
from varyforge.shards import ShardSet

_COUNTED = ("task", "language", "split", "licence", "prompt")
_MEASURED = ("tokens", "images", "answer_chars", "width", "height", "boxes")
_SIDE_EDGES = (0, 224, 336, 512, 768, 1024, 1536, 2048)
_BOX_EDGES = (1, 2, 4, 8, 16, 31)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: the samples with a number from `low` to less than `high`."""

    low: int
    high: int | None  # None: no upper bound
    samples: int


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a number over the samples that have it."""

    samples: int
    median: float
    largest: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The counts over the samples of a set, most frequent first. "" stands for unknown."""

    tasks: dict[str, int]
    languages: dict[str, int]
    splits: dict[str, int]
    licences: dict[str, int]
    prompts: dict[str, int]  # by wording; "" for samples with words of their own
    documents: int  # with samples, counted shard by shard: a document in two shards counts twice
    twins: int  # samples that are near duplicates of another sample
    images: int
    lengths: Lengths  # by estimated tokens
    answers: Spread  # characters of all assistant turns
    sides: Spread  # longer side of the first image, pixels
    boxes: Spread  # boxes of the samples that have some


def contents_of(shards: ShardSet) -> Contents:
    """Count the samples of a set, shard by shard. Needs 24 bytes of memory per sample."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    twins = documents = 0
    parts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.int32)] for name in _MEASURED}
    for table in shards.tables([*_COUNTED, *_MEASURED, "twins", "document"]):
        for name, counter in counts.items():
            counter.update({row["values"]: row["counts"] for row in pc.value_counts(table.column(name)).to_pylist()})
        twins += pc.sum(pc.not_equal(table.column("twins"), "")).as_py() or 0
        documents += pc.count_distinct(table.column("document")).as_py()
        for name, columns in parts.items():
            columns.append(table.column(name).to_numpy().astype(np.int32))
    numbers = {name: np.concatenate(columns) for name, columns in parts.items()}
    ordered = {name: dict(sorted(one.items(), key=lambda item: (-item[1], item[0]))) for name, one in counts.items()}
    sides = np.maximum(numbers["width"], numbers["height"])
    return Contents(
        tasks=ordered["task"],
        languages=ordered["language"],
        splits=ordered["split"],
        licences=ordered["licence"],
        prompts=ordered["prompt"],
        documents=documents,
        twins=twins,
        images=int(numbers["images"].sum()),
        lengths=length_histogram(numbers["tokens"], numbers["images"]),
        answers=_spread(numbers["answer_chars"], ()),
        sides=_spread(sides[sides > 0], _SIDE_EDGES),
        boxes=_spread(numbers["boxes"][numbers["boxes"] > 0], _BOX_EDGES),
    )


def _spread(numbers: np.ndarray, edges: Sequence[int]) -> Spread:
    counts = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)[1:].tolist()
    bars = tuple(Bar(*bar) for bar in zip(edges, [*edges[1:], None], counts, strict=True)) if edges else ()
    median = float(np.median(numbers)) if len(numbers) else 0.0
    return Spread(len(numbers), median, int(numbers.max(initial=0)), bars)
