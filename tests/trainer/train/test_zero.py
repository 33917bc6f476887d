"""ZeRO's stages on one and two ranks: the same gradients whatever a rank's rows contain, and no deadlock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer import ranks
from tests.trainer.ranks import launch, make_engine, make_model, micro_batches, state, train
from tests.trainer.world import CLIP, SAM
from trainer.model.chunked_encoder import encode
from trainer.model.registry import ENCODERS
from trainer.train.engine import start_distributed
from trainer.train.master_weights import KINDS

STEPS = 22  # 20 with text on one rank and images on the other, one the other way round, one without images
PAIR = [
    {"name": "tied0", "kind": "tied", "stage": 0, "last": STEPS},
    {"name": "tied2", "kind": "tied", "stage": 2, "last": STEPS, "saves": [1, 16]},
    {"name": "tied3", "kind": "tied", "stage": 3, "last": STEPS, "saves": [1, 16]},
    {"name": "untied1", "kind": "untied", "stage": 1, "last": 2},
    {"name": "untied2", "kind": "untied", "stage": 2, "last": 2},
    {"name": "untied3", "kind": "untied", "stage": 3, "last": 2},
    {"name": "connectors2", "kind": "connectors", "stage": 2, "last": 2},
    {"name": "connectors3", "kind": "connectors", "stage": 3, "last": 2},
    {"name": "tiled2", "kind": "tiled", "stage": 2, "last": 2},
    {"name": "tiled3", "kind": "tiled", "stage": 3, "last": 2},
    {"name": "parts2", "kind": "parts", "stage": 2, "last": 2},
    {"name": "parts3", "kind": "parts", "stage": 3, "last": 2},
    {"name": "again2", "kind": "tied", "stage": 2, "first": 16, "last": STEPS, "start": "tied2.16"},
    {"name": "again3", "kind": "tied", "stage": 3, "first": 16, "last": STEPS, "start": "tied3.16"},
]
EPS = 0.1
"""A large epsilon of Adam makes updates smooth in the gradient, so rounding is not amplified near gradients of 0."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    start_distributed()
    torch.set_flush_denormal(True)
    for (module, size), value in ranks.SMALL.items():
        monkeypatch.setattr(module, size, value)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """Return the output folder and the results of two ranks."""
    out = tmp_path_factory.mktemp("pair")
    return out, launch(out, 2, [{"eps": EPS, **job} for job in PAIR])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, dict[str, Any]]]]:
    """Return the output folder and the results of one rank, without ZeRO."""
    start_distributed()
    out = tmp_path_factory.mktemp("alone")
    lasts = {"tied": STEPS, "untied": 2, "connectors": 2, "tiled": 2, "parts": 2}
    results = {kind: train(out, kind, kind, 0, last=last, saves=[1], eps=EPS) for kind, last in lasts.items()}
    yield out, results


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert differences of at most 1e-6 × the largest weight, or moment, of all."""
    assert actual.keys() == expected.keys()
    for kind in KINDS:
        names = [name for name in expected if name.startswith(f"{kind}/")]
        largest = max(float(expected[name].abs().max()) for name in names)
        for name in names:
            torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-6 * largest, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "tied0",
        "tied2",
        "tied3",
        "untied1",
        "untied2",
        "untied3",
        "connectors2",
        "connectors3",
        "tiled2",
        "tiled3",
        "parts2",
        "parts3",
    ],
)
def test_text_on_one_rank_and_images_on_the_other_train_like_one_rank(pair: Any, alone: Any, name: str) -> None:
    (out, results), (expected, reference) = pair, alone
    kind = name[:-1]
    if (out / f"{name}.1").exists():  # after one step from zero, the first moment is a tenth of the gradient
        assert_close(state(out / f"{name}.1"), state(expected / f"{kind}.1"))
    assert_close(state(out / name), state(expected / kind))
    first, second = results[name]
    assert first["losses"] == second["losses"] == pytest.approx(reference[kind]["losses"], rel=1e-6)


@pytest.mark.slow
def test_text_calls_no_encoder(pair: Any, alone: Any) -> None:
    _, results = pair
    for name in ("tied0", "tied2", "tied3"):
        assert [rank["calls"] for rank in results[name]] == [{"clip": 1, "vary": 1}, {"clip": 20, "vary": 20}]
    assert alone[1]["tied"]["calls"] == {"clip": 21, "vary": 21}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_resume_exactly(pair: Any, stage: int) -> None:
    out, results = pair
    straight, resumed = (load_file(out / f"{name}{stage}.safetensors") for name in ("tied", "again"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())
    for before, after in zip(results[f"tied{stage}"], results[f"again{stage}"], strict=True):
        assert after["losses"] == before["losses"][16:]


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "stage"), [("tied3.16", 0), ("tied2.16", 3)])
def test_one_rank_goes_on_from_two(pair: Any, alone: Any, tmp_path: Path, saved: str, stage: int) -> None:
    (out, _), (expected, reference) = pair, alone
    (tmp_path / saved).symlink_to(out / saved)
    actual = train(tmp_path, "on", "tied", stage, first=16, last=STEPS, start=saved, eps=EPS)
    assert actual["losses"] == pytest.approx(reference["tied"]["losses"][16:], rel=1e-6)
    assert_close(state(tmp_path / "on"), state(expected / "tied"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tied0", "tied2", "tied3", "untied3"])
def test_weights_are_those_that_were_loaded(pair: Any, name: str) -> None:
    actual = load_file(pair[0] / f"{name}.initial.safetensors")
    source = make_model(name[:-1]).state_dict()
    assert actual.keys() == source.keys()  # tied weights under both names
    assert all(torch.equal(actual[key], tensor) for key, tensor in source.items())


@pytest.mark.slow
def test_stage_3_exports_whole_tensors(pair: Any) -> None:
    out, _ = pair
    two, three = (load_file(out / f"tied{stage}.safetensors") for stage in (2, 3))
    for name, tensor in two.items():
        torch.testing.assert_close(three[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_what_stage_3_keeps_whole() -> None:
    engine, model = make_engine("untied", 3)
    assert all(p.numel() > 0 for p in model.encoders.parameters())
    assert not hasattr(next(model.encoders["clip"].parameters()), "ds_id")  # frozen: not even known
    assert all(p.numel() == 0 for p in model.language.parameters())
    assert all(p.numel() == 0 for p in model.connectors.parameters())
    for batch in micro_batches(0, 0, 1, model.layout):
        total, _, _ = engine(batch)
        engine.backward(total, last=True)
    engine.step(1e-3)
    assert all(p.numel() > 0 for p in model.encoders.parameters())
    assert all(p.numel() == 0 for p in model.language.parameters())


@pytest.mark.parametrize(
    ("stage", "precision", "offload"),
    [(1, "fp32", True), (2, "bf16", True), pytest.param(3, "bf16", True, marks=pytest.mark.slow)],
)
def test_sixteen_bits_and_offload_resume_exactly(tmp_path: Path, stage: int, precision: str, offload: bool) -> None:
    how = {"precision": precision, "offload": offload}
    straight = train(tmp_path, "straight", "untied", stage, last=4, saves=[2], **how)
    resumed = train(tmp_path, "resumed", "untied", stage, first=2, last=4, start="straight.2", **how)
    assert resumed["losses"] == straight["losses"][2:]
    assert_equal(state(tmp_path / "resumed"), state(tmp_path / "straight"))


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_fp16_gradient_that_overflows_is_left_out_and_remembered(tmp_path: Path, stage: int) -> None:
    how: dict[str, Any] = {"precision": "fp16", "overflow": 1}
    straight = train(tmp_path, "straight", "untied", stage, last=4, saves=[1, 2, 3], **how)
    assert straight["skipped"] >= 1
    assert_equal(state(tmp_path / "straight.2"), state(tmp_path / "straight.1"))
    resumed = train(tmp_path, "resumed", "untied", stage, first=3, last=4, start="straight.3", **how)
    assert resumed["losses"] == straight["losses"][3:]
    assert resumed["skipped"] == straight["skipped"]
    assert_equal(state(tmp_path / "resumed"), state(tmp_path / "straight"))
    assert (tmp_path / "resumed/engine.json").read_bytes() == (tmp_path / "straight/engine.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_forty_steps_are_twenty_and_twenty(tmp_path: Path, stage: int) -> None:
    straight = train(tmp_path, "straight", "tied", stage, last=40, saves=[20])
    resumed = train(tmp_path, "resumed", "tied", stage, first=20, last=40, start="straight.20")
    assert resumed["losses"] == straight["losses"][20:]
    assert_equal(state(tmp_path / "resumed"), state(tmp_path / "straight"))


@pytest.mark.slow
def test_two_ranks_then_one_then_four(alone: Any, tmp_path: Path) -> None:
    how = {"kind": "tied", "eps": EPS}
    launch(tmp_path, 2, [{"name": "a", "stage": 2, "last": 8, **how}])
    train(tmp_path, "b", stage=3, first=8, last=16, start="a", **how)
    launch(tmp_path, 4, [{"name": "c", "stage": 0, "first": 16, "last": 18, "start": "b", **how}])
    launch(tmp_path, 4, [{"name": "d", "stage": 3, "first": 18, "last": STEPS, "start": "c", **how}])
    assert_close(state(tmp_path / "d"), state(alone[0] / "tied"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_twenty_steps_with_a_frozen_encoder_and_checkpointing(tmp_path: Path, stage: int) -> None:
    how = {"kind": "untied", "last": STEPS, "eps": EPS}
    train(tmp_path, "one", stage=0, **how)
    launch(tmp_path, 2, [{"name": "two", "stage": stage, **how}])
    assert_close(state(tmp_path / "two"), state(tmp_path / "one"))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "config"), [("sam", SAM), ("clip", CLIP)])
def test_an_encoder_as_one_node_of_the_graph(kind: str, config: dict[str, Any], checkpointing: bool) -> None:
    encoder, _ = ENCODERS[kind].build(config, None, "sdpa")
    if checkpointing:
        encoder.enable_gradient_checkpointing()
    encoder.train()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    pixels = torch.randint(256, (2, encoder.preprocess.size, encoder.preprocess.size, 3), dtype=torch.uint8)
    features = encoder(encoder.preprocess.normalise(pixels, trained[0].dtype))
    gradient = torch.randn_like(features)
    expected = torch.autograd.grad(features, trained, gradient)

    order: list[int] = []
    for number, parameter in enumerate(trained):
        parameter.register_post_accumulate_grad_hook(lambda _, number=number: order.append(number))
    once, twice = encode(encoder, pixels), encode(encoder, pixels)  # two forward passes before a backward pass
    assert torch.equal(once, features)
    once.backward(gradient)
    assert all(torch.equal(p.grad, g) for p, g in zip(trained, expected, strict=True))
    twice.backward(gradient)
    assert all(torch.equal(p.grad, 2 * g) for p, g in zip(trained, expected, strict=True))
    with pytest.raises(RuntimeError, match="backward"):
        twice.backward(gradient)

    with_images = order[: len(trained)]
    order.clear()
    encoder.zero_grad()
    encoder.forward = None  # not to be called
    nothing = encode(encoder, pixels[:0])
    assert nothing.shape == (0, encoder.view.count, encoder.width)
    nothing.backward(nothing)
    assert order == with_images
    assert all(p.grad is not None and not p.grad.any() for p in trained)


def test_a_frozen_encoder_keeps_no_graph() -> None:
    encoder, _ = ENCODERS["sam"].build(SAM, None, "sdpa")
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    with torch.no_grad():
        assert not encode(encoder, pixels).requires_grad
    encoder.requires_grad_(False)
    assert not encode(encoder, pixels).requires_grad
    assert encode(encoder, pixels[:0]).shape == (0, encoder.view.count, encoder.width)


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


def test_adam_starts_from_nothing(tmp_path: Path) -> None:
    """A state saved before the first update equals that of a fresh optimiser."""
    train(tmp_path, "zero", "tied", 2, last=0)
    fresh = train(tmp_path, "fresh", "tied", 2, last=2)
    loaded = train(tmp_path, "loaded", "tied", 2, last=2, start="zero")
    assert loaded["losses"] == fresh["losses"]
    assert_equal(state(tmp_path / "loaded"), state(tmp_path / "fresh"))
