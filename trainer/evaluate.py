"""Scores models on held-out samples.

    python -m trainer.evaluate runs/tiny_plus/model --shards shards/pdf --out runs/tiny_plus/scores

A recipe stands for the model as its training starts from, a folder for a trained one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import pyarrow.compute as pc
import torch
from rapidfuzz.distance import Levenshtein

from datagen.config import load
from datagen.console import Progress, show_table, warn
from datagen.errors import UserError, command
from datagen.escape import unescape
from datagen.files import sha256_file, write_text
from datagen.sample import Sample
from datagen.shards import ShardSet
from trainer.assemble import assemble
from trainer.checkpoint import load_exported
from trainer.encode import ConversationEncoder
from trainer.generate import answers
from trainer.model import VisionLanguageModel
from trainer.settings import EXPORT_FILE, Recipe

SCORES, PREDICTIONS = "scores.json", "predictions.jsonl"


def normalised_edit_distance(prediction: str, truth: str) -> float:
    """Levenshtein distance in characters ÷ the longer text's length: 0 equal, 1 nothing in common.

    White space at both ends does not count. The measure of Vary's document OCR (arXiv 2312.06109, section 4.2).

    >>> normalised_edit_distance("kitten", "sitting")  # 3 edits, 7 characters
    0.42857142857142855
    >>> normalised_edit_distance("", "page")
    1.0
    """
    return float(Levenshtein.normalized_distance(prediction.strip(), truth.strip()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer beside the truth."""

    model: str
    shards: str
    key: str
    task: str
    split: str
    truth: str
    prediction: str
    finished: bool  # False: cut at the longest answer allowed
    edit_distance: float  # normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Normalised edit distance of a model over the samples of one task; an empty answer counts as 1."""

    model: str
    weights_sha256: str  # "" for a model that has not been trained
    shards: str
    task: str
    split: str  # "train" where the shard set holds nothing out
    edit_distance: float  # mean
    n: int
    n_empty: int
    n_unfinished: int


def evaluate(
    model: VisionLanguageModel,
    encoder: ConversationEncoder,
    name: str,
    shards: ShardSet,
    *,
    limit: int,
    max_new_tokens: int,
    batch_size: int = 8,
) -> list[Prediction]:
    """Answers of a model for `limit` held-out samples of a shard set (training samples if none is held out)."""
    split, samples = held_out(shards, limit)
    found = []
    with Progress(f"{name} on {shards.folder}", total=len(samples), unit="sample") as progress:
        said = answers(model, encoder, samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
        for sample, answer in zip(samples, said, strict=True):
            truth = unescape(sample.answer)
            prediction = Prediction(
                model=name,
                shards=str(shards.folder),
                key=sample.key,
                task=sample.task,
                split=split,
                truth=truth,
                prediction=answer.text,
                finished=answer.finished,
                edit_distance=normalised_edit_distance(answer.text, truth),
            )
            found.append(prediction)
            progress.advance(1)
    return found


def held_out(shards: ShardSet, limit: int) -> tuple[str, list[Sample]]:
    """("validation", `limit` of its samples), or ("train", …), said loudly, where nothing is held out.

    Taken in order of key, which is as good as random and always the same.
    """
    index = shards.table(["key", "shard", "offset", "size", "split"]).sort_by("key")
    for split in ("validation", "train"):
        rows = index.filter(pc.field("split") == split).slice(0, limit).to_pylist()
        if rows:
            if split == "train":
                warn(f"{shards.folder}: nothing is held out; the scores are on samples that were trained on")
            return split, [shards.read(row["shard"], row["offset"], row["size"]) for row in rows]
    raise UserError(f"{shards.folder}: holds no sample")


def score(predictions: Sequence[Prediction], weights_sha256: str) -> list[Score]:
    """One score per (shard set, task) of one model's predictions."""
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.shards, prediction.task), []).append(prediction)
    return [
        Score(
            model=group[0].model,
            weights_sha256=weights_sha256,
            shards=shards,
            task=task,
            split=group[0].split,
            edit_distance=fmean(p.edit_distance for p in group),
            n=len(group),
            n_empty=sum(not p.prediction.strip() for p in group),
            n_unfinished=sum(not p.finished for p in group),
        )
        for (shards, task), group in groups.items()
    ]


def load_model(path: Path) -> tuple[VisionLanguageModel, ConversationEncoder, str]:
    """A model to evaluate and the SHA-256 of its weights ("" for a recipe's untrained one)."""
    if path.suffix == ".yaml":
        model, encoder, _ = assemble(load(Recipe, path))
        return model.eval(), encoder, ""
    model, encoder, _ = load_exported(path)
    return model, encoder, sha256_file(path / EXPORT_FILE)


def run(models: Sequence[Path], shards: Sequence[Path], out: Path, *, limit: int, max_new_tokens: int) -> list[Score]:
    """Evaluates each model on each shard set; writes scores.json and predictions.jsonl to `out`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sets = [ShardSet(folder) for folder in shards]
    scores: list[Score] = []
    predictions: list[Prediction] = []
    for path in models:
        model, encoder, weights = load_model(path)
        model.to(device)
        for shard_set in sets:
            options = {"limit": limit, "max_new_tokens": max_new_tokens}
            made = evaluate(model, encoder, str(path), shard_set, **options)
            predictions += made
            scores += score(made, weights)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PREDICTIONS, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in predictions))
    write_text(out / SCORES, json.dumps([asdict(s) for s in scores], indent=2) + "\n")
    return scores


@command
def main() -> int:
    """Parses the command line, evaluates, shows the scores."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, help="recipes (*.yaml) or exported models (RUN/model)")
    parser.add_argument("--shards", nargs="+", required=True, type=Path, help="shard sets; their held-out part is used")
    parser.add_argument("--out", required=True, type=Path, help="folder for scores.json and predictions.jsonl")
    parser.add_argument("--limit", type=int, default=100, help="samples per shard set (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=2048, help="of an answer (%(default)s)")
    given = parser.parse_args()
    if given.limit < 1 or given.max_new_tokens < 1:
        raise UserError("--limit and --max-new-tokens must be 1 or more")
    scores = run(given.models, given.shards, given.out, limit=given.limit, max_new_tokens=given.max_new_tokens)
    columns = ("model", "task", "split", "edit distance", "n", "empty", "cut")
    rows = [(s.model, s.task, s.split, f"{s.edit_distance:.3f}", s.n, s.n_empty, s.n_unfinished) for s in scores]
    show_table("normalised edit distance (0 is perfect)", columns, rows)
    return 0


if __name__ == "__main__":
    main()
