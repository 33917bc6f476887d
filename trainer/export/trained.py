"""What is exported."""

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
class Trained:
    """A model that a training run wrote."""

    folder: Path
    model: VisionLanguageModel
    encoder: ConversationEncoder
    settings: ModelSettings

    def language_config(self) -> dict[str, Any]:
        """The language model's configuration in transformers' keys, `model_type` among them."""
        return plain_config(self.model.language.model.config)


class Form(Protocol):
    """Classes of transformers that a model can be exported for."""

    name: str
    levels: int  # by which pixels may differ from ours, of 255

    def misfit(self, trained: Trained) -> str | None:
        """Why a model is not of this form; None: it is."""

    def rename(self, name: str, trained: Trained) -> str:
        """A tensor's name in the folder."""

    def write(self, trained: Trained, folder: Path, dtype: str) -> None:
        """Everything in the folder but weights, tokenizer, generation settings and README."""

    def load_lines(self) -> str:
        """The Python lines that load the folder DST."""

    def pixels(self, values: Tensor, sizes: list[Size], trained: Trained) -> dict[str, NDArray[np.uint8]]:
        """The processor's `pixel_values` as (V, S, S, 3) uint8 per encoder."""


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers configuration as a dictionary, without what says where or with what it was made."""
    left_out = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map"}
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def levels(how: ImagePreprocess, values: Tensor) -> NDArray[np.uint8]:
    """The inverse of `ImagePreprocess.normalise`: (V, 3, S, S) → (V, S, S, 3) uint8."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (how.mean, how.std))
    levels = ((values * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
