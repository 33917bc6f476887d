"""Building a model from a recipe's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import cast

import torch
from torch import nn

from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess, with_changes
from trainer.images.sizes import ViewTokens
from trainer.images.tiling import TILINGS, Tiling
from trainer.model.connectors import CONNECTORS
from trainer.model.encoders.base import VisionEncoder
from trainer.model.fusions import FUSIONS, Fusion
from trainer.model.joint import ImageSequence
from trainer.model.language import LanguageModel
from trainer.model.registry import ENCODERS, LANGUAGE_MODELS
from trainer.model.tables import check_keys, lookup
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import RANDOM, Loaded, PartReport
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, PartSettings
from varyforge.errors import UserError


def build(
    settings: ModelSettings,
    *,
    vocabulary: int,
    image_token_id: int,
    attention: str,
    gradient_checkpointing: bool,
    seed: int,
) -> tuple[VisionLanguageModel, list[PartReport]]:
    """Return the model of a recipe in fp32 on the CPU, in training mode, and a report on each part's weights.

    `vocabulary` is the number of the tokenizer's entries, `attention` sdpa or eager. `gradient_checkpointing` is for
    trained parts whose own setting is null. Random weights depend on `seed` alone.

    Raises:
        UserError: an unknown name or key, sizes that do not fit each other, or weights that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, loaded = _assemble(settings, vocabulary, image_token_id, attention)
    for name, encoder in settings.vision.items():
        _prepare(f"vision.{name}", model.encoders[name], encoder, gradient_checkpointing)
    _prepare("language", model.language, settings.language, gradient_checkpointing)
    model.train()
    return model, [PartReport.of(part, model.get_submodule(part), source) for part, source in loaded.items()]


def _prepare(
    key: str, part: nn.Module, chosen: EncoderSettings | LanguageSettings, gradient_checkpointing: bool
) -> None:
    """Freeze a part, or turn on its gradient checkpointing, as its settings say."""
    if chosen.gradient_checkpointing and chosen.frozen:
        raise UserError(f"model.{key}.gradient_checkpointing: only for a part that trains; set it to null or false")
    if chosen.frozen:
        part.requires_grad_(False)
    elif gradient_checkpointing if chosen.gradient_checkpointing is None else chosen.gradient_checkpointing:
        cast(VisionEncoder | LanguageModel, part).enable_gradient_checkpointing()


def image_layout(settings: ModelSettings) -> ImageLayout:
    """Return the image layout of a recipe's model from its sizes, without reading or creating weights.

    A size that the recipe leaves to a checkpoint which is not on this machine is transformers' default. UserErrors are
    those of `build`.
    """
    vision = {}
    for name, encoder in settings.vision.items():
        with _at(f"model.vision.{name}"):
            sizes = _encoder_class(name, encoder).sizes(encoder.config, encoder.weights)
        vision[name] = replace(encoder, weights=None, config=sizes)
    bare = replace(settings, vision=vision, language=replace(settings.language, weights=None))
    with torch.device("meta"):
        model, _ = _assemble(bare, vocabulary=1, image_token_id=0, attention="eager")
    return model.layout


def _encoder_class(name: str, encoder: EncoderSettings) -> type[VisionEncoder]:
    return lookup(ENCODERS, encoder.type, f"model.vision.{name}.type")


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Prefix a part's UserError with its key in the recipe, because a model may have several parts of a kind."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _assemble(
    settings: ModelSettings, vocabulary: int, image_token_id: int, attention: str
) -> tuple[VisionLanguageModel, dict[str, Loaded]]:
    """Return the model, and by part the source of its weights."""
    if not settings.vision:
        raise UserError("model.vision: found no encoder, expected at least one")
    loaded: dict[str, Loaded] = {}
    encoders = {}
    for name, encoder in settings.vision.items():
        if not name or "." in name or hasattr(nn.ModuleDict, name):  # a part of tensors' names
            raise UserError(f"model.vision: an encoder cannot be called {name!r}; call it 'my_{encoder.type}'")
        encoder_class = _encoder_class(name, encoder)
        with _at(f"model.vision.{name}"):
            part, loaded[f"encoders.{name}"] = encoder_class.build(encoder.config, encoder.weights, attention)
        part.preprocess = with_changes(part.preprocess, encoder.preprocess, f"model.vision.{name}.preprocess")
        encoders[name] = part

    chosen = settings.language
    language_class = lookup(LANGUAGE_MODELS, chosen.type, "model.language.type")
    with _at("model.language"):
        language, language_loaded = language_class.build(
            chosen.config, chosen.weights, attention, vocabulary=vocabulary
        )

    fusion = lookup(FUSIONS, settings.fusion, "model.fusion")
    with _at("model"):
        width = fusion.connector_width(language.hidden_size, len(encoders))
    connectors: dict[str, nn.Module] = {}
    views: dict[str, ViewTokens] = {}
    for name, encoder in settings.vision.items():
        part, key = encoders[name], f"model.vision.{name}.connector"
        connect = lookup(CONNECTORS, encoder.connector.type, f"{key}.type")
        with _at(key):
            connectors[name], views[name] = connect(encoder.connector.config, part.width, width, part.view)
        loaded[f"connectors.{name}"] = RANDOM
    with _at("model"):
        view = fusion.view(views)
    joint = _joint(settings, fusion, view, {n: e.preprocess for n, e in encoders.items()}, language)
    if next(joint.parameters(), None) is not None:
        loaded["joint"] = RANDOM
    loaded["language"] = language_loaded
    return VisionLanguageModel(encoders, connectors, joint, language, image_token_id=image_token_id), loaded


def _joint(
    settings: ModelSettings,
    fusion: Fusion,
    view: ViewTokens,
    preprocess: dict[str, ImagePreprocess],
    language: LanguageModel,
) -> ImageSequence:
    """Return the module that joins the tokens of all encoders and holds the image layout."""
    width, projector = language.hidden_size, None
    if settings.projector is not None:
        connect = lookup(CONNECTORS, settings.projector.type, "model.projector.type")
        with _at("model.projector"):
            projector, view = connect(settings.projector.config, width, width, view)
    tiling = _tiling(settings.tiling or PartSettings(type="whole"))
    tiling.check(view)
    return ImageSequence(fusion, projector, ImageLayout(preprocess=preprocess, view=view, tiling=tiling), width)


def _tiling(settings: PartSettings) -> Tiling:
    tiling_class = lookup(TILINGS, settings.type, "model.tiling.type")
    check_keys(settings.config, (key.name for key in fields(tiling_class)), "model.tiling.config")
    return tiling_class(**settings.config)
