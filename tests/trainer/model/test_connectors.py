"""Connectors and fusions compute the same as transformers' models, and state their number of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.idefics2.configuration_idefics2 import Idefics2PerceiverConfig
from transformers.models.idefics2.modeling_idefics2 import Idefics2PerceiverResampler
from transformers.models.idefics3.configuration_idefics3 import Idefics3Config
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.internvl.modeling_internvl import InternVLModel
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from tests.trainer.parts import without_gradient
from trainer.images.sizes import ViewTokens
from trainer.model.connectors import CONNECTORS, SpaceToDepth
from trainer.model.fusions import FUSIONS
from trainer.model.precision import dtype_of

VIEW = ViewTokens(24, (4, 6))
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}],
    "mlp": [{}, {"depth": 3}, {"depth": 1, "activation_first": True}],
    "pixel_shuffle": [{}, {"depth": 2}],
    "perceiver": [{"queries": 5, "depth": 2, "heads": 4}],
}
every = pytest.mark.parametrize(("name", "config"), [(name, config) for name in CONFIGS for config in CONFIGS[name]])


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def connect(name: str, config: dict[str, Any], view: ViewTokens = VIEW) -> tuple[nn.Module, ViewTokens]:
    return CONNECTORS[name](config, 32, 48, view)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


def test_the_tables_have_these_rows() -> None:
    assert CONNECTORS.keys() == CONFIGS.keys()
    assert FUSIONS.keys() == {"channel", "sequence"}


def test_mlp_is_llava_15s() -> None:
    ours, view = connect("mlp", {})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=32, num_attention_heads=4),
        text_config=LlamaConfig(hidden_size=48, **HEADS),
    )
    theirs = LlavaMultiModalProjector(config)
    theirs.load_state_dict({f"linear_{1 + int(k[0]) // 2}{k[1:]}": v for k, v in ours.state_dict().items()})
    tokens = torch.randn(2, 24, 32)
    close(ours(tokens), theirs(tokens))
    assert view == VIEW
    assert ours.state_dict().keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}  # as mm_projector in LLaVA's files


def test_mlp_with_the_activation_first() -> None:
    ours, _ = connect("mlp", {"depth": 1, "activation_first": True})
    (weight, bias), tokens = ours.parameters(), torch.randn(2, 24, 32)
    close(ours(tokens), F.gelu(tokens) @ weight.T + bias)


def test_pixel_shuffle_is_idefics3s() -> None:
    ours, view = connect("pixel_shuffle", {}, ViewTokens(16, (4, 4)))
    config = Idefics3Config(
        vision_config={"hidden_size": 32},
        text_config={"model_type": "llama", "hidden_size": 48, **HEADS},
        scale_factor=2,
    )
    theirs = Idefics3Connector(config)  # without a bias, and square
    theirs.modality_projection.proj.weight = ours[1].weight
    nn.init.zeros_(ours[1].bias)
    tokens = torch.randn(2, 16, 32)
    close(ours(tokens), theirs(tokens))
    assert view == ViewTokens(4, (2, 2))


def test_pixel_shuffle_has_the_order_of_internvl_also_where_the_grid_is_no_square() -> None:
    tokens = torch.randn(2, 24, 32)
    theirs = InternVLModel.pixel_shuffle(None, tokens.view(2, 4, 6, 32), scale_factor=0.5)
    assert torch.equal(SpaceToDepth((4, 6), 2)(tokens), theirs.reshape(2, 6, 128))
    by_hand = SpaceToDepth((4, 6), 2)(tokens)[0, 4]  # the second row's second square: rows 2, 3 and columns 2, 3
    assert torch.equal(by_hand, torch.cat([tokens[0, 6 * row + column] for row in (2, 3) for column in (2, 3)]))
    assert connect("pixel_shuffle", {})[1] == ViewTokens(6, (2, 3))


def test_perceiver_is_idefics2s() -> None:
    ours, view = connect("perceiver", {"queries": 5, "depth": 2, "heads": 4})
    for parameter in ours.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    config = Idefics2PerceiverConfig(
        hidden_size=32, resampler_n_latents=5, resampler_depth=2, resampler_n_heads=4, resampler_head_dim=8,
        num_key_value_heads=4, hidden_act="silu", rms_norm_eps=1e-6,
    )  # fmt: skip
    theirs = Idefics2PerceiverResampler._from_config(config, attn_implementation="eager")
    resampler, last = ours
    names = {
        "queries": "latents", "norm_queries": "input_latents_norm", "norm_tokens": "input_context_norm",
        "norm_mlp": "post_attention_layernorm", "q": "self_attn.q_proj", "out": "self_attn.o_proj",
        "down": "mlp.down_proj", "norm": "norm",
    }  # fmt: skip
    state = {}
    for name, tensor in resampler.state_dict().items():
        for here, there in names.items():
            name = ".".join(there if word == here else word for word in name.split("."))
        if ".kv." in name:
            state |= {name.replace("kv", f"self_attn.{n}_proj"): t for n, t in zip("kv", tensor.chunk(2), strict=True)}
        elif ".gate_up." in name:
            parts = zip(("gate", "up"), tensor.chunk(2), strict=True)
            state |= {name.replace("gate_up", f"mlp.{n}_proj"): t for n, t in parts}
        else:
            state[name] = tensor
    theirs.load_state_dict(state)
    tokens = torch.randn(2, 24, 32)
    close(ours(tokens), last(theirs(tokens, attention_mask=torch.ones(2, 24, dtype=torch.long))))
    assert view == ViewTokens(5)


@every
@pytest.mark.parametrize("views", [0, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_connector_gives_what_it_says_and_trains_whole(
    name: str, config: dict[str, Any], views: int, precision: str
) -> None:
    """A batch without a view gives gradients of zeros."""
    module, view = connect(name, config)
    module.to(dtype_of(precision))
    tokens = torch.randn(views, 24, 32, dtype=dtype_of(precision), requires_grad=True)
    out = module(tokens[:, :])
    assert (out.shape, out.dtype) == ((views, view.count, 48), tokens.dtype)
    out.sum().backward()
    assert tokens.grad is not None and without_gradient(module) == []
    assert all(bool(parameter.grad.any()) == bool(views) for parameter in module.parameters())


@every
def test_every_connector_takes_features_that_are_no_block_of_memory(name: str, config: dict[str, Any]) -> None:
    module, _ = connect(name, config)
    tokens = torch.randn(2, 25, 32)[:, 1:]
    maps = tokens.transpose(1, 2).contiguous().transpose(1, 2)  # as a convolution gives them
    close(module(tokens), module(tokens.contiguous()))
    close(module(maps), module(tokens.contiguous()))


def test_queries_differ_from_the_start() -> None:
    module, _ = connect("perceiver", {"queries": 5, "depth": 1, "heads": 4})
    first, *others = module(torch.randn(1, 24, 32))[0]
    assert all((first - other).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize(
    ("name", "config", "view", "message"),
    [
        ("linear", {"depth": 2}, VIEW, "connector linear: unknown key 'depth'; it takes none"),
        ("mlp", {"dept": 2}, VIEW, r"connector mlp: unknown key 'dept' \(did you mean 'depth'\?\)"),
        ("mlp", {"depth": 0}, VIEW, "connector mlp: depth 0: expected a whole number of 1 or more"),
        ("mlp", {"activation_first": 1}, VIEW, "connector mlp: activation_first 1: expected true or false"),
        ("pixel_shuffle", {"factor": 4}, VIEW, "4x6 tokens are not a multiple of factor 4"),
        ("pixel_shuffle", {"factor": 0.5}, VIEW, "connector pixel_shuffle: factor 0.5: expected a whole number"),
        ("pixel_shuffle", {}, ViewTokens(24), "tokens must stand in rows and columns, found 24 without"),
        ("perceiver", {"heads": 5}, VIEW, "connector perceiver: 32 channels are not a multiple of heads 5"),
        ("perceiver", {"queries": True}, VIEW, "connector perceiver: queries True: expected a whole number"),
    ],
)
def test_what_does_not_fit_is_told_why(name: str, config: dict[str, Any], view: ViewTokens, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        connect(name, config, view)


# --- fusions


def test_sequence_is_one_encoder_after_the_other() -> None:
    fusion = FUSIONS["sequence"]
    first, second = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    assert torch.equal(fusion.join([first, second]), torch.cat([first, second], dim=1))
    assert fusion.connector_width(8, 2) == 8
    assert fusion.view({"a": ViewTokens(4, (2, 2)), "b": ViewTokens(3)}) == ViewTokens(7)
    assert fusion.view({"a": ViewTokens(4, (2, 2))}) == ViewTokens(4, (2, 2))


def test_channels_need_places_in_common() -> None:
    with pytest.raises(ValueError, match="found a 2x2, b 4"):
        FUSIONS["channel"].view({"a": ViewTokens(4, (2, 2)), "b": ViewTokens(4)})
