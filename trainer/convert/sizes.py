"""Inference of the parts' sizes from tensor shapes, and from config.json for sizes that no shape has."""

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

_CLIP_HEAD, _OPT_HEAD, _QWEN_HEAD = 64, 64, 128  # channels of a head in all released sizes
_VIT_DEPTH = {768: 12, 1024: 24, 1280: 32}  # ViT-B, L, H by width; a truncated file lacks whole layers
_QWEN_V1_POSITIONS = 8192  # seq_length; beyond it Qwen's own code changes its formulas


class Part:
    """The tensor shapes of one part, by the part's own names."""

    def __init__(self, shapes: Mapping[str, Shape], prefix: str, source: str) -> None:
        """Select the shapes whose names begin with `prefix`."""
        self.shapes = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        self._prefix, self._source = prefix, source

    def shape(self, name: str, dimensions: int) -> Shape:
        """Return the shape of a tensor. UserError: it is missing, empty, or has another number of dimensions."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != dimensions or 0 in shape:
            has = "nothing" if shape is None else f"shape {shape}"
            raise UserError(
                f"{self._source}: {self._prefix}{name}: found {has}, expected {dimensions} dimensions; "
                "the checkpoint is incomplete, or of another model"
            )
        return shape

    def layers(self, pattern: str) -> dict[int, Shape]:
        """Return the shapes of a tensor by layer; `{i}` in the pattern matches the layer's number."""
        expression = re.compile(re.escape(pattern).replace(r"\{i\}", r"(\d{1,4})"))
        matches = {name: expression.fullmatch(name) for name in self.shapes}
        return {int(match[1]): self.shapes[name] for name, match in matches.items() if match}

    def depth(self, pattern: str) -> int:
        """Return the number of layers up to the last one with this tensor."""
        return max(self.layers(pattern), default=-1) + 1


def sam(part: Part) -> dict[str, Any]:
    """Return the values of `SamConfig`'s keys that tensors determine. The defaults of the others are Vary's.

    A layer with a table of relative positions that spans the whole image has global attention.
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
    convolutions = ("net_2.weight", "net_3.weight")  # absent in the original SAM
    if part.shapes.keys() >= set(convolutions):
        sizes["conv_channels"] = [part.shape(name, 4)[0] for name in convolutions]
    return sizes


def clip(part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `CLIPVisionConfig`'s keys."""
    width, _, patch, _ = part.shape("model.embeddings.patch_embedding.weight", 4)
    positions = part.shape("model.embeddings.position_embedding.weight", 2)[0] - 1  # without the class token
    stated = config.get("vision_config") or (config if config.get("model_type") == "clip_vision_model" else {})
    depth = max(part.depth("model.encoder.layers.{i}.layer_norm1.weight"), _VIT_DEPTH.get(width, 0))
    sizes = {
        "num_attention_heads": max(width // _CLIP_HEAD, 1),
        "num_hidden_layers": depth,
        **_known(CLIPVisionConfig, stated),
        "hidden_size": width,
        "intermediate_size": part.shape("model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "patch_size": patch,
        "image_size": math.isqrt(positions) * patch,
    }
    return _checked(sizes, part)


def opt(part: Part, config: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the values of `OPTConfig`'s keys."""
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
    """Return the values of `Qwen2Config`'s keys from a config.json of transformers or of Qwen's own code."""
    rows, width = part.shape("model.model.embed_tokens.weight", 2)
    keys = part.shape("model.model.layers.0.self_attn.k_proj.weight", 2)[0]
    if not kind.qwen_v1 and not config:
        raise UserError(
            "config.json: none beside the weights; only this file has the base of the rotary positions, which differs "
            "between sizes of Qwen; fetch it too"
        )
    if kind.qwen_v1:
        translated = {
            "num_attention_heads": config.get("num_attention_heads"),
            "num_hidden_layers": config.get("num_hidden_layers"),
            "max_position_embeddings": config.get("seq_length", _QWEN_V1_POSITIONS),
            "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
            "rope_theta": config.get("rotary_emb_base", 10000.0),
        }
        config = {key: value for key, value in translated.items() if value is not None}
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
    """Return `sizes`. UserError: config.json has numbers that no model with these tensors can have."""
    most = {"num_attention_heads": sizes["hidden_size"], "num_hidden_layers": len(part.shapes)}
    for key, largest in most.items():
        value = sizes[key]
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise UserError(f"config.json: {key} {value!r}, expected a whole number from 1 to {largest}")
    return sizes


def _known(config_class: type[PreTrainedConfig], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json's values under the keys of the installed transformers, without defaults."""
    # The number of layers is left out because transformers makes lists of that length before it is checked, and the
    # padding id because its embedding would not train, whatever token has that id here.
    stated = dict(content)
    layers = {key: stated.pop(key) for key in ("num_hidden_layers",) if key in stated}
    for key in ("layer_types", "pad_token_id"):
        stated.pop(key, None)
    try:
        known = config_class.from_dict(stated).to_dict()
    except (ValueError, TypeError, LookupError, StrictDataclassError) as error:
        raise UserError(f"config.json: not one of {config_class.model_type}: {' '.join(str(error).split())}") from error
    keys = {key for key in stated.keys() & config_class.__annotations__.keys() if not key.startswith("_")}
    if stated.keys() & {"rope_theta", "rope_scaling"}:
        keys |= {"rope_parameters"}  # their name since transformers 5
    return layers | {key: known[key] for key in sorted(keys) if known[key] is not None}
