"""The vision vocabulary: SAM's ViTDet-B image encoder and two convolutions.

Vary (arXiv 2312.06109, section 3.2) on Segment Anything (arXiv 2304.02643) on ViTDet (arXiv 2203.16527); the maths is
that of https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/image_encoder.py, and
the parameters carry its names, so its checkpoints load as they are.

Shape legend: N images, B fields (images or windows), S side of a field in patches, C width, A heads, E channels of a
head, P tokens, D channels of a token.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.model.encoders.base import VisionEncoder
from trainer.model.recompute import checkpointed, recompute
from trainer.model.tables import check_keys
from trainer.model.weights import RANDOM, Loaded, copy_tensors, load_encoder_of_export, read_pickle
from varyforge.errors import UserError

_CONV_STRIDE = 4  # two convolutions of stride 2 behind the neck
_ROWS = 512  # of the MLP's activations at once
_WIDE_NUMBERS = {"cpu": 2**22}  # of the longer queries at once: heads beyond wait for their turn
_WIDE_NUMBERS_ELSEWHERE = 2**25  # three images of SAM-B, 64 MB in 16 bits: few launches, each of which fills a GPU
_BIAS_NUMBERS = 2**22  # of `attend_by_rows` at once: 16 MB in fp32, which are written and read again at once
_KERNEL_ALIGNMENT = 8  # channels: attention kernels for 16-bit floats want rows of 16 bytes
_SAM_PREFIX = "image_encoder."  # of the original checkpoint, which also holds a prompt encoder and a mask decoder
_NOT_IN_SAM = ("net_2.weight", "net_3.weight")  # Vary's own


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig:
    """Sizes; the defaults are SAM-B with Vary's two convolutions."""

    image_size: int = 1024  # px
    patch_size: int = 16  # px
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    window: int = 14  # patches, side of a window
    global_layers: tuple[int, ...] = (2, 5, 8, 11)  # attend over the whole image, the others within windows
    neck: int = 256
    neck_grid: int | None = None  # side to which the neck's map is interpolated before the convolutions; null: as it is
    conv_channels: tuple[int, int] = (512, 1024)

    def __post_init__(self) -> None:
        sizes = {"image_size", "patch_size", "width", "depth", "heads", "mlp_ratio", "window", "neck"}
        for name in sorted(sizes):
            if not _is_count(getattr(self, name)):
                raise UserError(f"sam: {name} {getattr(self, name)!r}: expected a whole number of 1 or more")
        if not isinstance(self.global_layers, tuple) or not isinstance(self.conv_channels, tuple):
            raise UserError("sam: global_layers and conv_channels are lists")
        if len(self.conv_channels) != 2 or not all(map(_is_count, self.conv_channels)):
            raise UserError(f"sam: conv_channels {list(self.conv_channels)}: expected two, one for each convolution")
        if unknown := [layer for layer in self.global_layers if layer not in range(self.depth)]:
            raise UserError(f"sam: global_layers {unknown}: the {self.depth} layers are 0 to {self.depth - 1}")
        if self.image_size % (self.patch_size * _CONV_STRIDE):
            raise UserError(
                f"sam: image_size {self.image_size} is not a multiple of {_CONV_STRIDE} × patch_size {self.patch_size}"
            )
        sides = range(_CONV_STRIDE, self.image_size + 1, _CONV_STRIDE)
        if self.neck_grid is not None and not (_is_count(self.neck_grid) and self.neck_grid in sides):
            raise UserError(f"sam: neck_grid {self.neck_grid!r}: expected a multiple of {_CONV_STRIDE}, or null")
        if self.width % self.heads:
            raise UserError(f"sam: width {self.width} is not a multiple of heads {self.heads}")

    @property
    def grid(self) -> int:
        """Side of the image in patches."""
        return self.image_size // self.patch_size


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


class SamEncoder(VisionEncoder):
    """(N, 3, H, W) → (N, P, D); SAM-B: 1024 px → 64 × 64 patches → 16 × 16 = 256 tokens of 1024 channels.

    DeepSeek-VL (arXiv 2403.05525, section 3.1) interpolates to 96 × 96 (`neck_grid`) → 24 × 24 = 576 tokens; what its
    7B release adds to that, a share of the first global layer that starts at zero, the paper does not have.
    """

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        side = (config.neck_grid or config.grid) // _CONV_STRIDE
        self.view = ViewTokens(side * side, (side, side))
        self.width = config.conv_channels[-1]
        self.preprocess = ImagePreprocess(size=config.image_size)
        self.gradient_checkpointing = False

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
        """The encoder of a recipe; `attention` has no say here, this encoder has one implementation.

        `weights`: a model that this project exported (its one encoder that fits is taken), or the original SAM
        checkpoint (.pth, or converted), which leaves `net_2` and `net_3` random.
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

    def configuration(self) -> dict[str, Any]:
        """See `VisionEncoder`."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.config).items()}

    def enable_gradient_checkpointing(self) -> None:
        """Keep only each block's input for the backward pass and compute the rest again."""
        self.gradient_checkpointing = True

    def flops(self) -> int:
        """FLOPs of one image, forward, of SAM as published: SAM-B at 1024 px 976.9 · 10⁹.

        With n places (padded where windows are), k keys of each and fields of side s, a block is
        `8·n·C² + 4·N·ratio·C² + 4·n·(k + s)·C`: qkv and projection, MLP on the N patches, scores and values over k keys
        and two tables of s relative positions. `Attention` executes more: its queries, keys and values are longer.
        """
        c, patches = self.config, self.config.grid**2
        padded = math.ceil(c.grid / c.window) * c.window
        total = 2 * patches * 3 * c.patch_size**2 * c.width
        for layer in range(c.depth):
            places, side = (patches, c.grid) if layer in c.global_layers else (padded**2, c.window)
            total += 8 * places * c.width**2 + 4 * patches * c.mlp_ratio * c.width**2
            total += 4 * places * (side**2 + side) * c.width
        first, second = c.conv_channels
        total += 2 * patches * (c.width * c.neck + 9 * c.neck**2)
        return total + 18 * self.view.count * first * (4 * c.neck + second)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels → (N, P, D), row by row."""
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
        # ViT's: small truncated normals; relative positions stay zero, convolutions keep torch's default.
        # ViT's 0.02 is for 768 inputs; narrower layers need as much more for the same gain, or the trunk starts linear.
        std = 0.02 * math.sqrt(768 / self.pos_embed.shape[-1])
        nn.init.trunc_normal_(self.pos_embed, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)


class PatchEmbed(nn.Module):
    """(N, 3, H, W) → (N, S, S, C), one vector per patch."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, kernel_size=config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Cut and project."""
        x: Tensor = self.proj(pixels)
        return x.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Pre-norm transformer block over (N, S, S, C); `window` = 0 attends over the whole image."""

    def __init__(self, config: SamConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, window or config.grid)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.width * config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
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
        """(N, S, S, C) → normalised fields within which patches attend to each other, (B, side, side, C)."""
        # Padded after the norm and not masked, as SAM does: padding takes part with q, k, v = the bias of qkv.
        return to_windows(self.norm1(x), self.window) if self.window else self.norm1(x)


class Attention(nn.Module):
    """Multi-head attention over square fields (B, S, S, C) with decomposed relative positions (arXiv 2112.01526, 4.1).

    The score of query (i, j) and key (m, n) is `scale * q·k + q·Rh[i - m] + q·Rw[j - n]`. The last two terms are S
    numbers each per query, picked by the key's row and column, so they are folded into the dot product: the query grows
    by its 2S numbers, the key by two one-hot vectors. A fused kernel then never sees a bias of (S², S²), which for
    S = 64 would be 400 MB per image and layer in 16 bits. On a CPU, where arithmetic is dear, the bias is made instead,
    some rows of queries at a time, as long as no gradient is wanted: no kernel has one for it.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, S, C) → (B, S, S, C)."""
        fields, side, _, width = x.shape
        head = width // self.heads
        qkv = self.qkv(x).reshape(fields, side * side, 3, self.heads, head)
        by_rows = x.device.type == "cpu" and not torch.is_grad_enabled()
        tables = self._tables(side, 1.0 if by_rows else head**0.5)
        # As wide as each other, because the fused kernels that need no (S², S²) buffer take nothing else.
        wide = -(-(head + 2 * side) // _KERNEL_ALIGNMENT) * _KERNEL_ALIGNMENT
        most = _WIDE_NUMBERS.get(x.device.type, _WIDE_NUMBERS_ELSEWHERE)
        at_once = max(1, most // (fields * side * side * wide))
        q, k, v = (each.split(at_once, dim=1) for each in qkv.permute(2, 0, 3, 1, 4))  # (B, at most at_once, S², E)
        groups = zip(q, k, v, strict=True)
        if by_rows:
            outs = [attend_by_rows(*heads, *tables).transpose(1, 2) for heads in groups]
        else:
            outs = [self._attend(*heads, tables, wide).transpose(1, 2) for heads in groups]
        del qkv, q, k, v
        joined = torch.cat(outs, dim=2)
        with recompute((joined, lambda: torch.cat(outs, dim=2))):
            projected: Tensor = self.proj(joined.view(fields, side, side, width))
        return projected

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor], wide: int) -> Tensor:
        """Some of the heads: (B, any, S², E) each → (B, any, S², E)."""
        head = q.shape[-1]
        long_q = _LongQueries.apply(q, *tables, wide)
        long_k = long_keys(k, len(tables[0]), wide)
        long_v = widen([v], wide)
        with recompute(
            (long_q, lambda: long_queries(q, *tables, wide)),
            (long_k, lambda: long_keys(k, len(tables[0]), wide)),
            (long_v, lambda: widen([v], wide)),
        ):
            return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=head**-0.5)[..., :head]

    def _tables(self, side: int, factor: float) -> tuple[Tensor, Tensor]:
        """`factor` times the relative positions of (query row, key row) and (query column, key column), (S, S, E)."""
        places = torch.arange(side, device=self.rel_pos_h.device)
        offset = places[:, None] - places[None, :] + side - 1
        return factor * self.rel_pos_h[offset], factor * self.rel_pos_w[offset]


class _LongQueries(torch.autograd.Function):
    """`long_queries`, keeping for the backward pass nothing but its arguments."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, by_row: Tensor, by_column: Tensor, wide: int) -> Tensor:
        ctx.save_for_backward(q, by_row, by_column)
        return long_queries(q, by_row, by_column, wide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, by_row, by_column = ctx.saved_tensors
        side, head = len(by_row), q.shape[-1]
        grid, d_grid = (each.unflatten(2, (side, side)) for each in (q, gradient))
        d_q, d_rows, d_columns, _ = d_grid.split([head, side, side, gradient.shape[-1] - head - 2 * side], dim=-1)
        to_q = d_q + torch.einsum("baijm,imc->baijc", d_rows, by_row)
        to_q += torch.einsum("baijn,jnc->baijc", d_columns, by_column)
        to_row = torch.einsum("baijm,baijc->imc", d_rows, grid)
        to_column = torch.einsum("baijn,baijc->jnc", d_columns, grid)
        return to_q.flatten(2, 3), to_row, to_column, None


def attend_by_rows(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Attention of (B, A, S², E) with the relative positions (S, S, E) of rows and columns → (B, A, S², E)."""
    fields, heads, places, _ = q.shape
    side = len(by_row)
    rows, columns = relative_scores(q, by_row, by_column)
    at_once = min(side, max(1, _BIAS_NUMBERS // (fields * heads * side * places)))
    buffer = q.new_empty(fields, heads, at_once, side, side, side)
    out = q.new_empty(q.shape)
    for start in range(0, side, at_once):
        some = slice(start, start + at_once)
        bias = buffer[:, :, : min(at_once, side - start)]
        torch.add(rows[:, :, some, :, :, None], columns[:, :, some, :, None, :], out=bias)
        queries = slice(start * side, (start + at_once) * side)
        out[:, :, queries] = F.scaled_dot_product_attention(
            q[:, :, queries], k, v, attn_mask=bias.reshape(fields, heads, -1, places)
        )
    return out


def relative_scores(q: Tensor, by_row: Tensor, by_column: Tensor) -> tuple[Tensor, Tensor]:
    """(B, A, S², E) queries times the tables (S, S, E) of their row and of their column, (B, A, S, S, S) each."""
    grid = q.unflatten(2, by_row.shape[:2])
    return torch.einsum("baijc,imc->baijm", grid, by_row), torch.einsum("baijc,jnc->baijn", grid, by_column)


def long_queries(q: Tensor, by_row: Tensor, by_column: Tensor, wide: int) -> Tensor:
    """(B, A, S², E) queries, their products with the tables (S, S, E) of their row and column, zeros up to `wide`."""
    return widen([q, *(scores.flatten(2, 3) for scores in relative_scores(q, by_row, by_column))], wide)


def long_keys(k: Tensor, side: int, wide: int) -> Tensor:
    """(B, A, S², E) keys, one-hot their row, one-hot their column, zeros up to `wide`."""
    places = torch.eye(side, dtype=k.dtype, device=k.device)
    rows, columns = places.repeat_interleave(side, dim=0), places.repeat(side, 1)  # (S², S) each
    return widen([k, *(each.expand(*k.shape[:2], -1, -1) for each in (rows, columns))], wide)


def widen(parts: list[Tensor], width: int) -> Tensor:
    """The parts (..., any) side by side, and zeros up to `width` channels."""
    missing = width - sum(part.shape[-1] for part in parts)
    return torch.cat([*parts, parts[0].new_zeros(()).expand(*parts[0].shape[:-1], missing)], dim=-1)


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., C)."""
        hidden = self.lin1(x)
        if not torch.is_grad_enabled():  # in place, so that it is held once
            for piece in hidden.view(-1, hidden.shape[-1]).split(_ROWS):
                piece.copy_(F.gelu(piece))
            return cast(Tensor, self.lin2(hidden))
        active = F.gelu(hidden)
        with recompute((active, lambda: F.gelu(hidden))):
            return cast(Tensor, self.lin2(active))


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W), each place by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        x = super().forward(x.permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2)


def to_windows(x: Tensor, window: int) -> Tensor:
    """(N, S, S, C) → (N × windows, window, window, C), zeros added below and to the right where S does not divide."""
    padding = -x.shape[1] % window
    x = F.pad(x, (0, 0, 0, padding, 0, padding))
    count, width = x.shape[1] // window, x.shape[3]
    return x.reshape(-1, count, window, count, window, width).transpose(2, 3).reshape(-1, window, window, width)


def from_windows(windows: Tensor, side: int) -> Tensor:
    """The inverse of `to_windows`: back to (N, S, S, C), without the padding."""
    window, width = windows.shape[1], windows.shape[3]
    count = math.ceil(side / window)
    x = windows.reshape(-1, count, count, window, window, width).transpose(2, 3)
    return x.reshape(-1, count * window, count * window, width)[:, :side, :side]
