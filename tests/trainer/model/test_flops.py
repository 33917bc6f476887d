"""FLOPs by formula equal those of torch's counter, by part at full size and for whole steps of small models."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.sam.configuration_sam import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from tests.trainer.model.test_model import LANGUAGE, VOCABULARY, tiny_batch, tiny_build, tiny_settings
from trainer.batch import Batch
from trainer.model.build import build
from trainer.model.connectors import CONNECTORS
from trainer.model.encoders.sam import SamConfig, SamEncoder
from trainer.model.flops import PartFlops
from trainer.model.fusions import FUSIONS
from trainer.model.language import LanguageModel
from trainer.model.registry import LANGUAGE_MODELS
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import PartSettings, Recipe
from varyforge.config import load

RECIPES = Path(__file__).parents[3] / "recipes"


def full_size(recipe: str) -> VisionLanguageModel:
    """Build a shipped recipe's model on the meta device."""
    settings = load(Recipe, RECIPES / recipe).model
    vision = {name: dataclasses.replace(encoder, weights=None) for name, encoder in settings.vision.items()}
    settings = dataclasses.replace(
        settings, vision=vision, language=dataclasses.replace(settings.language, weights=None)
    )
    with torch.device("meta"):
        model, _ = build(
            settings, vocabulary=1, image_token_id=0, attention="sdpa", gradient_checkpointing=False, seed=0
        )
    return model


def by_torch(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the count of torch's counter for a module on the meta device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def counted_forward(language: LanguageModel, lengths: list[list[int]]) -> int:
    """Return torch's count for a language model's forward pass over such rows, with logits for each token."""
    shape = (len(lengths), max(map(sum, lengths)))
    positions = torch.zeros(shape, dtype=torch.int64, device="meta")
    embeddings = torch.empty(*shape, language.hidden_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = language.hidden_states(embeddings, positions, lengths)
        _ = hidden @ language.head.T
    return counter.get_total_flops()


def test_sam_at_full_size_is_the_published_form() -> None:
    with torch.device("meta"):
        theirs = SamVisionEncoder(SamVisionConfig(attn_implementation="eager"))
        net_2, net_3 = (nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in ((256, 512), (512, 1024)))
        ours = SamEncoder(SamConfig())
    convolutions = by_torch(net_2, (1, 256, 64, 64)) + by_torch(net_3, (1, 512, 32, 32))
    assert ours.flops() == by_torch(theirs, (1, 3, 1024, 1024)) + convolutions == 976_909_172_736


def test_clip_at_full_size_is_the_layers_that_are_used() -> None:
    clip = full_size("toy_pretrain.yaml").encoders["clip"]
    patches = 2 * 256 * 3 * 14**2 * 1024
    layer = 24 * 257 * 1024**2 + 4 * 257**2 * 1024
    assert by_torch(clip.model, (1, 3, 224, 224)) == 24 * layer + patches == 162_023_964_672
    assert clip.flops() == 23 * layer + patches


@pytest.mark.parametrize("recipe, gflop", [("toy_pretrain.yaml", 112.206), ("tiny_plus.yaml", 17.717)])
def test_a_layer_of_a_language_model_at_full_size(recipe: str, gflop: float) -> None:
    language = full_size(recipe).language
    flops = language.flops([[1024]], 0)
    layers = language.model.config.num_hidden_layers
    assert (flops["layers"] + flops["attention"]) / layers / 1e9 == pytest.approx(gflop, abs=5e-4)


@pytest.mark.parametrize("name", sorted(LANGUAGE_MODELS))
@pytest.mark.parametrize("lengths", [[[9]], [[3, 4, 2], [5, 4]]])
def test_rows_cost_the_sum_of_their_samples(name: str, lengths: list[list[int]]) -> None:
    config = {**LANGUAGE.get(name, LANGUAGE["qwen2"]), **({} if name == "opt" else {"num_key_value_heads": 1})}
    config |= {"model_type": "qwen3", "head_dim": 24} if name == "transformers" else {}
    with torch.device("meta"):
        language, _ = LANGUAGE_MODELS[name].build(config, None, "eager", vocabulary=VOCABULARY)
    width, tokens = max(map(sum, lengths)), sum(map(sum, lengths))
    assert width * len(lengths) == tokens  # padding would go through the linear layers
    assert sum(language.flops(lengths, tokens).values()) == counted_forward(language, lengths)


@pytest.mark.parametrize("config", [SamConfig(), SamConfig(image_size=256, width=96, depth=3, global_layers=(1,))])
def test_what_sam_executes_more_is_its_longer_queries_keys_and_values(config: SamConfig) -> None:
    with torch.device("meta"):
        ours = SamEncoder(config)
    more, head = 0, config.width // config.heads
    for layer in range(config.depth):
        side = config.grid if layer in config.global_layers else config.window
        places = (math.ceil(config.grid / side) * side) ** 2
        longer = 8 * math.ceil((head + 2 * side) / 8) - head  # two one-hot places, rounded up for the kernels
        more += 2 * places * side**2 * config.heads * 2 * longer
    assert by_torch(ours, (1, 3, config.image_size, config.image_size)) == ours.flops() + more


# --- a step

NOT_COUNTED = 1  # of the head's three passes: torch's counter does not know `addmm_`, by which its gradient is added up


def step_of(model: VisionLanguageModel, batch: Batch) -> int:
    """Return torch's count for a step, forward and backward."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it does not know the CPU's kernel
        total, *_ = model(batch)
        total.backward()
    return counter.get_total_flops()


def parts_of(model: VisionLanguageModel, batch: Batch) -> dict[str, PartFlops]:
    views = len(next(iter(batch.pixels.values())))
    parts = model.flops(batch.lengths, views=views, supervised=batch.num_supervised)
    return {part.part: part for part in parts}


def sam_alone(model: VisionLanguageModel) -> int:
    """Return torch's count for the encoder and one image, with the backward pass if the encoder is trained."""
    encoder = model.encoders["vary"]
    size = encoder.preprocess.size
    trains = any(parameter.requires_grad for parameter in encoder.parameters())
    with torch.set_grad_enabled(trains), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = encoder(torch.zeros(1, 3, size, size))
        if trains:
            features.sum().backward()
    return counter.get_total_flops()


def test_a_step_with_frozen_encoders() -> None:
    model, _ = tiny_build(tiny_settings("qwen2", frozen=True), attention="eager")
    batch = tiny_batch(model, [1, 1, 1])
    batch = dataclasses.replace(batch, lengths=tuple((batch.input_ids.shape[1],) for _ in batch.lengths))  # no padding
    parts = parts_of(model, batch)
    assert {name: part.passes for name, part in parts.items()} == {
        "encoders.clip": 1, "connectors.clip": 3, "encoders.vary": 1, "connectors.vary": 3,
        "language.layers": 3, "language.attention": 3, "language.head": 3,
    }  # fmt: skip
    expected = sum(part.model for name, part in parts.items() if name != "encoders.vary")
    expected -= sum(part.forward for name, part in parts.items() if name.startswith("connectors."))  # first to train
    assert step_of(model, batch) + NOT_COUNTED * parts["language.head"].forward == expected + 3 * sam_alone(model)


def test_a_step_with_a_frozen_language_model_goes_back_through_it() -> None:
    """In LLaVA's first stage only the connectors are trained, by a gradient through the language model."""
    settings = tiny_settings("qwen2", frozen=True)
    settings = dataclasses.replace(settings, language=dataclasses.replace(settings.language, frozen=True))
    model, _ = tiny_build(settings, attention="eager")
    batch = tiny_batch(model, [1])
    parts = parts_of(model, batch)
    assert [parts[f"language.{name}"].passes for name in ("layers", "attention", "head")] == [2, 3, 2]
    expected = sum(part.model for name, part in parts.items() if name != "encoders.vary")
    expected -= sum(part.forward for name, part in parts.items() if name.startswith("connectors."))
    assert step_of(model, batch) == expected + sam_alone(model)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_in_which_all_trains(recompute: bool) -> None:
    model, _ = tiny_build(tiny_settings("opt"), attention="eager", gradient_checkpointing=recompute)
    batch = tiny_batch(model, [1])
    parts = parts_of(model, batch)
    assert {part.passes for part in parts.values()} == {3}
    assert [name for name, part in parts.items() if part.recomputed] == (
        ["encoders.vary", "language.layers", "language.attention"] if recompute else []
    )
    expected = sum(part.hardware for name, part in parts.items() if name != "encoders.vary")
    if recompute:  # all of a block but its last product
        layers = model.language.model.model.decoder.layers
        expected -= sum(2 * sum(batch.lengths[0]) * layer.fc2.weight.numel() for layer in layers)
    assert step_of(model, batch) + NOT_COUNTED * parts["language.head"].forward == expected + sam_alone(model)


def test_what_sam_executes_in_a_step_is_its_models_and_some_more() -> None:
    model, _ = tiny_build(tiny_settings("opt"))
    encoder = model.encoders["vary"]
    config = encoder.config
    first = 2 * config.grid**2 * 3 * config.patch_size**2 * config.width  # whose inputs are the image
    assert sam_alone(model) >= 3 * encoder.flops() - first


def test_a_row_of_text_costs_no_encoder() -> None:
    model, _ = tiny_build(tiny_settings("qwen2", frozen=True))
    parts = model.flops([[7, 3]], views=0, supervised=4)
    assert {part.part for part in parts if part.forward} == {"language.layers", "language.attention", "language.head"}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("connector", sorted(CONNECTORS))
def test_every_connector_and_fusion_can_be_counted(connector: str, fusion: str) -> None:
    settings = tiny_settings("qwen2")
    part = PartSettings(type=connector)
    vision = {name: dataclasses.replace(encoder, connector=part) for name, encoder in settings.vision.items()}
    with torch.device("meta"):
        model, _ = tiny_build(
            dataclasses.replace(settings, vision=vision, fusion=fusion, projector=PartSettings(type="linear"))
        )
    parts = {part.part: part.forward for part in model.flops([[20]], views=2, supervised=5)}
    assert list(parts)[4] == "joint"
    assert all(parts.values())
