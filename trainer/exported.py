"""Moved from trainer.train.checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from trainer.assemble import assemble
from trainer.model import VisionEncoder, VisionLanguageModel
from trainer.model.weights import export_header
from trainer.settings import EXPORT_FILE, Recipe
from trainer.text.encode import ConversationEncoder
from trainer.train.engine import Engine
from varyforge.config import load, to_yaml
from varyforge.errors import UserError
from varyforge.files import atomic_folder, write_text


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
