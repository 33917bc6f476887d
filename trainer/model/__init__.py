"""Puts a model together from a recipe. The tables of parts: ENCODERS, CONNECTORS, FUSIONS, LANGUAGE_MODELS."""

from __future__ import annotations

import torch
from torch import nn

from datagen.errors import UserError
from trainer.model.connectors import CONNECTORS, FUSIONS
from trainer.model.encoders import ENCODERS
from trainer.model.language import LANGUAGE_MODELS
from trainer.model.tables import lookup
from trainer.model.vision import VisionEncoder
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import RANDOM, Loaded, PartReport
from trainer.settings import ModelSettings

__all__ = [
    "CONNECTORS",
    "ENCODERS",
    "FUSIONS",
    "LANGUAGE_MODELS",
    "PartReport",
    "VisionEncoder",
    "VisionLanguageModel",
    "build",
]


def build(
    settings: ModelSettings,
    *,
    vocabulary: int,
    image_token_id: int,
    attention: str,
    gradient_checkpointing: bool,
    seed: int,
) -> tuple[VisionLanguageModel, list[PartReport]]:
    """The model of a recipe in fp32 on the CPU, in training mode, and one row per part on where its weights come from.

    `vocabulary` is the number of entries of the tokenizer, `attention` the implementation in transformers' models
    (sdpa or eager). What is not loaded is drawn from `seed` alone. Frozen parts have `requires_grad` off. UserError for
    unknown names and keys, sizes that do not go together, and weights that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, loaded = _assemble(settings, vocabulary, image_token_id, attention)
    frozen = [f"encoders.{name}" for name, encoder in settings.vision.items() if encoder.frozen]
    frozen += ["language"] if settings.language.frozen else []
    for part in frozen:
        model.get_submodule(part).requires_grad_(False)
    if gradient_checkpointing:
        model.enable_gradient_checkpointing()
    model.train()
    return model, [PartReport.of(part, model.get_submodule(part), source) for part, source in loaded.items()]


def _assemble(
    settings: ModelSettings, vocabulary: int, image_token_id: int, attention: str
) -> tuple[VisionLanguageModel, dict[str, Loaded]]:
    """The model and, by part, what was loaded."""
    if not settings.vision:
        raise UserError("model.vision: found no encoder, expected at least one")
    loaded: dict[str, Loaded] = {}
    encoders = {}
    for name, encoder in settings.vision.items():
        family = lookup(ENCODERS, encoder.type, f"model.vision.{name}.type")
        encoders[name], loaded[f"encoders.{name}"] = family.build(encoder.config, encoder.weights, attention)

    part = settings.language
    language, from_language = lookup(LANGUAGE_MODELS, part.type, "model.language.type").build(
        part.config, part.weights, attention, vocabulary=vocabulary
    )

    fusion = lookup(FUSIONS, settings.fusion, "model.fusion")
    width = fusion.connector_width(language.hidden_size, len(encoders))
    connectors: dict[str, nn.Module] = {}
    for name, encoder in settings.vision.items():
        connect = lookup(CONNECTORS, encoder.connector, f"model.vision.{name}.connector")
        connectors[name] = connect(encoders[name].width, width)
        loaded[f"connectors.{name}"] = RANDOM
    loaded["language"] = from_language

    model = VisionLanguageModel(encoders, connectors, language, fusion=fusion, image_token_id=image_token_id)
    return model, loaded
