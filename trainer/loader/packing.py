"""The samples of a step → ranks → rows → micro-batches → tensors.

All functions are pure, so that each rank computes alone what the other ranks do.
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

SampleSize = tuple[int, int]
"""Tokens of a sample, image tokens included, and views of its images."""

VIEW_COST = 512


def cost(tokens: int, views: int) -> int:
    """Return the cost of training on a sample in units of one token: `tokens + VIEW_COST × views`.

    `tokens` includes image tokens. A view's pass through the encoders costs about 130 tokens of Vary-toy (1.8 B,
    encoders frozen, forward only) and 4,000 tokens of Vary-tiny+ (125 M, encoder trained). The constant lies between
    them; both models' steps of hundreds of samples are shared out evenly (benchmarks/packing.py). The cost of attention
    beyond the linear layers, a tenth at 2,000 tokens, is ignored.
    """
    return tokens + VIEW_COST * views


def share_out(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Distribute samples over ranks. Returns each rank's samples in their original order.

    Longest processing time first: the most expensive sample goes to the rank with the smallest load so far. No rank
    gets more than 4/3 - 1/(3 × ranks) times the best possible maximum (Graham 1969). Ranks may get different numbers of
    samples, or none. O(n log n); ties go to the lower number.
    """
    loads = [(0, rank) for rank in range(ranks)]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for sample in sorted(range(len(costs)), key=lambda sample: (-costs[sample], sample)):
        load, rank = loads[0]
        shares[rank].append(sample)
        heapq.heapreplace(loads, (load + costs[sample], rank))
    return [sorted(share) for share in shares]


def pack(sizes: Sequence[SampleSize], *, max_length: int, max_images: int) -> list[list[int]]:
    """Pack all samples into rows of at most `max_length` tokens and `max_images` views.

    Best-fit decreasing: the longest sample first, each into the fullest row that has room. Rows are sorted by their
    free tokens, separately for each number of free views: O(n × max_images × log n). The samples of a row keep their
    original order. Rows come in the order in which they were opened, the row with the longest sample first.

    Raises:
        UserError: one sample is larger than a row.
    """
    rows: list[list[int]] = []
    free: list[list[tuple[int, int]]] = [[] for _ in range(max_images + 1)]  # by free views: sorted (free tokens, row)
    for sample in sorted(range(len(sizes)), key=lambda sample: (-sizes[sample][0], sample)):
        tokens, views = sizes[sample]
        if tokens > max_length or views > max_images:
            raise UserError(
                f"a sample of {tokens} tokens and {views} views of images does not fit into a row of data.max_length "
                f"{max_length} tokens and data.max_images {max_images} views"
            )
        fits = []  # (free tokens, row, free views, index): the best row of each number of free views
        for left in range(views, max_images + 1):
            index = bisect_left(free[left], (tokens, 0))
            if index < len(free[left]):
                fits.append((*free[left][index], left, index))
        if fits:
            room, row, left, index = min(fits)
            del free[left][index]
        else:
            room, row, left = max_length, len(rows), max_images
            rows.append([])
        rows[row].append(sample)
        insort(free[left - views], (room - tokens, row))
    return [sorted(row) for row in rows]


def micro_batches(
    sizes: Sequence[SampleSize], *, batching: str, rows: int, max_length: int, max_images: int
) -> list[list[list[int]]]:
    """Arrange a rank's samples in micro-batches of at most `rows` rows.

    `batching` is the setting of `DataSettings`: packed (rows of many samples), bucketed (one sample per row, grouped by
    length) or padded (one sample per row, in order). Packed and bucketed rows are sorted by length, so that there is
    little padding. The largest micro-batch comes first, so that a lack of memory shows at once.
    """
    if batching == "packed":
        packs = pack(sizes, max_length=max_length, max_images=max_images)
    else:
        packs = [[sample] for sample in range(len(sizes))]

    def tokens(row: list[int]) -> int:
        return sum(sizes[sample][0] for sample in row)

    def memory(batch: list[list[int]]) -> SampleSize:
        return len(batch) * max(map(tokens, batch)), sum(sizes[sample][1] for row in batch for sample in row)

    if batching != "padded":
        packs.sort(key=tokens, reverse=True)
    batches = [packs[start : start + rows] for start in range(0, len(packs), rows)]
    return sorted(batches, key=memory, reverse=True)


def collate(rows: Sequence[Sequence[Loaded]], pad_id: int, layout: ImageLayout) -> Batch:
    """Make a micro-batch. A row holds its samples one after the other, then padding up to the longest row."""
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
            labels[row, start + 1 : end] = encoded.labels[1:]  # nothing predicts the first token
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
    """Return a batch of one padding token without label, for a rank with fewer micro-batches than the others."""
    return collate([[]], pad_id, layout)
