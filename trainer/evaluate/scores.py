"""Predictions on held-out samples, and their normalised edit distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pyarrow.compute as pc
from rapidfuzz.distance import Levenshtein

from trainer.evaluate.generate import answers
from trainer.model.vlm import VisionLanguageModel
from trainer.text.encode import ConversationEncoder
from varyforge.console import Progress, warn
from varyforge.errors import UserError
from varyforge.escape import unescape
from varyforge.sample import Sample
from varyforge.shards import ShardSet

SCORES, PREDICTIONS = "scores.json", "predictions.jsonl"


def normalised_edit_distance(prediction: str, truth: str) -> float:
    """Return the Levenshtein distance in characters ÷ the length of the longer text: 0 is equal, 1 the worst.

    White space at both ends is ignored. Vary measures document OCR in this way (arXiv 2312.06109, section 4.2).

    >>> normalised_edit_distance("kitten", "sitting")  # 3 edits, 7 characters
    0.42857142857142855
    >>> normalised_edit_distance("", "page")
    1.0
    """
    return float(Levenshtein.normalized_distance(prediction.strip(), truth.strip()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer of a model, with the true one."""

    model: str
    shards: str
    key: str
    task: str
    split: str
    truth: str
    prediction: str
    finished: bool  # False: cut off at the longest answer allowed
    edit_distance: float  # normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The normalised edit distance of a model over the samples of one task. An empty answer counts as 1."""

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
    """Predict `limit` held-out samples of a shard set, or training samples if it holds nothing out."""
    split, samples = held_out(shards, limit)
    predictions = []
    with Progress(f"{name} on {shards.folder}", total=len(samples), unit="sample") as progress:
        replies = answers(model, encoder, samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
        for sample, answer in zip(samples, replies, strict=True):
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
            predictions.append(prediction)
            progress.advance(1)
    return predictions


def held_out(shards: ShardSet, limit: int) -> tuple[str, list[Sample]]:
    """Return ("validation", `limit` samples), or ("train", …) with a warning if the set holds nothing out.

    Samples are taken in the order of their keys, so the choice is arbitrary but always the same.
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
    """Return one score per (shard set, task) of one model's predictions."""
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
