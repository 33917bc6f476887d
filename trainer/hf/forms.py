"""The forms in which a model can be exported, in order of preference: the first that fits is taken."""

from __future__ import annotations

from trainer.hf.llava import Llava, LlavaNext
from trainer.hf.own_code import OwnCode
from trainer.hf.trained import Form

FORMS: tuple[Form, ...] = (LlavaNext(), Llava(), OwnCode())
