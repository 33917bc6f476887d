"""The forms in which a model can be exported, in order of preference: the first that fits is taken."""

from __future__ import annotations

from trainer.export.llava import Llava, LlavaNext
from trainer.export.own_code import OwnCode
from trainer.export.trained import Form

FORMS: tuple[Form, ...] = (LlavaNext(), Llava(), OwnCode())
