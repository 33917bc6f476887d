"""One step of eight samples of 1 to 2,000 tokens, cut up in any way: its losses and its gradient.

As a program, one rank of several: python -m tests.trainer.gradients FOLDER (with torch.distributed's environment)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.batch import IGNORE_INDEX, Encoded, Step
from trainer.loader.packing import Loaded, collate, cost, empty_batch, micro_batches, share_out
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, EngineSettings, LanguageSettings, ModelSettings
from trainer.train.engine import Engine, start_distributed
from trainer.train.loop import train_step
from trainer.train.state import StepResult

IMAGE, VOCABULARY = 59, 60
SIZES = [(2000, 1), (1, 0), (17, 1), (300, 0), (2, 0), (1100, 2), (64, 0), (700, 1)]  # tokens, images
TASKS = ["ocr", "text", "caption", "text", "text", "ocr", "text", "detection"]
SAM = {
    "image_size": 64, "patch_size": 8, "width": 32, "depth": 1, "heads": 2, "window": 3, "global_layers": [0],
    "neck": 16, "conv_channels": [24, 32],
}  # fmt: skip
LANGUAGE: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 2000, "dropout": 0.0,
    },
    "qwen2": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2000,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way of splitting a step."""

    batching: str = "padded"
    rows: int  # at most, of a micro-batch
    ranks: int = 1
    only: tuple[int, ...] = tuple(range(len(SIZES)))  # these samples


class Watched(Engine):
    """An optimiser that stores the gradient of an update."""

    gradient: dict[str, Tensor]

    def step(self, learning_rate: float) -> float:
        parameters = self._engine.module.named_parameters()
        self.gradient = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        return super().step(learning_rate)


def tiny_model(family: str, attention: str) -> VisionLanguageModel:
    settings = ModelSettings(
        vision={"vary": EncoderSettings(type="sam", config=SAM)},
        language=LanguageSettings(type=family, tokenizer="-", template="-", config=LANGUAGE[family]),
    )
    options: dict[str, Any] = {"attention": attention, "gradient_checkpointing": True, "seed": 0}
    model, _ = build(settings, vocabulary=VOCABULARY, image_token_id=IMAGE, **options)
    return model


def samples(model: VisionLanguageModel) -> list[Loaded]:
    """About two thirds of the tokens are supervised; the sample of one token can have none."""
    rng = np.random.default_rng(0)
    shape = {name: (1, how.size, how.size, 3) for name, how in model.layout.preprocess.items()}
    loaded: list[Loaded] = []
    for number, ((tokens, images), task) in enumerate(zip(SIZES, TASKS, strict=True)):
        slots = images * model.layout.planned_tokens
        ids = [IMAGE] * slots + rng.integers(3, IMAGE, tokens - slots).tolist()
        first = slots + (tokens - slots) // 3
        labels = [IGNORE_INDEX] * first + ids[first:]
        pixels = [{n: rng.integers(0, 256, s, np.uint8) for n, s in shape.items()} for _ in range(images)]
        encoded = Encoded(key=str(number), task=task, input_ids=ids, labels=labels, image_sizes=((8, 8),) * images)
        loaded.append((encoded, pixels))
    return loaded


def part_of(model: VisionLanguageModel, way: Way, rank: int) -> Step:
    loaded = samples(model)
    mine = [way.only[number] for number in share_out([cost(*SIZES[sample]) for sample in way.only], way.ranks)[rank]]
    limits: dict[str, Any] = {"rows": way.rows, "max_length": 2048, "max_images": 4}
    batches = micro_batches([SIZES[sample] for sample in mine], batching=way.batching, **limits)
    return Step(
        batches=[
            collate([[loaded[mine[sample]] for sample in row] for row in batch], 0, model.layout) for batch in batches
        ]
    )


def step(family: str, attention: str, way: Way, rank: int = 0) -> tuple[StepResult, dict[str, Tensor]]:
    """Run a step. Return its result and the gradient of the whole step by parameter."""
    model = tiny_model(family, attention)
    settings = EngineSettings(global_batch_size=len(SIZES), micro_batch_size=way.rows, precision="fp32", zero_stage=0)
    engine = Watched(model, torch.optim.SGD(model.parameters(), lr=0.0), settings, None)
    result = train_step(engine, part_of(model, way, rank), 0.0, empty_batch(0, model.layout))
    return result, engine.gradient


CASES = [(family, attention) for family in LANGUAGE for attention in ("sdpa", "eager")]
CASES_ON_TWO_RANKS = [case for case in CASES if "sdpa" in case]  # the kernels do not know of ranks
ON_TWO_RANKS = {
    "2 x 2": Way(rows=2, ranks=2),
    "packed": Way(batching="packed", rows=1, ranks=2),
    "bucketed": Way(batching="bucketed", rows=3, ranks=2),
    "one sample": Way(rows=1, ranks=2, only=(5,)),  # the other rank has none
}


def main() -> None:
    rank, _ = start_distributed()
    torch.set_num_threads(1)
    results = {
        (*case, name): step(*case, way, rank) for case in CASES_ON_TWO_RANKS for name, way in ON_TWO_RANKS.items()
    }
    torch.save(results, Path(sys.argv[1]) / f"{rank}.pt")


if __name__ == "__main__":
    main()
