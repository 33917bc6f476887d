"""Score models on held-out samples.

    python -m trainer.evaluate runs/tiny_plus/model --shards shards/pdf --out runs/tiny_plus/scores

A folder is a trained model. A recipe is the untrained model that its training starts from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from trainer.assemble import assemble
from trainer.evaluate.scores import PREDICTIONS, SCORES, Prediction, Score, evaluate, score
from trainer.exported import load_exported
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EXPORT_FILE, Recipe
from trainer.text.encode import ConversationEncoder
from varyforge.commands import program
from varyforge.config import load
from varyforge.console import show_table
from varyforge.errors import UserError, command
from varyforge.files import sha256_file, write_text
from varyforge.shards import ShardSet


def load_model(path: Path) -> tuple[VisionLanguageModel, ConversationEncoder, str]:
    """Return a model, its conversation encoder, and the SHA-256 of its weights ("" for a recipe's untrained model)."""
    if path.suffix == ".yaml":
        model, encoder, _ = assemble(load(Recipe, path))
        return model.eval(), encoder, ""
    model, encoder, _ = load_exported(path)
    return model, encoder, sha256_file(path / EXPORT_FILE)


def evaluate_models(
    models: Sequence[Path], shards: Sequence[Path], out: Path, *, limit: int, max_new_tokens: int
) -> list[Score]:
    """Evaluate each model on each shard set; write scores.json and predictions.jsonl to `out`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sets = [ShardSet(folder) for folder in shards]
    scores: list[Score] = []
    predictions: list[Prediction] = []
    for path in models:
        model, encoder, weights = load_model(path)
        model.to(device)
        for shard_set in sets:
            answered = evaluate(model, encoder, str(path), shard_set, limit=limit, max_new_tokens=max_new_tokens)
            predictions += answered
            scores += score(answered, weights)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PREDICTIONS, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in predictions))
    write_text(out / SCORES, json.dumps([asdict(s) for s in scores], indent=2) + "\n")
    return scores


@command
def main() -> int:
    """Parse the command line, evaluate, print the scores."""
    parser = argparse.ArgumentParser(
        prog=program("trainer.evaluate"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, help="recipes (*.yaml) or exported models (RUN/model)")
    parser.add_argument("--shards", nargs="+", required=True, type=Path, help="shard sets; held-out samples are used")
    parser.add_argument("--out", required=True, type=Path, help="folder for scores.json and predictions.jsonl")
    parser.add_argument("--limit", type=int, default=100, help="samples per shard set (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=2048, help="longest answer in tokens (%(default)s)")
    arguments = parser.parse_args()
    options = {"limit": arguments.limit, "max_new_tokens": arguments.max_new_tokens}
    if min(options.values()) < 1:
        raise UserError("--limit and --max-new-tokens must be 1 or more")
    scores = evaluate_models(arguments.models, arguments.shards, arguments.out, **options)
    columns = ("model", "task", "split", "edit distance", "n", "empty", "cut")
    rows = [(s.model, s.task, s.split, f"{s.edit_distance:.3f}", s.n, s.n_empty, s.n_unfinished) for s in scores]
    show_table("normalised edit distance (0 is perfect)", columns, rows)
    return 0


if __name__ == "__main__":
    main()
