"""Measure whether a model learns to read: a small Vary-tiny+ from random weights, on rendered pages of words.

    python -m benchmarks.learn_ocr

All steps are the project's own: PDFs → `datagen.pdf` → tokenizer → `trainer.run` → `trainer.evaluate`; only the sizes
are small. Held-out pages are of documents that were not trained on. The aims are a normalised edit distance below 0.10
on these pages, and a loss with another page's image that is at least one nat per token above the loss with the right
image. A model that ignores the image has no difference.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pymupdf
import torch

from benchmarks.bench import Miss, Table, main_of, work_folder
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.audit.gates import PageGates
from datagen.pdf.source import PdfSource
from trainer import run as training
from trainer.batch import Batch
from trainer.evaluate.scores import evaluate, held_out, score
from trainer.exported import load_exported
from trainer.images.pixels import pixels
from trainer.loader.packing import collate
from trainer.settings import (
    CheckpointSettings,
    DataSettings,
    EncoderSettings,
    EngineSettings,
    LanguageSettings,
    MixtureSettings,
    ModelSettings,
    OptimSettings,
    Recipe,
    SourceSettings,
    WandbSettings,
)
from trainer.tokenizer import train_tokenizer
from varyforge.console import say
from varyforge.shards import ShardSet

PAGE_PT = 64  # a page is square, and one point is one pixel of the encoder
LINES = 4
WORDS = 300
LETTERS_ONLY = 261  # entries of a byte-level tokenizer without a single merge: it has to spell
MAX_EDIT_DISTANCE, MIN_SWAP_GAP = 0.10, 1.0
TINY = {"documents": 8, "pages": 4, "epochs": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--out", type=Path, help="work folder in which a run goes on (default: a temporary one)")
    parser.add_argument("--documents", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--pages", type=int, default=100, help="of a document (%(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="over the pages (%(default)s)")


def lexicon() -> list[str]:
    """Return the most frequent words of four to six letters in the sample texts."""
    bank = tomllib.loads((files("datagen.examples") / "data" / "texts.toml").read_text(encoding="utf-8"))
    words = re.findall(r"\b[a-z]{4,6}\b", json.dumps(bank, ensure_ascii=False))
    return sorted(word for word, _ in Counter(words).most_common(WORDS))


def write_pages(folder: Path, words: list[str], documents: int, pages: int) -> None:
    """Write documents of pages with one random word a line."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(0)
    for number in range(documents):
        with pymupdf.open() as document:
            for _ in range(pages):
                page = document.new_page(width=PAGE_PT, height=PAGE_PT)
                for line in range(LINES):
                    page.insert_text((2, (line + 0.72) * PAGE_PT / LINES), dice.choice(words), fontsize=13)
            document.save(folder / f"words-{number:03d}.pdf", garbage=3, deflate=True, no_new_id=True)


def recipe(out: Path, epochs: int) -> Recipe:
    """Return the recipe of a Vary-tiny+ of about 1.5 M parameters."""
    sam = {
        "image_size": PAGE_PT,
        "patch_size": 4,
        "width": 96,
        "depth": 3,
        "heads": 4,
        "window": 4,
        "global_layers": [2],
        "neck": 96,
        "conv_channels": [128, 192],
    }
    opt = {
        "vocab_size": 264,
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "ffn_dim": 512,
        "max_position_embeddings": 256,
        "word_embed_proj_dim": 128,
        "dropout": 0.0,
        "init_std": 0.05,  # OPT's 0.02 is for a width of 768
    }
    return Recipe(
        out=str(out / "run"),
        model=ModelSettings(
            vision={"vary": EncoderSettings(type="sam", config=sam)},
            language=LanguageSettings(type="opt", tokenizer=str(out / "tokenizer"), template="vicuna_v1", config=opt),
        ),
        data=DataSettings(
            mixture=MixtureSettings(sources={"words": SourceSettings(shards=str(out / "shards"))}),
            epochs=epochs,
            max_length=256,
            workers=1,
        ),
        optim=OptimSettings(learning_rate=4e-4, betas=(0.9, 0.98), grad_clip=1.0),
        engine=EngineSettings(
            global_batch_size=8, micro_batch_size=8, precision="fp32", zero_stage=0, gradient_checkpointing=False
        ),
        checkpoint=CheckpointSettings(every_steps=1000),
        wandb=WandbSettings(mode="disabled"),
    )


@torch.no_grad()
def swapped_losses(folder: Path, shards: Path, limit: int) -> tuple[float, float]:
    """Return the loss per token on held-out pages with the pages' own images, and with the next page's."""
    model, encoder, _ = load_exported(folder)
    _, samples = held_out(ShardSet(shards), limit)
    rows = [[(encoder.encode(sample), [pixels(image, model.layout) for image in sample.images])] for sample in samples]
    batch: Batch = collate(rows, encoder.pad_id, model.layout)
    swapped = replace(batch, pixels={name: images.roll(1, 0) for name, images in batch.pixels.items()})
    return float(model(batch)[1].mean()), float(model(swapped)[1].mean())


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Make the data, train, and evaluate."""
    with work_folder(arguments.out) as out:
        yield from _measured(out, arguments)


def _measured(out: Path, arguments: argparse.Namespace) -> Iterator[Table | str]:
    torch.set_flush_denormal(True)
    started = time.monotonic()
    write_pages(out / "pdf", lexicon(), arguments.documents, arguments.pages)
    source = PdfSource(paths=[str(out / "pdf")], short_side_px=PAGE_PT, gates=PageGates(min_chars=1))
    share = max(0.05, 3 / arguments.documents)
    run_job(source, out / "shards", JobSettings(units_per_shard=500, validation_share=share), LocalRunner())
    train_tokenizer([ShardSet(out / "shards")], vocabulary=LETTERS_ONLY).save_pretrained(out / "tokenizer")
    prepared = time.monotonic()
    folder = training.train_recipe(recipe(out, arguments.epochs))
    trained = time.monotonic()
    model, encoder, _ = load_exported(folder)
    predictions = evaluate(
        model, encoder, "learn_ocr", ShardSet(out / "shards"), limit=100, max_new_tokens=48, batch_size=25
    )
    (scores,) = score(predictions, "")
    own, swapped = swapped_losses(folder, out / "shards", 100)
    for prediction in predictions[:3]:
        say(f"truth {prediction.truth!r}  read {prediction.prediction!r}")
    yield Table(
        head=(
            "normalised edit distance", "held-out pages", "loss per token", "with another page's image", "data s",
            "training s",
        ),
        rows=[
            (
                f"{scores.edit_distance:.4f}", str(scores.n), f"{own:.3f}", f"{swapped:.3f}",
                f"{prepared - started:.0f}", f"{trained - prepared:.0f}",
            )
        ],
    )  # fmt: skip
    if scores.edit_distance >= MAX_EDIT_DISTANCE:
        yield Miss(f"the edit distance is {scores.edit_distance:.4f}, the aim is below {MAX_EDIT_DISTANCE}.")
    if swapped - own <= MIN_SWAP_GAP:
        yield Miss(f"another page's image raises the loss by {swapped - own:.2f}, the aim is {MIN_SWAP_GAP} nat.")


if __name__ == "__main__":
    main_of("benchmarks.learn_ocr")
