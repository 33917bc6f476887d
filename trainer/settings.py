"""The training recipe's schema: every number a user may change about a run, stated once.

Loaded by `varyforge.config.load`. The engine's own configuration is derived from it in `engine.py`, nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

EXPORT_FILE = "model.safetensors"
"""File name of an exported model; its keys are those of `VisionLanguageModel.state_dict()`."""


def _check(section: str, **rules: bool) -> None:
    """ValueError that names the first setting whose rule does not hold; `load` makes one line of it."""
    for name, holds in rules.items():
        if not holds:
            raise ValueError(f"{section}.{name}: out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSettings:
    """A part of a table: its name and what it can be told."""

    type: str
    config: dict[str, Any] = field(default_factory=dict)  # unknown keys are refused by the part


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """One vision encoder and the connector behind it."""

    type: str  # a row of trainer.model.ENCODERS: sam, clip, siglip, …; transformers: any, config.model_type names it
    config: dict[str, Any] = field(default_factory=dict)  # the part's sizes; unknown keys are refused by the part
    weights: str | None = None  # local file or folder, or hub name; null builds it with random weights
    frozen: bool = False  # no gradient, no optimiser state, evaluation mode
    connector: PartSettings = field(default_factory=lambda: PartSettings(type="linear"))  # …model.CONNECTORS
    preprocess: dict[str, Any] = field(default_factory=dict)  # fit, resample, mean, std of ImagePreprocess
    gradient_checkpointing: bool | None = None  # null: as engine.gradient_checkpointing


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSettings:
    """The causal language model, its tokenizer and its conversation template."""

    type: str  # a row of trainer.model.LANGUAGE_MODELS: opt, qwen2, …; transformers: any, config.model_type names it
    tokenizer: str  # local folder or hub name
    template: str  # a row of trainer.text.chat_templates.TEMPLATES
    config: dict[str, Any] = field(default_factory=dict)  # as for an encoder
    weights: str | None = None  # as for an encoder
    frozen: bool = False
    gradient_checkpointing: bool | None = None  # null: as engine.gradient_checkpointing


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Parts that `trainer.model.build` puts together."""

    vision: dict[str, EncoderSettings]  # by name; the order is the order of concatenation
    language: LanguageSettings
    fusion: str = "channel"  # a row of trainer.model.FUSIONS: channel, sequence
    projector: PartSettings | None = None  # a row of trainer.model.CONNECTORS behind the fusion; null: none
    tiling: PartSettings | None = None  # a row of trainer.images.tiling.TILINGS; null: an image is one view


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One source of a mixture: a shard set, or a mixture of its own. At most one of weight, samples and tokens.

    With none of the three every sample that passes `where` is asked for, `times` times with `repeat: times`.
    """

    shards: str | None = None  # folder or URL: a shard set, or WebDataset tars that others wrote
    mixture: Optional[MixtureSettings] = None  # noqa: UP045  # in place of `shards`; OmegaConf reads this form only
    task: str | None = None  # take only samples of this task; tars that others wrote name none and are given it
    weight: float | None = None  # share of the mixture, in its `unit`; 0: not used
    samples: int | None = None  # asked for per epoch; 0: not used
    tokens: int | None = None  # the same in supervised tokens, as the index estimates them
    repeat: Literal["once", "times", "as_needed"] = "once"  # as_needed: at most `times` per epoch
    times: int = 1
    where: dict[str, Any] = field(default_factory=dict)  # index column: value, list of values, or {min: , max: }

    @property
    def used(self) -> bool:
        """Whether anything is asked of it; if not, its shards need not exist."""
        return 0 not in (self.weight, self.samples, self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSettings:
    """Which samples a run reads, and in which order. A file of its own, or a part of a recipe (`base: FILE` in it).

    Either every source that is used has a weight, or none has.
    """

    sources: dict[str, SourceSettings]
    unit: Literal["samples", "tokens"] = "samples"  # what weights are shares of; tokens: supervised ones
    samples: int | None = None  # of an epoch, where sources have weights; null: until the first would run dry
    seed: int = 0  # of the order; not read in a mixture in a mixture

    @property
    def used(self) -> dict[str, SourceSettings]:
        """The sources that something is asked of."""
        return {name: source for name, source in self.sources.items() if source.used}

    @property
    def weighted(self) -> bool:
        """Whether sources have weights, in place of counts."""
        return any(source.weight is not None for source in self.used.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The mixture and how it becomes batches."""

    mixture: MixtureSettings
    epochs: int = 1
    max_length: int = 4096  # tokens per sample and per row, image tokens included
    max_images: int = 16  # views per row; an image is one, or as many as `model.tiling` cuts it into
    too_long: Literal["cut", "drop", "error"] = "cut"  # a sample beyond max_length: cut the last answer's tail, …
    batching: Literal["packed", "bucketed", "padded"] = "packed"  # rows hold many samples; one, of like lengths; one
    workers: int = 2  # loader processes per rank; 0: the training process loads, and no deadline is watched
    prefetch: int = 8  # samples that a worker has in hand
    deadline_s: float = 60.0  # for one sample; then its worker is killed and replaced, and the sample skipped
    max_bad_share: float = 0.001  # samples that cannot be used, as a share of those seen, before the run stops
    cache: str | None = None  # folder for what is read from URLs and for indexes; null: the user's cache folder
    cache_gb: float = 20.0  # of it for bytes that were read from URLs

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
    """What is wrong with a mixture whatever its shards hold; `where` is its key in the recipe."""
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
                f"{where}.sources.{name}: no empty name, no '/' in one; it stands between a mixture's and its sources'"
            )
        if reason := _wrong_number(source) or (_wrong_together(source, mixture.weighted) if source.used else None):
            raise ValueError(f"{where}.sources.{name}.{reason}")
    for name, source in mixture.used.items():
        if source.mixture is not None:
            _check_mixture(f"{where}.sources.{name}.mixture", source.mixture)


def _wrong_number(source: SourceSettings) -> str | None:
    """The first key of a source that is out of range, and why."""
    for key, value in (("weight", source.weight), ("samples", source.samples), ("tokens", source.tokens)):
        if value is not None and not 0 <= value < math.inf:
            return f"{key}: {value}, expected 0 or more"
    return f"times: {source.times}, expected 1 or more" if source.times < 1 else None


def _wrong_together(source: SourceSettings, weighted: bool) -> str | None:
    """The first key of a source that does not go with its others or with its mixture, and why."""
    given = [key for key in ("weight", "samples", "tokens") if getattr(source, key) is not None]
    inner = source.mixture is not None
    rules = {
        "shards: missing; name a shard set, or a mixture in its place": source.shards is None and not inner,
        "shards: not together with mixture; set one of them to null": source.shards is not None and inner,
        "task: is for shards; name it in the mixture's own sources": source.task is not None and inner,
        "where: is for shards; name it in the mixture's own sources": bool(source.where) and inner,
        f"{' and '.join(given)}: at most one of them; set the others to null": len(given) > 1,
        "weight: missing, while other sources have one; give all a weight (0: not used), or none": (
            weighted and source.weight is None
        ),
        "times: only with repeat: times or repeat: as_needed": source.repeat == "once" and source.times != 1,
        f"repeat: times is for all samples, not for a number of them; with {' '.join(given)} say repeat: as_needed": (
            source.repeat == "times" and bool(given)
        ),
    }
    return next((reason for reason, holds in rules.items() if holds), None)


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
    micro_batch_size: int = 1  # rows per forward pass and rank; a row is a pack of samples, or one (data.batching)
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
