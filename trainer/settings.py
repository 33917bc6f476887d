"""The schema of a training recipe: every setting of a run, with its default and its check.

`varyforge.config.load` reads recipes. Checks need no torch, so a wrong value is reported before any weights are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

EXPORT_FILE = "model.safetensors"
"""File name of an exported model; its keys are those of `VisionLanguageModel.state_dict()`."""


def _check(section: str, **rules: bool) -> None:
    """Raise ValueError that names the first setting whose rule does not hold. `load` reports it in one line."""
    for name, holds in rules.items():
        if not holds:
            raise ValueError(f"{section}.{name}: out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSettings:
    """The choice of a part: its name in a table of parts, and its own settings."""

    type: str
    config: dict[str, Any] = field(default_factory=dict)  # unknown keys are refused by the part


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """One vision encoder and the connector behind it."""

    type: str  # a row of registry.ENCODERS: sam, clip, siglip, …; transformers: any model, by config.model_type
    config: dict[str, Any] = field(default_factory=dict)  # the part's sizes; unknown keys are refused by the part
    weights: str | None = None  # local file or folder, or hub name; null: random weights
    frozen: bool = False  # no gradient, no optimiser state, evaluation mode
    connector: PartSettings = field(default_factory=lambda: PartSettings(type="linear"))  # connectors.CONNECTORS
    preprocess: dict[str, Any] = field(default_factory=dict)  # fit, resample, mean, std of ImagePreprocess
    gradient_checkpointing: bool | None = None  # null: as engine.gradient_checkpointing


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSettings:
    """The causal language model, its tokenizer and its conversation template."""

    type: str  # a row of registry.LANGUAGE_MODELS: opt, qwen2, …; transformers: any model, by config.model_type
    tokenizer: str  # local folder or hub name
    template: str  # a row of chat_templates.TEMPLATES
    config: dict[str, Any] = field(default_factory=dict)  # as for an encoder
    weights: str | None = None  # as for an encoder
    frozen: bool = False
    gradient_checkpointing: bool | None = None  # null: as engine.gradient_checkpointing


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The parts of a model, which `trainer.model.build.build` puts together."""

    vision: dict[str, EncoderSettings]  # by name; the order is the order of concatenation
    language: LanguageSettings
    fusion: str = "channel"  # a row of fusions.FUSIONS: channel, sequence
    projector: PartSettings | None = None  # a row of connectors.CONNECTORS behind the fusion; null: none
    tiling: PartSettings | None = None  # a row of tiling.TILINGS; null: an image is one view


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One source of a mixture: a shard set, or a mixture of its own. At most one of weight, samples and tokens is set.

    With none of the three an epoch has every sample that passes `where`, `times` times with `repeat: times`.
    """

    shards: str | None = None  # folder or URL: a shard set, or WebDataset tars that others wrote
    mixture: Optional[MixtureSettings] = None  # noqa: UP045  # in place of `shards`; OmegaConf needs `Optional`
    task: str | None = None  # only samples of this task; the task of all samples in tars that others wrote
    weight: float | None = None  # share of the mixture, in its `unit`; 0: not used
    samples: int | None = None  # per epoch; 0: not used
    tokens: int | None = None  # supervised tokens per epoch, as the index estimates them; 0: not used
    repeat: Literal["once", "times", "as_needed"] = "once"  # as_needed: at most `times` per epoch
    times: int = 1
    where: dict[str, Any] = field(default_factory=dict)  # index column: value, list of values, or {min: , max: }

    @property
    def used(self) -> bool:
        """Whether the mixture takes samples of this source. The shards of an unused source need not exist."""
        return 0 not in (self.weight, self.samples, self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSettings:
    """The samples that a run reads and their order. Either every used source has a weight, or none has.

    A mixture stands in a recipe, or in a file of its own that the recipe names with `base: FILE`.
    """

    sources: dict[str, SourceSettings]
    unit: Literal["samples", "tokens"] = "samples"  # weights are shares of samples, or of supervised tokens
    samples: int | None = None  # of an epoch, where sources have weights; null: until the first is used up
    seed: int = 0  # of the order; ignored in a mixture that is a source

    @property
    def used(self) -> dict[str, SourceSettings]:
        """The sources that the mixture takes samples of."""
        return {name: source for name, source in self.sources.items() if source.used}

    @property
    def weighted(self) -> bool:
        """Whether the sources have weights instead of counts."""
        return any(source.weight is not None for source in self.used.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The mixture, and the settings by which it becomes batches."""

    mixture: MixtureSettings
    epochs: int = 1
    max_length: int = 4096  # tokens per sample and per row, image tokens included
    max_images: int = 16  # views per row; an image is one, or as many as `model.tiling` cuts it into
    too_long: Literal["cut", "drop", "error"] = "cut"  # for a sample beyond max_length; cut: the last answer's tail
    # packed: many samples per row; bucketed: one per row, rows of similar length; padded: one per row
    batching: Literal["packed", "bucketed", "padded"] = "packed"
    workers: int = 2  # loader processes per rank; 0: the training process loads, without a deadline
    prefetch: int = 8  # samples that a worker has in progress
    deadline_s: float = 60.0  # for one sample; then its worker is killed and replaced, and the sample is skipped
    max_bad_share: float = 0.001  # unusable samples as a share of all seen, before the run stops
    cache: str | None = None  # folder for indexes and bytes read from URLs; null: the user's cache folder
    cache_gb: float = 20.0  # limit for bytes read from URLs

    def __post_init__(self) -> None:
        _check_mixture("data.mixture", self.mixture)
        _check(
            "data",
            epochs=self.epochs >= 1,
            max_length=self.max_length >= 1,
            max_images=self.max_images >= 1,
            workers=self.workers >= 0,
            prefetch=self.prefetch >= 1,
            deadline_s=self.deadline_s > 0,
            cache_gb=self.cache_gb >= 0,
        )


def _check_mixture(where: str, mixture: MixtureSettings) -> None:
    """Raise ValueError for a mixture that is wrong whatever its shards contain. `where` is its key in the recipe."""
    if not mixture.used:
        raise ValueError(f"{where}.sources: no source is used; give one a weight, samples or tokens above 0")
    if mixture.samples is not None and mixture.samples < 1:
        raise ValueError(f"{where}.samples: {mixture.samples}, expected 1 or more")
    if not mixture.weighted and (mixture.samples is not None or mixture.unit != "samples"):
        key = "unit" if mixture.samples is None else "samples"
        raise ValueError(f"{where}.{key}: only with weights; no source has one")
    for name, source in mixture.sources.items():
        if "/" in name or not name:
            raise ValueError(
                f"{where}.sources.{name}: no empty name, no '/' in one; it separates a mixture from its sources"
            )
        if reason := _wrong_number(source) or (_wrong_together(source, mixture.weighted) if source.used else None):
            raise ValueError(f"{where}.sources.{name}.{reason}")
    for name, source in mixture.used.items():
        if source.mixture is not None:
            _check_mixture(f"{where}.sources.{name}.mixture", source.mixture)


def _wrong_number(source: SourceSettings) -> str | None:
    """Return the first key of a source that is out of range and the reason, or None."""
    for key, value in (("weight", source.weight), ("samples", source.samples), ("tokens", source.tokens)):
        if value is not None and not 0 <= value < math.inf:
            return f"{key}: {value}, expected 0 or more"
    return f"times: {source.times}, expected 1 or more" if source.times < 1 else None


def _wrong_together(source: SourceSettings, weighted: bool) -> str | None:
    """Return the first key that conflicts with the source's other keys or with its mixture and the reason, or None."""
    counts = [key for key in ("weight", "samples", "tokens") if getattr(source, key) is not None]
    inner = source.mixture is not None
    rules = {
        "shards: missing; name a shard set, or a mixture in its place": source.shards is None and not inner,
        "shards: not together with mixture; set one of them to null": source.shards is not None and inner,
        "task: is for shards; name it in the mixture's own sources": source.task is not None and inner,
        "where: is for shards; name it in the mixture's own sources": bool(source.where) and inner,
        f"{' and '.join(counts)}: at most one of them; set the others to null": len(counts) > 1,
        "weight: missing, while other sources have one; give all a weight (0: not used), or none": (
            weighted and source.weight is None
        ),
        "times: only with repeat: times or repeat: as_needed": source.repeat == "once" and source.times != 1,
        f"repeat: times is for all samples, not for a number of them; with {' '.join(counts)} say repeat: as_needed": (
            source.repeat == "times" and bool(counts)
        ),
    }
    return next((reason for reason, holds in rules.items() if holds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimSettings:
    """Settings of AdamW and of its schedule: linear warm-up, then cosine to 0."""

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
    """Settings of an optimiser step: batch, precision, ZeRO."""

    global_batch_size: int  # samples per optimiser step, whatever the number of GPUs
    micro_batch_size: int = 1  # rows per forward pass and rank; data.batching says how many samples a row holds
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    zero_stage: int = 2
    offload_optimizer: bool = False  # optimiser state and update on the host
    gradient_checkpointing: bool = True
    attention: Literal["sdpa", "eager"] = "sdpa"  # implementation in transformers' models

    def __post_init__(self) -> None:
        _check("engine", global_batch_size=self.global_batch_size >= 1, micro_batch_size=self.micro_batch_size >= 1)
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError(f"engine.zero_stage: {self.zero_stage}, expected one of 0, 1, 2, 3")
        if self.zero_stage == 0 and self.precision != "fp32":
            # DeepSpeed's stage 0 makes its first 16-bit Adam update 0.744 times as large as it should be.
            raise ValueError(f"engine.zero_stage: 0 with precision {self.precision}: use stage 1, or fp32")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("engine.offload_optimizer: needs engine.zero_stage 1, 2 or 3")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Settings of the checkpoints in the run folder."""

    every_steps: int = 500
    keep: int = 2  # number of newest checkpoints that are not deleted

    def __post_init__(self) -> None:
        _check("checkpoint", every_steps=self.every_steps >= 1, keep=self.keep >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WandbSettings:
    """Settings of Weights & Biases. `offline` needs no account and no network; `wandb sync` uploads the run later."""

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
    init: str | None = None  # OUT/model of a run to start from; the parts' own `weights` are then not read
    seed: int = 0
