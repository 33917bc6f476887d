"""What the report says of scores: a table, and answers beside the truth."""

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
_PREDICTIONS_SHOWN = 6  # per task


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one model said."""

    prediction: Prediction
    trained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionCard:
    """The truth about a sample and what models said: the trained one first."""

    key: str
    truth: str
    answers: list[Answer]
    found: bool  # in the shard sets given, with its picture
    pictures: list[str]  # `data:` URLs
    legend: list[LegendEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """The scores of all models on one task of one shard set, and answers in full."""

    shards: str
    task: str
    split: str
    untrained: list[Score]
    trained: list[Score]
    predictions: list[PredictionCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCard:
    """A folder that `trainer.evaluate` wrote."""

    folder: Path
    tasks: list[TaskScores]


def is_trained(model: str) -> bool:
    """A recipe stands for the model before its training, a folder for an exported one (see `trainer.evaluate`)."""
    return not model.endswith(".yaml")


def read_scores(folder: Path, shards: Sequence[Path]) -> ScoreCard:
    """Reads scores and predictions; pictures come from `shards`, by key.

    Raises:
        UserError: the folder or a file in it is missing or broken.
    """
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in _read_rows(folder, SCORES, Score):
        groups.setdefault((score.shards, score.task), []).append(score)
    shown = _first_predictions(_read_rows(folder, PREDICTIONS, Prediction))
    samples = _find_samples(shards, {key for by_key in shown.values() for key in by_key})
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
                    for key, answers in shown.get((of_shards, task), {}).items()
                ],
            )
            for (of_shards, task), scores in groups.items()
        ],
    )


def _read_rows(folder: Path, name: str, row_type: type) -> list[Any]:
    path = folder / name
    if not path.is_file():
        what = f"it has no {name}" if folder.is_dir() else "no such folder of scores"
        raise UserError(f"{folder}: {what}; `python -m trainer.evaluate MODEL --shards … --out {folder}` makes it")
    try:
        data = path.read_bytes()  # bytes: str.splitlines would also cut at U+2028 inside a text
        rows = json.loads(data) if name == SCORES else [json.loads(line) for line in data.splitlines()]
        return [row_type(**row) for row in rows]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); evaluate once more") from error


def _first_predictions(predictions: Sequence[Prediction]) -> dict[tuple[str, str], dict[str, list[Prediction]]]:
    """All answers to the first samples of each (shard set, task), by key; the trained models' first.

    "First" is in the order of evaluation, which is that of keys: as good as random, and nobody chose.
    """
    groups: dict[tuple[str, str], dict[str, list[Prediction]]] = {}
    for prediction in sorted(predictions, key=lambda p: not is_trained(p.model)):
        by_key = groups.setdefault((prediction.shards, prediction.task), {})
        if prediction.key in by_key or len(by_key) < _PREDICTIONS_SHOWN:
            by_key.setdefault(prediction.key, []).append(prediction)
    return groups


def _prediction_card(predictions: Sequence[Prediction], sample: Sample | None) -> PredictionCard:
    first = predictions[0]
    true = predicted = []
    if first.task in BOX_TASKS:
        true, predicted = parse_boxes(first.truth)[0], parse_boxes(first.prediction)[0]
    outlines = [Outline(box=item.box, colour=TRUE_COLOUR, width_px=4) for item in true]  # seen under an equal box
    outlines += [Outline(box=item.box, colour=PREDICTED_COLOUR) for item in predicted]
    legend = [
        LegendEntry(name="true", colour=TRUE_COLOUR, count=len(true)),
        LegendEntry(name="predicted", colour=PREDICTED_COLOUR, count=len(predicted)),
    ]
    return PredictionCard(
        key=first.key,
        truth=first.truth,
        answers=[Answer(prediction=p, trained=is_trained(p.model)) for p in predictions],
        found=sample is not None,
        pictures=[thumbnail(image.data, outlines) for image in sample.images] if sample else [],
        legend=legend if first.task in BOX_TASKS else [],
    )


def _find_samples(folders: Sequence[Path], keys: Collection[str]) -> dict[str, Sample]:
    """The samples among `keys` that the shard sets hold, by key."""
    found: dict[str, Sample] = {}
    wanted = pa.array(sorted(keys), pa.string())
    for folder in folders:
        shards = ShardSet(folder)
        for table in shards.tables(["key", "shard", "offset", "size"]):
            places = table.filter(pc.is_in(table.column("key"), value_set=wanted)).to_pylist()
            found |= {place["key"]: read_sample(shards, place) for place in places}
    return found
