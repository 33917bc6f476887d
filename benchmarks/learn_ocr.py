"""Does it learn to read? A small Vary-tiny+ from random weights, on rendered pages of words.

    python benchmarks/learn_ocr.py

Everything is the project's own path: PDFs → `datagen.pdf` → tokenizer → `trainer.run` → `trainer.evaluate`; only the
sizes are small. Held-out pages are of documents that were not trained on. Passes when the normalised edit distance
there is below 0.10 and the loss with another page's image is at least one nat per token above the loss with the right
one (a model that ignores the image shows no difference).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import tomllib
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pymupdf
import torch

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
from varyforge.errors import command
from varyforge.shards import ShardSet

PAGE_PT = 64  # a page is square, and one point is one pixel of the encoder
LINES = 4
WORDS = 300
DOCUMENTS, PAGES = 60, 100
LETTERS_ONLY = 261  # entries of a byte-level tokenizer without a single merge: it has to spell
MAX_EDIT_DISTANCE, MIN_SWAP_GAP = 0.10, 1.0


def lexicon() -> list[str]:
    """The most frequent words of four to six letters in the sample texts."""
    bank = tomllib.loads((files("datagen.examples") / "data" / "texts.toml").read_text(encoding="utf-8"))
    words = re.findall(r"\b[a-z]{4,6}\b", json.dumps(bank, ensure_ascii=False))
    return sorted(word for word, _ in Counter(words).most_common(WORDS))


def write_pages(folder: Path, words: list[str]) -> None:
    """Documents of pages with one random word a line."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(0)
    for number in range(DOCUMENTS):
        with pymupdf.open() as document:
            for _ in range(PAGES):
                page = document.new_page(width=PAGE_PT, height=PAGE_PT)
                for line in range(LINES):
                    page.insert_text((2, (line + 0.72) * PAGE_PT / LINES), dice.choice(words), fontsize=13)
            document.save(folder / f"words-{number:03d}.pdf", garbage=3, deflate=True, no_new_id=True)


def recipe(out: Path, epochs: int) -> Recipe:
    """A Vary-tiny+ of about 1.5 M parameters."""
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
def swap_gap(folder: Path, shards: Path, limit: int) -> tuple[float, float]:
    """Loss on held-out pages with their own images, and with the next page's."""
    model, encoder, _ = load_exported(folder)
    _, samples = held_out(ShardSet(shards), limit)
    rows = [[(encoder.encode(sample), [pixels(image, model.layout) for image in sample.images])] for sample in samples]
    batch: Batch = collate(rows, encoder.pad_id, model.layout)
    swapped = replace(batch, pixels={name: images.roll(1, 0) for name, images in batch.pixels.items()})
    return float(model(batch)[1].mean()), float(model(swapped)[1].mean())


@command
def main() -> int:
    """Runs the benchmark; exit status 1 when it misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/learn_ocr"), help="work folder; a run goes on there")
    parser.add_argument("--epochs", type=int, default=6, help="over the 6,000 pages (%(default)s)")
    arguments = parser.parse_args()
    out: Path = arguments.out
    torch.set_flush_denormal(True)
    started = time.monotonic()

    write_pages(out / "pdf", lexicon())
    gates = PageGates(min_chars=1)
    source = PdfSource(paths=[str(out / "pdf")], short_side_px=PAGE_PT, gates=gates)
    run_job(source, out / "shards", JobSettings(units_per_shard=500, validation_share=0.05), LocalRunner())
    train_tokenizer([ShardSet(out / "shards")], vocabulary=LETTERS_ONLY).save_pretrained(out / "tokenizer")
    prepared = time.monotonic()

    folder = training.train_recipe(recipe(out, arguments.epochs))
    trained = time.monotonic()

    model, encoder, _ = load_exported(folder)
    predictions = evaluate(
        model, encoder, "learn_ocr", ShardSet(out / "shards"), limit=100, max_new_tokens=48, batch_size=25
    )
    (result,) = score(predictions, "")
    own, swapped = swap_gap(folder, out / "shards", 100)
    for prediction in predictions[:3]:
        say(f"truth {prediction.truth!r}  read {prediction.prediction!r}")
    figures = {
        "normalised_edit_distance": round(result.edit_distance, 4),
        "pages": result.n,
        "loss": round(own, 4),
        "loss_with_another_pages_image": round(swapped, 4),
        "prepare_s": round(prepared - started),
        "train_s": round(trained - prepared),
    }
    print(json.dumps(figures, indent=2))
    return 0 if result.edit_distance < MAX_EDIT_DISTANCE and swapped - own > MIN_SWAP_GAP else 1


if __name__ == "__main__":
    main()
