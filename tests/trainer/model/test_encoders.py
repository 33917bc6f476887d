"""Vision models of transformers as encoders: the chosen layer, no layer behind it, all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.models.deepseek_vl_hybrid.modeling_deepseek_vl_hybrid import DeepseekVLSamVisionProj
from transformers.models.sam.configuration_sam import SamVisionConfig
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.trainer.parts import ENCODERS, batch_of, built, randomise, settings, without_gradient
from trainer.images.sizes import ViewTokens
from trainer.model import registry
from trainer.model.build import image_layout
from trainer.model.encoders.from_transformers import TransformersEncoder
from trainer.model.encoders.sam import SamConfig, SamEncoder
from trainer.model.precision import dtype_of
from trainer.settings import EncoderSettings
from varyforge.errors import UserError

FAMILIES = sorted(ENCODERS.keys() - {"sam"})
families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)


def encoder_of(family: str, attention: str = "sdpa", weights: str | None = None, **changes: Any) -> Any:
    """Return an encoder in evaluation mode, with loaded weights or random ones far from the initial ones."""
    encoder, _ = registry.ENCODERS[family].build({**ENCODERS[family], **changes}, weights, attention)
    if weights is None:
        randomise(encoder)
    return encoder.eval()


def pixels_for(encoder: Any, count: int = 2) -> Tensor:
    return torch.randn(count, 3, encoder.preprocess.size, encoder.preprocess.size)


def hidden_states(model: Any, pixels: Tensor) -> list[Tensor]:
    """Return each layer's output by hooks on transformers' own forward pass. Index 0 is the first layer's input."""
    stack = getattr(model.encoder, "layers", None) or getattr(model.encoder, "layer", None) or model.encoder.stages
    actual: list[Tensor] = []
    hooks = [stack[0].register_forward_pre_hook(lambda _, args: actual.append(args[0]))]
    hooks += [layer.register_forward_hook(lambda _, __, out: actual.append(out)) for layer in stack]
    model(pixels)
    for hook in hooks:
        hook.remove()
    return actual


def last(model: Any, pixels: Tensor) -> Tensor:
    actual: Tensor = model(pixels).last_hidden_state
    return actual


def rows_of(maps: Tensor) -> Tensor:
    return torch.stack([maps[:, :, r, c] for r in range(maps.shape[2]) for c in range(maps.shape[3])], dim=1)


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Any, Tensor], Tensor]]] = {
    "clip": ("clip", {}, lambda m, p: m(p, output_hidden_states=True).hidden_states[-2][:, 1:]),
    "clip, last": ("clip", {"layer": -1}, lambda m, p: last(m, p)[:, 1:]),
    "clip, larger": (
        "clip", {"input_size": 24, "layer": -1},
        lambda m, p: m(p, interpolate_pos_encoding=True).last_hidden_state[:, 1:],
    ),
    "siglip": ("siglip", {}, last),
    "siglip, no norm": ("siglip", {"norm": False}, lambda m, p: hidden_states(m, p)[-1]),
    "siglip, last but one": ("siglip", {"layer": -2}, lambda m, p: hidden_states(m, p)[-2]),
    "siglip, first, norm": (
        "siglip", {"layer": 1, "norm": True}, lambda m, p: m.post_layernorm(hidden_states(m, p)[1])
    ),
    "siglip, larger": (
        "siglip", {"input_size": 24}, lambda m, p: m(p, interpolate_pos_encoding=True).last_hidden_state
    ),
    "dinov2": ("dinov2", {}, lambda m, p: last(m, p)[:, 1:]),
    "dinov2, larger": ("dinov2", {"input_size": 28}, lambda m, p: last(m, p)[:, 1:]),
    "dinov2, last but one": ("dinov2", {"layer": -2}, lambda m, p: hidden_states(m, p)[-2][:, 1:]),
    "dinov2_registers": ("dinov2_registers", {}, lambda m, p: last(m, p)[:, 4:]),
    "convnext": ("convnext", {}, lambda m, p: rows_of(last(m, p))),
    "convnext, last but one": ("convnext", {"layer": -2}, lambda m, p: rows_of(hidden_states(m, p)[-2])),
    "vit": ("transformers", {}, lambda m, p: last(m, p)[:, 1:]),
}  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_an_encoder_gives_what_transformers_gives(case: str, attention: str) -> None:
    family, config, expect = CASES[case]
    encoder = encoder_of(family, attention, **config)
    theirs = type(encoder.model)._from_config(encoder.model.config, attn_implementation="eager").eval()
    theirs.load_state_dict(encoder.model.state_dict())
    pixels = pixels_for(encoder)
    with torch.no_grad():
        expected, actual = expect(theirs, pixels), encoder(pixels)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert actual.shape == (2, encoder.view.count, encoder.width)
    rows, columns = encoder.view.grid
    assert rows * columns == encoder.view.count


@pytest.mark.parametrize(
    ("family", "changes", "unused"),
    [
        ("clip", {}, ["model.encoder.layers.2.", "model.post_layernorm."]),
        ("clip", {"layer": -1}, ["model.post_layernorm."]),
        ("siglip", {}, ["model.head."]),
        ("siglip", {"layer": 1}, ["model.encoder.layers.1.", "model.encoder.layers.2.", "model.post_", "model.head."]),
        ("siglip", {"layer": -2, "norm": True}, ["model.encoder.layers.2.", "model.head."]),
        ("dinov2", {}, ["model.embeddings.mask_token"]),
        ("dinov2_registers", {"norm": False}, ["model.embeddings.mask_token", "model.layernorm."]),
        ("convnext", {"layer": -2}, ["model.encoder.stages.2.", "model.layernorm."]),
        ("transformers", {}, ["model.pooler."]),
    ],
)
def test_what_has_no_part_in_the_result_neither_runs_nor_trains(
    family: str, changes: dict[str, Any], unused: list[str]
) -> None:
    encoder = encoder_of(family, **changes).train()
    ran: list[str] = []
    for name, module in encoder.named_modules():
        if any(f"{name}.".startswith(prefix) for prefix in unused) and family != "transformers":
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    encoder(pixels_for(encoder)).sum().backward()
    assert ran == []
    assert without_gradient(encoder) == []
    still = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert still == [n for n, _ in encoder.named_parameters() if any(n.startswith(prefix) for prefix in unused)]
    assert set(still) < encoder.state_dict().keys()


@families
def test_gradient_checkpointing_computes_layers_again_and_changes_no_gradient(family: str) -> None:
    plain, saving = encoder_of(family).train(), encoder_of(family).train()
    saving.load_state_dict(plain.state_dict())
    saving.enable_gradient_checkpointing()
    pixels = pixels_for(plain)
    calls: list[int] = []
    first = next(m for n, m in saving.named_modules() if n.endswith(("layers.0", "layer.0", "stages.0.layers.0")))
    next(first.children()).register_forward_hook(lambda *_: calls.append(1))
    for encoder in (plain, saving):
        encoder(pixels).square().sum().backward()
    assert len(calls) == 2
    expected = dict(plain.named_parameters())
    for name, parameter in saving.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name].grad, msg=name)
    saving.eval()(pixels)
    assert len(calls) == 3


@families
def test_frozen_encoders_keep_no_graph_and_run_in_16_bits(family: str) -> None:
    model = built(settings(family, frozen=True)).to(dtype_of("bf16"))
    batch = batch_of(model, [1, 0])
    total, *_ = model(batch)
    total.backward()
    assert total.isfinite()
    assert not model.encoders[family].training
    assert all(parameter.grad is None for parameter in model.encoders.parameters())
    assert without_gradient(model) == []


# --- configuration and weights


@pytest.mark.parametrize(
    ("family", "changes"),
    [(family, {}) for family in FAMILIES]
    + [("siglip", {"layer": -2, "norm": True, "input_size": 24}), ("transformers", {"model_type": "swin"})],
)
def test_a_configuration_builds_the_same_encoder(family: str, changes: dict[str, Any]) -> None:
    swin = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "image_size": 32, "patch_size": 4}
    config = {**swin, **changes} if changes.get("model_type") == "swin" else {**ENCODERS[family], **changes}
    encoder, _ = registry.ENCODERS[family].build(config, None, "sdpa")
    again, _ = registry.ENCODERS[family].build(encoder.configuration(), None, "sdpa")
    again.load_state_dict(encoder.state_dict())
    assert again.configuration() == encoder.configuration()
    assert (again.view, again.width, again.preprocess) == (encoder.view, encoder.width, encoder.preprocess)
    pixels = pixels_for(encoder)
    assert torch.equal(again.eval()(pixels), encoder.eval()(pixels))


@families
def test_an_encoder_comes_back_from_a_folder_and_from_an_export(family: str, tmp_path: Path) -> None:
    encoder = encoder_of(family)
    encoder.model.save_pretrained(tmp_path / "hub")
    (tmp_path / "ours").mkdir()
    save_model(nn.ModuleDict({"encoders": nn.ModuleDict({"eye": encoder})}), str(tmp_path / "ours/model.safetensors"))
    pixels = pixels_for(encoder)
    only = {"model_type": "vit"} if family == "transformers" else {}
    from_hub, loaded = registry.ENCODERS[family].build(only, str(tmp_path / "hub"), "sdpa")
    assert loaded.random == ()
    for again in (from_hub, encoder_of(family, weights=str(tmp_path / "ours"))):
        assert torch.equal(again.eval()(pixels), encoder(pixels))
        assert again.state_dict().keys() == encoder.state_dict().keys()

    file = tmp_path / "hub/model.safetensors"
    stored = load_file(file)
    name = sorted(stored)[-1]
    del stored[name]
    save_file(stored, file, {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 tensors"):
        registry.ENCODERS[family].build(only, str(tmp_path / "hub"), "sdpa")


def test_a_size_that_differs_from_the_weights_moves_no_position(tmp_path: Path) -> None:
    stored = encoder_of("dinov2")
    stored.model.save_pretrained(tmp_path)
    larger, _ = registry.ENCODERS["dinov2"].build({"input_size": 32}, str(tmp_path), "sdpa")
    assert (larger.view, larger.preprocess.size) == (ViewTokens(64, (8, 8)), 32)
    table = "model.embeddings.position_embeddings"
    assert torch.equal(larger.state_dict()[table], stored.state_dict()[table])
    assert larger.configuration()["image_size"] == 16


def test_a_layout_is_that_of_the_weights_where_the_recipe_leaves_sizes_to_them(tmp_path: Path) -> None:
    encoder_of("clip", image_size=24, patch_size=4).model.save_pretrained(tmp_path / "clip")
    chosen = settings("clip")
    eye = EncoderSettings(type="clip", weights=str(tmp_path / "clip"), connector=chosen.vision["clip"].connector)
    for config, tokens in (({}, 36), ({"layer": -1}, 36), ({"input_size": 32}, 64)):
        layout = image_layout(replace(chosen, vision={"clip": replace(eye, config=config)}))
        assert (layout.num_tokens((10, 20)), layout.planned_tokens) == (tokens, tokens)
    away = replace(eye, weights="nobody/has-this")
    with pytest.raises(UserError, match=r"^model\.vision\.clip: config: says no sizes, and nobody/has-this is not on"):
        image_layout(replace(chosen, vision={"clip": away}))


def test_preprocessing_is_the_familys_own() -> None:
    of_clip, of_siglip, of_dino, of_convnext = (
        encoder_of(family).preprocess for family in ("clip", "siglip", "dinov2", "convnext")
    )
    theirs = SiglipImageProcessorPil()
    assert (list(of_siglip.mean), list(of_siglip.std)) == (list(theirs.image_mean), list(theirs.image_std))
    for ours in (of_dino, of_convnext):
        assert (list(ours.mean), list(ours.std)) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert [how.fit for how in (of_clip, of_siglip, of_dino, of_convnext)] == ["crop", "stretch", "crop", "stretch"]
    assert [how.size for how in (of_clip, of_convnext)] == [16, 64]


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("siglip", {"laier": -2}, r"siglip: unknown key 'laier' \(did you mean 'layer'\?\)"),
        ("clip", {"norm": True}, "clip: unknown key 'norm'"),
        ("clip", {"layer": 0}, "clip: layer 0: expected 1 to 3, or -1 for the last"),
        ("clip", {"layer": -4}, "clip: layer -4: expected 1 to 3"),
        ("siglip", {"layer": "last"}, "siglip: layer 'last': expected 1 to 3"),
        ("siglip", {"norm": "yes"}, "siglip: norm 'yes': expected true or false"),
        ("dinov2", {"input_size": -3}, "dinov2: input_size -3: expected the side of a square in pixels"),
        ("dinov2", {"image_size": [16, 24]}, r"dinov2: image_size .*expected the side of a square"),
        ("convnext", {"image_size": 4}, "convnext: ConvNextModel does not take images of 4 px"),
        ("transformers", {"model_type": "vitt"}, "model_type 'vitt': transformers has no such model.*mean 'vit'"),
        ("transformers", {"model_type": "pixtral"}, "PixtralVisionModel does not take images of 16 px: two images bec"),
    ],
)
def test_what_cannot_be_is_told_why(family: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder_of(family, **changes)


def test_a_language_model_is_no_encoder() -> None:
    with pytest.raises(ValueError, match="transformers: BertModel does not take images of 16 px"):
        registry.ENCODERS["transformers"].build({"model_type": "bert", "input_size": 16}, None, "sdpa")


# --- SAM with the interpolation of DeepSeek-VL


def test_sam_with_an_interpolated_neck_is_deepseek_vls() -> None:
    sizes = {**ENCODERS["sam"], "global_layers": (1,), "neck_grid": 12, "conv_channels": (32, 64)}
    encoder = SamEncoder(SamConfig(**sizes)).eval()
    randomise(encoder)
    theirs = DeepseekVLSamVisionProj(SamVisionConfig(output_channels=16), output_size=3)
    theirs.conv1.weight, theirs.conv2.weight = encoder.net_2.weight, encoder.net_3.weight
    maps: list[Tensor] = []
    encoder.neck.register_forward_hook(lambda _, __, out: maps.append(out))
    with torch.no_grad():
        actual = encoder(torch.randn(2, 3, 64, 64))
        expected = rows_of(theirs(maps[0]))
    assert (encoder.view, actual.shape) == (ViewTokens(9, (3, 3)), (2, 9, 64))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert encoder.configuration()["neck_grid"] == 12


@pytest.mark.parametrize("side", [6, 0, -4, "wide", 68])
def test_an_impossible_side_of_sams_neck_is_named(side: object) -> None:
    with pytest.raises(ValueError, match="sam: neck_grid"):
        encoder_of("sam", neck_grid=side)


def test_every_row_has_a_family_of_its_own() -> None:
    rows = {name: row for name, row in registry.ENCODERS.items() if issubclass(row, TransformersEncoder)}
    assert {row.family: name for name, row in rows.items()} == {name: name for name in FAMILIES}
