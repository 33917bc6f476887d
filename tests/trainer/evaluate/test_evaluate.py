from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.world import make_tokenizer, tiny_recipe
from trainer import run as training
from trainer.evaluate.__main__ import evaluate_models
from trainer.evaluate.scores import held_out, normalised_edit_distance, score
from varyforge.shards import ShardSet


@pytest.mark.parametrize(
    ("prediction", "truth", "distance"),
    [
        ("kitten", "sitting", 3 / 7),
        ("same", "same", 0.0),
        (" same\n", "same", 0.0),
        ("", "page", 1.0),
        ("", "", 0.0),
        ("abcd", "ab", 0.5),
        ("中文字", "中文", 1 / 3),
    ],
)
def test_normalised_edit_distance_by_hand(prediction: str, truth: str, distance: float) -> None:
    assert normalised_edit_distance(prediction, truth) == pytest.approx(distance)


def test_scores_of_a_trained_and_an_untrained_model(pdf_shards: Path, chat_shards: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer([pdf_shards, chat_shards], tmp_path / "tokenizer")
    recipe = tiny_recipe(tmp_path / "run", tokenizer, {"pdf": pdf_shards}, samples=8)
    folder = training.train_recipe(recipe)
    out = tmp_path / "scores"
    scores = evaluate_models(
        [folder / "recipe.yaml", folder], [pdf_shards, chat_shards], out, limit=1, max_new_tokens=12
    )
    assert json.loads((out / "scores.json").read_text())[0]["model"] == str(folder / "recipe.yaml")
    assert [(s.task, s.split, s.n) for s in scores] == [("ocr", "validation", 1), ("text", "validation", 1)] * 2
    assert [s.weights_sha256 == "" for s in scores] == [True, True, False, False]
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == 4
    for built in predictions:
        assert built["edit_distance"] == normalised_edit_distance(built["prediction"], built["truth"])
    held = {row["key"] for row in ShardSet(pdf_shards).table().to_pylist() if row["split"] == "validation"}
    assert {p["key"] for p in predictions if p["task"] == "ocr"} <= held
    for s in scores:
        mine = [p for p in predictions if (p["model"], p["task"]) == (s.model, s.task)]
        assert s.edit_distance == pytest.approx(sum(p["edit_distance"] for p in mine))
        assert s.n_unfinished == sum(not p["finished"] for p in mine)
    assert evaluate_models([folder], [pdf_shards], tmp_path / "again", limit=1, max_new_tokens=12)[0] == scores[2]


def test_an_empty_answer_counts_as_one() -> None:
    from trainer.evaluate.scores import Prediction

    common = {"model": "m", "shards": "s", "task": "ocr", "split": "validation", "finished": True, "truth": "abc"}
    good = Prediction(**common, key="a", prediction="abc", edit_distance=0.0)  # type: ignore[arg-type]
    empty = replace(good, key="b", prediction=" ", edit_distance=normalised_edit_distance(" ", "abc"))
    (result,) = score([good, empty], "")
    assert (result.edit_distance, result.n, result.n_empty) == (0.5, 2, 1)


def test_without_held_out_samples_it_says_so(
    chat_shards: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from datagen.job.job import run_job
    from datagen.job.runner import LocalRunner
    from datagen.job.settings import JobSettings
    from tests.datagen.sources import FaultySource

    run_job(FaultySource(), tmp_path / "all", JobSettings(validation_share=0.0), LocalRunner())
    split, samples = held_out(ShardSet(tmp_path / "all"), 5)
    assert (split, len(samples)) == ("train", 5)
    assert held_out(ShardSet(chat_shards), 2)[0] == "validation"
