"""CLIP's image encoder (arXiv 2103.00020) as LLaVA and Vary-toy use it: the last layer but one, no class token."""

from __future__ import annotations

from typing import Any, Self, cast

from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from trainer.layout import ViewTokens
from trainer.model.tables import check_keys
from trainer.model.vision import VisionEncoder
from trainer.model.weights import (
    RANDOM,
    Loaded,
    configuration_of,
    from_config,
    is_export,
    load_encoder_of_export,
    load_from_hub,
)
from trainer.preprocess import ImagePreprocess


class ClipEncoder(VisionEncoder):
    """(N, 3, H, W) → (N, P, D): `hidden_states[-2][:, 1:]` of transformers' CLIPVisionModel.

    The last layer and `post_layernorm` have no part in that. They are not computed and never train, but stay where they
    are, so that checkpoints can be read and written whole.
    """

    def __init__(self, model: CLIPVisionModel) -> None:
        super().__init__()
        self.model = model
        side = cast(int, model.config.image_size) // cast(int, model.config.patch_size)
        self.view = ViewTokens(side * side, (side, side))
        self.width = model.config.hidden_size
        self.preprocess = ImagePreprocess(size=cast(int, model.config.image_size), fit="crop")
        model.encoder.layers[-1].requires_grad_(False)
        model.post_layernorm.requires_grad_(False)

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """The encoder of a recipe: sizes from `config`, or from the checkpoint where weights come from a hub or folder.

        `config` takes the keys of transformers' CLIPVisionConfig. `weights`: a local folder or hub name of a CLIP
        model, or a model that this project exported.
        """
        check_keys(config, CLIPVisionConfig.__annotations__, "clip")
        if weights is not None and not is_export(weights):
            return cls(load_from_hub(CLIPVisionModel, weights, config, attention)), Loaded(weights)
        encoder = cls(from_config(CLIPVisionModel, config, attention))
        return encoder, RANDOM if weights is None else load_encoder_of_export(encoder, weights)

    def configuration(self) -> dict[str, Any]:
        """See `VisionEncoder`."""
        return configuration_of(self.model)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels → (N, P, D), row by row."""
        x: Tensor = self.model.pre_layrnorm(self.model.embeddings(pixels))
        for layer in self.model.encoder.layers[:-1]:
            x = layer(x, attention_mask=None)
        return x[:, 1:]
