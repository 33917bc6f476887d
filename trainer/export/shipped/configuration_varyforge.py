"""The configuration of a model that varyforge exported, for `transformers`.

Part of the exported folder, which needs torch, transformers, numpy and Pillow, and nothing of varyforge.
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
    """Vision encoders, each with a connector → fusion and projector → a causal language model.

    Args:
        vision: by name, in the order of fusion: `type` and `config` of the encoder, `type` and `config` of its
            `connector`.
        fusion: how the tokens of several encoders become one sequence.
        projector: `type` and `config` of what stands behind the fusion; None: nothing.
        layout: how images become tokens; see `layout_of`.
        text_config: the language model's configuration, with its `model_type`.
        image_token_id: the token whose places an image's tokens take.
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
        if text_config is None:  # transformers makes an empty one to see what differs from it
            text_config = {"model_type": "opt"}
        self.text_config = AutoConfig.for_model(**text_config) if isinstance(text_config, dict) else text_config
        self.image_token_id = image_token_id
        super().__init__(**kwargs)


def layout_of(layout: Mapping[str, Any]) -> ImageLayout:
    """`layout` of the configurations of model and processor: `preprocess` of each encoder, `view` and `tiling`."""
    tiling = layout["tiling"]
    return ImageLayout(
        preprocess={name: ImagePreprocess(**_tuples(how)) for name, how in layout["preprocess"].items()},
        view=view_of(layout["view"]),
        tiling=TILINGS[tiling["type"]](**tiling["config"]),
    )


def view_of(view: Mapping[str, Any]) -> ViewTokens:
    """Tokens of a view from `count` and `grid`, rows and columns or None."""
    return ViewTokens(view["count"], None if view["grid"] is None else tuple(view["grid"]))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
