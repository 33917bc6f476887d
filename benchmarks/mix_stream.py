"""Measure samples per second over the papers' mix: packed rows beside the released code's random batches of four.

    python -m benchmarks.mix_stream                 # a few minutes on two cores
    python -m benchmarks.mix_stream --samples 16 --rounds 1
    python -m benchmarks.mix_stream --count-only    # arithmetic of the full size, nothing computed

The stream is that of `benchmarks/packing.py`: Vary-toy's Table 1 with lengths that are guessed for each source, text
without images included. Both sides train on the same samples, forward and backward without an update, and the sums of
the losses have to agree. Our side packs rows of many samples into micro-batches of one row (recipes/model/toy.yaml) and
runs no encoder for text. The released side (`benchmarks/released.py`) takes batches of four in random order, padded to
the longest, and runs both encoders on a black image for a row of text.

The model is Vary-toy with a quarter of each width, depth and length. Image side, image tokens, windows and vocabulary
shrink as much, so that a sample costs 1/256 in the blocks of SAM and CLIP, in the language model's layers, its
attention and its head. These parts weigh as much against each other as at full size. Parts without depth (patches,
neck, connectors) cost 1/64. The first table compares the parts.

FLOPs of both sides at full size come from trainer/model/flops.py, with dense attention on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks import pair
from benchmarks.bench import Table, main_of
from benchmarks.model_step import Job
from benchmarks.packing import IMAGE_TOKENS, MAX_IMAGES, MAX_LENGTH, TEMPLATE_TOKENS, draw
from benchmarks.released import ClipSizes, ImageIds, QwenSizes, SamSizes, ToySizes
from trainer.loader.packing import SampleSize, micro_batches
from trainer.model.vlm import VisionLanguageModel

MIX, SHORTER, ROWS = "Vary-toy", 4, 4
QUARTER = ToySizes(
    clip=ClipSizes(image=112, width=256, mlp=1024, depth=7, heads=4),  # 6 of 7 layers are used, where 23 of 24 are
    sam=SamSizes(
        image=512, width=192, mlp=768, depth=3, heads=3, window=7, global_layers=(2,), neck=64, convolutions=(128, 256)
    ),
    qwen=QwenSizes(vocabulary=9496, width=512, mlp=1376, depth=6, heads=4, positions=2048),
    ids=ImageIds(start=9493, end=9494, pad=9495),
)
"""Vary-toy with a quarter of each size. The vocabulary is a sixteenth, as the head has a width but no depth."""
TINY = {"samples": 8, "rounds": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--samples", type=int, default=64, help="of the measured stream (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least time counts (%(default)s)")
    parser.add_argument("--count-only", action="store_true", help="only the arithmetic")


def stream(count: int, rng: np.random.Generator) -> list[SampleSize]:
    """Draw tokens and images of `count` samples at full size."""
    drawn: list[SampleSize] = []
    while len(drawn) < count:
        drawn += draw(MIX, rng)
    return drawn[:count]


def supervised(size: SampleSize) -> int:
    """Count a sample's supervised tokens: its text without the template."""
    tokens, images = size
    return tokens - images * IMAGE_TOKENS - TEMPLATE_TOKENS


def shorter(sizes: pair.Sizes, size: SampleSize, factor: int, rng: np.random.Generator) -> pair.Sample:
    """Draw a sample of such a length ÷ `factor`."""
    _, images = size
    answer = max(1, supervised(size) // factor)
    prompt = images * (sizes.sam.tokens + 2) + max(1, TEMPLATE_TOKENS // factor)
    return pair.sample(sizes, prompt + answer, images, answer, rng)


def packed(sizes: Sequence[SampleSize], factor: int = 1) -> list[list[list[int]]]:
    """Pack samples into our micro-batches of one row."""
    return micro_batches(sizes, batching="packed", rows=1, max_length=MAX_LENGTH // factor, max_images=MAX_IMAGES)


def fours(count: int) -> list[list[int]]:
    """Split the stream, whose order is random, into the released code's batches."""
    return [list(range(start, min(start + ROWS, count))) for start in range(0, count, ROWS)]


# --- the arithmetic


def flops(model: VisionLanguageModel, sizes: Sequence[SampleSize]) -> tuple[float, float]:
    """Return FLOPs a sample of our side and of the released one, for samples of these lengths."""
    rows = [[sizes[i][0] for i in row] for (row,) in packed(sizes)]
    mine = model.flops(rows, views=sum(images for _, images in sizes), supervised=sum(map(supervised, sizes)))
    padded = [[max(sizes[i][0] for i in batch)] for batch in fours(len(sizes)) for _ in batch]
    theirs = model.flops(padded, views=len(sizes), supervised=sum(map(sum, padded)))
    return sum(part.model for part in mine) / len(sizes), sum(part.model for part in theirs) / len(sizes)


def shares(sizes: ToySizes) -> dict[str, float]:
    """Return GFLOP of each part in the forward pass of a sample of mean length."""
    factor = ToySizes().sam.tokens // sizes.sam.tokens
    model = pair.ours(sizes, device="meta")
    parts = model.flops([[704 // factor]], views=1, supervised=400 // factor)
    return {part.part: part.forward / 1e9 for part in parts}


# --- the measurement


def timed_rows(sizes: pair.Sizes, factor: int, count: int, rounds: int) -> list[list[str]]:
    """Time both sides over the same samples. Returns rows of a table."""
    rng = np.random.default_rng(0)
    samples = [shorter(sizes, size, factor, rng) for size in stream(count, rng)]
    model = pair.ours(sizes)
    theirs = pair.released(sizes, model)
    plan = packed([(len(s.ids), len(s.pictures)) for s in samples], factor)
    rows = [pair.our_batch(model, [[samples[i] for i in row]]) for (row,) in plan]
    batches = [pair.released_batch(theirs, model, [samples[i] for i in batch]) for batch in fours(count)]
    runs = {
        "released, random batches of 4": lambda: sum(pair.released_step(theirs, batch) for batch in batches),
        "ours, packed": lambda: sum(pair.our_step(model, row) for row in rows),
    }
    timed = pair.interleaved(runs, [model, theirs], rounds)
    computed = {
        "released, random batches of 4": sum(batch["ids"].numel() for batch in batches),
        "ours, packed": sum(row.num_tokens for row in rows),
    }
    base = timed["released, random batches of 4"]
    return [
        [
            name, f"{count / each.wall_s:.2f}", f"{base.wall_s / each.wall_s:.2f}", f"{each.cpu_s / count:.2f}",
            f"{base.cpu_s / each.cpu_s:.2f}", f"{computed[name] / count:.0f}",
        ]
        for name, each in timed.items()
    ]  # fmt: skip


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Count, then time both sides."""
    torch.set_flush_denormal(True)
    full, quarter = shares(ToySizes()), shares(QUARTER)
    table = [[part, f"{full[part]:.1f}", f"{256 * quarter[part]:.1f}"] for part in full]
    yield Table(title="One sample of 704 tokens, forward.", head=["part", "GFLOP", "256 x the quarter's"], rows=table)
    sizes = stream(2048, np.random.default_rng(1))
    mine, theirs = flops(pair.ours(ToySizes(), device="meta"), sizes)
    text = sum(images == 0 for _, images in sizes) / len(sizes)
    yield (
        f"Full-size Vary-toy, {len(sizes):,} samples, {text:.1%} of them text, TFLOP a sample: {theirs / 1e12:.2f} in "
        f"random batches of {ROWS}, {mine / 1e12:.2f} packed, {theirs / mine:.2f} times less."
    )
    if arguments.count_only:
        return
    tiny = Job(case="toy", tiny=True).sizes
    model, factor = (tiny, 16) if arguments.tiny else (QUARTER, SHORTER)
    yield Table(
        title=f"{arguments.samples} samples, CPU, fp32, {torch.get_num_threads()} threads.",
        head=["side", "samples/s", "faster", "CPU s/sample", "faster", "tokens computed a sample"],
        rows=timed_rows(model, factor, arguments.samples, arguments.rounds),
    )


if __name__ == "__main__":
    main_of("benchmarks.mix_stream")
