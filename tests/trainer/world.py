"""A tokenizer and a recipe small enough to train in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.settings import (
    CheckpointSettings,
    DataSettings,
    EncoderSettings,
    EngineSettings,
    LanguageSettings,
    MixtureSettings,
    ModelSettings,
    OptimSettings,
    Recipe,
    SourceSettings,
    WandbSettings,
)
from trainer.tokenizer import train_tokenizer
from varyforge.shards import ShardSet

SAM = {
    "image_size": 64,
    "patch_size": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "window": 3,
    "global_layers": [1],
    "neck": 16,
    "conv_channels": [24, 32],
}
CLIP = {
    "image_size": 28,
    "patch_size": 14,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
OPT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 64,
    "max_position_embeddings": 2048,
    "word_embed_proj_dim": 32,
    "dropout": 0.0,
}
QWEN = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def make_tokenizer(shards: list[Path], folder: Path) -> str:
    """A tokenizer of 300 entries, saved in `folder`."""
    train_tokenizer([ShardSet(path) for path in shards], vocabulary=300).save_pretrained(folder)
    return str(folder)


def tiny_recipe(out: Path, tokenizer: str, shards: dict[str, Path], *, samples: int = 16, **changes: Any) -> Recipe:
    """A Vary-tiny+ in the small: 4 samples a step in micro-batches of 2."""
    recipe = Recipe(
        out=str(out),
        model=ModelSettings(
            vision={"vary": EncoderSettings(type="sam", config=SAM)},
            language=LanguageSettings(type="opt", tokenizer=tokenizer, template="vicuna_v1", config=OPT),
        ),
        data=DataSettings(
            mixture=MixtureSettings(
                sources={
                    name: SourceSettings(shards=str(path), samples=samples, repeat="as_needed", times=100)
                    for name, path in shards.items()
                }
            ),
            max_length=160,
            workers=0,
        ),
        optim=OptimSettings(learning_rate=1e-3),
        engine=EngineSettings(
            global_batch_size=4, micro_batch_size=2, precision="fp32", zero_stage=2, gradient_checkpointing=False
        ),
        checkpoint=CheckpointSettings(every_steps=2),
        wandb=WandbSettings(mode="disabled"),
    )
    return replace(recipe, **changes)


def toy_model(tokenizer: str, vocabulary_weights: str | None) -> ModelSettings:
    """A Vary-toy in the small: both encoders frozen."""
    return ModelSettings(
        vision={
            "clip": EncoderSettings(type="clip", config=CLIP, frozen=True),
            "vary": EncoderSettings(type="sam", config=SAM, frozen=True, weights=vocabulary_weights),
        },
        language=LanguageSettings(type="qwen2", tokenizer=tokenizer, template="chatml_vary", config=QWEN),
    )
