"""Export of any model with its code, which transformers loads by `trust_remote_code=True` without varyforge.

The folder has three modules of `shipped` and the trainer's own modules for images, connectors and text. The tokens and
pixels of an image and the ids of a text therefore follow the same code as in training. The encoders and the language
model are transformers' own classes, which are written independently of the trainer's.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from trainer.export.chat import chat_template, control_tokens
from trainer.export.trained import ExportFormat, TrainedModel, pixel_levels, plain_config
from trainer.images.sizes import Size
from trainer.settings import PartSettings
from trainer.text.chat_templates import IMAGE_PAD

SHIPPED = (
    "trainer.export.shipped.configuration_varyforge",
    "trainer.export.shipped.modeling_varyforge",
    "trainer.export.shipped.processing_varyforge",
    "trainer.images.layout",
    "trainer.images.preprocess",
    "trainer.images.resample",
    "trainer.images.sizes",
    "trainer.images.tiling",
    "trainer.model.connectors",
    "trainer.model.fusions",
    "trainer.model.joint",
    "trainer.model.perceiver",
    "trainer.model.tables",
    "trainer.text.roundtrip",
)
"""Modules whose code ships with an export, as files of one folder.

They import the standard library, torch (with typing_extensions), transformers (with tokenizers), numpy and Pillow. Of
this project they import each other and `UserError`, at the top of the file as `from MODULE import NAME`.
"""

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
"""Key of the trainer's SAM configuration → key of transformers' SamVisionConfig."""

_SAM_NAMES = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"layers.\1.layer_norm\2."),
    (r"^blocks\.", "layers."),
    (r"^neck\.0\.", "neck.conv1."),
    (r"^neck\.1\.", "neck.layer_norm1."),
    (r"^neck\.2\.", "neck.conv2."),
    (r"^neck\.3\.", "neck.layer_norm2."),
)
"""Tensor name of the trainer's SAM encoder → name in SamVisionEncoder. All other names are equal."""


class OwnCode(ExportFormat):
    """The format `VaryforgeForConditionalGeneration`, with the class's code in the folder. Every model fits."""

    name = "VaryforgeForConditionalGeneration (code in the folder)"
    pixel_tolerance = 0
    load_lines = (
        "model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)\n"
        "processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)"
    )

    @override
    def fits(self, trained: TrainedModel) -> bool:
        return True

    @override
    def rename(self, name: str, trained: TrainedModel) -> str:
        part, _, rest = name.partition(".")
        if part == "language":
            return f"language.{rest.removeprefix('model.')}"
        which, _, rest = rest.partition(".")
        if part != "encoders" or trained.settings.vision[which].type != "sam":
            return name
        return f"encoders.{which}.{_sam_name(rest)}"

    @override
    def write(self, trained: TrainedModel, folder: Path, dtype: str) -> None:
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
            "text_config": plain_config(model.language.model.config),
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

    @override
    def pixels(self, values: Tensor, sizes: list[Size], trained: TrainedModel) -> dict[str, NDArray[np.uint8]]:
        preprocess = trained.model.layout.preprocess
        pieces = values.flatten(1).split([3 * how.size**2 for how in preprocess.values()], dim=1)
        return {
            name: pixel_levels(how, piece.reshape(-1, 3, how.size, how.size))
            for (name, how), piece in zip(preprocess.items(), pieces, strict=True)
        }


def code_files() -> dict[str, str]:
    """Return file name → text of the modules in SHIPPED, with imports of each other made relative.

    Raises:
        ValueError: two modules have the same file name.
    """
    files: dict[str, str] = {}
    for module in SHIPPED:
        path = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        text = text.replace("from varyforge.errors import UserError\n", "UserError = ValueError\n")
        for other in SHIPPED:
            text = text.replace(f"from {other} import", f"from .{other.rpartition('.')[2]} import")
        if path.name in files:
            raise ValueError(f"{module}: another module of SHIPPED is called {path.name}, too")
        files[path.name] = text
    return files


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
