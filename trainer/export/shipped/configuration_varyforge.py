"""The configuration of a model that varyforge exported, for transformers.

This file ships with the model. It needs torch, transformers, numpy and Pillow, and no varyforge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.images.tiling import TILINGS


class VaryforgeConfig(PreTrainedConfig):
    """The configuration of vision encoders with connectors, a fusion, a projector and a causal language model.

    Args:
        vision: encoders by name in the order of fusion. An encoder has `type`, `config` and `connector`, and its
            connector has `type` and `config`.
        fusion: name of the rule that joins the tokens of several encoders into one sequence.
        projector: `type` and `config` of the module after the fusion. None: there is no such module.
        layout: the rule by which images become tokens, as `layout_of` reads it.
        text_config: the language model's configuration, including `model_type`.
        image_token_id: id that is replaced by an image's tokens.
    """

    model_type = "varyforge"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        vision: dict[str, Any] | None = None,
        fusion: str = "channel",
        projector: dict[str, Any] | None = None,
        layout: dict[str, Any] | None = None,
        text_config: Any = None,
        image_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vision = vision or {}
        self.fusion = fusion
        self.projector = projector
        self.layout = layout or {}
        if text_config is None:  # transformers makes an empty configuration and saves the differences from it
            text_config = {"model_type": "opt"}
        self.text_config = AutoConfig.for_model(**text_config) if isinstance(text_config, dict) else text_config
        self.image_token_id = image_token_id
        super().__init__(**kwargs)


def layout_of(layout: Mapping[str, Any]) -> ImageLayout:
    """Read `layout` of a model or processor configuration: `preprocess` of each encoder, `view` and `tiling`."""
    tiling = layout["tiling"]
    return ImageLayout(
        preprocess={name: ImagePreprocess(**_tuples(how)) for name, how in layout["preprocess"].items()},
        view=view_of(layout["view"]),
        tiling=TILINGS[tiling["type"]](**tiling["config"]),
    )


def view_of(view: Mapping[str, Any]) -> ViewTokens:
    """Read the tokens of a view: `count`, and `grid` as [rows, columns] or None."""
    return ViewTokens(view["count"], None if view["grid"] is None else tuple(view["grid"]))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
