"""Vision models of transformers as encoders: what one of their layers says of each place of an image.

Shape legend: N images, P tokens of an image that have a place in it, D channels of a token.
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
    from_config,
    is_export,
    load_encoder_of_export,
    load_from_hub,
    said_by,
)
from varyforge.errors import UserError


class TransformersEncoder(VisionEncoder):
    """(N, 3, H, W) → (N, P, D), row by row; tokens in front that have no place (class, registers) are dropped.

    What has no part in that (layers behind the chosen one, pooling heads) is not computed and never trains, but stays
    where it is, so that checkpoints can be read and written whole. A subclass names transformers' class for a family.

    Args:
        layer: whose output is taken, as an index of transformers' `hidden_states`: -1 the last layer, -2 the last but
            one; None: the family's own.
        norm: whether the model's last norm follows; None: as in transformers, where only `last_hidden_state` has it.
        input_size: side of the images in pixels; None: the model's `image_size`. Where it differs, learned positions
            are interpolated as transformers does it.
    """

    family: ClassVar[str]  # row of the table
    model_class: ClassVar[Any]  # of PreTrainedModel's subclasses
    default_layer: ClassVar[int] = -1
    own_keys: ClassVar[tuple[str, ...]] = ("layer", "input_size")  # of the recipe's config; the rest is transformers'

    def __init__(
        self, model: PreTrainedModel, *, layer: int | None = None, norm: bool | None = None, input_size: Any = None
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.layer = self.default_layer if layer is None else layer
        self.norm = self.layer == -1 if norm is None else norm
        if not isinstance(self.norm, bool):
            raise UserError(f"{self.family}: norm {norm!r}: expected true or false")
        self.gradient_checkpointing = False
        image_size = getattr(model.config, "image_size", None)
        given = ("image_size", image_size) if input_size is None else ("input_size", input_size)
        self.input_size = self._side(*given)
        self.interpolates = image_size is not None and self.input_size != self._side("image_size", image_size)
        self.preprocess = self.preprocess_of(self.input_size)
        self._num_without_place = 0
        count, self.width = self._try()
        self.view = self._places(count)
        self._num_without_place = count - self.view.count

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """The encoder of a recipe: sizes from `config`, or from the checkpoint where weights come from a hub or folder.

        `config` takes the keys of transformers' configuration class and `own_keys`. `weights`: a local folder or hub
        name of a model of this family, or a model that this project exported.
        """
        model_class = cls._class_of(config, weights)
        check_keys(config, [*config_keys(config_class_of(model_class)), *cls.own_keys], cls.family)
        own = {key: config[key] for key in ("layer", "norm", "input_size") if key in config}
        sizes = {key: value for key, value in config.items() if key not in cls.own_keys}
        attention = attention if model_class._supports_sdpa else "eager"  # of a model without attention, too
        if weights is not None and not is_export(weights):
            return cls(load_from_hub(model_class, weights, sizes, attention), **own), Loaded(weights)
        encoder = cls(from_config(model_class, sizes, attention), **own)
        return encoder, RANDOM if weights is None else load_encoder_of_export(encoder, weights)

    @classmethod
    def sizes(cls, config: dict[str, Any], weights: str | None) -> dict[str, Any]:
        """See `VisionEncoder`."""
        if weights is None or is_export(weights):
            return config
        found = configuration_at(cls._class_of(config, weights), weights)
        if found is None and config.keys() <= set(cls.own_keys):
            raise UserError(
                f"config: says no sizes, and {weights} is not on this machine; give them there, or fetch it"
            )
        return {**(found or {}), **config}

    def configuration(self) -> dict[str, Any]:
        """See `VisionEncoder`."""
        return configuration_of(self.model) | {key: getattr(self, key) for key in self.own_keys}

    def enable_gradient_checkpointing(self) -> None:
        """Keep only each block's input for the backward pass and compute the rest again."""
        self.gradient_checkpointing = True

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels → (N, P, D), row by row."""
        x = self.features(pixels)
        if x.ndim == 4:  # (N, D, rows, columns)
            x = x.flatten(2).transpose(1, 2)
        return x[:, self._num_without_place :]

    def features(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, tokens, D) or (N, D, rows, columns)."""
        layers = self.layers()
        numbers = range(len(layers) + 1)  # 0: what the first layer takes
        if self.layer not in (*numbers[1:], *(number - len(numbers) for number in numbers[1:])):
            raise UserError(f"{self.family}: layer {self.layer!r}: expected 1 to {numbers[-1]}, or -1 for the last, …")
        x = self.embed(pixels)
        for block in (block for layer in layers[: numbers[self.layer]] for block in layer):
            if self.gradient_checkpointing and self.training:
                x = checkpoint(self.run, block, x, use_reentrant=False)
            else:
                x = self.run(block, x)
        last_norm = self.last_norm()
        return last_norm(x) if self.norm and last_norm is not None else x

    def embed(self, pixels: Tensor) -> Tensor:
        """What the first layer takes."""
        embeddings: Tensor = self.model.embeddings(pixels)
        return embeddings

    def layers(self) -> list[list[nn.Module]]:
        """Of each layer its blocks, in the order in which they run."""
        raise NotImplementedError

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """One block's output."""
        y: Tensor = block(x, attention_mask=None)
        return y

    def last_norm(self) -> nn.Module | None:
        """What stands between the last layer and `last_hidden_state` in transformers."""
        return None

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """How the family wants its images, of `size` pixels."""
        raise NotImplementedError

    @classmethod
    def _class_of(cls, config: dict[str, Any], weights: str | None) -> type[PreTrainedModel]:
        model_class: type[PreTrainedModel] = cls.model_class
        return model_class

    def _try(self) -> tuple[int, int]:
        """Tokens and channels of an image; parameters that have no part in them are marked as such. Computes nothing.

        UserError for images that do not go through the model.
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
            raise UserError(f"{problem}: {said_by(error)}") from error
        if len(tokens) != len(images):
            raise UserError(f"{problem}: two images become one sequence")
        for parameter, part in zip(parameters.values(), parts, strict=True):
            if part is None:
                parameter.requires_grad_(False)
        return tokens.shape[1], tokens.shape[2]

    def _places(self, count: int) -> ViewTokens:
        """Rows and columns of the last of `count` tokens, from the size of a patch where a token is one."""
        patch = getattr(self.model.config, "patch_size", None)
        side = self.input_size // self._side("patch_size", patch) if patch else math.isqrt(count)
        if side * side > count:  # patches are merged on the way
            side = math.isqrt(count)
            if side * side != count:
                raise UserError(f"{self.family}: {count} tokens of an image are no square of rows and columns")
        return ViewTokens(side * side, (side, side))

    def _side(self, key: str, value: Any) -> int:
        """A side in pixels that transformers gives as one number or two."""
        sides = set(value) if isinstance(value, (list, tuple)) else {value}
        if len(sides) != 1 or not all(type(side) is int and side > 0 for side in sides):
            raise UserError(f"{self.family}: {key} {value!r}: expected the side of a square in pixels")
        return int(sides.pop())


class ClipEncoder(TransformersEncoder):
    """CLIP's image encoder (arXiv 2103.00020) as LLaVA and Vary-toy use it: the last layer but one.

    Preprocessing as CLIP's own: resized by the short side, the centre cut out.
    """

    family = "clip"
    model_class = CLIPVisionModel
    default_layer = -2

    def embed(self, pixels: Tensor) -> Tensor:
        """See `TransformersEncoder`."""
        x: Tensor = self.model.pre_layrnorm(self.model.embeddings(pixels, interpolate_pos_encoding=self.interpolates))
        return x

    def layers(self) -> list[list[nn.Module]]:
        """See `TransformersEncoder`; `post_layernorm` is for the class token alone and none of them."""
        return [[layer] for layer in self.model.encoder.layers]

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """See `TransformersEncoder`."""
        return ImagePreprocess(size=size, fit="crop")


class SiglipEncoder(TransformersEncoder):
    """SigLIP's image encoder (arXiv 2303.15343): the last layer and its norm, as in DeepSeek-VL (arXiv 2403.05525).

    `layer: -2` is what models in LLaVA's manner take; no norm follows then unless `norm` says so. Preprocessing as
    transformers' SiglipImageProcessor: stretched to a square, values in -1..1.
    """

    family = "siglip"
    model_class = SiglipVisionModel
    own_keys = ("layer", "norm", "input_size")

    def embed(self, pixels: Tensor) -> Tensor:
        """See `TransformersEncoder`."""
        x: Tensor = self.model.embeddings(pixels, interpolate_pos_encoding=self.interpolates)
        return x

    def layers(self) -> list[list[nn.Module]]:
        """See `TransformersEncoder`."""
        return [[layer] for layer in self.model.encoder.layers]

    def last_norm(self) -> nn.Module:
        """See `TransformersEncoder`."""
        norm: nn.Module = self.model.post_layernorm
        return norm

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """See `TransformersEncoder`."""
        half = (0.5, 0.5, 0.5)
        return ImagePreprocess(size=size, mean=half, std=half)


class Dinov2Encoder(TransformersEncoder):
    """DINOv2 (arXiv 2304.07193): the last layer and its norm; positions are interpolated to any `input_size`.

    Statistics of ImageNet and a centre crop as in transformers' processor of facebook/dinov2-base, which first resizes
    by a seventh more than it keeps; here nothing but the longer side's rest is cut off.
    """

    family = "dinov2"
    model_class: ClassVar[Any] = Dinov2Model
    own_keys = ("layer", "norm", "input_size")

    def layers(self) -> list[list[nn.Module]]:
        """See `TransformersEncoder`."""
        return [[layer] for layer in self.model.encoder.layer]

    def last_norm(self) -> nn.Module:
        """See `TransformersEncoder`."""
        norm: nn.Module = self.model.layernorm
        return norm

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """See `TransformersEncoder`."""
        return ImagePreprocess(size=size, fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD)


class Dinov2RegistersEncoder(Dinov2Encoder):
    """DINOv2 with registers (arXiv 2309.16588), which are dropped with the class token."""

    family = "dinov2_registers"
    model_class = Dinov2WithRegistersModel


class ConvNextEncoder(TransformersEncoder):
    """ConvNeXt (arXiv 2201.03545): the map of a stage, where `layer` -1 is the last; (N, D, h, w) → (N, h × w, D).

    Statistics of ImageNet as in the paper's code; stretched to a square, as transformers' ConvNextImageProcessor does
    from 384 px on.
    """

    family = "convnext"
    model_class = ConvNextModel

    def layers(self) -> list[list[nn.Module]]:
        """See `TransformersEncoder`."""
        return [[*stage.downsampling_layer, *stage.layers] for stage in self.model.encoder.stages]

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """See `TransformersEncoder`."""
        y: Tensor = block(x)
        return y

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """See `TransformersEncoder`."""
        return ImagePreprocess(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)


class AnyEncoder(TransformersEncoder):
    """`last_hidden_state` of any vision model of transformers that `model_type` names (vit, swin, dinov3_vit, …).

    The model runs as a whole: there is no choice of a layer. Statistics of ImageNet, stretched to a square; what the
    model's own processor does otherwise has to be said in the recipe (`preprocess`).
    """

    family = "transformers"
    own_keys = ("model_type", "input_size")

    @property
    def model_type(self) -> str:
        """Of the model, as transformers names it."""
        return str(self.model.config.model_type)

    def features(self, pixels: Tensor) -> Tensor:
        """See `TransformersEncoder`."""
        found = getattr(self.model(pixel_values=pixels), "last_hidden_state", None)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise UserError(f"transformers: {type(self.model).__name__} gives no map and no sequence of an image")
        return found

    def enable_gradient_checkpointing(self) -> None:
        """See `TransformersEncoder`; UserError where the model cannot."""
        if not self.model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(self.model).__name__}: transformers has no gradient checkpointing for it; set the encoder's "
                "gradient_checkpointing to false"
            )
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def preprocess_of(self, size: int) -> ImagePreprocess:
        """See `TransformersEncoder`."""
        return ImagePreprocess(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    @classmethod
    def _class_of(cls, config: dict[str, Any], weights: str | None) -> type[PreTrainedModel]:
        return class_named(config.get("model_type", ""), MODEL_MAPPING, "model without a head")
