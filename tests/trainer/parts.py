"""Small parts of every row of the tables, put together in any way, and batches for what comes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.loader.packing import Loaded, collate
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, PartSettings

IMAGE, VOCABULARY = 59, 60

_VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 4,
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {  # 4 × 4 tokens each
    "sam": {
        "image_size": 64, "patch_size": 8, "width": 32, "depth": 2, "heads": 2, "window": 3, "global_layers": [1],
        "neck": 16, "neck_grid": 16, "conv_channels": [32, 64],
    },
    "clip": {**_VIT, "intermediate_size": 48},
    "siglip": {**_VIT, "intermediate_size": 48},
    "dinov2": {**_VIT, "mlp_ratio": 2},
    "dinov2_registers": {**_VIT, "mlp_ratio": 2, "num_register_tokens": 3},
    "convnext": {"hidden_sizes": [16, 24, 32], "depths": [1, 2, 1], "num_stages": 3, "image_size": 64},
    "transformers": {**_VIT, "model_type": "vit", "intermediate_size": 48},
}  # fmt: skip
_LLAMA = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LANGUAGE: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 64, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 128, "dropout": 0.0,
    },
    "qwen2": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "transformers": {**_LLAMA, "model_type": "qwen3", "head_dim": 16},
}  # fmt: skip


def settings(*encoders: str, language: str = "llama", frozen: bool = False, **changes: Any) -> ModelSettings:
    """Encoders by their rows, each under its row's name, with linear connectors unless `connector` names another."""
    connector = PartSettings(**changes.pop("connector", {"type": "linear"}))
    vision = {
        name: EncoderSettings(type=name, config=ENCODERS[name], connector=connector, frozen=frozen) for name in encoders
    }
    speaks = LanguageSettings(type=language, tokenizer="-", template="-", config=LANGUAGE[language])
    parts = {key: PartSettings(**value) if isinstance(value, dict) else value for key, value in changes.items()}
    return ModelSettings(vision=vision, language=speaks, **parts)


def built(chosen: ModelSettings, **changes: Any) -> VisionLanguageModel:
    options = {"attention": "sdpa", "gradient_checkpointing": False, "seed": 0, **changes}
    model, _ = build(chosen, vocabulary=VOCABULARY, image_token_id=IMAGE, **options)
    return model


def randomise(module: torch.nn.Module) -> None:
    """Move weights far from the initial ones, where zero tables and unit norms would hide mistakes."""
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)


def batch_of(model: VisionLanguageModel, images: list[int], *, seed: int = 0) -> Batch:
    """One row per entry of `images`, with so many images, some text, and its last three tokens supervised."""
    size = (40, 30)
    random = torch.Generator().manual_seed(seed)
    rows: list[list[Loaded]] = []
    for row, count in enumerate(images):
        text = torch.randint(3, IMAGE, (6 + row,), generator=random).tolist()
        ids = [*text[:2], *[IMAGE] * (count * model.layout.num_tokens(size)), *text[2:]]
        labels = [IGNORE_INDEX] * (len(ids) - 3) + ids[-3:]
        pictures = [torch.randint(256, (*size, 3), generator=random, dtype=torch.uint8).numpy() for _ in range(count)]
        encoded = Encoded(key=str(row), task="ocr", input_ids=ids, labels=labels, image_sizes=(size,) * count)
        rows.append([(encoded, [model.layout.views(picture) for picture in pictures])])
    return collate(rows, 0, model.layout)


def without_gradient(module: torch.nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]


def logits_of(model: VisionLanguageModel, batch: Batch, row: int) -> Tensor:
    """(T, V) of a row without its padding."""
    embeddings = model._embed(batch.input_ids, batch.pixels, batch.image_sizes)
    hidden = model.language.hidden_states(embeddings, batch.positions, batch.lengths)
    return hidden[row, : sum(batch.lengths[row])] @ model.language.head.T
