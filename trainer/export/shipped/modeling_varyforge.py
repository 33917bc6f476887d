"""A model that varyforge exported, built of transformers' own models, for `AutoModelForImageTextToText`.

This file ships with the model. It needs torch, transformers, numpy and Pillow, and no varyforge.

Shape legend: B rows, T tokens, N images, V views of all images, S side of a view in pixels, P tokens of a view,
D channels, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedModel,
    SamVisionConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.models.sam.modeling_sam import SamVisionEncoder

from trainer.export.shipped.configuration_varyforge import VaryforgeConfig, layout_of, view_of
from trainer.images.sizes import ViewTokens
from trainer.model.connectors import CONNECTORS
from trainer.model.fusions import FUSIONS
from trainer.model.joint import ImageSequence


class SamVocabulary(nn.Module):
    """Vary's vision vocabulary: SAM's image encoder and two convolutions of stride 2 (arXiv 2312.06109, 3.2)."""

    def __init__(self, config: Mapping[str, Any], _attention: str) -> None:
        super().__init__()
        trunk: Any = SamVisionConfig(**config["trunk"])
        self.trunk = SamVisionEncoder._from_config(trunk, attn_implementation="sdpa")  # its only fused kernel
        first, second = config["conv_channels"]
        self.net_2 = nn.Conv2d(trunk.output_channels, first, kernel_size=3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(first, second, kernel_size=3, stride=2, padding=1, bias=False)
        self.neck_grid = config["neck_grid"]  # side to which the neck's map is interpolated; None: unchanged
        side = (self.neck_grid or trunk.image_size // trunk.patch_size) // 4
        self.view, self.width = ViewTokens(side * side, (side, side)), second

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode (V, 3, S, S) to (V, P, D), row by row."""
        x: Tensor = self.trunk(pixels).last_hidden_state
        if self.neck_grid is not None:
            x = functional.interpolate(x.float(), (self.neck_grid, self.neck_grid), mode="bilinear").to(x.dtype)
        x = self.net_3(self.net_2(x))
        return x.flatten(2).transpose(1, 2)


class TransformersLayer(nn.Module):
    """One layer's output of a transformers vision model, without tokens that have no position in the image.

    Args:
        config: `model` (the vision model's configuration), `layer` (index of `hidden_states`), `norm` (whether the
            model's last norm is applied), `interpolate` (whether learned positions are interpolated), `view` and
            `width` (the tokens of a view and their channels).
        attention: name of the attention implementation.
    """

    def __init__(self, config: Mapping[str, Any], attention: str) -> None:
        super().__init__()
        vision: Any = AutoConfig.for_model(**config["model"])
        try:
            self.model = AutoModel.from_config(vision, attn_implementation=attention)
        except ValueError:  # the model has no such kernel
            self.model = AutoModel.from_config(vision, attn_implementation="eager")
        self.layer, self.norm = config["layer"], config["norm"]
        self.options = {"interpolate_pos_encoding": True} if config["interpolate"] else {}
        self.view, self.width = view_of(config["view"]), config["width"]

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode (V, 3, S, S) to (V, P, D), row by row, without the leading tokens that have no position."""
        if self.norm and self.layer == -1:
            x = self.model(pixels, **self.options).last_hidden_state
        else:
            x = self.model(pixels, output_hidden_states=True, **self.options).hidden_states[self.layer]
            name = LAST_NORM.get(self.model.config.model_type)
            x = self.model.get_submodule(name)(x) if self.norm and name else x
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        return cast(Tensor, x[:, x.shape[1] - self.view.count :])


LAST_NORM = {
    "siglip_vision_model": "post_layernorm",
    "dinov2": "layernorm",
    "dinov2_with_registers": "layernorm",
}
"""Model type → the norm between its last layer and `last_hidden_state`."""


class LastPosition(StoppingCriteria):
    """A criterion that ends all rows at a length. transformers' own one would replace max_new_tokens."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """Return (B,) bool, true at the last position."""
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.length, device=input_ids.device)


class VaryforgeForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The model that `VaryforgeConfig` describes. Its parts have the names of the trained model's parts."""

    config_class = VaryforgeConfig
    config: VaryforgeConfig
    base_model_prefix = "language"
    main_input_name = "input_ids"
    input_modalities: Any = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: VaryforgeConfig) -> None:
        super().__init__(config)
        attention = config._attn_implementation
        self.language = AutoModelForCausalLM.from_config(config.text_config, attn_implementation=attention)
        self.layout = layout_of(config.layout)
        hidden_size = self.language.get_input_embeddings().embedding_dim
        fusion = FUSIONS[config.fusion]
        width = fusion.connector_width(hidden_size, len(config.vision))
        self.encoders, self.connectors, views = nn.ModuleDict(), nn.ModuleDict(), {}
        for name, part in config.vision.items():
            encoder: Any = (SamVocabulary if part["type"] == "sam" else TransformersLayer)(part["config"], attention)
            connector = part["connector"]
            self.encoders[name] = encoder
            self.connectors[name], views[name] = CONNECTORS[connector["type"]](
                connector["config"], encoder.width, width, encoder.view
            )
        projector = None
        if config.projector is not None:
            connect = CONNECTORS[config.projector["type"]]
            projector, _ = connect(config.projector["config"], hidden_size, hidden_size, fusion.view(views))
        self.joint = ImageSequence(fusion, projector, self.layout, hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's input embeddings."""
        return cast(nn.Module, self.language.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's input embeddings."""
        self.language.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's output layer."""
        return cast(nn.Module, self.language.get_output_embeddings())

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the language model's output, including `logits` (B, T, vocabulary).

        Args:
            input_ids: (B, T), with the image token once for each token of an image.
            pixel_values: (V, 3, S, S) with one encoder, (V, values of all encoders' pixels) with several.
            image_sizes: (N, 2) height and width of the images in pixels before resizing.
            attention_mask: (B, T), 0 at padding.
            position_ids: (B, T).
            inputs_embeds: (B, T, H), instead of `input_ids` and images.
            kwargs: arguments of the language model.
        """
        if inputs_embeds is None:
            caches = [kwargs[key] for key in ("cache", "past_key_values") if kwargs.get(key) is not None]
            if any(cache.get_seq_length() for cache in caches):  # the model generated these ids, image tokens included
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                inputs_embeds = self.embed(input_ids, pixel_values, image_sizes)
        return self.language(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )

    def embed(self, input_ids: Tensor | None, pixel_values: Tensor | None, image_sizes: Tensor | None) -> Tensor:
        """Map (B, T) ids to (B, T, H), with images in place of the image tokens."""
        if input_ids is None:
            raise ValueError("input_ids: missing; give them, or inputs_embeds")
        embeddings: Tensor = self.get_input_embeddings()(input_ids)
        slots = input_ids == self.config.image_token_id
        sizes = [] if image_sizes is None else [(height, width) for height, width in image_sizes.tolist()]
        expected = sum(map(self.layout.num_tokens, sizes))
        if int(slots.sum()) != expected:
            raise ValueError(f"{len(sizes)} images: expected {expected} image tokens in the rows, found {slots.sum()}")
        if pixel_values is None or not sizes:
            return embeddings
        images = self.encode_images(pixel_values, sizes).to(embeddings)
        return embeddings.masked_scatter(slots[..., None], images)

    def encode_images(self, pixel_values: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """Encode `pixel_values` (as in `forward`) of N images to (tokens of all images, H). `sizes` are in pixels."""
        sides = [self.layout.preprocess[name].size for name in self.encoders]
        tokens = []
        pieces = pixel_values.flatten(1).split([3 * side * side for side in sides], dim=1)
        for (name, encoder), pixels, side in zip(self.encoders.items(), pieces, sides, strict=True):
            features = encoder(pixels.reshape(-1, 3, side, side).to(self.dtype))
            tokens.append(self.connectors[name](features))
        return cast(Tensor, self.joint(tokens, sizes))

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate like `GenerationMixin.generate`. Images are encoded once; the last position ends a row."""
        input_ids = kwargs.pop("input_ids", inputs)
        mask = kwargs.get("attention_mask")
        longest = input_ids.shape[1] if mask is None else int(mask.sum(dim=1).max())
        room = self.config.text_config.max_position_embeddings - longest
        if room < 1:
            raise ValueError(f"prompt of {longest} tokens: the language model has {room + longest} positions")
        ends = [*(kwargs.pop("stopping_criteria", None) or []), LastPosition(input_ids.shape[1] + room)]
        embeddings = self.embed(input_ids, pixel_values, image_sizes)
        kwargs |= {"inputs_embeds": embeddings, "stopping_criteria": StoppingCriteriaList(ends), "use_cache": True}
        return super().generate(input_ids=input_ids, **kwargs)
