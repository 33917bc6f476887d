"""A folder with code in it, for any model: `trust_remote_code=True`, and no varyforge where it is loaded.

The code is this project's own: three files of `shipped` and what these import, with imports made relative. So the
tokens of an image, its pixels and the spelling of text are the same rule as in training and not a second one. The
encoders and the language model are transformers' own classes, written independently of those that were trained.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer.export.chat import chat_template, control_tokens
from trainer.export.trained import Trained, levels, plain_config
from trainer.images.sizes import Size
from trainer.settings import PartSettings
from trainer.text.chat_templates import IMAGE_PAD

_ENTRIES = ("configuration_varyforge", "modeling_varyforge", "processing_varyforge")
_ROOT = Path(__file__).parents[2]
_AUTO_MAP = {
    "AutoConfig": "configuration_varyforge.VaryforgeConfig",
    "AutoModel": "modeling_varyforge.VaryforgeForConditionalGeneration",
    "AutoModelForImageTextToText": "modeling_varyforge.VaryforgeForConditionalGeneration",
    "AutoProcessor": "processing_varyforge.VaryforgeProcessor",
}
_SAM_CONFIG = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_ratio": "mlp_ratio",
    "window": "window_size",
    "global_layers": "global_attn_indexes",
    "neck": "output_channels",
}
"""Our key of a SAM encoder's configuration → transformers' SamVisionConfig's."""

_SAM_NAMES = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"layers.\1.layer_norm\2."),
    (r"^blocks\.", "layers."),
    (r"^neck\.0\.", "neck.conv1."),
    (r"^neck\.1\.", "neck.layer_norm1."),
    (r"^neck\.2\.", "neck.conv2."),
    (r"^neck\.3\.", "neck.layer_norm2."),
)
"""Names of tensors of a SAM encoder: ours → SamVisionEncoder's. All others are the same on both sides."""


class OwnCode:
    """`VaryforgeForConditionalGeneration`, whose code is in the folder."""

    name = "VaryforgeForConditionalGeneration (code in the folder)"
    levels = 0

    def misfit(self, trained: Trained) -> str | None:
        """See `Form`; every model fits."""
        return None

    def rename(self, name: str, trained: Trained) -> str:
        """See `Form`."""
        part, _, rest = name.partition(".")
        if part == "language":
            return f"language.{rest.removeprefix('model.')}"
        which, _, rest = rest.partition(".")
        if part != "encoders" or trained.settings.vision[which].type != "sam":
            return name
        return f"encoders.{which}.{_sam_name(rest)}"

    def write(self, trained: Trained, folder: Path, dtype: str) -> None:
        """See `Form`."""
        settings, model = trained.settings, trained.model
        layout = model.layout
        tiling = settings.tiling or PartSettings(type="whole")
        described = {
            "preprocess": {name: asdict(how) for name, how in layout.preprocess.items()},
            "view": asdict(layout.view),
            "tiling": asdict(tiling),
        }
        config = {
            "architectures": ["VaryforgeForConditionalGeneration"],
            "auto_map": {key: name for key, name in _AUTO_MAP.items() if key != "AutoProcessor"},
            "model_type": "varyforge",
            "dtype": dtype,
            "image_token_id": model.image_token_id,
            "vision": {
                name: {
                    "type": part.type,
                    "config": _encoder_config(part.type, model.encoders[name]),
                    "connector": asdict(part.connector),
                }
                for name, part in settings.vision.items()
            },
            "fusion": settings.fusion,
            "projector": None if settings.projector is None else asdict(settings.projector),
            "layout": described,
            "tie_word_embeddings": bool(model.language.model.config.tie_word_embeddings),
            "text_config": trained.language_config(),
        }
        processor = {
            "auto_map": {"AutoProcessor": _AUTO_MAP["AutoProcessor"]},
            "processor_class": "VaryforgeProcessor",
            "layout": described,
            "image_token": IMAGE_PAD,
            "control_tokens": control_tokens(trained.encoder),
            "pad_token_id": trained.encoder.pad_id,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
        (folder / "chat_template.jinja").write_text(chat_template(trained.encoder))
        for name, code in code_files().items():
            (folder / name).write_text(code)

    def load_lines(self) -> str:
        """See `Form`."""
        return (
            "model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)\n"
            "processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)"
        )

    def pixels(self, values: Tensor, sizes: list[Size], trained: Trained) -> dict[str, NDArray[np.uint8]]:
        """See `Form`."""
        preprocess = trained.model.layout.preprocess
        pieces = values.flatten(1).split([3 * how.size**2 for how in preprocess.values()], dim=1)
        return {
            name: levels(how, piece.reshape(-1, 3, how.size, how.size))
            for (name, how), piece in zip(preprocess.items(), pieces, strict=True)
        }


def code_files() -> dict[str, str]:
    """Name → text of the Python files of a folder, which import each other, torch, transformers, numpy and Pillow."""
    waiting = [_ROOT / "trainer" / "export" / "shipped" / f"{name}.py" for name in _ENTRIES]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        if file.name in found:
            continue
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trainer."):
                waiting.append(_ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py"))
        found[file.name] = _relative(source)
    return dict(sorted(found.items()))


def _relative(source: str) -> str:
    """A file's text with imports of this project's files by their names alone."""
    source = re.sub(r"^from trainer\.(?:\w+\.)*(\w+) import", r"from .\1 import", source, flags=re.MULTILINE)
    return source.replace("from varyforge.errors import UserError\n", "UserError = ValueError\n")


def _encoder_config(kind: str, encoder: Any) -> dict[str, Any]:
    if kind != "sam":
        return {
            "model": plain_config(encoder.model.config),
            "layer": encoder.layer,
            "norm": encoder.norm,
            "interpolate": encoder.interpolates,
            "view": asdict(encoder.view),
            "width": encoder.width,
        }
    ours = encoder.configuration()
    trunk = {theirs: ours[key] for key, theirs in _SAM_CONFIG.items()}
    trunk["mlp_ratio"] = float(trunk["mlp_ratio"])
    return {"trunk": trunk, "neck_grid": ours["neck_grid"], "conv_channels": ours["conv_channels"]}


def _sam_name(name: str) -> str:
    if name.startswith(("net_2.", "net_3.")):
        return name
    for pattern, theirs in _SAM_NAMES:
        name = re.sub(pattern, theirs, name)
    return f"trunk.{name}"
