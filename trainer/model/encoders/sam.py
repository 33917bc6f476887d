"""Vary's vision vocabulary: SAM's ViTDet-B image encoder, followed by two convolutions.

Vary (arXiv 2312.06109, section 3.2) extends Segment Anything (arXiv 2304.02643), a ViTDet (arXiv 2203.16527). It is
the same computation as https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/image_encoder.py.
Parameters have the names of that code, so its checkpoints load unchanged.

Shape legend: N images, B fields (images or windows), S side of a field in patches, C width, P tokens, D channels of
a token.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens, is_count
from trainer.model.encoders.base import VisionEncoder
from trainer.model.encoders.relative_attention import RelativeAttention
from trainer.model.recompute import checkpointed, recompute
from trainer.model.tables import check_keys
from trainer.model.weights import RANDOM, Loaded, copy_tensors, load_encoder_of_export, read_pickle
from varyforge.errors import UserError

_CONV_STRIDE = 4  # two convolutions of stride 2 behind the neck
_ROWS = 512  # of the MLP's activations per GELU in place
_SAM_PREFIX = "image_encoder."  # in the original checkpoint, which also has a prompt encoder and a mask decoder
_NOT_IN_SAM = ("net_2.weight", "net_3.weight")  # Vary's two convolutions


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig:
    """The sizes of the encoder. The defaults are SAM-B with Vary's two convolutions."""

    image_size: int = 1024  # px
    patch_size: int = 16  # px
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    window: int = 14  # patches, side of a window
    global_layers: tuple[int, ...] = (2, 5, 8, 11)  # attend over the whole image; all other layers within windows
    neck: int = 256
    neck_grid: int | None = None  # side to which the neck's map is interpolated before the convolutions; null: none
    conv_channels: tuple[int, int] = (512, 1024)

    def __post_init__(self) -> None:
        sizes = {"image_size", "patch_size", "width", "depth", "heads", "mlp_ratio", "window", "neck"}
        for name in sorted(sizes):
            if not is_count(getattr(self, name)):
                raise UserError(f"sam: {name} {getattr(self, name)!r}: expected a whole number of 1 or more")
        if not isinstance(self.global_layers, tuple) or not isinstance(self.conv_channels, tuple):
            raise UserError("sam: global_layers and conv_channels are lists")
        if len(self.conv_channels) != 2 or not all(map(is_count, self.conv_channels)):
            raise UserError(f"sam: conv_channels {list(self.conv_channels)}: expected two, one for each convolution")
        if unknown := [layer for layer in self.global_layers if layer not in range(self.depth)]:
            raise UserError(f"sam: global_layers {unknown}: the {self.depth} layers are 0 to {self.depth - 1}")
        if self.image_size % (self.patch_size * _CONV_STRIDE):
            raise UserError(
                f"sam: image_size {self.image_size} is not a multiple of {_CONV_STRIDE} × patch_size {self.patch_size}"
            )
        sides = range(_CONV_STRIDE, self.image_size + 1, _CONV_STRIDE)
        if self.neck_grid is not None and not (is_count(self.neck_grid) and self.neck_grid in sides):
            raise UserError(f"sam: neck_grid {self.neck_grid!r}: expected a multiple of {_CONV_STRIDE}, or null")
        if self.width % self.heads:
            raise UserError(f"sam: width {self.width} is not a multiple of heads {self.heads}")

    @property
    def grid(self) -> int:
        """Side of the image in patches."""
        return self.image_size // self.patch_size


class SamEncoder(VisionEncoder):
    """A module (N, 3, H, W) → (N, P, D). SAM-B: 1024 px → 64 × 64 patches → 16 × 16 = 256 tokens of 1024 channels.

    DeepSeek-VL (arXiv 2403.05525, section 3.1) interpolates to 96 × 96 (`neck_grid`) → 24 × 24 = 576 tokens. The share
    of the first global layer that its 7B release adds is not in the paper and not built here.
    """

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        side = (config.neck_grid or config.grid) // _CONV_STRIDE
        self.view = ViewTokens(side * side, (side, side))
        self.width = config.conv_channels[-1]
        self.preprocess = ImagePreprocess(size=config.image_size)

        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.width))
        self.blocks = nn.ModuleList(
            Block(config, window=0 if layer in config.global_layers else config.window) for layer in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.width, config.neck, kernel_size=1, bias=False),
            LayerNorm2d(config.neck, eps=1e-6),
            nn.Conv2d(config.neck, config.neck, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(config.neck, eps=1e-6),
        )
        first, second = config.conv_channels
        self.net_2 = nn.Conv2d(config.neck, first, kernel_size=3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(first, second, kernel_size=3, stride=2, padding=1, bias=False)
        self._init_weights()

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None, attention: str) -> tuple[Self, Loaded]:
        """Build the encoder of a recipe. `attention` is ignored, because this encoder has one implementation.

        `weights` is a model that this project exported, of which the one encoder that fits is taken, or the original
        SAM checkpoint (.pth, or converted), which leaves `net_2` and `net_3` random.
        """
        check_keys(config, (field.name for field in fields(SamConfig)), "sam")
        lists = {key: tuple(value) for key, value in config.items() if isinstance(value, (list, tuple))}
        encoder = cls(SamConfig(**{**config, **lists}))
        if weights is None:
            return encoder, RANDOM
        if Path(weights).suffix != ".pth":
            return encoder, load_encoder_of_export(encoder, weights, may_miss=_NOT_IN_SAM)
        tensors = read_pickle(weights, _SAM_PREFIX)
        return encoder, copy_tensors(encoder, tensors, weights, may_miss=_NOT_IN_SAM)

    @override
    def configuration(self) -> dict[str, Any]:
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.config).items()}

    def flops(self) -> int:
        """Return the forward FLOPs of one image in SAM as published: 976.9 · 10⁹ for SAM-B at 1024 px.

        A block with n positions (with the windows' padding), k keys for each, and fields of side s takes
        `8·n·C² + 4·N·ratio·C² + 4·n·(k + s)·C`: qkv and projection, MLP on the N patches, scores and values over k keys
        and two tables of s relative positions. `RelativeAttention` executes more, with longer queries, keys and values.
        """
        c, patches = self.config, self.config.grid**2
        padded = math.ceil(c.grid / c.window) * c.window
        total = 2 * patches * 3 * c.patch_size**2 * c.width
        for layer in range(c.depth):
            positions, side = (patches, c.grid) if layer in c.global_layers else (padded**2, c.window)
            total += 8 * positions * c.width**2 + 4 * patches * c.mlp_ratio * c.width**2
            total += 4 * positions * (side**2 + side) * c.width
        first, second = c.conv_channels
        total += 2 * patches * (c.width * c.neck + 9 * c.neck**2)
        return total + 18 * self.view.count * first * (4 * c.neck + second)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens (N, P, D), row by row, for normalised pixels (N, 3, H, W)."""
        x: Tensor = self.patch_embed(pixels) + self.pos_embed
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x = checkpointed(block, x)
            else:
                x = block(x)
        x = self.neck(x.permute(0, 3, 1, 2))
        if self.config.neck_grid is not None:
            side = self.config.neck_grid
            x = F.interpolate(x.float(), (side, side), mode="bilinear", align_corners=False).to(x.dtype)
        x = self.net_3(self.net_2(x))  # (N, D, a quarter of the rows, of the columns)
        return x.flatten(2).transpose(1, 2)

    def _init_weights(self) -> None:
        # As in ViT: truncated normals. Relative positions stay zero, convolutions keep torch's default. ViT's std of
        # 0.02 is for 768 inputs; narrower layers need a larger one for the same gain, or the trunk starts linear.
        std = 0.02 * math.sqrt(768 / self.pos_embed.shape[-1])
        nn.init.trunc_normal_(self.pos_embed, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)


class PatchEmbed(nn.Module):
    """A module that maps (N, 3, H, W) to (N, S, S, C), one vector per patch."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, kernel_size=config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return one vector per patch, (N, S, S, C)."""
        x: Tensor = self.proj(pixels)
        return x.permute(0, 2, 3, 1)


class Block(nn.Module):
    """A pre-norm transformer block over (N, S, S, C). With `window` 0 it attends over the whole image."""

    def __init__(self, config: SamConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = RelativeAttention(config.width, config.heads, window or config.grid)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.width * config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        fields = self._fields(x)
        with recompute((fields, lambda: self._fields(x))):
            attended = self.attn(fields)
        attended = from_windows(attended, side=x.shape[1]) if self.window else attended
        seen = x + attended
        del fields, attended
        normed = self.norm2(seen)
        with recompute((normed, lambda: self.norm2(seen))):
            out: Tensor = seen + self.mlp(normed)
        return out

    def _fields(self, x: Tensor) -> Tensor:
        """Return the normalised windows of (N, S, S, C), or the image, as fields of attention (B, side, side, C)."""
        # As in SAM, windows are padded after the norm and not masked, so padding has q, k, v = the bias of qkv.
        return to_windows(self.norm1(x), self.window) if self.window else self.norm1(x)


class Mlp(nn.Module):
    """A block of two linear layers with the exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape, (..., C)."""
        hidden = self.lin1(x)
        if not torch.is_grad_enabled():  # GELU in place saves a copy
            for piece in hidden.view(-1, hidden.shape[-1]).split(_ROWS):
                piece.copy_(F.gelu(piece))
            return cast(Tensor, self.lin2(hidden))
        active = F.gelu(hidden)
        with recompute((active, lambda: F.gelu(hidden))):
            return cast(Tensor, self.lin2(active))


class LayerNorm2d(nn.LayerNorm):
    """A LayerNorm over the channels of each position of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        x = super().forward(x.permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut (N, S, S, C) into (N × windows, window, window, C), padded below and to the right with zeros if needed."""
    padding = -x.shape[1] % window
    x = F.pad(x, (0, 0, 0, padding, 0, padding))
    count, width = x.shape[1] // window, x.shape[3]
    return x.reshape(-1, count, window, count, window, width).transpose(2, 3).reshape(-1, window, window, width)


def from_windows(windows: Tensor, side: int) -> Tensor:
    """Invert `to_windows`: return (N, S, S, C), without the padding."""
    window, width = windows.shape[1], windows.shape[3]
    count = math.ceil(side / window)
    x = windows.reshape(-1, count, count, window, window, width).transpose(2, 3)
    return x.reshape(-1, count * window, count * window, width)[:, :side, :side]
