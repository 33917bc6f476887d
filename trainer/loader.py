"""Positions in the mixture → batches. The position is one number: the step.

Rank r of W takes, in micro-batch m of step s, the positions `s·G + (m·W + r)·b … + b` (G global, b micro-batch size).
So the samples of a step do not depend on how many ranks or workers there are, and resuming reads nothing it skips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datagen.errors import UserError
from datagen.sample import Sample
from datagen.shards import ShardSet
from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.encode import ConversationEncoder
from trainer.mixture import Mixture, MixtureSource
from trainer.model import ImagePreprocess
from trainer.pixels import pixels, stack_pixels
from trainer.settings import DataSettings


class Corpus:
    """The training samples of all sources, by position in their mixture."""

    def __init__(self, settings: DataSettings, seed: int) -> None:
        used = {name: source for name, source in settings.sources.items() if source.samples != 0}
        self._shards: list[ShardSet] = []
        self._rows: list[dict[str, np.ndarray]] = []
        sizes: list[MixtureSource] = []
        for name, source in used.items():
            try:
                shards = ShardSet(source.shards)
            except UserError as error:
                raise UserError(f"data.sources.{name}.shards: {error}") from error
            rows = index_rows(shards, "train")
            available = len(rows["offset"])
            asked = available if source.samples is None else source.samples
            sizes.append(MixtureSource(name=name, available=available, asked=asked, max_repeats=source.max_repeats))
            self._shards.append(shards)
            self._rows.append(rows)
        self.mixture = Mixture(sizes, seed)

    def asked_by_task(self, epochs: int) -> dict[str, int]:
        """Samples that `epochs` epochs ask for, per task; a source's tasks in the proportion in which it holds them."""
        asked: Counter[str] = Counter()
        for source, rows in zip(self.mixture.sources, self._rows, strict=True):
            for task, count in zip(*np.unique(rows["task"], return_counts=True), strict=True):
                asked[bytes(task).decode()] += round(source.asked * epochs * int(count) / source.available)
        return dict(asked.most_common())

    def key(self, position: int) -> str:
        """Key of the sample at `position`; reads nothing."""
        source, row = self.mixture.at(position)
        return bytes(self._rows[source]["key"][row]).decode()

    def read(self, position: int) -> Sample:
        """The sample at `position`.

        Raises:
            ValueError, OSError: its bytes cannot be read.
        """
        source, row = self.mixture.at(position)
        rows = self._rows[source]
        return self._shards[source].read(
            bytes(rows["shard"][row]).decode(), int(rows["offset"][row]), int(rows["size"][row])
        )


def index_rows(shards: ShardSet, split: str) -> dict[str, np.ndarray]:
    """Columns key, task, shard, offset and size of the index rows of one split."""
    table = shards.table(["key", "task", "shard", "offset", "size", "split"])
    table = table.filter(np.asarray(table.column("split")) == split)
    return {  # names as ASCII bytes of fixed width: an object for each would cost three times as much
        "key": np.asarray(table.column("key")).astype("S64"),
        "task": np.asarray(table.column("task")).astype("S"),
        "shard": np.asarray(table.column("shard")).astype("S"),
        "offset": table.column("offset").to_numpy(),
        "size": table.column("size").to_numpy(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of a step is one rank's."""

    rank: int
    world_size: int
    global_batch_size: int
    micro_batch_size: int

    @property
    def micro_steps(self) -> int:
        """Micro-batches per step and rank.

        Raises:
            UserError: the batch sizes do not go together.
        """
        together = self.world_size * self.micro_batch_size
        if self.global_batch_size % together:
            raise UserError(
                f"engine.global_batch_size {self.global_batch_size} is not a multiple of {self.world_size} ranks x "
                f"engine.micro_batch_size {self.micro_batch_size} = {together}"
            )
        return self.global_batch_size // together

    def positions(self, step: int, micro: int) -> range:
        """Positions in the mixture of micro-batch `micro` of step `step`."""
        start = step * self.global_batch_size + (micro * self.world_size + self.rank) * self.micro_batch_size
        return range(start, start + self.micro_batch_size)


class MicroBatches(Dataset[Batch]):
    """This rank's micro-batches; item `step * micro_steps + micro`."""

    def __init__(
        self,
        corpus: Corpus,
        share: Share,
        encoder: ConversationEncoder,
        preprocess: Mapping[str, ImagePreprocess],
    ) -> None:
        self._corpus, self._share, self._encoder, self._preprocess = corpus, share, encoder, preprocess

    def __getitem__(self, index: int) -> Batch:
        """Reads and encodes a micro-batch; a sample that cannot be used is left out and named, never replaced."""
        rows: list[tuple[Encoded, list[dict[str, np.ndarray]]]] = []
        skipped: list[tuple[str, str]] = []
        for position in self._share.positions(*divmod(index, self._share.micro_steps)):
            try:
                rows.append(self._load(self._corpus.read(position)))
            except (ValueError, OSError) as error:
                skipped.append((self._corpus.key(position), str(error)))
        return collate(rows, skipped, self._encoder.pad_id, self._preprocess)

    def _load(self, sample: Sample) -> tuple[Encoded, list[dict[str, np.ndarray]]]:
        return self._encoder.encode(sample), [pixels(image.data, self._preprocess) for image in sample.images]


def collate(
    rows: Sequence[tuple[Encoded, Sequence[Mapping[str, np.ndarray]]]],
    skipped: Sequence[tuple[str, str]],
    pad_id: int,
    preprocess: Mapping[str, ImagePreprocess],
) -> Batch:
    """Rows padded on the right to the longest, pixels of all their images in reading order.

    Without a row the batch is one padding token without label: the rank runs the same number of micro-steps as others.
    """
    length = max((len(encoded.input_ids) for encoded, _ in rows), default=1)
    shape = (max(len(rows), 1), length)
    input_ids, labels = np.full(shape, pad_id), np.full(shape, IGNORE_INDEX)
    attention_mask = np.zeros(shape, np.int64)
    attention_mask[:, 0] = 1
    for number, (encoded, _) in enumerate(rows):
        size = len(encoded.input_ids)
        input_ids[number, :size], labels[number, :size], attention_mask[number, :size] = (
            encoded.input_ids,
            encoded.labels,
            1,
        )
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        labels=torch.from_numpy(labels),
        attention_mask=torch.from_numpy(attention_mask),
        pixels=stack_pixels([image for _, images in rows for image in images], preprocess),
        keys=tuple(encoded.key for encoded, _ in rows),
        tasks=tuple(encoded.task for encoded, _ in rows),
        skipped=tuple(skipped),
        truncated=sum(encoded.truncated for encoded, _ in rows),
    )


def steps(data: MicroBatches, share: Share, *, first: int, last: int, workers: int) -> Iterator[list[Batch]]:
    """The micro-batches of this rank for the steps `first` to `last - 1`, a step at a time."""
    micro = share.micro_steps
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first * micro, last * micro),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    batches = iter(loader)
    for _ in range(first, last):
        yield list(islice(batches, micro))
