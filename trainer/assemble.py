"""The way from a recipe to a model and a conversation encoder that fit each other.

Training and evaluation start here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from trainer.images.preprocess import moved
from trainer.images.sizes import PlannedImage
from trainer.model.build import build, image_layout
from trainer.model.tables import lookup
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import PartReport, copy_tensors, preprocess_of_export
from trainer.settings import EXPORT_FILE, ModelSettings, Recipe
from trainer.text.chat_templates import IMAGE_PAD, TEMPLATES
from trainer.text.encode import ConversationEncoder, load_tokenizer, token_id
from varyforge.console import warn
from varyforge.errors import UserError


def planned_image(model: ModelSettings) -> PlannedImage:
    """Return the tokens and views that an image of unknown size is planned with.

    Equals `ConversationEncoder.planned_image`, but needs neither tokenizer nor weights.
    """
    marks = lookup(TEMPLATES, model.language.template, "model.language.template").image
    layout = image_layout(model)
    return PlannedImage(layout.planned_tokens + sum(map(bool, marks)), layout.most_views)


def assemble(recipe: Recipe) -> tuple[VisionLanguageModel, ConversationEncoder, list[PartReport]]:
    """Return the model of a recipe, its conversation encoder, and a report on each part's weights.

    Raises:
        UserError: a part, its weights or the tokenizer is missing or does not fit.
    """
    tokenizer = load_tokenizer(recipe.model.language.tokenizer)
    model, parts = build(
        recipe.model if recipe.init is None else _without_weights(recipe.model),
        vocabulary=len(tokenizer),
        image_token_id=token_id(tokenizer, IMAGE_PAD),
        attention=recipe.engine.attention,
        gradient_checkpointing=recipe.engine.gradient_checkpointing,
        seed=recipe.seed,
    )
    if recipe.init is not None:
        _load_whole(model, Path(recipe.init) / EXPORT_FILE)
        trained = preprocess_of_export(recipe.init)
        parts = [
            replace(
                part,
                source=recipe.init,
                tensors_loaded=part.tensors_random,
                tensors_random=0,
                preprocess=trained.get(_encoder(part)),
            )
            for part in parts
        ]
    if recipe.data.max_length > model.language.max_positions:
        raise UserError(
            f"data.max_length {recipe.data.max_length}: the language model has {model.language.max_positions} positions"
        )
    if model.layout.most_views > recipe.data.max_images:
        raise UserError(
            f"data.max_images {recipe.data.max_images}: model.tiling cuts an image into up to "
            f"{model.layout.most_views} views, and each counts; set it to at least that number"
        )
    encoder = ConversationEncoder(
        tokenizer,
        template=recipe.model.language.template,
        layout=model.layout,
        max_length=recipe.data.max_length,
        too_long=recipe.data.too_long,
    )
    if encoder.planned_image.tokens > recipe.data.max_length:
        raise UserError(
            f"data.max_length {recipe.data.max_length}: an image and its marks have up to "
            f"{encoder.planned_image.tokens} tokens, and images are never cut; raise it, or take a model with fewer"
        )
    if os.environ.get("RANK", "0") == "0":
        for line in (*encoder.warnings, *_moved(model, parts)):
            warn(line)
    return model, encoder, parts


def _moved(model: VisionLanguageModel, parts: list[PartReport]) -> list[str]:
    """Return a warning for each encoder whose preprocessing differs from that of its training."""
    used = model.layout.preprocess
    lines = (moved(_encoder(p), used[_encoder(p)], p.preprocess, p.source) for p in parts if p.preprocess is not None)
    return [line for line in lines if line is not None]


def _encoder(part: PartReport) -> str:
    """Return an encoder's name in the recipe, or "" for a part that is not an encoder."""
    return part.part.removeprefix("encoders.") if part.part.startswith("encoders.") else ""


def _without_weights(settings: ModelSettings) -> ModelSettings:
    vision = {name: replace(part, weights=None) for name, part in settings.vision.items()}
    return replace(settings, vision=vision, language=replace(settings.language, weights=None))


def _load_whole(model: VisionLanguageModel, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a model that a training run exported: {error}") from error
    copy_tensors(model, weights, str(path))
