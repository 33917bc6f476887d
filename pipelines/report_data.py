"""What the report says of shard sets: a data card, and samples as a trainer will see them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datagen.errors import UserError
from datagen.ledger import LedgerSummary, summarise
from datagen.sample import Sample, Turn
from datagen.shards import ShardSet
from pipelines.pictures import LegendEntry, draw_answer, thumbnail

_SAMPLES_SHOWN = 8
_UNITS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """A sample as the page shows it."""

    key: str
    task: str
    language: str  # "" where unknown
    turns: tuple[Turn, ...]
    pictures: list[str]  # `data:` URLs
    legend: list[LegendEntry]
    not_boxes: list[str]  # pieces of a detection answer that cannot be read as boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLengths:
    """Characters of all assistant turns of a sample."""

    median: float
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """A shard set in numbers and samples."""

    folder: Path
    source: str  # name of the source that made it
    ledger: LedgerSummary
    unwritten: list[dict[str, Any]]  # the first ledger rows that gave no sample
    splits: dict[str, int]  # samples by split, language and task, most frequent first
    languages: dict[str, int]
    tasks: dict[str, int]
    answers: AnswerLengths | None  # None where there is no sample
    samples: list[SampleCard]  # spread evenly over the index


def read_data_card(folder: Path) -> DataCard:
    """Reads the ledger, the index and a few samples of a shard set.

    Raises:
        UserError: the folder is missing, is no finished shard set, or a file of it is broken.
    """
    shards = ShardSet(folder)
    index, ledger = _tables(shards)
    lengths = index.column("answer_chars").to_numpy()
    places = [index.slice(number, 1).to_pylist()[0] for number in spread(index.num_rows, _SAMPLES_SHOWN)]
    unwritten = ledger.filter(pc.not_equal(ledger.column("outcome"), "written"))
    return DataCard(
        folder=folder,
        source=str(shards.job.get("source", "")),
        ledger=summarise([ledger]),
        unwritten=unwritten.slice(0, _UNITS_SHOWN).to_pylist(),
        splits=_tally(index.column("split")),
        languages=_tally(index.column("language")),
        tasks=_tally(index.column("task")),
        answers=AnswerLengths(median=float(np.median(lengths)), longest=int(lengths.max())) if len(lengths) else None,
        samples=[sample_card(_read(shards, place)) for place in places],
    )


def spread(total: int, most: int) -> list[int]:
    """At most `most` of the numbers below `total`, in the middle of equal stretches.

    >>> spread(100, 4)
    [12, 37, 62, 87]
    """
    shown = min(total, most)
    return [(2 * number + 1) * total // (2 * shown) for number in range(shown)]


def sample_card(sample: Sample) -> SampleCard:
    """A sample with the boxes of its answer, read back from the text, drawn in its picture."""
    drawing = draw_answer(sample.task, sample.answer)
    return SampleCard(
        key=sample.key,
        task=sample.task,
        language=str(sample.origin.get("language", "")),
        turns=sample.turns,
        pictures=[thumbnail(image.data, drawing.outlines) for image in sample.images],
        legend=drawing.legend,
        not_boxes=drawing.not_boxes,
    )


def find_samples(folders: Sequence[Path], keys: Collection[str]) -> dict[str, Sample]:
    """The samples among `keys` that the shard sets hold, by key."""
    found: dict[str, Sample] = {}
    for folder in folders:
        shards = ShardSet(folder)
        index, _ = _tables(shards)
        wanted = index.filter(pc.is_in(index.column("key"), value_set=pa.array(sorted(keys), pa.string())))
        found |= {place["key"]: _read(shards, place) for place in wanted.to_pylist()}
    return found


def _tables(shards: ShardSet) -> tuple[pa.Table, pa.Table]:
    """Index and ledger."""
    try:
        return shards.table(), shards.ledger()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{error}; the shard set is damaged: delete {shards.folder} and make it again") from error


def _read(shards: ShardSet, place: dict[str, Any]) -> Sample:
    try:
        return shards.read(place["shard"], place["offset"], place["size"])
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; the shard set is damaged: delete {shards.folder} and make it again") from error


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
