"""Checkpoints that a run resumes from, and the exported model that others read.

OUT/checkpoints/step-000500/   optimiser, weights, loss scale (snapshot.py) and state.json; whole or absent
OUT/model/                     model.safetensors, recipe.yaml, tokenizer: what evaluation and the next stage load
OUT/log.jsonl                  a line per step
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from datagen.config import load, to_yaml
from datagen.errors import UserError
from datagen.files import atomic_folder, sync_folder, sync_tree, write_text
from trainer import snapshot
from trainer.assemble import assemble
from trainer.encode import ConversationEncoder
from trainer.engine import Engine
from trainer.model import VisionEncoder, VisionLanguageModel
from trainer.model.weights import export_header
from trainer.settings import EXPORT_FILE, Recipe

_STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Where a run stands. The data position is `step`: the next one reads the mixture from `step * global batch` on."""

    step: int = 0  # optimiser steps done
    samples: int = 0  # trained on
    supervised_tokens: int = 0
    source_tokens: dict[str, int] = field(default_factory=dict)  # the same by source of the mixture
    skipped: int = 0  # samples that could not be used
    dropped: int = 0  # samples left out for their length (data.too_long: drop)
    truncated: int = 0  # samples whose answer was cut at max_length
    data_sha256: str = ""  # of the mixture and the shards it reads


def checkpoints(out: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    folders = {path.name.removeprefix("step-"): path for path in (out / "checkpoints").glob("step-*")}
    return [folders[step] for step in sorted(filter(str.isdecimal, folders), key=int)]  # a copy "…-old" is none


def save_checkpoint(engine: Engine, out: Path, state: TrainState, *, rank: int, keep: int) -> None:
    """Writes a checkpoint; every rank calls it. A kill while it is written leaves the earlier ones as they were."""
    folder = out / "checkpoints" / f"step-{state.step:06d}"
    temp = folder.with_name(f".{folder.name}.tmp")
    if rank == 0:
        for torn in folder.parent.glob(".step-*.tmp"):  # of a run that was killed while it saved
            shutil.rmtree(torn)
        temp.mkdir(parents=True)
    engine.barrier()
    snapshot.save(engine, temp)
    engine.barrier()
    if rank == 0:
        write_text(temp / _STATE, json.dumps(asdict(state), indent=2) + "\n")
        sync_tree(temp)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temp, folder)
        sync_folder(folder.parent)
        for old in checkpoints(out)[:-keep]:
            shutil.rmtree(old)
    engine.barrier()


def resume(engine: Engine, out: Path, data_sha256: str) -> TrainState:
    """Restores the newest checkpoint, if there is one.

    Raises:
        UserError: it is of other data, or does not fit the model.
    """
    found = checkpoints(out)
    if not found:
        return TrainState(data_sha256=data_sha256)
    try:
        state = TrainState(**json.loads((found[-1] / _STATE).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{found[-1]}: broken ({error}); delete it to continue from the one before") from error
    if state.data_sha256 != data_sha256:
        raise UserError(
            f"{found[-1]}: was trained on another mixture or global batch, or the shards have been made anew since. "
            "Choose another out= (or delete this one), or restore data.mixture and engine.global_batch_size"
        )
    snapshot.load(engine, found[-1])
    return state


def export_model(
    engine: Engine, model: VisionLanguageModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, *, rank: int
) -> Path:
    """Writes `OUT/model`; every rank calls it, the first one writes.

    The recipe that goes with it states the parts' whole configuration, also what came with their weights, and what each
    encoder's images are like. That stands with the weights too.
    """
    folder = Path(recipe.out) / "model"
    vision = {
        name: replace(
            part,
            config=cast(VisionEncoder, model.encoders[name]).configuration(),
            preprocess=model.layout.preprocess[name].as_settings(),
        )
        for name, part in recipe.model.vision.items()
    }
    language = replace(recipe.model.language, config=model.language.configuration())
    recipe = replace(recipe, model=replace(recipe.model, vision=vision, language=language))
    weights = engine.state_dict()
    if rank == 0:
        with atomic_folder(folder, replace=True) as temp:
            save_file(_without_aliases(weights), temp / EXPORT_FILE, export_header(model.layout.preprocess))
            write_text(temp / "recipe.yaml", to_yaml(recipe))
            tokenizer.save_pretrained(temp / "tokenizer")
    engine.barrier()
    return folder


def load_exported(folder: Path) -> tuple[VisionLanguageModel, ConversationEncoder, Recipe]:
    """The model of `OUT/model` in evaluation mode, its encoder of conversations, and the recipe it was trained with.

    Raises:
        UserError: not an exported model, or its parts do not fit together.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no exported model there; a finished training run writes one into its out/model")
    recipe = load(Recipe, folder / "recipe.yaml")
    if not (folder / "tokenizer").is_dir():  # or its name would be looked for on the hub
        raise UserError(
            f"{folder / 'tokenizer'}: no such folder; put the tokenizer that the model was trained with there"
            " (`python -m trainer.convert … --tokenizer FOLDER` does)"
        )
    language = replace(recipe.model.language, tokenizer=str(folder / "tokenizer"))
    model, encoder, _ = assemble(replace(recipe, init=str(folder), model=replace(recipe.model, language=language)))
    return model.eval(), encoder, recipe


def _without_aliases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied tensors once, under the first of their names; safetensors refuses shared memory."""
    first: dict[int, str] = {}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in weights.items()
        if first.setdefault(tensor.data_ptr(), name) == name
    }
