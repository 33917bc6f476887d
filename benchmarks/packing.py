"""Measure how full packed rows and how even ranks are on the papers' mixes of lengths, and what padding would cost.

    python -m benchmarks.packing

Steps of 512 samples are planned, not trained: rows of 4,096 tokens in micro-batches of 4 rows. Each source has mean
tokens that are guessed for it, a log-normal spread of the text beside the image, and a cut at 4,096. The counts are
those of Vary-toy's Table 1 and of Vary-tiny+.

- filled: tokens ÷ (rows x 4,096)
- padding: share of padding in what is computed; a row is only as long as the longest of its micro-batch
- gain: tokens that padded batches in random order compute ÷ tokens computed here
- uneven: the dearest rank ÷ the mean, with what an image costs in that stage (mean of the steps, worst step)
- ms: planning a step for all ranks
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.bench import Miss, Table, main_of
from trainer.loader.packing import SampleSize, cost, micro_batches, share_out

MAX_LENGTH, MAX_IMAGES, ROWS, GLOBAL_BATCH = 4096, 16, 4, 512
IMAGE_TOKENS, TEMPLATE_TOKENS = 258, 30
SIGMA = 0.5  # of the logarithm of the text's length; 1 for conversations, which differ more
MIXES: dict[str, list[tuple[str, int, int, int]]] = {  # source, samples, mean tokens, images
    "Vary-toy": [
        ("captions", 4_558_000, 350, 1),
        ("PDF, markdown", 1_500_000, 1800, 1),
        ("detection, referring", 170_000, 650, 1),
        ("VQA", 67_800, 340, 1),
        ("text only", 289_000, 900, 0),
    ],
    "Vary-tiny+": [("PDF", 4_000_000, 1800, 1), ("detection", 3_000_000, 650, 1)],
}
IMAGE_COSTS = {"Vary-toy": 130, "Vary-tiny+": 4000}  # compute of an image beyond its tokens, in tokens
WAYS = [("padded", 1), ("bucketed", 1), *(("packed", ranks) for ranks in (1, 2, 4, 8))]
MIN_FILLED = 0.95  # the aim for packed rows
TINY = {"steps": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--steps", type=int, default=50, help="of 512 samples (%(default)s)")


def draw(mix: str, rng: np.random.Generator) -> list[SampleSize]:
    """Return tokens and images of the samples of a step."""
    sources = MIXES[mix]
    shares = np.array([samples for _, samples, _, _ in sources], float)
    sizes = []
    for number in rng.choice(len(sources), GLOBAL_BATCH, p=shares / shares.sum()):
        _, _, mean, images = sources[number]
        fixed = TEMPLATE_TOKENS + images * IMAGE_TOKENS
        sigma = SIGMA if images else 1.0
        text = (mean - fixed) * np.exp(sigma * rng.standard_normal() - sigma**2 / 2)
        sizes.append((min(MAX_LENGTH, fixed + int(text)), images))
    return sizes


@dataclass(slots=True)
class Tally:
    """Sums over steps and ranks."""

    tokens: int = 0
    rows: int = 0
    computed: int = 0  # tokens and padding
    uneven: list[float] = field(default_factory=list)  # per step: dearest rank ÷ mean
    seconds: float = 0.0

    @property
    def filled(self) -> float:
        """Share of the rows' tokens that samples fill."""
        return self.tokens / (self.rows * MAX_LENGTH)

    def step(self, mix: str, samples: Sequence[SampleSize], batching: str, ranks: int) -> None:
        """Plan a step for all ranks."""
        began = time.perf_counter()
        shares = share_out([cost(*size) for size in samples], ranks)
        limits = {"rows": ROWS, "max_length": MAX_LENGTH, "max_images": MAX_IMAGES}
        plans = [micro_batches([samples[i] for i in share], batching=batching, **limits) for share in shares]
        self.seconds += time.perf_counter() - began
        for share, plan in zip(shares, plans, strict=True):
            lengths = [[sum(samples[share[i]][0] for i in row) for row in batch] for batch in plan]
            self.tokens += sum(map(sum, lengths))
            self.rows += sum(map(len, lengths))
            self.computed += sum(len(batch) * max(batch) for batch in lengths)
        costs = [sum(samples[i][0] + IMAGE_COSTS[mix] * samples[i][1] for i in share) for share in shares]
        self.uneven.append(max(costs) / (sum(costs) / ranks))


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Plan the same steps in every way."""
    steps = arguments.steps
    for mix in MIXES:
        rng = np.random.default_rng(0)
        drawn = [draw(mix, rng) for _ in range(steps)]
        mean = np.mean([tokens for step in drawn for tokens, _ in step])
        tallies = {way: Tally() for way in WAYS}
        for (batching, ranks), tally in tallies.items():
            for samples in drawn:
                tally.step(mix, samples, batching, ranks)
        padded = tallies[WAYS[0]]
        rows = [
            (
                batching,
                str(ranks),
                f"{tally.filled:.3f}",
                f"{1 - tally.tokens / tally.computed:.1%}",
                f"{padded.computed / padded.tokens / (tally.computed / tally.tokens):.2f}",
                f"{np.mean(tally.uneven):.3f}, {max(tally.uneven):.3f}" if ranks > 1 else "-",
                f"{1000 * tally.seconds / steps:.1f}",
            )
            for (batching, ranks), tally in tallies.items()
        ]
        head = ("batching", "ranks", "filled", "padding", "gain", "uneven: mean, worst", "ms")
        yield Table(title=f"{mix}: {steps} steps, {mean:,.0f} tokens a sample on average", head=head, rows=rows)
        for (batching, ranks), tally in tallies.items():
            if batching == "packed" and tally.filled < MIN_FILLED:
                yield Miss(f"{mix} at {ranks} ranks: rows are filled to {tally.filled:.3f}, the aim is {MIN_FILLED}.")


if __name__ == "__main__":
    main_of("benchmarks.packing")
