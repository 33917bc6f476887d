"""The table of vision encoders. A new one subclasses `VisionEncoder` and gets a row here."""

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

ENCODERS: dict[str, type[VisionEncoder]] = {
    "sam": SamEncoder,
    "clip": ClipEncoder,
    "siglip": SiglipEncoder,
    "dinov2": Dinov2Encoder,
    "dinov2_registers": Dinov2RegistersEncoder,
    "convnext": ConvNextEncoder,
    "transformers": AnyEncoder,
}
