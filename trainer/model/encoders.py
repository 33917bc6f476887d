"""The table of vision encoders. A new one subclasses `VisionEncoder` and gets a row here."""

from __future__ import annotations

from trainer.model.clip import ClipEncoder
from trainer.model.sam import SamEncoder
from trainer.model.vision import VisionEncoder

ENCODERS: dict[str, type[VisionEncoder]] = {"sam": SamEncoder, "clip": ClipEncoder}
