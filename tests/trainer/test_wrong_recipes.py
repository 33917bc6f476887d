"""Mistakes about a model's parts in a recipe. Each gives one line that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.parts import ENCODERS, LANGUAGE
from trainer.model.build import image_layout
from trainer.settings import ModelSettings
from varyforge.config import load
from varyforge.errors import UserError

CLIP, SAM = ENCODERS["clip"], ENCODERS["sam"]
PARTS: dict[str, Any] = {
    "vision": {"eye": {"type": "clip", "config": CLIP}},
    "language": {"type": "llama", "tokenizer": "-", "template": "-", "config": LANGUAGE["llama"]},
}


def refusal(tmp_path: Path, *overrides: str, **parts: Any) -> str:
    """Return the message about a model of these parts, with overrides as on the command line."""
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(PARTS | parts))
    with pytest.raises(UserError) as caught:
        image_layout(load(ModelSettings, file, overrides))
    return str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "hidden_size=-32",
        "hidden_size=0",
        "hidden_size=many",
        "num_attention_heads=0",
        "num_hidden_layers=-1",
        "image_size=null",
        "patch_size=0",
        "patch_size=-4",
        "patch_size=null",
        "hidden_act=magic",
        "input_size=0",
        "input_size=false",
        "layer=[1]",
        "hidden=3",
    ],
)
def test_an_encoders_wrong_size_names_the_encoder(override: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"vision.eye.config.{override}")
    assert message.startswith("model.vision.eye: clip") and "\n" not in message


@pytest.mark.parametrize(
    ("encoder", "config"),
    [
        ("convnext", {"hidden_sizes": [16, 24], "depths": [1]}),
        ("convnext", {"hidden_sizes": [-16, 24, 32]}),
        ("dinov2", {"mlp_ratio": -1}),
        ("sam", {"conv_channels": ["a", "b"]}),
        ("sam", {"conv_channels": [-1, 2]}),
        ("sam", {"global_layers": [2]}),
        ("sam", {"global_layers": [-1]}),
        ("sam", {"neck_grid": 16.0}),
        ("transformers", {"model_type": "vit", "patch_size": 0}),
        ("transformers", {"model_type": "vit", "hidden_act": "magic"}),
    ],
)
def test_so_does_every_family(encoder: str, config: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(tmp_path, vision={"eye": {"type": encoder, "config": ENCODERS[encoder] | config}})
    assert message.startswith("model.vision.eye: ") and "\n" not in message


@pytest.mark.parametrize(
    "override",
    [
        "vocab_size=many",
        "vocab_size=null",
        "vocab_size=-5",
        "hidden_size=-64",
        "hidden_size=0",
        "num_attention_heads=0",
        "num_key_value_heads=0",
        "num_key_value_heads=-1",
        "num_hidden_layers=-2",
        "intermediate_size=-2",
        "hidden_act=magic",
        "head_dim=0",
        "pad_token_id=999999",
        "rope_parameters={rope_type: magic}",
    ],
)
def test_a_language_models_wrong_size_is_named(override: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"language.config.{override}")
    assert message.startswith("model.language: llama: ") and "\n" not in message


def test_of_two_encoders_the_one_with_the_wrong_connector_is_named(tmp_path: Path) -> None:
    two = {name: {"type": name, "config": ENCODERS[name]} for name in ("clip", "sam")}
    two["sam"]["connector"] = {"type": "mlp", "config": {"depth": 0}}
    assert refusal(tmp_path, vision=two).startswith("model.vision.sam.connector: connector mlp: depth 0: ")


def test_a_wrong_projector_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, projector={"type": "pixel_shuffle", "config": {"factor": 3}})
    assert message.startswith("model.projector: connector pixel_shuffle: 4x4 tokens")


def test_a_fusion_that_does_not_fit_says_what_does(tmp_path: Path) -> None:
    two = {"a": {"type": "clip", "config": CLIP}, "b": {"type": "sam", "config": SAM | {"neck_grid": 8}}}
    message = refusal(tmp_path, vision=two)
    assert message.startswith("model: fusion channel: ") and message.endswith(
        "found a 4x4, b 2x2; change their sizes or connectors, or take fusion sequence"
    )


@pytest.mark.parametrize("name", ["keys", "forward", "a.b", ""])
def test_a_name_that_no_encoder_can_have(name: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, vision={name: {"type": "clip", "config": CLIP}})
    assert message.startswith(f"model.vision: an encoder cannot be called {name!r}")


def test_a_list_where_keys_belong(tmp_path: Path) -> None:
    assert refusal(tmp_path, "vision.eye.config=[1]").startswith("command line: ")
