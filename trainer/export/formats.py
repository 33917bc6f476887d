"""The formats of an exported folder, in the order in which they are tried."""

from __future__ import annotations

from trainer.export.llava import Llava, LlavaNext
from trainer.export.own_code import OwnCode
from trainer.export.trained import ExportFormat

FORMATS: tuple[ExportFormat, ...] = (LlavaNext(), Llava(), OwnCode())
