"""A trained model to export, and the interface of the formats that it can be exported to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import Size
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import ModelSettings
from trainer.text.encode import ConversationEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that a training run wrote to OUT/model."""

    folder: Path
    model: VisionLanguageModel
    encoder: ConversationEncoder
    settings: ModelSettings


class ExportFormat(Protocol):
    """A class of transformers that a model can be exported for."""

    name: str
    pixel_tolerance: int  # levels of 255 by which pixels may differ from those of training
    load_lines: str  # of Python, which load the folder named by the variable `folder`

    def fits(self, trained: TrainedModel) -> bool:
        """Return whether the class can compute what a model computes."""

    def rename(self, name: str, trained: TrainedModel) -> str:
        """Return a tensor's name in the folder."""

    def write(self, trained: TrainedModel, folder: Path, dtype: str) -> None:
        """Write the folder without weights, tokenizer, generation settings and README."""

    def pixels(self, values: Tensor, sizes: list[Size], trained: TrainedModel) -> dict[str, NDArray[np.uint8]]:
        """Return the processor's `pixel_values` as (V, S, S, 3) uint8 per encoder."""


def plain_config(config: Any) -> dict[str, Any]:
    """Return a transformers configuration as a dictionary without file names, versions and types."""
    left_out = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map"}
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def pixel_levels(preprocess: ImagePreprocess, values: Tensor) -> NDArray[np.uint8]:
    """Invert `ImagePreprocess.normalise`: (V, 3, S, S) → (V, S, S, 3) uint8."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (preprocess.mean, preprocess.std))
    levels = ((values * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
