"""The parts of a released checkpoint as a recipe states them, and the tensors that these parts have."""

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

_LENGTH = 4096  # tokens of a sample in the releases' own training
_ATTENTION = EngineSettings(global_batch_size=1).attention  # no say in names and shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a checkpoint is made of."""

    vision: dict[str, EncoderSettings]  # in the order of concatenation
    language: LanguageSettings | None
    shapes: dict[str, Shape]  # of all tensors, a tied output layer left out
    preprocess: dict[str, ImagePreprocess]  # of the encoders that the release trained with its own

    def recipe(self, folder: Path) -> Recipe:
        """A stage that goes on from the model in `folder`, as its release was trained; `data` is still to be named."""
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
        """The YAML of the one part there is, for a recipe's `base:`, with its weights in `folder`."""
        part = self.language or next(iter(self.vision.values()))
        said = {"type": part.type, "weights": str(folder), "config": part.config}
        if tokenizer:
            said["tokenizer"] = str(folder / "tokenizer")
        text: str = yaml.safe_dump(said, sort_keys=False)
        return text


def parts_of(kind: Kind, shapes: Mapping[str, Shape], config: Mapping[str, Any], *, tied: bool, source: str) -> Parts:
    """The parts of a checkpoint from the shapes it has under our names and from its config.json.

    Raises:
        UserError: a tensor that tells a size is missing, or the sizes make no model.
    """
    vision = {}
    for name, family in kind.vision.items():
        part = sizes.Part(shapes, f"encoders.{name}.", source)
        found = sizes.sam(part) if family == "sam" else sizes.clip(part, config)
        # As the releases train: Vary-toy's pair stands still, Vary-tiny is there to train its encoder.
        frozen, preprocess = len(kind.vision) > 1, dict(kind.preprocess.get(name, {}))
        vision[name] = EncoderSettings(type=family, config=found, frozen=frozen, preprocess=preprocess)
    language = None
    if kind.language is not None:
        infer = {"opt": sizes.opt, "qwen2": sizes.qwen2}[kind.language]
        found = {**infer(sizes.Part(shapes, "language.", source), config, kind), "tie_word_embeddings": tied}
        language = LanguageSettings(type=kind.language, tokenizer="-", template=kind.template or "-", config=found)
    return _built(vision, language, tied)


def _built(vision: dict[str, EncoderSettings], language: LanguageSettings | None, tied: bool) -> Parts:
    """Builds the parts without memory: their whole configuration, and every tensor's name and shape."""
    try:
        with torch.device("meta"):
            modules = _whole(vision, language) if vision and language is not None else _alone(vision, language)
    except (TypeError, ArithmeticError, LookupError) as error:  # a value of config.json that transformers believed
        raise UserError(f"config.json: makes no model: {' '.join(str(error).split())}") from error
    shapes = {
        f"{prefix}.{name}": tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    if tied:
        shapes.pop(HEAD, None)
    parts = cast(dict[str, Any], modules)  # encoders and language models, which know more than a module
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
    made: dict[str, nn.Module] = {}
    for name, encoder in vision.items():
        made[f"encoders.{name}"], _ = ENCODERS[encoder.type].build(encoder.config, None, _ATTENTION)
    if language is not None:
        family, rows = LANGUAGE_MODELS[language.type], int(language.config["vocab_size"])
        made["language"], _ = family.build(language.config, None, _ATTENTION, vocabulary=rows)
    return made
