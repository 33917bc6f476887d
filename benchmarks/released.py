"""A reimplementation of the released Vary-toy and Vary-tiny in plain torch, under the released parameter names.

It is the reference of `tests/trainer/model/test_parity.py` and the baseline of `benchmarks/model_step.py`, slow and
readable. It is written from a description of what the release computes and shares no code with `trainer/` or
transformers. It computes as the release does: towers once per row, attention with materialised maps and masks, all CLIP
layers, logits for every position in the output, a mean over the micro-batch's supervised tokens, both towers on black
images for rows of text. The release's image preprocessing is in `released_images.py`.

Parts that change no number below 8192 tokens are left out: Qwen's unused causal buffers (1.5 GiB at full size), its
rotary tables on the host, dynamic NTK and log-n scaling (a longer row raises an error), and key-value caches.

Shape legend: B rows, T tokens, n images of a row, P tokens of an image, D channels, A heads, S image side in pixels.
"""

# ruff: noqa: D102  # shapes of a forward pass stand in the docstring of its class
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# --- sizes; the defaults are the released ones


@dataclass(frozen=True, kw_only=True)
class SamSizes:
    """Sizes of SAM-B with the two convolutions behind it."""

    image: int = 1024  # px
    patch: int = 16  # px
    width: int = 768
    mlp: int = 3072
    depth: int = 12
    heads: int = 12
    window: int = 14  # patches
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    neck: int = 256
    convolutions: tuple[int, int] = (512, 1024)

    @property
    def grid(self) -> int:
        """The number of patches per side."""
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        """The number of tokens of an image; the two convolutions halve the grid twice."""
        return math.ceil(math.ceil(self.grid / 2) / 2) ** 2


@dataclass(frozen=True, kw_only=True)
class ClipSizes:
    """Sizes of CLIP-L/14."""

    image: int = 224  # px
    patch: int = 14  # px
    width: int = 1024
    mlp: int = 4096
    depth: int = 24
    heads: int = 16
    select_layer: int = -2  # index of a hidden state; the embedding is the first


@dataclass(frozen=True, kw_only=True)
class QwenSizes:
    """Sizes of Qwen-1.8B, whose configuration has 11008 for two branches of 5504."""

    vocabulary: int = 151936
    width: int = 2048
    mlp: int = 5504
    depth: int = 24
    heads: int = 16
    positions: int = 8192
    rotary_base: float = 10000.0


@dataclass(frozen=True, kw_only=True)
class OptSizes:
    """Sizes of OPT-125M with 4096 positions."""

    vocabulary: int = 50268
    width: int = 768
    mlp: int = 3072
    depth: int = 12
    heads: int = 12
    positions: int = 4096
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ImageIds:
    """The token ids of `<imgpad>`, `<img>` and `</img>`."""

    pad: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class ToySizes:
    """Sizes of Vary-toy."""

    clip: ClipSizes = field(default_factory=ClipSizes)
    sam: SamSizes = field(default_factory=SamSizes)
    qwen: QwenSizes = field(default_factory=QwenSizes)
    ids: ImageIds = field(default_factory=lambda: ImageIds(start=151857, end=151858, pad=151859))


@dataclass(frozen=True, kw_only=True)
class TinySizes:
    """Sizes of Vary-tiny."""

    sam: SamSizes = field(default_factory=SamSizes)
    opt: OptSizes = field(default_factory=OptSizes)
    ids: ImageIds = field(default_factory=lambda: ImageIds(pad=50265, start=50266, end=50267))


# --- SAM-B, as in segment-anything's image_encoder.py, and the two convolutions


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, D, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def relative(table: Tensor, size: int) -> Tensor:
    """Look up (2L - 1, D) learned offsets → (size, size, D): row q, column k holds the entry of offset q - k."""
    length = 2 * size - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], length, mode="linear")[0].T
    positions = torch.arange(size, device=table.device)
    return table[positions[:, None] - positions[None, :] + size - 1]


class SamAttention(nn.Module):
    """Attention over all positions of (B, H, W, D) with the decomposed relative position added to the map."""

    def __init__(self, sizes: SamSizes, side: int) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.scale = (sizes.width // sizes.heads) ** -0.5
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, sizes.width // sizes.heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, sizes.width // sizes.heads))

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        qkv = self.qkv(x).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, b * self.heads, h * w, -1).unbind(0)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        unscaled = q.reshape(b * self.heads, h, w, -1)
        rows = torch.einsum("bhwc,hkc->bhwk", unscaled, relative(self.rel_pos_h, h))
        columns = torch.einsum("bhwc,wkc->bhwk", unscaled, relative(self.rel_pos_w, w))
        scores = scores.view(-1, h, w, h, w) + rows[:, :, :, :, None] + columns[:, :, :, None, :]
        weights = scores.view(-1, h * w, h * w).softmax(dim=-1)
        out = (weights @ v).view(b, self.heads, h, w, -1).permute(0, 2, 3, 1, 4).reshape(b, h, w, -1)
        return self.proj(out)


class SamMlp(nn.Module):
    """An MLP of two layers with the exact GELU between."""

    def __init__(self, width: int, mlp: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, mlp)
        self.lin2 = nn.Linear(mlp, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


class SamBlock(nn.Module):
    """A pre-norm block; with `window` 0 all positions attend to each other."""

    def __init__(self, sizes: SamSizes, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attn = SamAttention(sizes, window or sizes.grid)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = SamMlp(sizes.width, sizes.mlp)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + (self._windowed(normed) if self.window else self.attn(normed))
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        """Pad with zeros below and at the right, attend in each window, cut the padding off; no mask hides zeros."""
        b, h, w, d = x.shape
        size = self.window
        high, wide = -h % size, -w % size
        x = F.pad(x, (0, 0, 0, wide, 0, high))
        rows, columns = (h + high) // size, (w + wide) // size
        x = x.view(b, rows, size, columns, size, d).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size, size, d)
        x = self.attn(x).view(b, rows, columns, size, size, d)
        x = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h + high, w + wide, d)
        return x[:, :h, :w].contiguous()


class PatchEmbed(nn.Module):
    """The patch embedding, (B, 3, S, S) → (B, H, W, D)."""

    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class Sam(nn.Module):
    """The SAM tower, (B, 3, S, S) → (B, D, rows, columns)."""

    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(sizes)
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.grid, sizes.grid, sizes.width))
        self.blocks = nn.ModuleList(
            SamBlock(sizes, 0 if layer in sizes.global_layers else sizes.window) for layer in range(sizes.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(sizes.width, sizes.neck, 1, bias=False),
            LayerNorm2d(sizes.neck),
            nn.Conv2d(sizes.neck, sizes.neck, 3, padding=1, bias=False),
            LayerNorm2d(sizes.neck),
        )
        first, second = sizes.convolutions
        self.net_2 = nn.Conv2d(sizes.neck, first, 3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.net_3(self.net_2(self.neck(x.permute(0, 3, 1, 2))))


# --- CLIP's vision model


class ClipEmbeddings(nn.Module):
    """The embeddings, (B, 3, S, S) → (B, 1 + P, D), the class token first."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(sizes.width))
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch, bias=False)
        self.position_embedding = nn.Embedding((sizes.image // sizes.patch) ** 2 + 1, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], dim=1) + self.position_embedding.weight


class Attention(nn.Module):
    """The attention of CLIP and OPT: scaled queries; `mask` is added to the map, which is then clamped from below."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """Split heads, (B, T, D) → (B·A, T, D/A)."""
        b, t, _ = x.shape
        return x.view(b, t, self.heads, -1).transpose(1, 2).reshape(b * self.heads, t, -1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, t, d = x.shape
        q, k, v = self._split(self.q_proj(x) * self.scale), self._split(self.k_proj(x)), self._split(self.v_proj(x))
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores = scores.view(b, self.heads, t, t) + mask
            scores = torch.max(scores, torch.tensor(torch.finfo(scores.dtype).min, device=scores.device))
            scores = scores.view(b * self.heads, t, t)
        out = torch.bmm(scores.softmax(dim=-1), v).view(b, self.heads, t, -1).transpose(1, 2).reshape(b, t, d)
        return self.out_proj(out)


class ClipMlp(nn.Module):
    """An MLP of two layers with the quick GELU between."""

    def __init__(self, width: int, mlp: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, mlp)
        self.fc2 = nn.Linear(mlp, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class ClipLayer(nn.Module):
    """A pre-norm layer."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.self_attn = Attention(sizes.width, sizes.heads)
        self.layer_norm1 = nn.LayerNorm(sizes.width, eps=1e-5)
        self.mlp = ClipMlp(sizes.width, sizes.mlp)
        self.layer_norm2 = nn.LayerNorm(sizes.width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(sizes) for _ in range(sizes.depth))


class ClipTransformer(nn.Module):
    """The transformer with depth + 1 hidden states: the embedding after `pre_layrnorm`, then every layer's output."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.embeddings = ClipEmbeddings(sizes)
        self.pre_layrnorm = nn.LayerNorm(sizes.width, eps=1e-5)
        self.encoder = ClipEncoder(sizes)
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=1e-5)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return all hidden states, and the pooled output, which is computed but unused."""
        hidden_states = [self.pre_layrnorm(self.embeddings(x))]
        for layer in self.encoder.layers:
            hidden_states.append(layer(hidden_states[-1]))
        return hidden_states, self.post_layernorm(hidden_states[-1][:, 0])


class Clip(nn.Module):
    """The CLIP tower, (B, 3, S, S) → (B, P, D): the output of the last layer but one without the class token."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.select_layer = sizes.select_layer
        self.vision_model = ClipTransformer(sizes)

    def forward(self, x: Tensor) -> Tensor:
        hidden_states, _ = self.vision_model(x)
        return hidden_states[self.select_layer][:, 1:]


# --- masks and images, the same for both models


def additive_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return causal(min) + padding(min): (B, T) of ones and zeros → (B, 1, T, T)."""
    rows, length = attention_mask.shape
    lowest = torch.finfo(dtype).min
    causal = torch.full((length, length), lowest, dtype=dtype, device=attention_mask.device).triu(1)
    padding = (1.0 - attention_mask[:, None, None, :].expand(rows, 1, length, length).to(dtype)) * lowest
    return causal[None, None] + padding


def put_images(ids: Tensor, embeddings: Tensor, features: Sequence[Tensor], dummy: Tensor, image: ImageIds) -> Tensor:
    """Put the features of images between `<img>` and `</img>`: (B, T) ids, (B, T, D), per row (n, P, D) → (B, T, D).

    `dummy` is the projectors' output for zeros; a row without images adds 0 × its sum.

    Raises:
        ValueError: the image tokens of a row do not match.
    """
    new_rows = []
    for row_ids, row, row_features in zip(ids, embeddings, features, strict=False):  # fewer images drop rows
        if (row_ids == image.pad).sum() == 0:
            new_rows.append(row + (0.0 * dummy).sum())
            continue
        if (row_ids == image.start).sum() != (row_ids == image.end).sum():
            raise ValueError("The number of image start tokens and image end tokens should be the same.")
        new_row = row
        for start, one in zip(torch.where(row_ids == image.start)[0], row_features, strict=False):
            if row_ids[start + len(one) + 1] != image.end:
                raise ValueError("The image end token should follow the image start token.")
            new_row = torch.cat([new_row[: start + 1], one, new_row[start + len(one) + 1 :]], dim=0)
        new_rows.append(new_row)
    return torch.stack(new_rows)


def on_zeros(projector: nn.Linear, tokens: int) -> Tensor:
    """Return a projector's output for an image of zeros, (P, D)."""
    return projector(projector.weight.new_zeros(tokens, projector.in_features))


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the micro-batch's supervised tokens in the type of the logits; NaN where there are none."""
    shifted = logits[..., :-1, :].contiguous()
    targets = labels[..., 1:].contiguous()
    return nn.CrossEntropyLoss()(shifted.view(-1, shifted.shape[-1]), targets.view(-1))


@dataclass
class Output:
    """The output of a forward pass, which holds all logits."""

    loss: Tensor | None
    logits: Tensor  # (B, T, vocabulary)


# --- Vary-toy


class RMSNorm(nn.Module):
    """RMS normalisation in fp32, cast back, then times the weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.weight


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate (B, T, A, D) by (T, D/2) angles in fp32. The first half of the channels pairs with the second."""
    both = torch.cat([angles, angles], dim=-1)[None, :, None, :]
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * both.cos() + torch.cat([-second, first], dim=-1) * both.sin()).type_as(x)


class QwenAttention(nn.Module):
    """Qwen's attention; `c_attn` is q, k and v one after the other."""

    def __init__(self, sizes: QwenSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.c_attn = nn.Linear(sizes.width, 3 * sizes.width)
        self.c_proj = nn.Linear(sizes.width, sizes.width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, -1) for part in self.c_attn(x).split(d, dim=2))
        q, k, v = (part.permute(0, 2, 1, 3) for part in (rotate(q, angles), rotate(k, angles), v))
        scores = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
        weights = (scores + mask).softmax(dim=-1)
        return self.c_proj((weights @ v).permute(0, 2, 1, 3).reshape(b, t, d))


class QwenMlp(nn.Module):
    """Qwen's MLP; `w2` is the gate and `w1` the projection up."""

    def __init__(self, sizes: QwenSizes) -> None:
        super().__init__()
        self.w1 = nn.Linear(sizes.width, sizes.mlp, bias=False)
        self.w2 = nn.Linear(sizes.width, sizes.mlp, bias=False)
        self.c_proj = nn.Linear(sizes.mlp, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.w1(x) * F.silu(self.w2(x)))


class QwenBlock(nn.Module):
    """A pre-norm block."""

    def __init__(self, sizes: QwenSizes) -> None:
        super().__init__()
        self.ln_1 = RMSNorm(sizes.width)
        self.attn = QwenAttention(sizes)
        self.ln_2 = RMSNorm(sizes.width)
        self.mlp = QwenMlp(sizes)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), angles, mask)
        return x + self.mlp(self.ln_2(x))


class ToyModel(nn.Module):
    """Vary-toy without its head, under the release's names."""

    def __init__(self, sizes: ToySizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.gradient_checkpointing = False
        qwen = sizes.qwen
        self.wte = nn.Embedding(qwen.vocabulary, qwen.width)
        self.h = nn.ModuleList(QwenBlock(qwen) for _ in range(qwen.depth))
        self.ln_f = RMSNorm(qwen.width)
        self.vision_tower = Clip(sizes.clip)
        self.vision_tower_high = Sam(sizes.sam)
        self.mm_projector = nn.Linear(sizes.clip.width, qwen.width // 2)
        self.mm_projector_vary = nn.Linear(sizes.sam.convolutions[1], qwen.width // 2)

    def embed(self, ids: Tensor, images: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Embed (B, T) ids and per row its (n, 3, S, S) low and high images → (B, T, D)."""
        features = []
        for low, high in images:
            with torch.no_grad():
                clip = self.vision_tower(low)
                sam = self.vision_tower_high(high).flatten(2).permute(0, 2, 1)
            features.append(torch.cat([self.mm_projector(clip), self.mm_projector_vary(sam)], dim=-1))
        dummies = [on_zeros(p, self.sizes.sam.tokens) for p in (self.mm_projector, self.mm_projector_vary)]
        return put_images(ids, self.wte(ids), features, torch.cat(dummies, dim=-1), self.sizes.ids)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the layers, (B, T, D) embeddings → (B, T, D) after the last norm."""
        qwen = self.sizes.qwen
        if x.shape[1] > qwen.positions:
            raise ValueError(f"{x.shape[1]} tokens: scaling beyond {qwen.positions} positions is not stated here")
        half = torch.arange(0, qwen.width // qwen.heads, 2, device=x.device).float() / (qwen.width // qwen.heads)
        angles = torch.outer(torch.arange(x.shape[1], device=x.device).float(), 1.0 / qwen.rotary_base**half)
        mask = additive_mask(attention_mask, x.dtype)
        for block in self.h:
            recomputed = self.gradient_checkpointing and self.training
            x = checkpoint(block, x, angles, mask, use_reentrant=False) if recomputed else block(x, angles, mask)
        return self.ln_f(x)


class Released(nn.Module):
    """A released model: its forward pass with loss, and greedy decoding."""

    lm_head: nn.Linear

    def body(self) -> ToyModel | TinyModel:
        """Return the model below the head."""
        raise NotImplementedError

    def black(self) -> tuple[Tensor, Tensor] | Tensor:
        """Return the images of a row of text: zeros, after normalisation."""
        raise NotImplementedError

    def gradient_checkpointing_enable(self) -> None:
        """Recompute the language model's blocks, and no others, in the backward pass, as the release does."""
        self.body().gradient_checkpointing = True

    def forward(self, ids: Tensor, attention_mask: Tensor, images: Sequence, labels: Tensor | None = None) -> Output:
        """Compute logits and, with labels, the loss.

        `ids` is (B, T), padded on the right; `attention_mask` is (B, T), 1 at tokens. `images` has an entry per row:
        pairs (low, high) for Vary-toy, high alone for Vary-tiny, each (n, 3, S, S); `black` for text rows.
        """
        body = self.body()
        logits = self.lm_head(body(body.embed(ids, images), attention_mask))
        return Output(mean_loss(logits, labels) if labels is not None else None, logits)

    @torch.no_grad()
    def greedy(self, ids: Tensor, images: Sequence, count: int) -> list[int]:
        """Decode `count` tokens after one row of (T,) ids, without cache. The image is encoded once for all steps."""
        body = self.body()
        embeddings = body.embed(ids[None], images)
        words = body.get_parameter("wte.weight" if isinstance(body, ToyModel) else "decoder.embed_tokens.weight")
        answer: list[int] = []
        for _ in range(count):
            ones = torch.ones(embeddings.shape[:2], dtype=torch.int64, device=ids.device)
            answer.append(int(self.lm_head(body(embeddings, ones)[:, -1]).argmax()))
            embeddings = torch.cat([embeddings, words[answer[-1]][None, None]], dim=1)
        return answer


class ReleasedToy(Released):
    """The released Vary-toy; `state_dict()` has the released keys."""

    def __init__(self, sizes: ToySizes | None = None) -> None:
        super().__init__()
        sizes = sizes or ToySizes()
        self.transformer = ToyModel(sizes)
        self.lm_head = nn.Linear(sizes.qwen.width, sizes.qwen.vocabulary, bias=False)

    def body(self) -> ToyModel:
        return self.transformer

    def black(self) -> tuple[Tensor, Tensor]:
        sizes, weight = self.transformer.sizes, self.lm_head.weight
        low, high = (weight.new_zeros(1, 3, side, side) for side in (sizes.clip.image, sizes.sam.image))
        return low, high


# --- Vary-tiny


class OptLayer(nn.Module):
    """A pre-norm layer with ReLU. Dropout acts on the branches, not on attention's weights."""

    def __init__(self, sizes: OptSizes) -> None:
        super().__init__()
        self.dropout = sizes.dropout
        self.self_attn = Attention(sizes.width, sizes.heads)
        self.self_attn_layer_norm = nn.LayerNorm(sizes.width, eps=1e-5)
        self.fc1 = nn.Linear(sizes.width, sizes.mlp)
        self.fc2 = nn.Linear(sizes.mlp, sizes.width)
        self.final_layer_norm = nn.LayerNorm(sizes.width, eps=1e-5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + F.dropout(self.self_attn(self.self_attn_layer_norm(x), mask), self.dropout, self.training)
        inner = self.fc2(F.relu(self.fc1(self.final_layer_norm(x))))
        return x + F.dropout(inner, self.dropout, self.training)


class OptDecoder(nn.Module):
    """OPT's decoder. The attention mask counts the positions, whose table begins two rows further down."""

    def __init__(self, sizes: OptSizes) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.embed_positions = nn.Embedding(sizes.positions + 2, sizes.width)
        self.final_layer_norm = nn.LayerNorm(sizes.width, eps=1e-5)
        self.layers = nn.ModuleList(OptLayer(sizes) for _ in range(sizes.depth))

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        positions = attention_mask.cumsum(dim=1) * attention_mask - 1
        x = x + self.embed_positions(positions + 2)
        mask = additive_mask(attention_mask, x.dtype)
        for layer in self.layers:
            recomputed = self.gradient_checkpointing and self.training
            x = checkpoint(layer, x, mask, use_reentrant=False) if recomputed else layer(x, mask)
        return self.final_layer_norm(x)


class TinyModel(nn.Module):
    """Vary-tiny without its head, under the release's names. The tower always has a gradient."""

    def __init__(self, sizes: TinySizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.decoder = OptDecoder(sizes.opt)
        self.vision_tower = Sam(sizes.sam)
        self.mm_projector = nn.Linear(sizes.sam.convolutions[1], sizes.opt.width)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether the backward pass recomputes the decoder's layers."""
        return self.decoder.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enabled: bool) -> None:
        self.decoder.gradient_checkpointing = enabled

    def embed(self, ids: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Embed (B, T) ids and per row its (n, 3, S, S) images → (B, T, D)."""
        features = [self.mm_projector(self.vision_tower(high).flatten(2).permute(0, 2, 1)) for high in images]
        dummy = on_zeros(self.mm_projector, self.sizes.sam.tokens)
        return put_images(ids, self.decoder.embed_tokens(ids), features, dummy, self.sizes.ids)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the layers, (B, T, D) embeddings → (B, T, D) after the last norm."""
        return self.decoder(x, attention_mask)


class ReleasedTiny(Released):
    """The released Vary-tiny; `state_dict()` has the released keys, and the head under both of its names."""

    def __init__(self, sizes: TinySizes | None = None) -> None:
        super().__init__()
        sizes = sizes or TinySizes()
        self.model = TinyModel(sizes)
        self.lm_head = nn.Linear(sizes.opt.width, sizes.opt.vocabulary, bias=False)
        self.lm_head.weight = self.model.decoder.embed_tokens.weight

    def body(self) -> TinyModel:
        return self.model

    def black(self) -> Tensor:
        side = self.model.sizes.sam.image
        return self.lm_head.weight.new_zeros(1, 3, side, side)


@torch.no_grad()
def draw(model: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Draw normal random weights from `seed`: each layer's output is about `gain` times as large as its input.

    Parameters of one dimension (biases, norms, the class token) are shifted by N(0, gain / 5). So no parameter has a
    value that would hide a mistake, such as zero for positions or one for a norm.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre, std = parameter.clone(), gain / 5
        else:
            inputs = parameter[0].numel() if name.endswith("weight") else parameter.shape[-1]
            centre, std = torch.zeros_like(parameter), gain / inputs**0.5
        parameter.copy_(centre + std * torch.randn(parameter.shape, generator=generator))
