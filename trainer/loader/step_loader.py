"""Positions in the mixture → steps. The only state is one number: the step.

Step s reads the positions `s·G … (s+1)·G - 1` of the mixture (G global batch) on any number of ranks and workers. Each
rank computes alone, from the index, which of these positions are its own. So resuming reads no sample that it skips.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trainer.batch import Batch, Progress, Step, TooLong, Unusable
from trainer.data.cache import Cache
from trainer.data.catalog import Item, read_item
from trainer.data.corpus import Corpus
from trainer.images.pixels import pixels
from trainer.loader.packing import Loaded, collate, cost, micro_batches, share_out
from trainer.settings import DataSettings
from trainer.text.encode import ConversationEncoder, image_sizes
from trainer.workers.pool import WorkerPool
from trainer.workers.tasks import InProcess, Pool, Result, Task

STUCK = "stuck"
"""Folder in a run's folder for the stacks of workers that hung or crashed."""

_ARRAY_BYTES = 128  # of shared memory for an array's alignment


@dataclass(frozen=True, slots=True)
class Dropped:
    """The result for a sample that is left out for its length (`data.too_long: drop`)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """The loading function: read a sample, encode its conversation, decode each image once. It travels to workers."""

    encoder: ConversationEncoder
    max_images: int  # views
    cache: Cache | None = None  # stores what is read from URLs

    def __call__(self, item: Item) -> Loaded | Dropped:
        """Load the sample of an item.

        Raises:
            ValueError, OSError: the sample cannot be read or used; the message is the reason.
            UserError: the sample is too long, and the recipe has `data.too_long: error`.
        """
        sample = read_item(item, self.cache)
        layout = self.encoder.layout
        views = sum(map(layout.num_views, image_sizes(sample)))
        if views > self.max_images:
            cut = "" if views == len(sample.images) else f" in {views} views"
            raise Unusable(f"{len(sample.images)} images{cut}, more than data.max_images {self.max_images}")
        try:
            encoded = self.encoder.encode(sample)  # first, so that the images of an unusable sample are not decoded
        except TooLong as error:
            return Dropped(str(error))
        return replace(encoded, source=item.source), [pixels(image, layout) for image in sample.images]

    def shared_bytes(self, images: int) -> int:
        """Return an upper bound of the shared memory of a sample with `images` images; 0 without images."""
        layout = self.encoder.layout
        each = sum(3 * layout.most_views * how.size**2 + _ARRAY_BYTES for how in layout.preprocess.values())
        ids_and_labels = 2 * (4 * self.encoder.max_length + _ARRAY_BYTES)
        return images * each + ids_and_labels if images else 0

    def cost(self, item: Item) -> int:
        """Estimate the cost of a sample for a rank, from the index."""
        image = self.encoder.planned_image
        return cost(*image.sample_size(item.tokens, item.images, self.encoder.max_length))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's part of a step."""

    rank: int = 0
    world_size: int = 1
    global_batch_size: int  # samples of a step over all ranks
    micro_batch_size: int  # rows of a forward pass


def load_sample(encoder: ConversationEncoder, data: DataSettings, cache: Cache) -> LoadSample:
    """Make the loading function of a recipe."""
    return LoadSample(encoder=encoder, max_images=data.max_images, cache=cache)


def open_pool(load: LoadSample, data: DataSettings, corpus: Corpus, out: Path) -> Pool:
    """Open a pool of `data.workers` processes. With 0, this process loads the samples, without a deadline."""
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
    """A loader that prepares this rank's part of each step in a thread, while the step before is in use.

    Memory: one finished step waits, and the next has as many samples as are assigned to the workers. `load` is the
    loading function of `pool`.
    """

    def __init__(self, corpus: Corpus, load: LoadSample, pool: Pool, share: Share, data: DataSettings) -> None:
        self._corpus, self._load, self._pool, self._share, self._data = corpus, load, pool, share, data

    def steps(self, first: int, last: int) -> Iterator[Step]:
        """Yield the steps `first` to `last - 1`. The pool is stopped if the caller does not take all of them.

        Raises:
            UserError, LoadError: as for `Pool.next`.
        """
        submitted: deque[int] = deque()  # number of tasks of each step that was begun, in order
        results: dict[int, list[Result]] = defaultdict(list)  # by step

        def make(step: int) -> Step:
            # The next step's tasks are submitted too, so that workers do not wait.
            for later in range(step + len(submitted), min(step + 2, last)):
                mine = self.positions(later)
                for position, item in mine.items():
                    self._pool.submit(Task(position, item, self._load.shared_bytes(item.images)))
                submitted.append(len(mine))
            tasks = submitted.popleft()
            while len(results[step]) < tasks:
                result = self._pool.next()
                results[result.tag // self._share.global_batch_size].append(result)
            return self._step(step, results.pop(step))

        # The other thread has to use this thread's GPU, which owns pinned memory.
        device = (torch.cuda.set_device, (torch.cuda.current_device(),)) if torch.cuda.is_available() else ()
        with ThreadPoolExecutor(1, "loader", *device) as thread:
            try:
                ahead = [thread.submit(make, step) for step in range(first, min(first + 1, last))]
                for step in range(first, last):
                    prepared = ahead.pop().result()
                    ahead += [thread.submit(make, step + 1)] if step + 1 < last else []
                    yield prepared
            except BaseException:
                self._pool.stop()
                raise

    def positions(self, step: int) -> dict[int, Item]:
        """Return the positions of the step that belong to this rank, and their items. Reads no sample."""
        size = self._share.global_batch_size
        items = self._corpus.items(range(step * size, (step + 1) * size))
        mine = share_out([self._load.cost(item) for item in items], self._share.world_size)[self._share.rank]
        return {step * size + number: items[number] for number in mine}

    def _step(self, step: int, results: list[Result]) -> Step:
        results.sort(key=lambda result: result.tag)
        dropped = {r.tag: r.value.reason for r in results if isinstance(r.value, Dropped)}
        good: list[Loaded] = [r.value for r in results if r.reason is None and r.tag not in dropped]
        num_views = self._load.encoder.layout.num_views
        chosen = micro_batches(
            [(len(encoded.input_ids), sum(map(num_views, encoded.image_sizes))) for encoded, _ in good],
            batching=self._data.batching,
            rows=self._share.micro_batch_size,
            max_length=self._data.max_length,
            max_images=self._data.max_images,
        )
        batches = []
        for rows in chosen:
            self._pool.tend()  # without new tasks the workers would soon be idle
            batches.append(self._collate([[good[sample] for sample in row] for row in rows]))
        for result in results:
            self._pool.free(result)
        mixture = self._corpus.mixture
        drawn = mixture.drawn((step + 1) * self._share.global_batch_size)  # < 0.5 ms: this block is known already
        return Step(
            batches=batches,
            skipped=tuple((self._corpus.key(r.tag), r.reason) for r in results if r.reason is not None),
            dropped=tuple((self._corpus.key(tag), reason) for tag, reason in dropped.items()),
            truncated=sum(encoded.truncated for encoded, _ in good),
            progress={source.name: Progress(drawn[source.name], source.available) for source in mixture.sources},
        )

    def _collate(self, rows: list[list[Loaded]]) -> Batch:
        batch = collate(rows, self._load.encoder.pad_id, self._load.encoder.layout)
        return batch.pin_memory() if torch.cuda.is_available() else batch
