"""How full rows are, and how even ranks, on the papers' mixes of lengths; and what padding would cost instead.

    python benchmarks/packing.py

Made-up samples: each source has the mean tokens that are guessed for it, a log-normal spread of the text beside the
image, and a cut at 4096; the counts are those of Vary-toy's Table 1 and of Vary-tiny+. "gain" is the tokens that padded
batches in random order compute ÷ the tokens computed here, "uneven" the dearest rank ÷ the mean, with what an image
costs in that stage (mean of the steps, worst step).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainer.loader.packing import SampleSize, cost, micro_batches, share_out
from varyforge.console import say, show_table

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
IMAGE_COSTS = {"Vary-toy": 130, "Vary-tiny+": 4000}  # what an image really costs beside its tokens, in tokens


def draw(mix: str, rng: np.random.Generator) -> list[SampleSize]:
    """The samples of a step."""
    sources = MIXES[mix]
    shares = np.array([samples for _, samples, _, _ in sources], float)
    made = []
    for which in rng.choice(len(sources), GLOBAL_BATCH, p=shares / shares.sum()):
        _, _, mean, images = sources[which]
        fixed = TEMPLATE_TOKENS + images * IMAGE_TOKENS
        sigma = SIGMA if images else 1.0
        text = (mean - fixed) * np.exp(sigma * rng.standard_normal() - sigma**2 / 2)
        made.append((min(MAX_LENGTH, fixed + int(text)), images))
    return made


@dataclass(slots=True)
class Tally:
    """Sums over steps and ranks."""

    tokens: int = 0
    rows: int = 0
    places: int = 0  # tokens and padding
    uneven: list[float] = field(default_factory=list)  # per step: dearest rank ÷ mean
    seconds: float = 0.0

    def step(self, mix: str, samples: Sequence[SampleSize], batching: str, ranks: int) -> None:
        """Plans a step for all ranks."""
        began = time.perf_counter()
        shares = share_out([cost(*size) for size in samples], ranks)
        limits = {"rows": ROWS, "max_length": MAX_LENGTH, "max_images": MAX_IMAGES}
        plans = [micro_batches([samples[i] for i in share], batching=batching, **limits) for share in shares]
        self.seconds += time.perf_counter() - began
        for share, plan in zip(shares, plans, strict=True):
            lengths = [[sum(samples[share[i]][0] for i in row) for row in batch] for batch in plan]
            self.tokens += sum(map(sum, lengths))
            self.rows += sum(map(len, lengths))
            self.places += sum(len(batch) * max(batch) for batch in lengths)
        costs = [sum(samples[i][0] + IMAGE_COSTS[mix] * samples[i][1] for i in share) for share in shares]
        self.uneven.append(max(costs) / (sum(costs) / ranks))


def main() -> None:
    """Plans the same steps in every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    for mix in MIXES:
        rng = np.random.default_rng(0)
        drawn = [draw(mix, rng) for _ in range(steps)]
        mean = np.mean([tokens for step in drawn for tokens, _ in step])
        say(f"{mix}: {steps} steps of {GLOBAL_BATCH} samples, {mean:.0f} tokens on average")
        table: list[tuple[str, ...]] = []
        usual = 0.0
        for batching, ranks in [("padded", 1), ("bucketed", 1), *(("packed", ranks) for ranks in (1, 2, 4, 8))]:
            tally = Tally()
            for samples in drawn:
                tally.step(mix, samples, batching, ranks)
            per_token = tally.places / tally.tokens
            usual = usual or per_token
            table.append(
                (
                    batching,
                    str(ranks),
                    f"{tally.tokens / (tally.rows * MAX_LENGTH):.3f}",
                    f"{1 - 1 / per_token:.1%}",
                    f"{usual / per_token:.2f}",
                    f"{np.mean(tally.uneven):.3f} {max(tally.uneven):.3f}",
                    f"{1000 * tally.seconds / steps:.1f}",
                )
            )
        show_table(
            f"{mix}, micro-batches of {ROWS} rows",
            ("batching", "ranks", "filled", "padding", "gain", "uneven", "ms"),
            table,
        )


if __name__ == "__main__":
    main()
