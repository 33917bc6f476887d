"""The report's data about scores: a table, and models' answers beside the true ones."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datagen.card.card import read_sample
from datagen.card.pictures import BOX_TASKS, LegendEntry, Outline, thumbnail
from trainer.evaluate.scores import PREDICTIONS, SCORES, Prediction, Score
from varyforge.boxes import parse_boxes
from varyforge.errors import UserError
from varyforge.sample import Sample
from varyforge.shards import ShardSet

TRUE_COLOUR, PREDICTED_COLOUR = "#00a04a", "#e4007c"
_MOST_PREDICTIONS = 6  # per task


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionCard:
    """A sample's true answer and the answers of models, trained models first."""

    key: str
    truth: str
    answers: list[tuple[Prediction, bool]]  # and whether the model is trained
    in_shards: bool  # whether one of the shard sets has the sample
    pictures: list[str]  # `data:` URLs
    legend: list[LegendEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """The scores of all models on one task of one shard set, with some answers."""

    shards: str
    task: str
    split: str
    untrained: list[Score]
    trained: list[Score]
    predictions: list[PredictionCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCard:
    """An output folder of `trainer.evaluate`."""

    folder: Path
    tasks: list[TaskScores]


def is_trained(model: str) -> bool:
    """Return whether `model` is trained: `trainer.evaluate` names an untrained model by its recipe, a YAML file."""
    return not model.endswith(".yaml")


def read_scores(folder: Path, shards: Sequence[Path]) -> ScoreCard:
    """Read scores and predictions, and the images of predictions from `shards` by key.

    Raises:
        UserError: the folder or one of its files is missing or broken.
    """
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in _read_rows(folder, SCORES, Score):
        groups.setdefault((score.shards, score.task), []).append(score)
    predictions = _first_predictions(_read_rows(folder, PREDICTIONS, Prediction))
    samples = _find_samples(shards, {key for by_key in predictions.values() for key in by_key})
    return ScoreCard(
        folder=folder,
        tasks=[
            TaskScores(
                shards=of_shards,
                task=task,
                split=scores[0].split,
                untrained=[score for score in scores if not is_trained(score.model)],
                trained=[score for score in scores if is_trained(score.model)],
                predictions=[
                    _prediction_card(answers, samples.get(key))
                    for key, answers in predictions.get((of_shards, task), {}).items()
                ],
            )
            for (of_shards, task), scores in groups.items()
        ],
    )


def _read_rows(folder: Path, name: str, row_type: type) -> list[Any]:
    path = folder / name
    if not path.is_file():
        problem = f"it has no {name}" if folder.is_dir() else "no such folder of scores"
        raise UserError(f"{folder}: {problem}; `python -m trainer.evaluate MODEL --shards … --out {folder}` makes it")
    try:
        data = path.read_bytes()  # str.splitlines would also split at U+2028 inside a text
        rows = json.loads(data) if name == SCORES else [json.loads(line) for line in data.splitlines()]
        return [row_type(**row) for row in rows]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); run the evaluation again") from error


def _first_predictions(predictions: Sequence[Prediction]) -> dict[tuple[str, str], dict[str, list[Prediction]]]:
    """Return all answers to the first samples of each (shard set, task) by key, trained models first.

    The first samples are those with the smallest keys, so that nothing is selected by hand.
    """
    groups: dict[tuple[str, str], dict[str, list[Prediction]]] = {}
    for prediction in sorted(predictions, key=lambda p: not is_trained(p.model)):
        by_key = groups.setdefault((prediction.shards, prediction.task), {})
        if prediction.key in by_key or len(by_key) < _MOST_PREDICTIONS:
            by_key.setdefault(prediction.key, []).append(prediction)
    return groups


def _prediction_card(predictions: Sequence[Prediction], sample: Sample | None) -> PredictionCard:
    first = predictions[0]
    true = predicted = []
    if first.task in BOX_TASKS:
        true, predicted = parse_boxes(first.truth)[0], parse_boxes(first.prediction)[0]
    outlines = [Outline(box=item.box, colour=TRUE_COLOUR, width_px=4) for item in true]  # visible behind an equal box
    outlines += [Outline(box=item.box, colour=PREDICTED_COLOUR) for item in predicted]
    legend = [
        LegendEntry(name="true", colour=TRUE_COLOUR, count=len(true)),
        LegendEntry(name="predicted", colour=PREDICTED_COLOUR, count=len(predicted)),
    ]
    return PredictionCard(
        key=first.key,
        truth=first.truth,
        answers=[(prediction, is_trained(prediction.model)) for prediction in predictions],
        in_shards=sample is not None,
        pictures=[thumbnail(image.data, outlines) for image in sample.images] if sample else [],
        legend=legend if first.task in BOX_TASKS else [],
    )


def _find_samples(folders: Sequence[Path], keys: Collection[str]) -> dict[str, Sample]:
    """Return the samples with these keys that a shard set contains, by key."""
    samples: dict[str, Sample] = {}
    key_set = pa.array(sorted(keys), pa.string())
    for folder in folders:
        shards = ShardSet(folder)
        for table in shards.tables(["key", "shard", "offset", "size"]):
            rows = table.filter(pc.is_in(table.column("key"), value_set=key_set)).to_pylist()
            samples |= {row["key"]: read_sample(shards, row) for row in rows}
    return samples
