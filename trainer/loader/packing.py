"""The samples of a step → ranks → rows → micro-batches → tensors.

Everything here is a pure function of its arguments, so that each rank finds out alone what the others do.
Shape legend: B rows, T tokens (of the longest row), S samples, H = W = an encoder's size in pixels.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.images.layout import ImageLayout
from trainer.images.pixels import stack_pixels
from varyforge.errors import UserError

Loaded = tuple[Encoded, Sequence[Mapping[str, np.ndarray]]]
"""A sample as ids, and each of its images as (views, H, W, 3) uint8 per encoder."""

Size = tuple[int, int]
"""Tokens, image tokens included, and views of the images of a sample."""

VIEW_COST = 512


def cost(tokens: int, views: int) -> int:
    """What a sample costs to train on, in units of what a token costs: `tokens + VIEW_COST × views`.

    `tokens` includes image tokens. A view's pass through the encoders costs as much as about 130 tokens of Vary-toy
    (1.8 B, encoders frozen, forward only) and 4,000 of Vary-tiny+ (125 M, encoder trained); the constant lies between,
    and a step of hundreds of samples is shared out evenly with either (benchmarks/packing.py). What attention costs
    beyond the linear layers, a tenth at 2,000 tokens, is left out.
    """
    return tokens + VIEW_COST * views


def share_out(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """The samples of each rank, in the order given: the dearest first, each to the rank that has least so far.

    Longest processing time first: no rank gets more than 4/3 - 1/(3 × ranks) times the best possible maximum
    (Graham 1969). Ranks may get differently many samples, or none. O(n log n); ties go to the lower number.
    """
    loads = [(0, rank) for rank in range(ranks)]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for sample in sorted(range(len(costs)), key=lambda sample: (-costs[sample], sample)):
        load, rank = loads[0]
        shares[rank].append(sample)
        heapq.heapreplace(loads, (load + costs[sample], rank))
    return [sorted(share) for share in shares]


def pack(sizes: Sequence[Size], *, max_length: int, max_images: int) -> list[list[int]]:
    """Rows of at most `max_length` tokens and `max_images` views; every sample is in one of them.

    Best-fit decreasing: the longest sample first, each into the fullest row that still takes it. Rows are kept sorted
    by their free tokens, apart for each number of free views: O(n × max_images × log n). Samples of a row are in the
    order given; rows come as they were opened, the one with the longest sample first.

    Raises:
        UserError: a sample alone is larger than a row.
    """
    rows: list[list[int]] = []
    free: list[list[tuple[int, int]]] = [[] for _ in range(max_images + 1)]  # by free views: (free tokens, row), sorted
    for sample in sorted(range(len(sizes)), key=lambda sample: (-sizes[sample][0], sample)):
        tokens, views = sizes[sample]
        if tokens > max_length or views > max_images:
            raise UserError(
                f"a sample of {tokens} tokens and {views} views of images does not fit into a row of data.max_length "
                f"{max_length} tokens and data.max_images {max_images} views"
            )
        fits = []  # (free tokens, row, free views, place): the best row of each number of free views
        for left in range(views, max_images + 1):
            place = bisect_left(free[left], (tokens, 0))
            if place < len(free[left]):
                fits.append((*free[left][place], left, place))
        if fits:
            room, row, left, place = min(fits)
            del free[left][place]
        else:
            room, row, left = max_length, len(rows), max_images
            rows.append([])
        rows[row].append(sample)
        insort(free[left - views], (room - tokens, row))
    return [sorted(row) for row in rows]


def micro_batches(
    sizes: Sequence[Size], *, batching: str, rows: int, max_length: int, max_images: int
) -> list[list[list[int]]]:
    """A rank's samples as micro-batches of at most `rows` rows of samples.

    `batching` is that of `DataSettings`: rows of many samples (packed), or of one, grouped by length (bucketed) or in
    the order given (padded). Rows of like length come together, so that little is padding (not with padded), and the
    largest micro-batch comes first: where memory does not suffice, that shows at once.
    """
    if batching == "packed":
        made = pack(sizes, max_length=max_length, max_images=max_images)
    else:
        made = [[sample] for sample in range(len(sizes))]

    def tokens(row: list[int]) -> int:
        return sum(sizes[sample][0] for sample in row)

    def memory(batch: list[list[int]]) -> Size:
        return len(batch) * max(map(tokens, batch)), sum(sizes[sample][1] for row in batch for sample in row)

    if batching != "padded":
        made.sort(key=tokens, reverse=True)
    batches = [made[start : start + rows] for start in range(0, len(made), rows)]
    return sorted(batches, key=memory, reverse=True)


def collate(rows: Sequence[Sequence[Loaded]], pad_id: int, layout: ImageLayout) -> Batch:
    """A micro-batch: each row its samples one after the other, then padding up to the longest row.

    Without a row, or with one without samples, see `empty_batch`.
    """
    lengths = tuple(tuple(len(encoded.input_ids) for encoded, _ in row) for row in rows)
    shape = (len(rows), max(1, *map(sum, lengths)) if rows else 1)
    input_ids, labels = np.full(shape, pad_id), np.full(shape, IGNORE_INDEX)
    positions, sample_of = np.zeros(shape, np.int64), np.full(shape, -1)
    number = 0
    for row, samples in enumerate(rows):
        start = 0
        for encoded, _ in samples:
            end = start + len(encoded.input_ids)
            input_ids[row, start:end] = encoded.input_ids
            labels[row, start + 1 : end] = encoded.labels[1:]  # the first token has nothing before it to predict it
            positions[row, start:end] = np.arange(end - start)
            sample_of[row, start:end] = number
            start, number = end, number + 1
    all_samples = [encoded for row in rows for encoded, _ in row]
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        labels=torch.from_numpy(labels),
        positions=torch.from_numpy(positions),
        sample_of=torch.from_numpy(sample_of),
        lengths=lengths,
        pixels=stack_pixels([image for row in rows for _, images in row for image in images], layout.preprocess),
        image_sizes=tuple(size for encoded in all_samples for size in encoded.image_sizes),
        keys=tuple(encoded.key for encoded in all_samples),
        tasks=tuple(encoded.task for encoded in all_samples),
        sources=tuple(encoded.source for encoded in all_samples),
    )


def empty_batch(pad_id: int, layout: ImageLayout) -> Batch:
    """One padding token without label: a rank that has no more samples runs as many micro-batches as the others."""
    return collate([[]], pad_id, layout)
