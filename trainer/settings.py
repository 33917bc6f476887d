"""The training recipe's schema: every number a user may change about a run, stated once.

Loaded by `datagen.config.load`. The engine's own configuration is derived from it in `trainer.engine`, nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

EXPORT_FILE = "model.safetensors"
"""File name of an exported model; its keys are those of `VisionLanguageModel.state_dict()`."""


def _check(section: str, **rules: bool) -> None:
    """ValueError that names the first setting whose rule does not hold; `load` makes one line of it."""
    for name, holds in rules.items():
        if not holds:
            raise ValueError(f"{section}.{name}: out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """One vision encoder and the connector behind it."""

    type: str  # a row of trainer.model.ENCODERS: sam, clip
    config: dict[str, Any] = field(default_factory=dict)  # the part's sizes; unknown keys are refused by the part
    weights: str | None = None  # local file or folder, or hub name; null builds it with random weights
    frozen: bool = False  # no gradient, no optimiser state, evaluation mode
    connector: str = "linear"  # a row of trainer.model.CONNECTORS


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSettings:
    """The causal language model, its tokenizer and its conversation template."""

    type: str  # a row of trainer.model.LANGUAGE_MODELS: opt, qwen2
    tokenizer: str  # local folder or hub name
    template: str  # a row of trainer.encode.TEMPLATES
    config: dict[str, Any] = field(default_factory=dict)  # as for an encoder
    weights: str | None = None  # as for an encoder
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Parts that `trainer.model.build` puts together."""

    vision: dict[str, EncoderSettings]  # by name; the order is the order of concatenation
    language: LanguageSettings
    fusion: str = "channel"  # a row of trainer.model.FUSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One shard set of the mixture."""

    shards: str  # a folder that a datagen command wrote
    samples: int | None = None  # asked for per epoch; null: every sample once; 0: not used
    max_repeats: int = 1  # how often a sample may serve in one epoch before "runs dry" is an error

    def __post_init__(self) -> None:
        _check("data.sources", samples=self.samples is None or self.samples >= 0, max_repeats=self.max_repeats >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The mixture and how it becomes batches."""

    sources: dict[str, SourceSettings]
    epochs: int = 1
    max_length: int = 4096  # tokens per sample, image tokens included
    workers: int = 2  # loader processes per rank; 0 loads in the training process
    max_bad_share: float = 0.001  # unreadable or unsupervised samples, as a share of those seen, before the run stops

    def __post_init__(self) -> None:
        _check("data", epochs=self.epochs >= 1, max_length=self.max_length >= 1, workers=self.workers >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimSettings:
    """AdamW, linear warm-up, cosine to 0."""

    learning_rate: float
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float | None = None  # largest global gradient norm; null: no clipping, as in the paper

    def __post_init__(self) -> None:
        _check(
            "optim",
            learning_rate=self.learning_rate > 0,
            warmup_ratio=0 <= self.warmup_ratio <= 1,
            betas=all(0 <= beta < 1 for beta in self.betas),
            grad_clip=self.grad_clip is None or self.grad_clip > 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How a step is run: batch, precision, ZeRO."""

    global_batch_size: int  # samples per optimiser step, whatever the number of GPUs
    micro_batch_size: int = 4  # samples per forward pass and rank
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    zero_stage: int = 2
    offload_optimizer: bool = False  # optimiser state and update on the host
    gradient_checkpointing: bool = True
    attention: Literal["sdpa", "eager"] = "sdpa"  # implementation in transformers' models

    def __post_init__(self) -> None:
        _check("engine", global_batch_size=self.global_batch_size >= 1, micro_batch_size=self.micro_batch_size >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """What is kept under the run folder."""

    every_steps: int = 500
    keep: int = 2  # newest checkpoints kept

    def __post_init__(self) -> None:
        _check("checkpoint", every_steps=self.every_steps >= 1, keep=self.keep >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WandbSettings:
    """Weights & Biases. `offline` needs no account and no network; `wandb sync` uploads it later."""

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "varyforge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One training stage."""

    out: str  # run folder: checkpoints, log, exported model
    model: ModelSettings
    data: DataSettings
    optim: OptimSettings
    engine: EngineSettings
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    wandb: WandbSettings = field(default_factory=WandbSettings)
    init: str | None = (
        None  # a run's exported model to start from as a whole; the parts' own `weights` are then not read
    )
    seed: int = 0
