"""From the samples of a step to micro-batches: even shares, full rows, nothing lost, nothing twice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.batch import IGNORE_INDEX, Encoded
from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.loader.packing import (
    VIEW_COST,
    Loaded,
    SampleSize,
    collate,
    cost,
    empty_batch,
    micro_batches,
    pack,
    share_out,
)
from varyforge.errors import UserError

MAX_LENGTH, MAX_IMAGES = 100, 3
SIZES = st.lists(st.tuples(st.integers(1, MAX_LENGTH), st.integers(0, MAX_IMAGES)), max_size=60)
LIMITS = {"max_length": MAX_LENGTH, "max_images": MAX_IMAGES}
LAYOUT = ImageLayout(preprocess={"clip": ImagePreprocess(size=4), "vary": ImagePreprocess(size=8)}, view=ViewTokens(4))


def flat(nested: list[list[Any]]) -> list[Any]:
    return [item for items in nested for item in items]


# --- over ranks


@given(st.lists(st.integers(1, 5000), max_size=200), st.integers(1, 9))
def test_shares_are_even_complete_and_in_order(costs: list[int], ranks: int) -> None:
    shares = share_out(costs, ranks)
    assert len(shares) == ranks
    assert sorted(flat(shares)) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[sample] for sample in share) for share in shares]
    mean, dearest = sum(costs) / ranks, max(costs, default=0)
    # The rank with most was the one with least when it took its last sample, its cheapest.
    assert max(loads) <= mean + (1 - 1 / ranks) * dearest + 1e-9
    for share, load in zip(shares, loads, strict=True):
        if share:
            assert load - min(costs[sample] for sample in share) <= min(loads)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=9), st.integers(2, 3))
def test_shares_are_within_grahams_bound_of_the_best(costs: list[int], ranks: int) -> None:
    sums = {(0,) * ranks}
    for each in costs:
        sums = {tuple(sorted((*s[:r], s[r] + each, *s[r + 1 :]))) for s in sums for r in range(ranks)}
    best = min(map(max, sums))
    actual = max(sum(costs[sample] for sample in share) for share in share_out(costs, ranks))
    assert actual <= best * (4 / 3 - 1 / (3 * ranks)) + 1e-9


def test_a_step_of_the_papers_size_is_shared_out_within_two_percent() -> None:
    lengths = np.random.default_rng(0).lognormal(6.3, 0.7, 512).clip(1, 4096).astype(int)
    costs = [cost(int(tokens), number % 20 != 0) for number, tokens in enumerate(lengths)]
    for ranks in (2, 4, 8):
        loads = [sum(costs[sample] for sample in share) for share in share_out(costs, ranks)]
        assert max(loads) <= 1.02 * sum(loads) / ranks


def test_what_a_sample_costs() -> None:
    assert cost(300, 0) == 300
    assert cost(300, 2) == 300 + 2 * VIEW_COST


# --- into rows


@given(SIZES)
def test_rows_hold_everything_once_within_both_limits(sizes: list[SampleSize]) -> None:
    rows = pack(sizes, **LIMITS)
    assert sorted(flat(rows)) == list(range(len(sizes)))
    assert all(row and row == sorted(row) for row in rows)
    for row in rows:
        assert sum(sizes[sample][0] for sample in row) <= MAX_LENGTH
        assert sum(sizes[sample][1] for sample in row) <= MAX_IMAGES
    assert pack(sizes, **LIMITS) == rows


@given(SIZES)
def test_no_two_rows_could_be_one_unless_images_forbid_it(sizes: list[SampleSize]) -> None:
    text = [(tokens, 0) for tokens, _ in sizes]
    used = sorted(sum(text[sample][0] for sample in row) for row in pack(text, **LIMITS))
    assert all(one + two > MAX_LENGTH for one, two in pairwise(used))
    # so at most one row is half empty, and there are fewer than twice as many as need be
    assert len(used) <= max(1, 2 * -(-sum(used) // MAX_LENGTH)) if used else True


def test_a_sample_larger_than_a_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"101 tokens and 0 views of images does not fit .* data\.max_length 100"):
        pack([(101, 0)], **LIMITS)
    with pytest.raises(UserError, match=r"5 tokens and 4 views of images does not fit .* data\.max_images 3"):
        pack([(5, 4)], **LIMITS)


def test_ten_thousand_samples_fill_their_rows() -> None:
    rng = np.random.default_rng(0)
    sizes = [(int(t), int(i)) for t, i in zip(rng.integers(5, 2000, 10_000), rng.integers(0, 2, 10_000), strict=True)]
    rows = pack(sizes, max_length=4096, max_images=16)
    assert sum(tokens for tokens, _ in sizes) / (len(rows) * 4096) > 0.99


def test_the_papers_mix_of_lengths_fills_rows_beyond_095() -> None:
    """Vary-toy's Table 1 with the mean lengths of benchmarks/packing.py, which reports more of it."""
    rng = np.random.default_rng(0)
    which = rng.choice(5, 512, p=[0.692, 0.228, 0.026, 0.010, 0.044])
    mean = np.array([350, 1800, 650, 340, 900])[which]
    lengths = (mean * rng.lognormal(-0.08, 0.4, 512)).clip(40, 4096).astype(int)
    sizes = [(int(tokens), int(kind < 4)) for tokens, kind in zip(lengths, which, strict=True)]
    rows = pack(sizes, max_length=4096, max_images=16)
    assert lengths.sum() / (len(rows) * 4096) > 0.95


# --- into micro-batches


@given(SIZES, st.sampled_from(["packed", "bucketed", "padded"]), st.integers(1, 5))
def test_micro_batches_hold_everything_once_the_largest_first(
    sizes: list[SampleSize], batching: str, rows: int
) -> None:
    batches = micro_batches(sizes, batching=batching, rows=rows, **LIMITS)
    assert sorted(flat(flat(batches))) == list(range(len(sizes)))
    assert all(1 <= len(batch) <= rows for batch in batches)
    cells = [len(batch) * max(sum(sizes[sample][0] for sample in row) for row in batch) for batch in batches]
    assert cells == sorted(cells, reverse=True)
    if batching != "packed":
        assert all(len(row) == 1 for batch in batches for row in batch)


@given(SIZES, st.integers(1, 5))
def test_bucketed_groups_by_length_and_padded_keeps_the_order(sizes: list[SampleSize], rows: int) -> None:
    bucketed = micro_batches(sizes, batching="bucketed", rows=rows, **LIMITS)
    lengths = [sorted(sizes[sample][0] for sample in flat(batch)) for batch in bucketed]
    for one, two in pairwise(sorted(lengths, key=lambda batch: (batch[0], batch[-1]))):
        assert one[-1] <= two[0]  # no batch reaches into the range of another
    padded = micro_batches(sizes, batching="padded", rows=rows, **LIMITS)
    assert sorted(flat(batch) for batch in padded) == [
        list(range(start, min(start + rows, len(sizes)))) for start in range(0, len(sizes), rows)
    ]


@pytest.mark.parametrize("batching", ["packed", "bucketed", "padded"])
@pytest.mark.parametrize("images", [0, 1])
def test_steps_of_text_alone_and_of_images_alone(batching: str, images: int) -> None:
    sizes = [(10 + 37 * number % 81, images) for number in range(40)]
    batches = micro_batches(sizes, batching=batching, rows=4, **LIMITS)
    assert sorted(flat(flat(batches))) == list(range(40))
    cells = sum(len(batch) * max(sum(sizes[sample][0] for sample in row) for row in batch) for batch in batches)
    plain = sum(4 * max(tokens for tokens, _ in sizes[start : start + 4]) for start in range(0, 40, 4))
    assert cells <= plain
    if batching == "bucketed":
        assert cells < 0.8 * plain


# --- into tensors


def loaded(number: int, tokens: int, images: int = 0) -> Loaded:
    ids = list(range(100 * number + 1, 100 * number + 1 + tokens))
    pixels = [
        {
            name: np.full((1, how.size, how.size, 3), 10 * number + i, np.uint8)
            for name, how in LAYOUT.preprocess.items()
        }
        for i in range(images)
    ]
    task, image_sizes = "ocr" if images else "text", tuple((number, i) for i in range(images))
    return Encoded(key=f"k{number}", task=task, input_ids=ids, labels=list(ids), image_sizes=image_sizes), pixels


def test_a_row_is_samples_one_after_the_other_then_padding() -> None:
    batch = collate([[loaded(0, 3, 2), loaded(1, 2)], [loaded(2, 4, 1)]], 9, LAYOUT)
    assert batch.input_ids.tolist() == [[1, 2, 3, 101, 102], [201, 202, 203, 204, 9]]
    no = IGNORE_INDEX
    assert batch.labels.tolist() == [[no, 2, 3, no, 102], [no, 202, 203, 204, no]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert batch.sample_of.tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 2, -1]]
    assert batch.lengths == ((3, 2), (4,))
    assert (batch.keys, batch.tasks) == (("k0", "k1", "k2"), ("ocr", "text", "ocr"))
    assert batch.num_supervised == 6
    assert (batch.num_tokens, batch.num_rows) == (9, 2)
    assert {name: pixels.shape for name, pixels in batch.pixels.items()} == {"clip": (3, 4, 4, 3), "vary": (3, 8, 8, 3)}
    assert batch.pixels["vary"][:, 0, 0, 0].tolist() == [0, 1, 20]  # reading order
    assert batch.image_sizes == ((0, 0), (0, 1), (2, 0))
    for tensor in (batch.input_ids, batch.labels, batch.positions, batch.sample_of):
        assert tensor.dtype == torch.int64


def test_the_empty_batch_is_one_token_without_label() -> None:
    batch = empty_batch(9, LAYOUT)
    assert batch.input_ids.tolist() == [[9]]
    assert batch.labels.tolist() == [[IGNORE_INDEX]]
    assert batch.sample_of.tolist() == [[-1]]
    assert (batch.num_supervised, batch.num_tokens, batch.num_rows) == (0, 0, 0)
    assert batch.keys == batch.tasks == ()
    assert {name: pixels.shape for name, pixels in batch.pixels.items()} == {"clip": (0, 4, 4, 3), "vary": (0, 8, 8, 3)}
    assert {pixels.dtype for pixels in batch.pixels.values()} == {torch.uint8}
