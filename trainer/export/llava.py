"""Export of models that transformers has classes for: LLaVA-1.5 (arXiv 2310.03744), LLaVA-1.6 and alike models."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from trainer.export.cases import Message, cases, messages, sample_of, sizes_of
from trainer.export.chat import chat_template
from trainer.export.trained import ExportFormat, TrainedModel, pixel_levels, plain_config
from trainer.images.sizes import Size
from trainer.text.chat_templates import IMAGE_PAD
from trainer.text.encode import ConversationEncoder

_SELECT = {"clip": "default", "siglip": "full"}
"""Encoder → LLaVA's `vision_feature_select_strategy`. `default` drops the class token."""

_RESAMPLE = {"bilinear": 2, "bicubic": 3, "pillow_bicubic": 3}  # Pillow's numbers
_FIT: dict[str, dict[str, Any]] = {
    "crop": {"do_center_crop": True, "do_pad": False},
    "stretch": {"do_center_crop": False, "do_pad": False},
    "pad": {"do_center_crop": False, "do_pad": True},
}
_CONNECTOR = {"0": "linear_1", "2": "linear_2"}


class Llava(ExportFormat):
    """The format `LlavaForConditionalGeneration`, in which an image is one view."""

    name = "LlavaForConditionalGeneration"
    model_type, processor, image_processor = "llava", "LlavaProcessor", "LlavaImageProcessor"
    pixel_tolerance = 2
    load_lines = (
        "model = AutoModelForImageTextToText.from_pretrained(folder)\nprocessor = AutoProcessor.from_pretrained(folder)"
    )

    @override
    def fits(self, trained: TrainedModel) -> bool:
        settings = trained.settings
        if len(settings.vision) != 1 or settings.projector is not None:
            return False
        ((name, part),) = settings.vision.items()
        encoder: Any = trained.model.encoders[name]
        how = trained.model.layout.preprocess[name]
        connector = part.connector.config
        return (
            part.type in _SELECT
            and part.connector.type == "mlp"
            and connector.get("depth", 2) == 2
            and not connector.get("activation_first", False)
            and hasattr(trained.model.language.model, "lm_head")
            and (part.type == "clip" or not getattr(encoder, "norm", True))  # a layer's output without a norm
            and not getattr(encoder, "interpolates", False)
            and how.resample in _RESAMPLE
            and self._cuts_alike(trained)
            and _plain_template(trained) is not None
        )

    @override
    def rename(self, name: str, trained: TrainedModel) -> str:
        part, _, rest = name.partition(".")
        match part:
            case "encoders":
                return f"model.vision_tower.{rest.split('.', 2)[2]}"
            case "connectors":
                _, layer, kind = rest.split(".")
                return f"model.multi_modal_projector.{_CONNECTOR[layer]}.{kind}"
            case "joint":
                return {"separator": "model.image_newline"}[rest]
        rest = rest.removeprefix("model.")
        within = f"{trained.model.language.model.base_model_prefix}."
        return rest if rest.startswith("lm_head.") else f"model.language_model.{rest.removeprefix(within)}"

    @override
    def write(self, trained: TrainedModel, folder: Path, dtype: str) -> None:
        ((name, part),) = trained.settings.vision.items()
        encoder: Any = trained.model.encoders[name]
        vision, text = (plain_config(model.config) for model in (encoder.model, trained.model.language.model))
        select = _SELECT[part.type]
        config = {
            "architectures": [self.name],
            "model_type": self.model_type,
            "dtype": dtype,
            "image_token_index": trained.model.image_token_id,
            "image_seq_length": encoder.view.count,
            "projector_hidden_act": "gelu",
            "multimodal_projector_bias": True,
            "vision_feature_layer": encoder.layer,
            "vision_feature_select_strategy": select,
            "tie_word_embeddings": bool(text["tie_word_embeddings"]),
            "vision_config": vision,
            "text_config": text,
            **self._tiling(trained),
        }
        processor = {
            "processor_class": self.processor,
            "image_token": IMAGE_PAD,
            "patch_size": vision["patch_size"],
            "vision_feature_select_strategy": select,
            "num_additional_image_tokens": 1 if select == "default" else 0,
        }
        how = trained.model.layout.preprocess[name]
        side = {"height": how.size, "width": how.size}
        images = {
            "image_processor_type": self.image_processor,
            "processor_class": self.processor,
            "do_resize": True,
            "size": {"shortest_edge": how.size} if how.fit == "crop" else side,
            "crop_size": side,
            "resample": _RESAMPLE[how.resample],
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": how.mean,
            "image_std": how.std,
            "do_convert_rgb": True,
            **_FIT[how.fit],
            **self._tiling(trained),
        }
        for file, content in (
            ("config.json", config),
            ("processor_config.json", processor),
            ("preprocessor_config.json", images),
        ):
            (folder / file).write_text(json.dumps(content, indent=2) + "\n")
        (folder / "chat_template.jinja").write_text(str(_plain_template(trained)))

    @override
    def pixels(self, values: Tensor, sizes: list[Size], trained: TrainedModel) -> dict[str, NDArray[np.uint8]]:
        ((name, how),) = trained.model.layout.preprocess.items()
        return {name: pixel_levels(how, values)}

    def _cuts_alike(self, trained: TrainedModel) -> bool:
        """Return whether transformers' processor can cut and fit images as this model does."""
        settings = trained.settings
        whole = settings.tiling is None or settings.tiling.type == "whole"
        return whole and all(how.fit in _FIT for how in trained.model.layout.preprocess.values())

    def _tiling(self, trained: TrainedModel) -> dict[str, Any]:
        """Return the keys of the configuration for the tiling of images."""
        return {}


class LlavaNext(Llava):
    """The format `LlavaNextForConditionalGeneration`, in which an image is tiles and a view of the whole."""

    name = "LlavaNextForConditionalGeneration"
    model_type, processor, image_processor = "llava_next", "LlavaNextProcessor", "LlavaNextImageProcessor"

    @override
    def pixels(self, values: Tensor, sizes: list[Size], trained: TrainedModel) -> dict[str, NDArray[np.uint8]]:
        layout = trained.model.layout
        views = [of_image[: layout.num_views(size)] for of_image, size in zip(values, sizes, strict=True)]
        return super().pixels(torch.cat(views), sizes, trained)

    @override
    def _cuts_alike(self, trained: TrainedModel) -> bool:
        settings = trained.settings
        return settings.tiling is not None and settings.tiling.type == "any_res"

    @override
    def _tiling(self, trained: TrainedModel) -> dict[str, Any]:
        tiling: Any = trained.model.layout.tiling
        side = trained.model.layout.side_px
        return {"image_grid_pinpoints": [[rows * side, columns * side] for rows, columns in tiling.grids]}


def _plain_template(trained: TrainedModel) -> str | None:
    """Return a chat template with which a conversation, tokenised as one text, has the trained ids, or None.

    Both ways to write BOS are tried: a tokenizer that puts a blank before a text puts the blank behind the BOS that the
    tokenizer adds, and not behind a BOS in the text.
    """
    templates = [chat_template(trained.encoder, begin=begin) for begin in (True, False)]
    rows = [row for case in cases(trained.encoder) if not case.exact for row in case.rows]
    tokenizer = copy.deepcopy(trained.encoder.tokenizer)  # the encoder's own reads no text as a control token
    return next((t for t in templates if all(_is_plain(row, t, tokenizer, trained.encoder) for row in rows)), None)


def _is_plain(row: Sequence[Message], template: str, tokenizer: Any, encoder: ConversationEncoder) -> bool:
    text = tokenizer.apply_chat_template(messages(row), chat_template=template, tokenize=False)
    before, *others = text.split(IMAGE_PAD)
    for size, behind in zip(sizes_of(row), others, strict=True):
        before += IMAGE_PAD * encoder.layout.num_tokens(size) + behind
    begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)  # the rule of ProcessorMixin
    ids: list[int] = tokenizer(before, add_special_tokens=not begins).input_ids
    return ids == encoder.prompt(sample_of(row))
