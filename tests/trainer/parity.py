"""A released model, ours with the same weights, and the same samples for both: the one place that knows both names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.released import (
    ClipSizes,
    ImageIds,
    OptSizes,
    QwenSizes,
    Released,
    ReleasedTiny,
    ReleasedToy,
    SamSizes,
    TinySizes,
    ToySizes,
)
from benchmarks.released_images import CLIP_MEAN, CLIP_STD, normalise
from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.loader.packing import collate
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings

# --- weights: released name → ours. Written apart from the importer, which is a second statement of the same.

_QWEN = {
    r"wte\.": "embed_tokens.",
    r"ln_f\.": "norm.",
    r"h\.(\d+)\.ln_1\.": r"layers.\1.input_layernorm.",
    r"h\.(\d+)\.ln_2\.": r"layers.\1.post_attention_layernorm.",
    r"h\.(\d+)\.attn\.c_proj\.": r"layers.\1.self_attn.o_proj.",
    r"h\.(\d+)\.mlp\.w1\.": r"layers.\1.mlp.up_proj.",
    r"h\.(\d+)\.mlp\.w2\.": r"layers.\1.mlp.gate_proj.",
    r"h\.(\d+)\.mlp\.c_proj\.": r"layers.\1.mlp.down_proj.",
}
_RENAMED = {
    r"transformer\.vision_tower\.vision_model\.": "encoders.clip.model.",
    r"transformer\.vision_tower_high\.": "encoders.vary.",
    r"transformer\.mm_projector\.": "connectors.clip.",
    r"transformer\.mm_projector_vary\.": "connectors.vary.",
    **{rf"transformer\.{old}": f"language.model.model.{new}" for old, new in _QWEN.items()},
    r"model\.vision_tower\.": "encoders.vary.",
    r"model\.mm_projector\.": "connectors.vary.",
    r"model\.decoder\.": "language.model.model.decoder.",
    r"lm_head\.": "language.model.lm_head.",
}
_FUSED = re.compile(r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)")


def ours_of(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under released names, weights or gradients, under our names."""
    ours = {}
    for name, tensor in released.items():
        if fused := _FUSED.fullmatch(name):
            width = len(tensor) // 3
            for place, part in enumerate("qkv"):
                key = f"language.model.model.layers.{fused[1]}.self_attn.{part}_proj.{fused[2]}"
                ours[key] = tensor[place * width : (place + 1) * width]
            continue
        ((pattern, new),) = [(old, new) for old, new in _RENAMED.items() if re.match(old, name)]
        ours[re.sub(f"^{pattern}", new, name)] = tensor
    return ours


# --- sizes

IDS = ImageIds(pad=157, start=158, end=159)
VOCABULARY = 160
SAM = SamSizes(
    image=64, patch=8, width=32, mlp=128, depth=4, heads=4, window=3, global_layers=(1, 3), neck=16,
    convolutions=(24, 32),
)  # fmt: skip  # 8 patches a side: windows of 3 are padded
CLIP = ClipSizes(image=8, patch=4, width=32, mlp=48, depth=4, heads=4)
TOY = ToySizes(clip=CLIP, sam=SAM, qwen=QwenSizes(vocabulary=VOCABULARY, width=64, mlp=88, depth=3, heads=4), ids=IDS)
OPT = OptSizes(vocabulary=VOCABULARY, width=64, mlp=96, depth=3, heads=4, positions=128, dropout=0.0)
TINY = TinySizes(sam=SAM, opt=OPT, ids=IDS)


def settings_of(sizes: ToySizes | TinySizes) -> ModelSettings:
    """The recipe of a released model's sizes."""
    sam = sizes.sam
    config = {
        "image_size": sam.image, "patch_size": sam.patch, "width": sam.width, "depth": sam.depth, "heads": sam.heads,
        "window": sam.window, "global_layers": list(sam.global_layers), "neck": sam.neck,
        "conv_channels": list(sam.convolutions),
    }  # fmt: skip
    assert sam.mlp == 4 * sam.width
    if isinstance(sizes, TinySizes):
        opt = sizes.opt
        vision = {"vary": EncoderSettings(type="sam", config=config)}
        language = {
            "vocab_size": opt.vocabulary, "hidden_size": opt.width, "word_embed_proj_dim": opt.width,
            "ffn_dim": opt.mlp, "num_hidden_layers": opt.depth, "num_attention_heads": opt.heads,
            "max_position_embeddings": opt.positions, "dropout": opt.dropout,
        }  # fmt: skip
    else:
        clip, qwen = sizes.clip, sizes.qwen
        pair = {
            "clip": {
                "image_size": clip.image, "patch_size": clip.patch, "hidden_size": clip.width,
                "intermediate_size": clip.mlp, "num_hidden_layers": clip.depth, "num_attention_heads": clip.heads,
            },
            "vary": config,
        }  # fmt: skip
        vision = {
            name: EncoderSettings(type=kind, config=pair[name], frozen=True)
            for name, kind in (("clip", "clip"), ("vary", "sam"))
        }
        language = {
            "vocab_size": qwen.vocabulary, "hidden_size": qwen.width, "intermediate_size": qwen.mlp,
            "num_hidden_layers": qwen.depth, "num_attention_heads": qwen.heads, "num_key_value_heads": qwen.heads,
            "max_position_embeddings": qwen.positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": qwen.rotary_base},
        }  # fmt: skip
    kind = "opt" if isinstance(sizes, TinySizes) else "qwen2"
    part = LanguageSettings(type=kind, tokenizer="-", template="-", config=language)
    return ModelSettings(vision=vision, language=part)


def released_of(sizes: ToySizes | TinySizes) -> Released:
    """The released model of these sizes, its weights torch's own."""
    return ReleasedToy(sizes) if isinstance(sizes, ToySizes) else ReleasedTiny(sizes)


def build_ours(settings: ModelSettings, released: Released, **options: Any) -> VisionLanguageModel:
    """Our model of a recipe, with room for the tokens of a released one."""
    options = {"attention": "sdpa", "gradient_checkpointing": False, **options}
    ids, vocabulary = released.body().sizes.ids, len(released.lm_head.weight)
    return build(settings, vocabulary=vocabulary, image_token_id=ids.pad, seed=1, **options)[0]


def ours_like(released: Released, *, share: bool = False, **options: Any) -> VisionLanguageModel:
    """Our model with the weights of a released one; every tensor has a place, and none is left over.

    With `share`, both hold the same memory, but each has gradients of its own.
    """
    model = build_ours(settings_of(released.body().sizes), released, **options)
    model.load_state_dict(ours_of(released.state_dict()), assign=share)
    if share:
        model.language.model.tie_weights()
    return model


# --- samples


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sample: ids, labels (IGNORE_INDEX where not supervised) and its images as bytes per encoder."""

    ids: list[int]
    labels: list[int]
    pictures: list[dict[str, NDArray[np.uint8]]]  # (S, S, 3) each

    @property
    def supervised(self) -> int:
        """Tokens that carry a loss."""
        return sum(label != IGNORE_INDEX for label in self.labels[1:])


def case(sizes: ToySizes | TinySizes, images: int, text: int, *, supervised: float = 0.5, seed: int = 0) -> Case:
    """A few words, the images, `text` more words, of which the last `supervised` share is to be learned."""
    rng = np.random.default_rng(seed)
    first = rng.integers(3, sizes.ids.pad - 1, 3).tolist()
    block = [sizes.ids.start, *[sizes.ids.pad] * sizes.sam.tokens, sizes.ids.end]
    words = rng.integers(3, sizes.ids.pad - 1, text).tolist()
    ids = [*first, *block * images, *words]
    learned = round(supervised * text)
    sides = {"clip": sizes.clip.image} if isinstance(sizes, ToySizes) else {}
    sides["vary"] = sizes.sam.image
    return Case(
        ids=ids,
        labels=[IGNORE_INDEX] * (len(ids) - learned) + ids[len(ids) - learned :],
        pictures=[
            {name: rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for name, side in sides.items()}
            for _ in range(images)
        ],
    )


def batch_of(rows: Sequence[Sequence[Case]], model: VisionLanguageModel, pad_id: int = 1) -> Batch:
    """Rows of samples as our model takes them."""
    loaded = []
    for number, row in enumerate(rows):
        encoded = [
            Encoded(
                key=f"{number}-{place}", task="ocr", input_ids=np.array(one.ids, np.int32),
                labels=np.array(one.labels, np.int32), image_sizes=((100, 80),) * len(one.pictures),
            )
            for place, one in enumerate(row)
        ]  # fmt: skip
        views = [[{name: p[None] for name, p in each.items()} for each in one.pictures] for one in row]
        loaded.append(list(zip(encoded, views, strict=True)))
    return collate(loaded, pad_id, model.layout)


def images_of(one: Case, released: Released) -> tuple[Tensor, ...] | Tensor:
    """The images of a sample as the released model takes them."""
    if not one.pictures:
        return released.black()
    stacks = {
        name: torch.from_numpy(np.stack([normalise(each[name], CLIP_MEAN, CLIP_STD) for each in one.pictures]))
        for name in one.pictures[0]
    }
    return (stacks["clip"], stacks["vary"]) if isinstance(released, ReleasedToy) else stacks["vary"]


def released_batch(cases: Sequence[Case], released: Released, pad_id: int = 1) -> tuple[Tensor, Tensor, list, Tensor]:
    """One row per sample, padded on the right: ids, attention mask, images and labels."""
    longest = max(len(one.ids) for one in cases)
    ids, labels = torch.full((2, len(cases), longest), pad_id)
    labels.fill_(IGNORE_INDEX)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(cases):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        labels[row, : len(one.ids)] = torch.tensor(one.labels)
        mask[row, : len(one.ids)] = 1
    return ids, mask, [images_of(one, released) for one in cases], labels
