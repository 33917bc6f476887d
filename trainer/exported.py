"""The exported model of a run, OUT/model: weights, recipe and tokenizer. Evaluation and the next stage load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trainer.assemble import assemble
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import export_header
from trainer.settings import EXPORT_FILE, Recipe
from trainer.text.encode import ConversationEncoder
from varyforge.config import load, to_yaml
from varyforge.errors import UserError
from varyforge.files import atomic_folder, write_text


def export_model(
    weights: Mapping[str, Tensor], model: VisionLanguageModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase
) -> Path:
    """Write `OUT/model` with the whole model's `weights` and return its path.

    The recipe in it states each part's whole configuration, including values that came with pretrained weights, and the
    preprocessing of each encoder. The preprocessing also stands in the header of the weights' file.
    """
    folder = Path(recipe.out) / "model"
    vision = {
        name: replace(
            part, config=model.vision[name].configuration(), preprocess=model.layout.preprocess[name].as_settings()
        )
        for name, part in recipe.model.vision.items()
    }
    language = replace(recipe.model.language, config=model.language.configuration())
    recipe = replace(recipe, model=replace(recipe.model, vision=vision, language=language))
    with atomic_folder(folder, replace=True) as temp:
        save_file(_without_aliases(weights), temp / EXPORT_FILE, export_header(model.layout.preprocess))
        write_text(temp / "recipe.yaml", to_yaml(recipe))
        tokenizer.save_pretrained(temp / "tokenizer")
    return folder


def load_exported(folder: Path) -> tuple[VisionLanguageModel, ConversationEncoder, Recipe]:
    """Return the model of `OUT/model` in evaluation mode, its conversation encoder, and the recipe of its training.

    Raises:
        UserError: the folder is not an exported model, or its parts do not fit together.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no exported model there; a finished training run writes one to OUT/model")
    recipe = load(Recipe, folder / "recipe.yaml")
    if not (folder / "tokenizer").is_dir():  # transformers would look for a tokenizer of that name on the hub
        raise UserError(
            f"{folder / 'tokenizer'}: no such folder; put the tokenizer that the model was trained with there"
            " (`python -m trainer.convert … --tokenizer FOLDER` does)"
        )
    language = replace(recipe.model.language, tokenizer=str(folder / "tokenizer"))
    model, encoder, _ = assemble(replace(recipe, init=str(folder), model=replace(recipe.model, language=language)))
    return model.eval(), encoder, recipe


def _without_aliases(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tied tensors once, under the first of their names, because safetensors refuses shared memory."""
    first: dict[int, str] = {}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in weights.items()
        if first.setdefault(tensor.data_ptr(), name) == name
    }
