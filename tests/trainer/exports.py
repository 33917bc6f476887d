"""Small models of every kind that is exported, with random weights, as a training run leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from trainer.assemble import assemble
from trainer.exported import export_model
from trainer.settings import (
    DataSettings,
    EncoderSettings,
    EngineSettings,
    LanguageSettings,
    MixtureSettings,
    ModelSettings,
    OptimSettings,
    PartSettings,
    Recipe,
    SourceSettings,
)

from . import tokenizers_of_all_kinds as tokenizers
from .world import CLIP, OPT, QWEN, SAM

CLIP_32 = {**CLIP, "num_hidden_layers": 3}


def language(
    kind: str, template: str, tokenizer: PreTrainedTokenizerBase, folder: Path, **config: Any
) -> LanguageSettings:
    """A language model whose tokenizer has what the template needs."""
    tokenizers.with_tokens(tokenizer, template).save_pretrained(folder / "tokenizer")
    sizes = {**OPT} if kind == "opt" else {**QWEN, "initializer_range": 0.2}
    return LanguageSettings(
        type=kind, tokenizer=str(folder / "tokenizer"), template=template, config={**sizes, **config}
    )


def trained(model: ModelSettings, folder: Path, *, max_length: int = 512) -> Path:
    """OUT/model of a run of `model`, whose weights are far from where they start."""
    recipe = Recipe(
        out=str(folder / "run"),
        model=model,
        data=DataSettings(mixture=MixtureSettings(sources={"a": SourceSettings(shards="-")}), max_length=max_length),
        optim=OptimSettings(learning_rate=1e-3),
        engine=EngineSettings(global_batch_size=1, precision="fp32"),
    )
    built, encoder, _ = assemble(recipe)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return export_model(built.state_dict(), built, recipe, encoder.tokenizer)


def vary_tiny(folder: Path) -> ModelSettings:
    """Vary-tiny+: SAM and OPT, tied embeddings."""
    speaks = language("opt", "vicuna_v1", tokenizers.opt(), folder)
    return ModelSettings(vision={"vary": EncoderSettings(type="sam", config=SAM)}, language=speaks)


def vary_toy(folder: Path) -> ModelSettings:
    """Vary-toy: CLIP, SAM and Qwen."""
    speaks = language("qwen2", "chatml_vary", tokenizers.qwen(), folder)
    vision = {"clip": EncoderSettings(type="clip", config=CLIP_32), "vary": EncoderSettings(type="sam", config=SAM)}
    return ModelSettings(vision=vision, language=speaks)


def llava_15(folder: Path) -> ModelSettings:
    """LLaVA-1.5: CLIP, an MLP and Llama, its template and a tokenizer of its kind."""
    speaks = language("llama", "llava_v1", tokenizers.llama(add_bos_token=True), folder)
    clip = EncoderSettings(type="clip", config=CLIP_32, connector=PartSettings(type="mlp"), preprocess={"fit": "pad"})
    return ModelSettings(vision={"clip": clip}, language=speaks)


def deepseek(folder: Path) -> ModelSettings:
    """DeepSeek-VL's pair: SigLIP and SAM with an interpolated neck, an MLP each, and one behind both."""
    speaks = language("llama", "chatml", tokenizers.qwen(), folder)
    siglip = {**CLIP_32, "image_size": 56}
    vision = {
        "siglip": EncoderSettings(
            type="siglip", config=siglip, connector=PartSettings(type="mlp", config={"depth": 1})
        ),
        "sam": EncoderSettings(type="sam", config={**SAM, "neck_grid": 16}, connector=PartSettings(type="linear")),
    }
    behind = PartSettings(type="mlp", config={"depth": 1, "activation_first": True})
    return ModelSettings(vision=vision, language=speaks, projector=behind)


def llava_16(folder: Path) -> ModelSettings:
    """LLaVA-1.6: the same with tiles, and Mistral."""
    speaks = language("mistral", "mistral", tokenizers.llama(), folder)
    clip = EncoderSettings(type="clip", config=CLIP_32, connector=PartSettings(type="mlp"))
    return ModelSettings(vision={"clip": clip}, language=speaks, tiling=PartSettings(type="any_res"))


def thumbnail(folder: Path) -> ModelSettings:
    """Tiles with a thumbnail, of tokens that a pixel shuffle put together."""
    speaks = language("qwen2", "chatml", tokenizers.qwen(), folder, tie_word_embeddings=True)
    vit = EncoderSettings(type="siglip", config=CLIP_32, connector=PartSettings(type="pixel_shuffle"))
    tiling = PartSettings(type="thumbnail", config={"max_tiles": 4})
    return ModelSettings(vision={"siglip": vit}, language=speaks, tiling=tiling)
