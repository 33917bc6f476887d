"""Positions in the mixture → steps. The position is one number: the step.

Step s reads the positions `s·G … (s+1)·G - 1` of the mixture (G global batch), whatever the number of ranks and
workers. Which of them are whose is worked out from what the index says, by each rank alone and before any is read:
resuming reads nothing it skips, and there is no state beside the position.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trainer.batch import Batch, Encoded, Progress, Step, TooLong, Unusable
from trainer.data.cache import Pieces, cache_folder
from trainer.data.catalog import Item, read_item
from trainer.data.corpus import Corpus
from trainer.images.pixels import pixels
from trainer.loader.packing import Loaded, collate, cost, micro_batches, share_out
from trainer.settings import DataSettings
from trainer.text.encode import ConversationEncoder, sizes_of
from trainer.workers.pool import WorkerPool
from trainer.workers.tasks import InProcess, Pool, Result, Task

STUCK = "stuck"
"""Folder below a run's for the stacks of workers that hung or crashed."""

_ARRAY_BYTES = 128  # of room in shared memory for where an array begins


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is loaded of a sample that the recipe leaves out for its length."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """The loading function: reads a sample, encodes its conversation, decodes each image once. Travels to workers."""

    encoder: ConversationEncoder
    max_images: int  # views
    pieces: Pieces | None = None  # kept of what is read from URLs

    def __call__(self, item: Item) -> Loaded | Dropped:
        """The sample of an item.

        Raises:
            ValueError, OSError: it cannot be read or used; the message is the reason.
            UserError: it is too long, and the recipe says that this is an error.
        """
        sample = read_item(item, self.pieces)
        layout = self.encoder.layout
        views = sum(map(layout.num_views, sizes_of(sample)))
        if views > self.max_images:
            cut = "" if views == len(sample.images) else f" in {views} views"
            raise Unusable(f"{len(sample.images)} images{cut}, more than data.max_images {self.max_images}")
        try:
            encoded = self.encoder.encode(sample)  # first: a sample that is of no use need not be decoded
        except TooLong as error:
            return Dropped(str(error))
        return replace(encoded, source=item.source), [pixels(image, layout) for image in sample.images]

    def shared_bytes(self, images: int) -> int:
        """Shared memory that a sample with so many images takes at most; 0 without any."""
        layout = self.encoder.layout
        each = sum(3 * layout.most_views * how.size**2 + _ARRAY_BYTES for how in layout.preprocess.values())
        ids_and_labels = 2 * (4 * self.encoder.max_length + _ARRAY_BYTES)
        return images * each + ids_and_labels if images else 0

    def views(self, encoded: Encoded) -> int:
        """Views of a sample's images."""
        return sum(map(self.encoder.layout.num_views, encoded.image_sizes))

    def cost(self, item: Item) -> int:
        """What a sample costs a rank, as its index estimates."""
        return cost(*item.planned(self.encoder.planned_image, self.encoder.max_length))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of a step is one rank's."""

    rank: int = 0
    world_size: int = 1
    global_batch_size: int  # samples of a step over all ranks
    micro_batch_size: int  # rows of a forward pass


def load_sample(encoder: ConversationEncoder, data: DataSettings) -> LoadSample:
    """The loading function of a recipe."""
    limit_bytes = int(data.cache_gb * 1e9)
    pieces = Pieces(folder=str(cache_folder(data.cache)), limit_bytes=limit_bytes) if limit_bytes else None
    return LoadSample(encoder=encoder, max_images=data.max_images, pieces=pieces)


def open_pool(load: LoadSample, data: DataSettings, corpus: Corpus, out: Path) -> Pool:
    """What loads samples, a context manager: `data.workers` processes, or with 0 this one, which has no deadline."""
    if data.workers == 0:
        return InProcess(load, key_of=corpus.key)
    return WorkerPool(
        load,
        workers=data.workers,
        prefetch=data.prefetch,
        deadline_s=data.deadline_s,
        slot_bytes=load.shared_bytes(1),
        key_of=corpus.key,
        stuck=out / STUCK,
    )


class StepLoader:
    """This rank's part of each step, made in a thread while the one before is in use.

    Memory: one finished step waits, and of the next as much is loaded as the workers have in hand.

    Args:
        load: what `pool` does with an item.
    """

    def __init__(self, corpus: Corpus, load: LoadSample, pool: Pool, share: Share, data: DataSettings) -> None:
        self._corpus, self._load, self._pool, self._share, self._data = corpus, load, pool, share, data

    def steps(self, first: int, last: int) -> Iterator[Step]:
        """The steps `first` to `last - 1`. The pool is stopped when they are not taken to the end.

        Raises:
            UserError, LoadError: see `Pool.next`.
        """
        submitted: deque[int] = deque()  # tasks of each step that was begun, in order
        results: dict[int, list[Result]] = defaultdict(list)  # by step

        def make(step: int) -> Step:
            for later in range(step + len(submitted), min(step + 2, last)):  # the next: workers need not wait for us
                submitted.append(self._submit(later))
            for_this = submitted.popleft()
            while len(results[step]) < for_this:
                result = self._pool.next()
                results[result.tag // self._share.global_batch_size].append(result)
            return self._step(step, results.pop(step))

        with ThreadPoolExecutor(1, "loader", *_this_device()) as thread:
            try:
                ahead = [thread.submit(make, step) for step in range(first, min(first + 1, last))]
                for step in range(first, last):
                    made = ahead.pop().result()
                    ahead += [thread.submit(make, step + 1)] if step + 1 < last else []
                    yield made
            except BaseException:
                self._pool.stop()
                raise

    def positions(self, step: int) -> list[int]:
        """Those of the step's positions that are this rank's. Reads no sample."""
        return [position for position, _ in self._mine(step)]

    def _mine(self, step: int) -> list[tuple[int, Item]]:
        size = self._share.global_batch_size
        items = self._corpus.items(range(step * size, (step + 1) * size))
        mine = share_out([self._load.cost(item) for item in items], self._share.world_size)[self._share.rank]
        return [(step * size + number, items[number]) for number in mine]

    def _submit(self, step: int) -> int:
        mine = self._mine(step)
        for position, item in mine:
            self._pool.submit(Task(position, item, self._load.shared_bytes(item.images)))
        return len(mine)

    def _step(self, step: int, results: list[Result]) -> Step:
        results.sort(key=lambda result: result.tag)
        dropped = {r.tag: r.value.reason for r in results if isinstance(r.value, Dropped)}
        good: list[Loaded] = [r.value for r in results if r.reason is None and r.tag not in dropped]
        chosen = micro_batches(
            [(len(encoded.input_ids), self._load.views(encoded)) for encoded, _ in good],
            batching=self._data.batching,
            rows=self._share.micro_batch_size,
            max_length=self._data.max_length,
            max_images=self._data.max_images,
        )
        batches = []
        for rows in chosen:
            self._pool.tend()  # the workers would soon be out of work
            batches.append(self._collate([[good[sample] for sample in row] for row in rows]))
        for result in results:
            self._pool.free(result)
        return Step(
            batches=batches,
            skipped=tuple((self._corpus.key(r.tag), r.reason) for r in results if r.reason is not None),
            dropped=tuple((self._corpus.key(tag), reason) for tag, reason in dropped.items()),
            truncated=sum(encoded.truncated for encoded, _ in good),
            progress=self._progress(step),
        )

    def _progress(self, step: int) -> dict[str, Progress]:
        """Under half a millisecond: the block of the order in which the step ends is known by now."""
        mixture = self._corpus.mixture
        drawn = mixture.drawn((step + 1) * self._share.global_batch_size)
        return {source.name: Progress(drawn[source.name], source.available) for source in mixture.sources}

    def _collate(self, rows: list[list[Loaded]]) -> Batch:
        batch = collate(rows, self._load.encoder.pad_id, self._load.encoder.layout)
        return batch.pin_memory() if torch.cuda.is_available() else batch


def _this_device() -> tuple[Callable[[int], None], tuple[int]] | tuple[()]:
    """How another thread comes to use the GPU of this one: pinned memory belongs to it."""
    return (torch.cuda.set_device, (torch.cuda.current_device(),)) if torch.cuda.is_available() else ()
