"""Tables of tensor names, one per kind of released checkpoint, for both directions of the conversion.

A rule maps a released tensor to one tensor of this project, or to several that are stacked along dimension 0. In the
patterns `{i}` matches a layer's number and `*` any text. Both matches are filled in on the other side in order.

Sources: https://github.com/Ucas-HaoranWei/Vary-toy (Vary-toy, Vary-tiny, and Vary's 7B under the same names),
https://github.com/Ucas-HaoranWei/Vary-tiny-600k, https://github.com/facebookresearch/segment-anything,
https://huggingface.co/Qwen/Qwen-1_8B (modeling_qwen.py), and transformers for CLIP, OPT and Qwen 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.images.preprocess import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from trainer.model.weights import part_of
from varyforge.errors import UserError

RELEASED = "released"
"""Key in the metadata of an imported model's file, with the name of the checkpoint's `Kind`."""
RELEASE_FILES = "release"
"""Folder in an imported model with the other small files of the release."""

EMBEDDING = {
    "opt": "language.model.model.decoder.embed_tokens.weight",
    "qwen2": "language.model.model.embed_tokens.weight",
}
HEAD = "language.model.lm_head.weight"
"""This project's names of the two tensors that may be tied: EMBEDDING by type of language model, and HEAD."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A released tensor and its counterpart in this project."""

    released: str
    ours: tuple[str, ...]  # several are stacked in the released tensor

    def to_ours(self, name: str) -> tuple[str, ...] | None:
        """Return this project's names for a released name, or None if the rule does not match."""
        values = matching(self.released, name)
        return None if values is None else tuple(_filled(ours, values) for ours in self.ours)

    def to_released(self, name: str) -> str | None:
        """Return the released name for a name of this project, or None if the rule does not match."""
        for ours in self.ours:
            values = matching(ours, name)
            if values is not None:
                return _filled(self.released, values)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of released checkpoint."""

    name: str
    title: str  # for messages
    marks: tuple[str, ...]  # released names that distinguish it from later kinds in the table
    rules: tuple[Rule, ...]
    vision: Mapping[str, str] = field(default_factory=dict)  # encoder name → type, in order of concatenation
    language: Literal["opt", "qwen2"] | None = None
    qwen_v1: bool = False  # config.json has the keys of Qwen's own code
    tied: bool = False  # default of config.json's tie_word_embeddings
    template: str | None = None  # chat template of a whole model
    image_ids: tuple[int, int, int] | None = None  # of <img>, </img>, <imgpad>, if its code has fixed ids
    preprocess: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of a whole model, by encoder
    ignored: tuple[str, ...] = ()  # buffers of older files, which the model computes itself
    dropped: Mapping[str, str] = field(default_factory=dict)  # pattern → module that this project does not have
    may_miss: tuple[str, ...] = ()  # tensors of this project that it may lack
    file: str = "model.safetensors"  # name of its own file; .pth: pickled
    key: str | None = None  # key of the tensors in a pickled file

    @property
    def whole(self) -> bool:
        """Whether the checkpoint is a whole vision-language model."""
        return bool(self.vision) and self.language is not None

    def to_ours(self, name: str) -> tuple[str, ...] | None:
        """Return this project's names for a released tensor, in the order of stacking along dimension 0, or None."""
        return next((ours for rule in self.rules if (ours := rule.to_ours(name))), None)

    def to_released(self, name: str) -> str | None:
        """Return the name of the released tensor that is or contains a tensor of this project, or None."""
        return next((released for rule in self.rules if (released := rule.to_released(name))), None)


def matching(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return the texts in `name` that match each `{i}` and `*` of the pattern, or None if `name` does not match."""
    expression = re.escape(pattern).replace(r"\{i\}", r"(\d+)").replace(r"\*", "(.+)")
    match = re.fullmatch(expression, name)
    return None if match is None else match.groups()


def _filled(pattern: str, values: Iterable[str]) -> str:
    left = iter(values)
    return re.sub(r"\{i\}|\*", lambda _: next(left), pattern)


def _same(released: str, ours: str) -> Rule:
    return Rule(f"{released}*", (f"{ours}*",))


def _qwen_v1_rules() -> tuple[Rule, ...]:
    """Map Qwen's own code to transformers' Qwen2. In the MLP `c_proj(w1(x) * silu(w2(x)))` w2 is the gate."""
    layer, ours = "transformer.h.{i}.", "language.model.model.layers.{i}."
    projections = tuple(f"{ours}self_attn.{name}_proj." for name in "qkv")
    return (
        Rule("transformer.wte.weight", (EMBEDDING["qwen2"],)),
        Rule(f"{layer}ln_1.weight", (f"{ours}input_layernorm.weight",)),
        Rule(f"{layer}attn.c_attn.weight", tuple(f"{name}weight" for name in projections)),
        Rule(f"{layer}attn.c_attn.bias", tuple(f"{name}bias" for name in projections)),
        Rule(f"{layer}attn.c_proj.weight", (f"{ours}self_attn.o_proj.weight",)),
        Rule(f"{layer}ln_2.weight", (f"{ours}post_attention_layernorm.weight",)),
        Rule(f"{layer}mlp.w1.weight", (f"{ours}mlp.up_proj.weight",)),
        Rule(f"{layer}mlp.w2.weight", (f"{ours}mlp.gate_proj.weight",)),
        Rule(f"{layer}mlp.c_proj.weight", (f"{ours}mlp.down_proj.weight",)),
        Rule("transformer.ln_f.weight", ("language.model.model.norm.weight",)),
        Rule("lm_head.weight", (HEAD,)),
    )


_QWEN_V1_IGNORED = (
    "transformer.h.{i}.attn.bias",  # causal mask, 64 MiB per layer
    "transformer.h.{i}.attn.masked_bias",
    "transformer.h.{i}.attn.rotary_emb.inv_freq",
    "transformer.rotary_emb.inv_freq",
)
_CLIP_IGNORED = "vision_model.embeddings.position_ids"  # stored by transformers before 4.31
_HEAD = Rule("lm_head.weight", (HEAD,))
_CONVOLUTIONS = ("encoders.vary.net_2.weight", "encoders.vary.net_3.weight")  # added by Vary after SAM's neck

# The releases' preprocessing. In Vary-toy, Vary-tiny's encoder gets other pixels than in its own training.
_AS_CLIP = {"fit": "stretch", "resample": "pillow_bicubic", "mean": [*CLIP_MEAN], "std": [*CLIP_STD]}
_AS_IMAGENET = {"fit": "stretch", "resample": "opencv_bilinear", "mean": [*IMAGENET_MEAN], "std": [*IMAGENET_STD]}

_TABLE = (
    Kind(
        name="vary_toy",
        title="released Vary-toy",
        marks=("transformer.wte.weight", "transformer.vision_tower_high.pos_embed"),
        rules=(
            *_qwen_v1_rules(),
            _same("transformer.vision_tower.vision_model.", "encoders.clip.model."),
            _same("transformer.vision_tower_high.", "encoders.vary."),
            _same("transformer.mm_projector.", "connectors.clip."),
            _same("transformer.mm_projector_vary.", "connectors.vary."),
        ),
        vision={"clip": "clip", "vary": "sam"},
        language="qwen2",
        qwen_v1=True,
        template="vary_toy",
        image_ids=(151857, 151858, 151859),
        preprocess={"clip": {**_AS_CLIP, "fit": "crop"}, "vary": _AS_CLIP},
        ignored=(*_QWEN_V1_IGNORED, f"transformer.vision_tower.{_CLIP_IGNORED}"),
    ),
    Kind(
        name="vary_tiny",
        title="released Vary-tiny",
        marks=("model.decoder.embed_positions.weight", "model.vision_tower.pos_embed"),
        rules=(
            _same("model.decoder.", "language.model.model.decoder."),
            _HEAD,
            _same("model.vision_tower.", "encoders.vary."),
            _same("model.mm_projector.", "connectors.vary."),
        ),
        vision={"vary": "sam"},
        language="opt",
        tied=True,
        template="vary_tiny",
        preprocess={"vary": _AS_IMAGENET},
    ),
    Kind(
        name="vary_tiny_600k",
        title="released Vary-tiny-600k",
        marks=("visual_encoder.pos_embed", "opt_model.model.decoder.embed_positions.weight"),
        rules=(
            _same("opt_model.", "language.model."),
            _same("visual_encoder.", "encoders.vary."),
            _same("opt_proj.", "connectors.vary."),
        ),
        vision={"vary": "sam"},
        language="opt",
        tied=True,
        template="vary_tiny",
        preprocess={"vary": _AS_CLIP},
        file="model.pth",
        key="model",
    ),
    Kind(
        name="sam",
        title="original SAM",
        marks=("image_encoder.pos_embed",),
        rules=(_same("image_encoder.", "encoders.vary."),),
        vision={"vary": "sam"},
        dropped={"prompt_encoder.*": "prompt_encoder", "mask_decoder.*": "mask_decoder"},
        may_miss=_CONVOLUTIONS,
        file="sam.pth",
    ),
    Kind(
        name="clip",
        title="Hugging Face CLIP",
        marks=("vision_model.embeddings.class_embedding",),
        rules=(_same("vision_model.", "encoders.clip.model."),),
        vision={"clip": "clip"},
        ignored=(_CLIP_IGNORED,),
        dropped={
            "text_model.*": "text_model",
            "visual_projection.*": "visual_projection",
            "text_projection.*": "text_projection",
            "logit_scale": "logit_scale",
        },
    ),
    Kind(
        name="clip_bare",
        title="Hugging Face CLIP's vision part",
        marks=("embeddings.class_embedding",),
        rules=(_same("", "encoders.clip.model."),),
        vision={"clip": "clip"},
        ignored=(_CLIP_IGNORED.removeprefix("vision_model."),),
    ),
    Kind(
        name="opt",
        title="Hugging Face OPT",
        marks=("model.decoder.embed_positions.weight",),
        rules=(_same("model.decoder.", "language.model.model.decoder."), _HEAD),
        language="opt",
        tied=True,
    ),
    Kind(
        name="opt_bare",
        title="Hugging Face OPT without head",
        marks=("decoder.embed_positions.weight",),
        rules=(_same("decoder.", "language.model.model.decoder."),),
        language="opt",
        tied=True,
    ),
    Kind(
        name="qwen2",
        title="Hugging Face Qwen 1.5 or 2",
        marks=("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias"),  # Llama has no such bias
        rules=(_same("model.", "language.model.model."), _HEAD),
        language="qwen2",
        ignored=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
    ),
    Kind(
        name="qwen_v1",
        title="Qwen of the first version",
        marks=("transformer.wte.weight", "transformer.h.0.mlp.w2.weight"),
        rules=_qwen_v1_rules(),
        language="qwen2",
        qwen_v1=True,
        ignored=_QWEN_V1_IGNORED,
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _TABLE}


def kind_of(names: Collection[str], source: str) -> Kind:
    """Return the kind of a released checkpoint with these tensor names. UserError if there is none."""
    for kind in KINDS.values():
        if all(mark in names for mark in kind.marks):
            return kind
    if any(name.startswith(("encoders.", "language.model.")) for name in names):
        raise UserError(f"{source}: a model in this project's format already; --to release gives it a release's names")
    known = ", ".join(kind.title for kind in KINDS.values())
    some = ", ".join(sorted(names)[:3]) or "no tensor at all"
    raise UserError(f"{source}: of no known kind ({known}); it has {some}{', …' if len(names) > 3 else ''}")


def kind_of_ours(names: Collection[str], source: str) -> Kind:
    """Return the first kind with a released name for each of a model's tensors. UserError if there is none."""
    for kind in KINDS.values():
        released = {kind.to_released(name) for name in names}
        if None not in released and released >= set(kind.marks):
            return kind
    parts = ", ".join(sorted({part_of(name) for name in names}))
    raise UserError(f"{source}: no released model consists of {parts}")
