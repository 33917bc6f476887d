"""Vision models of transformers as encoders: the output of one of their layers, one token per patch.

Shape legend: N images, P tokens of an image that belong to a patch, D channels of a token.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    MODEL_MAPPING,
    CLIPVisionModel,
    ConvNextModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipVisionModel,
)
from typing_extensions import override

from trainer.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.model.encoders.base import VisionEncoder
from trainer.model.tables import check_keys
from trainer.model.weights import (
    BAD_SIZES,
    RANDOM,
    Loaded,
    class_named,
    config_class_of,
    config_keys,
    configuration_at,
    configuration_of,
    error_text,
    from_config,
    is_export,
    load_encoder_of_export,
    load_from_hub,
)
from varyforge.errors import UserError

_IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


class TransformersEncoder(VisionEncoder):
    """A module that maps (N, 3, H, W) to (N, P, D), row by row. Tokens without a patch (class, registers) are dropped.

    Modules that the result does not depend on (layers behind the chosen one, pooling heads) are not computed and never
    trained. They stay in the model, so that checkpoints can be read and written whole. A subclass names transformers'
    class of a family.

    Args:
        model: transformers' model.
        layer: index of transformers' `hidden_states` to return: -1 the last layer, -2 the last but one; None: the
            family's default.
        norm: whether the model's last norm follows; None: as in transformers, where only `last_hidden_state` has it.
        input_size: side of the images in pixels; None: the model's `image_size`. If it differs, learned positions are
            interpolated as in transformers.
    """

    family: ClassVar[str]  # row of the table
    model_class: ClassVar[Any]  # a subclass of PreTrainedModel
    default_layer: ClassVar[int] = -1
    own_keys: ClassVar[tuple[str, ...]] = ("layer", "input_size")  # of the recipe's config, not of model_class
    layers_path: ClassVar[str]  # of the list of layers in transformers' model
    norm_path: ClassVar[str | None] = None  # of the norm between the last layer and transformers' last_hidden_state
    preprocess_settings: ClassVar[dict[str, Any]]  # the family's fields of ImagePreprocess

    def __init__(
        self, model: PreTrainedModel, *, layer: int | None = None, norm: bool | None = None, input_size: Any = None
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.layer = self.default_layer if layer is None else layer
        self.norm = self.layer == -1 if norm is None else norm
        if not isinstance(self.norm, bool):
            raise UserError(f"{self.family}: norm {norm!r}: expected true or false")
        image_size = getattr(model.config, "image_size", None)
        stated = ("image_size", image_size) if input_size is None else ("input_size", input_size)
        self.input_size = self._side(*stated)
        self.interpolates = image_size is not None and self.input_size != self._side("image_size", image_size)
        self.preprocess = ImagePreprocess(size=self.input_size, **self.preprocess_settings)
        self._num_without_patch = 0
        count, self.width = self._try()
        self.view = self._patches(count)
        self._num_without_patch = count - self.view.count

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """Build the encoder of a recipe. Sizes come from `config`, or from a checkpoint in a folder or on a hub.

        `config` takes the keys of transformers' configuration class and `own_keys`. `weights` is a local folder or hub
        name of a model of this family, or a model that this project exported.
        """
        model_class = cls._class_of(config)
        check_keys(config, [*config_keys(config_class_of(model_class)), *cls.own_keys], cls.family)
        own = {key: config[key] for key in ("layer", "norm", "input_size") if key in config}
        sizes = {key: value for key, value in config.items() if key not in cls.own_keys}
        attention = attention if model_class._supports_sdpa else "eager"  # also for a model without attention
        if weights is not None and not is_export(weights):
            return cls(load_from_hub(model_class, weights, sizes, attention), **own), Loaded(weights)
        encoder = cls(from_config(model_class, sizes, attention), **own)
        return encoder, RANDOM if weights is None else load_encoder_of_export(encoder, weights)

    @classmethod
    @override
    def sizes(cls, config: dict[str, Any], weights: str | None) -> dict[str, Any]:
        if weights is None or is_export(weights):
            return config
        of_weights = configuration_at(cls._class_of(config), weights)
        if of_weights is None and config.keys() <= set(cls.own_keys):
            raise UserError(
                f"config: says no sizes, and {weights} is not on this machine; state the sizes, or download the weights"
            )
        return {**(of_weights or {}), **config}

    @override
    def configuration(self) -> dict[str, Any]:
        return configuration_of(self.model.config) | {key: getattr(self, key) for key in self.own_keys}

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens (N, P, D), row by row, for normalised pixels (N, 3, H, W)."""
        x = self.features(pixels)
        if x.ndim == 4:  # (N, D, rows, columns)
            x = x.flatten(2).transpose(1, 2)
        return x[:, self._num_without_patch :]

    def features(self, pixels: Tensor) -> Tensor:
        """Return all tokens, (N, tokens, D) or (N, D, rows, columns), for pixels (N, 3, H, W)."""
        layers = self.layers()
        numbers = range(len(layers) + 1)  # 0: the first layer's input
        if self.layer not in (*numbers[1:], *(number - len(numbers) for number in numbers[1:])):
            raise UserError(f"{self.family}: layer {self.layer!r}: expected 1 to {numbers[-1]}, or -1 for the last, …")
        x = self.embed(pixels)
        for block in (block for layer in layers[: numbers[self.layer]] for block in layer):
            if self.gradient_checkpointing and self.training:
                x = checkpoint(self.run, block, x, use_reentrant=False)
            else:
                x = self.run(block, x)
        if self.norm and self.norm_path is not None:
            x = self.model.get_submodule(self.norm_path)(x)
        return x

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first layer."""
        embeddings: Tensor = self.model.embeddings(pixels)
        return embeddings

    def layers(self) -> list[list[nn.Module]]:
        """Return the blocks of each layer, in the order in which they run."""
        return [[layer] for layer in self.model.get_submodule(self.layers_path)]

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return one block's output."""
        y: Tensor = block(x, attention_mask=None)
        return y

    @classmethod
    def _class_of(cls, config: dict[str, Any]) -> type[PreTrainedModel]:
        model_class: type[PreTrainedModel] = cls.model_class
        return model_class

    def _try(self) -> tuple[int, int]:
        """Return the tokens and channels of an image. Freeze the parameters that the tokens do not depend on.

        Runs on the meta device, so nothing is computed. UserError if the model does not take images of this size.
        """
        named = [*self.named_parameters(), *self.named_buffers()]
        state = {
            name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad) for name, tensor in named
        }
        images = next(self.parameters()).new_empty((2, 3, self.input_size, self.input_size), device="meta")
        parameters = dict(self.named_parameters())
        problem = f"{self.family}: {type(self.model).__name__} does not take images of {self.input_size} px"
        try:
            with torch.enable_grad():
                tokens = torch.func.functional_call(self, state, images)
                parts = torch.autograd.grad(tokens.sum(), [state[name] for name in parameters], allow_unused=True)
        except UserError:
            raise
        except BAD_SIZES as error:
            raise UserError(f"{problem}: {error_text(error)}") from error
        if len(tokens) != len(images):
            raise UserError(f"{problem}: two images become one sequence")
        for parameter, part in zip(parameters.values(), parts, strict=True):
            if part is None:
                parameter.requires_grad_(False)
        return tokens.shape[1], tokens.shape[2]

    def _patches(self, count: int) -> ViewTokens:
        """Return the rows and columns of the last of `count` tokens, by the size of a patch if the model states it."""
        patch = getattr(self.model.config, "patch_size", None)
        side = self.input_size // self._side("patch_size", patch) if patch else math.isqrt(count)
        if side * side > count:  # the model merges patches
            side = math.isqrt(count)
            if side * side != count:
                raise UserError(f"{self.family}: {count} tokens of an image are no square of rows and columns")
        return ViewTokens(side * side, (side, side))

    def _side(self, key: str, value: Any) -> int:
        """Return the side of a square in pixels, which transformers states as one number or two."""
        sides = set(value) if isinstance(value, (list, tuple)) else {value}
        if len(sides) != 1 or not all(type(side) is int and side > 0 for side in sides):
            raise UserError(f"{self.family}: {key} {value!r}: expected the side of a square in pixels")
        return int(sides.pop())


class ClipEncoder(TransformersEncoder):
    """The image encoder of CLIP (arXiv 2103.00020) as in LLaVA and Vary-toy: the output of the last layer but one.

    Preprocessing is CLIP's: resize by the short side, crop the centre. Its last norm is for the class token only.
    """

    family = "clip"
    model_class = CLIPVisionModel
    default_layer = -2
    layers_path = "encoder.layers"
    preprocess_settings: ClassVar = {"fit": "crop"}

    @override
    def embed(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.model.pre_layrnorm(self.model.embeddings(pixels, interpolate_pos_encoding=self.interpolates))
        return x


class SiglipEncoder(TransformersEncoder):
    """The image encoder of SigLIP (arXiv 2303.15343): last layer and norm, as in DeepSeek-VL (arXiv 2403.05525).

    Models like LLaVA take `layer: -2`, without a norm unless `norm: true`. Preprocessing is that of transformers'
    SiglipImageProcessor: stretch to a square, values in -1..1.
    """

    family = "siglip"
    model_class = SiglipVisionModel
    own_keys = ("layer", "norm", "input_size")
    layers_path = "encoder.layers"
    norm_path = "post_layernorm"
    preprocess_settings: ClassVar = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    @override
    def embed(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.model.embeddings(pixels, interpolate_pos_encoding=self.interpolates)
        return x


class Dinov2Encoder(TransformersEncoder):
    """The encoder DINOv2 (arXiv 2304.07193): the last layer and its norm. Positions are interpolated to `input_size`.

    Preprocessing has ImageNet's statistics and a centre crop, as transformers' processor of facebook/dinov2-base. That
    processor also crops an eighth of the shorter side, which is not done here.
    """

    family = "dinov2"
    model_class: ClassVar[Any] = Dinov2Model
    own_keys = ("layer", "norm", "input_size")
    layers_path = "encoder.layer"
    norm_path = "layernorm"
    preprocess_settings: ClassVar = {"fit": "crop", **_IMAGENET}


class Dinov2RegistersEncoder(Dinov2Encoder):
    """The encoder DINOv2 with registers (arXiv 2309.16588), which are dropped like the class token."""

    family = "dinov2_registers"
    model_class = Dinov2WithRegistersModel


class ConvNextEncoder(TransformersEncoder):
    """The encoder ConvNeXt (arXiv 2201.03545): the map (N, D, h, w) of stage `layer` as tokens (N, h × w, D).

    Preprocessing has ImageNet's statistics, as in the paper's code, and stretches to a square, as transformers'
    ConvNextImageProcessor does from 384 px on.
    """

    family = "convnext"
    model_class = ConvNextModel
    preprocess_settings = _IMAGENET

    @override
    def layers(self) -> list[list[nn.Module]]:
        return [[*stage.downsampling_layer, *stage.layers] for stage in self.model.encoder.stages]

    @override
    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = block(x)
        return y


class AnyEncoder(TransformersEncoder):
    """The `last_hidden_state` of any vision model of transformers, named by `model_type` (vit, swin, dinov3_vit, …).

    The model runs as a whole, without a choice of layer. Preprocessing has ImageNet's statistics and stretches to a
    square. If the model's own processor differs, the recipe has to state it (`preprocess`).
    """

    family = "transformers"
    own_keys = ("model_type", "input_size")
    preprocess_settings = _IMAGENET

    @property
    def model_type(self) -> str:
        """The model's type, as transformers names it."""
        return str(self.model.config.model_type)

    @override
    def features(self, pixels: Tensor) -> Tensor:
        features = getattr(self.model(pixel_values=pixels), "last_hidden_state", None)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise UserError(f"transformers: {type(self.model).__name__} gives no map and no sequence of an image")
        return features

    @override
    def enable_gradient_checkpointing(self) -> None:
        if not self.model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(self.model).__name__}: transformers has no gradient checkpointing for it; set the encoder's "
                "gradient_checkpointing to false"
            )
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    @classmethod
    def _class_of(cls, config: dict[str, Any]) -> type[PreTrainedModel]:
        return class_named(config.get("model_type", ""), MODEL_MAPPING, "model without a head")
