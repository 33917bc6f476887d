"""The tables of vision encoders and language models that a recipe names by `type`.

A new encoder is a subclass of `VisionEncoder`, a new language model one of `LanguageModel`. Each has a row here.
"""

from __future__ import annotations

from trainer.model.encoders.base import VisionEncoder
from trainer.model.encoders.from_transformers import (
    AnyEncoder,
    ClipEncoder,
    ConvNextEncoder,
    Dinov2Encoder,
    Dinov2RegistersEncoder,
    SiglipEncoder,
)
from trainer.model.encoders.sam import SamEncoder
from trainer.model.language import AnyLanguage, LanguageModel, Llama, Mistral, Opt, Qwen2

ENCODERS: dict[str, type[VisionEncoder]] = {
    "sam": SamEncoder,
    "clip": ClipEncoder,
    "siglip": SiglipEncoder,
    "dinov2": Dinov2Encoder,
    "dinov2_registers": Dinov2RegistersEncoder,
    "convnext": ConvNextEncoder,
    "transformers": AnyEncoder,
}

LANGUAGE_MODELS: dict[str, type[LanguageModel]] = {
    "opt": Opt,
    "qwen2": Qwen2,
    "llama": Llama,
    "mistral": Mistral,
    "transformers": AnyLanguage,
}
