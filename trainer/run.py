"""Train one stage from a recipe.

deepspeed trainer/run.py recipes/tiny_plus.yaml data.workers=8
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":  # python puts a script's folder first, where trainer/*.py would hide top-level modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from trainer.assemble import assemble
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.exported import export_model
from trainer.loader.packing import empty_batch
from trainer.loader.step_loader import Share, StepLoader, load_sample, open_pool
from trainer.model.liger import apply_liger
from trainer.model.weights import PartReport
from trainer.settings import Recipe
from trainer.train.engine import Engine, check_precision, start_distributed
from trainer.train.journal import ABOUT
from trainer.train.loop import train
from trainer.train.optim import build_optimizer
from varyforge.config import load
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command
from varyforge.files import locked, write_text


def train_recipe(recipe: Recipe) -> Path:
    """Train `recipe` from its newest checkpoint, if any, to its end. Return the folder of the exported model."""
    rank, world_size = start_distributed()
    check_precision(recipe.engine.precision)
    with locked(Path(recipe.out)) if rank == 0 else nullcontext():
        return _train(recipe, rank, world_size)


def _train(recipe: Recipe, rank: int, world_size: int) -> Path:
    cache = open_cache(recipe.data)
    corpus = Corpus(recipe.data, cache)
    total_steps = count_steps(corpus, recipe)
    model, encoder, parts = assemble(recipe)
    fused = apply_liger(model.language.model)
    if rank == 0:
        introduce(recipe, corpus, parts, total_steps, world_size)
        if fused:
            say("language model: Liger kernels for RMSNorm, SwiGLU and rotary positions")
    load = load_sample(encoder, recipe.data, cache)
    share = Share(
        rank=rank,
        world_size=world_size,
        global_batch_size=recipe.engine.global_batch_size,
        micro_batch_size=recipe.engine.micro_batch_size,
    )
    data = json.dumps([corpus.sha256, recipe.engine.global_batch_size])  # the shards and the order of their samples
    with open_pool(load, recipe.data, corpus, Path(recipe.out)) as pool:  # workers start while the engine is built
        engine = Engine(model, build_optimizer(model, recipe.optim), recipe.engine, recipe.optim.grad_clip)
        train(
            engine,
            StepLoader(corpus, load, pool, share, recipe.data).steps,
            recipe,
            total_steps=total_steps,
            data_sha256=hashlib.sha256(data.encode()).hexdigest(),
            rank=rank,
            empty=empty_batch(encoder.pad_id, encoder.layout),
        )
    weights = engine.state_dict()  # a collective operation
    if rank == 0:
        say(f"model written to {export_model(weights, model, recipe, encoder.tokenizer)}")
    engine.barrier()
    return Path(recipe.out) / "model"


def count_steps(corpus: Corpus, recipe: Recipe) -> int:
    """Return the number of whole global batches in all epochs."""
    positions = corpus.mixture.per_epoch * recipe.data.epochs
    if positions < recipe.engine.global_batch_size:
        raise UserError(
            f"the mixture has {positions} samples in {recipe.data.epochs} epochs, less than one "
            f"engine.global_batch_size of {recipe.engine.global_batch_size}; lower that, or raise data.epochs"
        )
    return positions // recipe.engine.global_batch_size


def introduce(recipe: Recipe, corpus: Corpus, parts: list[PartReport], total_steps: int, world_size: int) -> None:
    """Print tables of the model's parts, the mixture and the schedule; save the same in OUT/about.json for reports."""
    about = {
        "parts": [asdict(part) for part in parts],
        "mixture": [asdict(source) for source in corpus.mixture.sources],
        "asked_by_task": corpus.asked_by_task(recipe.data.epochs),
        "epochs": recipe.data.epochs,
        "total_steps": total_steps,
        "global_batch_size": recipe.engine.global_batch_size,
        "world_size": world_size,
    }
    write_text(Path(recipe.out) / ABOUT, json.dumps(about, indent=2) + "\n")
    show_table(
        "model",
        ("part", "parameters", "trained", "recomputed", "weights from"),
        [
            (part.part, f"{part.parameters:,}", f"{part.trainable:,}", "yes" if part.recomputed else "no", part.source)
            for part in parts
        ],
    )
    for part in parts:
        if part.tensors_random and not part.part.startswith(("connectors.", "joint")):  # never pretrained
            warn(f"{part.part}: {part.tensors_random} tensors start from RANDOM weights")
    mixture = corpus.mixture.sources
    per_epoch = corpus.mixture.per_epoch
    rows = [
        (s.name, f"{s.available:,}", f"{s.asked:,}", f"{s.asked / per_epoch:.1%}", f"{s.asked / s.available:.2f}")
        for s in mixture
    ]
    show_table("mixture", ("source", "available", "per epoch", "share", "times per epoch"), rows)
    engine, data = recipe.engine, recipe.data
    left = per_epoch * data.epochs - total_steps * engine.global_batch_size
    say(
        f"{total_steps} steps of {engine.global_batch_size} samples over {world_size} ranks, {data.batching} into "
        f"micro-batches of {engine.micro_batch_size} rows of at most {data.max_length} tokens; {data.epochs} epochs "
        f"of {per_epoch:,} samples" + (f"; the last {left} samples do not fill a step" if left else "")
    )
    say(
        f"{engine.precision}, ZeRO {engine.zero_stage}{' + optimiser offload' if engine.offload_optimizer else ''}, "
        f"writes to {recipe.out}"
    )


@command
def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="deepspeed trainer/run.py",
        description="Train one stage from a recipe. Run again, it resumes from the newest checkpoint.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  deepspeed trainer/run.py recipes/toy_pretrain.yaml
  deepspeed --num_gpus 4 trainer/run.py recipes/tiny_plus.yaml data.mixture.sources.pdf_en.shards=shards/pdf
  python trainer/run.py recipes/demo/tiny_plus.yaml         one process, no launcher""",
    )
    parser.add_argument("recipe", type=Path, help="a YAML file, for instance one in recipes/")
    parser.add_argument("overrides", nargs="*", help="key=value for the recipe, e.g. optim.learning_rate=1e-4")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # the launcher adds it
    arguments = parser.parse_args()
    recipe = load(Recipe, arguments.recipe, arguments.overrides)
    torch.set_flush_denormal(True)  # denormals make the backward pass on a CPU 10 times slower
    train_recipe(recipe)
    return 0


if __name__ == "__main__":
    main()
