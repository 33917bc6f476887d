"""The parts of a released checkpoint: their settings in a recipe, and the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn

from trainer.convert import sizes
from trainer.convert.names import HEAD, Kind
from trainer.convert.read import Shape
from trainer.images.preprocess import ImagePreprocess
from trainer.model.build import build
from trainer.model.registry import ENCODERS, LANGUAGE_MODELS
from trainer.settings import (
    DataSettings,
    EncoderSettings,
    EngineSettings,
    LanguageSettings,
    MixtureSettings,
    ModelSettings,
    OptimSettings,
    Recipe,
    SourceSettings,
)
from varyforge.errors import UserError

_LENGTH = 4096  # tokens of a sample in the releases' training
_ATTENTION = EngineSettings(global_batch_size=1).attention  # no effect on names and shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a checkpoint."""

    vision: dict[str, EncoderSettings]  # in the order of concatenation
    language: LanguageSettings | None
    shapes: dict[str, Shape]  # of all tensors except a tied output layer
    preprocess: dict[str, ImagePreprocess]  # of the encoders for which the release has its own

    def recipe(self, folder: Path) -> Recipe:
        """Return a recipe that continues the release's training from `folder`; the user fills in the data set."""
        assert self.language is not None
        language = replace(self.language, tokenizer=str(folder / "tokenizer"))
        positions = int(language.config["max_position_embeddings"])
        source = SourceSettings(shards=f"shards/{folder.name}")
        return Recipe(
            out=f"runs/{folder.name}",
            init=str(folder),
            model=ModelSettings(vision=self.vision, language=language),
            data=DataSettings(mixture=MixtureSettings(sources={"yours": source}), max_length=min(_LENGTH, positions)),
            optim=OptimSettings(learning_rate=5e-5),
            engine=EngineSettings(global_batch_size=512),
        )

    def fragment(self, folder: Path, *, tokenizer: bool) -> str:
        """Return the checkpoint's only part as YAML for a recipe's `base:`, with weights in `folder`."""
        part = self.language or next(iter(self.vision.values()))
        settings = {"type": part.type, "weights": str(folder), "config": part.config}
        if tokenizer:
            settings["tokenizer"] = str(folder / "tokenizer")
        text: str = yaml.safe_dump(settings, sort_keys=False)
        return text


def parts_of(kind: Kind, shapes: Mapping[str, Shape], config: Mapping[str, Any], *, tied: bool, source: str) -> Parts:
    """Infer the parts of a checkpoint from its shapes under this project's names and its config.json.

    Raises:
        UserError: a tensor that determines a size is missing, or the sizes do not form a model.
    """
    vision = {}
    for name, family in kind.vision.items():
        part = sizes.Part(shapes, f"encoders.{name}.", source)
        inferred = sizes.sam(part) if family == "sam" else sizes.clip(part, config)
        # As in the releases' training: Vary-toy's two encoders are frozen, Vary-tiny's encoder trains.
        frozen, preprocess = len(kind.vision) > 1, dict(kind.preprocess.get(name, {}))
        vision[name] = EncoderSettings(type=family, config=inferred, frozen=frozen, preprocess=preprocess)
    language = None
    if kind.language is not None:
        infer = {"opt": sizes.opt, "qwen2": sizes.qwen2}[kind.language]
        inferred = {**infer(sizes.Part(shapes, "language.", source), config, kind), "tie_word_embeddings": tied}
        language = LanguageSettings(type=kind.language, tokenizer="-", template=kind.template or "-", config=inferred)
    return _built(vision, language, tied)


def _built(vision: dict[str, EncoderSettings], language: LanguageSettings | None, tied: bool) -> Parts:
    """Build the parts on the meta device to get their whole configuration and every tensor's name and shape."""
    try:
        with torch.device("meta"):
            modules = _whole(vision, language) if vision and language is not None else _alone(vision, language)
    except (TypeError, ArithmeticError, LookupError) as error:  # a value of config.json that transformers did not check
        raise UserError(f"config.json: makes no model: {' '.join(str(error).split())}") from error
    shapes = {
        f"{prefix}.{name}": tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    if tied:
        shapes.pop(HEAD, None)
    parts = cast(dict[str, Any], modules)  # encoders and language models, which have more methods than nn.Module
    return Parts(
        vision={n: replace(part, config=parts[f"encoders.{n}"].configuration()) for n, part in vision.items()},
        language=None if language is None else replace(language, config=parts["language"].configuration()),
        shapes=shapes,
        preprocess={n: parts[f"encoders.{n}"].preprocess for n, part in vision.items() if part.preprocess},
    )


def _whole(vision: dict[str, EncoderSettings], language: LanguageSettings) -> dict[str, nn.Module]:
    model, reports = build(
        ModelSettings(vision=vision, language=language),
        vocabulary=int(language.config["vocab_size"]),
        image_token_id=0,
        attention=_ATTENTION,
        gradient_checkpointing=False,
        seed=0,
    )
    return {report.part: model.get_submodule(report.part) for report in reports}


def _alone(vision: dict[str, EncoderSettings], language: LanguageSettings | None) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = {}
    for name, encoder in vision.items():
        parts[f"encoders.{name}"], _ = ENCODERS[encoder.type].build(encoder.config, None, _ATTENTION)
    if language is not None:
        family, rows = LANGUAGE_MODELS[language.type], int(language.config["vocab_size"])
        parts["language"], _ = family.build(language.config, None, _ATTENTION, vocabulary=rows)
    return parts
