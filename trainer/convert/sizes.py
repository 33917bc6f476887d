"""Sizes of parts from their tensors' shapes and, for what no shape tells, from the checkpoint's config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPVisionConfig, PreTrainedConfig

from trainer.convert.names import Kind
from trainer.convert.read import Shape
from trainer.model.positions import OPT_OFFSET
from trainer.model.registry import LANGUAGE_MODELS
from trainer.model.weights import config_class_of
from varyforge.errors import UserError

_CLIP_HEAD, _OPT_HEAD, _QWEN_HEAD = 64, 64, 128  # channels of a head in every released size
_VIT_DEPTH = {768: 12, 1024: 24, 1280: 32}  # ViT-B, L and H, by width: a file that ends early lacks whole layers
_QWEN_V1_POSITIONS = 8192  # beyond its seq_length Qwen's own code changes its formulas


class Part:
    """The shapes of one part, by its own names."""

    def __init__(self, shapes: Mapping[str, Shape], prefix: str, source: str) -> None:
        """Of `shapes` those under `prefix`."""
        self.shapes = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        self._prefix, self._source = prefix, source

    def shape(self, name: str, dimensions: int) -> Shape:
        """The shape of a tensor that tells sizes; UserError when it is missing or of another form."""
        found = self.shapes.get(name)
        if found is None or len(found) != dimensions or 0 in found:
            has = "nothing" if found is None else f"shape {found}"
            raise UserError(
                f"{self._source}: {self._prefix}{name}: found {has}, expected {dimensions} dimensions; "
                "the checkpoint is not whole, or of another model"
            )
        return found

    def layers(self, pattern: str) -> dict[int, Shape]:
        """Shapes of a tensor that layers have, by layer; `{i}` is its number."""
        expression = re.compile(re.escape(pattern).replace(r"\{i\}", r"(\d{1,4})"))
        found = {name: expression.fullmatch(name) for name in self.shapes}
        return {int(match[1]): self.shapes[name] for name, match in found.items() if match}

    def depth(self, pattern: str) -> int:
        """Layers up to the last one that has the tensor."""
        return max(self.layers(pattern), default=-1) + 1


def sam(part: Part) -> dict[str, Any]:
    """`SamConfig`'s keys; what no tensor tells is left to its defaults, which are Vary's.

    Layers whose tables of relative positions span the whole image attend over all of it.
    """
    width, _, patch, _ = part.shape("patch_embed.proj.weight", 4)
    grid = part.shape("pos_embed", 4)[1]
    tables = part.layers("blocks.{i}.attn.rel_pos_h")
    _, head = part.shape("blocks.0.attn.rel_pos_w", 2)
    sizes = {
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "depth": max(part.depth("blocks.{i}.norm1.weight"), _VIT_DEPTH.get(width, 0)),
        "heads": width // head,
        "mlp_ratio": part.shape("blocks.0.mlp.lin1.weight", 2)[0] // width,
        "global_layers": sorted(layer for layer, (length, _) in tables.items() if length == 2 * grid - 1),
        "neck": part.shape("neck.0.weight", 4)[0],
    }
    if windows := {length for length, _ in tables.values()} - {2 * grid - 1}:
        sizes["window"] = (max(windows) + 1) // 2
    convolutions = ("net_2.weight", "net_3.weight")  # the original SAM has neither
    if part.shapes.keys() >= set(convolutions):
        sizes["conv_channels"] = [part.shape(name, 4)[0] for name in convolutions]
    return sizes


def clip(part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """`CLIPVisionConfig`'s keys."""
    width, _, patch, _ = part.shape("model.embeddings.patch_embedding.weight", 4)
    places = part.shape("model.embeddings.position_embedding.weight", 2)[0] - 1  # without the class token's
    given = config.get("vision_config") or (config if config.get("model_type") == "clip_vision_model" else {})
    depth = max(part.depth("model.encoder.layers.{i}.layer_norm1.weight"), _VIT_DEPTH.get(width, 0))
    sizes = {
        "num_attention_heads": max(width // _CLIP_HEAD, 1),
        "num_hidden_layers": depth,
        **_known(CLIPVisionConfig, given),
        "hidden_size": width,
        "intermediate_size": part.shape("model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "patch_size": patch,
        "image_size": math.isqrt(places) * patch,
    }
    return _checked(sizes, part)


def opt(part: Part, config: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """`OPTConfig`'s keys."""
    names = "model.model.decoder."
    rows, width_in = part.shape(f"{names}embed_tokens.weight", 2)
    positions, width = part.shape(f"{names}embed_positions.weight", 2)
    sizes = {
        "num_attention_heads": max(width // _OPT_HEAD, 1),
        "num_hidden_layers": part.depth(f"{names}layers.{{i}}.fc1.weight"),
        **_known(config_class_of(LANGUAGE_MODELS["opt"].model_class), config),
        "vocab_size": rows,
        "hidden_size": width,
        "word_embed_proj_dim": width_in,
        "ffn_dim": part.shape(f"{names}layers.0.fc1.weight", 2)[0],
        "max_position_embeddings": positions - OPT_OFFSET,
    }
    return _checked(sizes, part)


def qwen2(part: Part, config: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """`Qwen2Config`'s keys, from the config.json of transformers' class or of Qwen's own code."""
    rows, width = part.shape("model.model.embed_tokens.weight", 2)
    keys = part.shape("model.model.layers.0.self_attn.k_proj.weight", 2)[0]
    if not kind.qwen_v1 and not config:
        raise UserError(
            "config.json: none beside the weights; it tells the base of the rotary positions, which no tensor does and "
            "which differs between sizes of Qwen; fetch it too"
        )
    if kind.qwen_v1:
        given = {
            "num_attention_heads": config.get("num_attention_heads"),
            "num_hidden_layers": config.get("num_hidden_layers"),
            "max_position_embeddings": config.get("seq_length", _QWEN_V1_POSITIONS),
            "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
            "rope_theta": config.get("rotary_emb_base", 10000.0),
        }
        config = {key: value for key, value in given.items() if value is not None}
    sizes = {
        "num_attention_heads": max(width // _QWEN_HEAD, 1),
        "num_hidden_layers": part.depth("model.model.layers.{i}.input_layernorm.weight"),
        **_known(config_class_of(LANGUAGE_MODELS["qwen2"].model_class), config),
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": part.shape("model.model.layers.0.mlp.gate_proj.weight", 2)[0],
    }
    heads = int(_checked(sizes, part)["num_attention_heads"])
    sizes["num_key_value_heads"] = heads if kind.qwen_v1 else max(keys * heads // width, 1)
    return sizes


def _checked(sizes: dict[str, Any], part: Part) -> dict[str, Any]:
    """UserError for numbers in config.json that no model of these tensors can have."""
    most = {"num_attention_heads": sizes["hidden_size"], "num_hidden_layers": len(part.shapes)}
    for key, largest in most.items():
        found = sizes[key]
        if not isinstance(found, int) or not 1 <= found <= largest:
            raise UserError(f"config.json: {key} {found!r}, expected a whole number from 1 to {largest}")
    return sizes


def _known(config_class: type[PreTrainedConfig], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says, in the keys of today's transformers; what it leaves out is left out."""
    # Not what transformers makes of the number of layers: lists as long as it, before anybody has looked at it. No
    # padding row either: it would not train, whatever token has that id here.
    asked = dict(given)
    layers = {key: asked.pop(key) for key in ("num_hidden_layers",) if key in asked}
    for key in ("layer_types", "pad_token_id"):
        asked.pop(key, None)
    try:
        made = config_class.from_dict(asked).to_dict()
    except (ValueError, TypeError, LookupError, StrictDataclassError) as error:
        raise UserError(f"config.json: not one of {config_class.model_type}: {' '.join(str(error).split())}") from error
    wanted = {key for key in asked.keys() & config_class.__annotations__.keys() if not key.startswith("_")}
    if asked.keys() & {"rope_theta", "rope_scaling"}:
        wanted |= {"rope_parameters"}  # their name since transformers 5
    return layers | {key: made[key] for key in sorted(wanted) if made[key] is not None}
