"""Chunked cross-entropy is plain cross-entropy; a step's loss and gradient do not depend on how it is cut up."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.trainer.gradients import CASES, IMAGE, ON_TWO_RANKS, SIZES, TASKS, Way, samples, step, tiny_model
from trainer.engine import start_distributed
from trainer.loop import StepResult
from trainer.loss import token_losses
from trainer.packing import collate
from trainer.precision import dtype_of

ROOT = Path(__file__).parents[2]
TEXT = tuple(number for number, (_, images) in enumerate(SIZES) if not images)
PICTURES = tuple(number for number, (_, images) in enumerate(SIZES) if images)


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_equals_plain_cross_entropy_with_gradients(count: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(count, 16, requires_grad=True)
    weight = (0.3 * torch.randn(50, 16)).requires_grad_()
    labels = torch.randint(50, (count,))
    upstream = torch.rand(count)

    plain = F.cross_entropy(hidden @ weight.T, labels, reduction="none")
    expected = torch.autograd.grad(plain @ upstream, [hidden, weight])
    losses = token_losses(hidden, weight, labels, chunk=8)
    found = torch.autograd.grad(losses @ upstream, [hidden, weight])

    torch.testing.assert_close(losses, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_logits_of_all_positions_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda hidden, weight: rows.append(len(hidden)) or linear(hidden, weight))
    hidden = torch.randn(20, 4, requires_grad=True)
    token_losses(hidden, torch.randn(9, 4), torch.randint(9, (20,)), chunk=6).sum().backward()
    assert max(rows) == 6
    assert sum(rows) == 2 * 20  # forward, and once more in backward


def test_losses_are_fp32_whatever_the_model_computes_in() -> None:
    hidden = torch.randn(3, 4, dtype=dtype_of("bf16"))
    assert token_losses(hidden, hidden, torch.arange(3)).dtype == dtype_of("fp32")


def test_no_supervised_token_still_backpropagates_zeros() -> None:
    hidden = torch.randn(0, 4, requires_grad=True)
    weight = torch.randn(9, 4, requires_grad=True)
    losses = token_losses(hidden, weight, torch.zeros(0, dtype=torch.long))
    losses.sum().backward()
    assert losses.shape == (0,)
    assert weight.grad is not None and not weight.grad.any()


def test_unknown_precision_lists_the_names() -> None:
    with pytest.raises(ValueError, match="found 'float32', expected one of fp32, bf16, fp16"):
        dtype_of("float32")


# --- one step, cut up in every way


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums are in the same order everywhere
    yield
    torch.set_num_threads(threads)


@cache
def plain(family: str, attention: str, only: tuple[int, ...]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """By transformers' own forward pass, one sample at a time: loss by task ("" for all), and the gradient."""
    model = tiny_model(family, attention)
    lm = model.language.model
    lm.set_attn_implementation(attention)
    lm.gradient_checkpointing_disable()
    losses: dict[str, list[Tensor]] = {}
    for encoded, images in (samples(model)[number] for number in only):
        ids, labels = torch.tensor([encoded.input_ids]), torch.tensor(encoded.labels)
        embeddings = lm.get_input_embeddings()(ids)
        if images:
            pixels = {name: torch.cat([torch.from_numpy(image[name]) for image in images]) for name in images[0]}
            features = model.encode_images(pixels, encoded.image_sizes)
            embeddings = embeddings.masked_scatter((ids == IMAGE)[..., None], features)
        logits = lm(inputs_embeds=embeddings, use_cache=False).logits[0]
        found = F.cross_entropy(logits[:-1], labels[1:], reduction="none")[labels[1:] >= 0]
        losses.setdefault(encoded.task, []).append(found)
    by_task = {task: torch.cat(parts) for task, parts in losses.items()}
    whole = torch.cat(list(by_task.values())).mean()
    whole.backward()
    gradient = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"": whole.item()} | {task: loss.mean().item() for task, loss in by_task.items()}, gradient


def agree(family: str, attention: str, way: Way, found: tuple[StepResult, dict[str, Tensor]]) -> None:
    result, gradient = found
    losses, expected = plain(family, attention, way.only)
    assert result.loss == pytest.approx(losses[""], rel=1e-6)
    assert result.task_losses == pytest.approx({task: loss for task, loss in losses.items() if task}, rel=1e-6)
    assert result.supervised_tokens == sum(
        sum(label >= 0 for label in samples(tiny_model(family, attention))[number][0].labels[1:]) for number in way.only
    )
    largest = max(tensor.abs().max() for tensor in expected.values())
    for name, tensor in gradient.items():
        error = (tensor - expected.get(name, torch.zeros_like(tensor))).abs().max() / largest
        assert error <= 1e-6, f"{name}: {error:.1e}"
    assert gradient.keys() >= expected.keys()


@pytest.mark.parametrize(
    "way",
    [
        Way(rows=8),  # one batch of eight
        Way(rows=1),  # eight, accumulated
        Way(rows=3),
        Way(batching="packed", rows=1),
        Way(batching="packed", rows=4),
        Way(batching="bucketed", rows=3),
        *(
            Way(batching=batching, rows=2, only=only)
            for batching in ("packed", "bucketed")
            for only in (TEXT, PICTURES)
        ),
    ],
    ids=lambda way: f"{way.batching}-{way.rows}-of-{len(way.only)}",
)
@pytest.mark.parametrize(("family", "attention"), CASES)
def test_loss_and_gradient_do_not_depend_on_how_a_step_is_cut_up(family: str, attention: str, way: Way) -> None:
    start_distributed()
    agree(family, attention, way, step(family, attention, way))


def test_loss_and_gradient_of_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.gradients", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], "".join(said)
    of_rank = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for family, attention in CASES:
        for name, way in ON_TWO_RANKS.items():
            found = [each[family, attention, name] for each in of_rank]
            agree(family, attention, way, found[0])
            assert found[0][0] == found[1][0]
            assert all(torch.equal(found[0][1][part], found[1][1][part]) for part in found[0][1])


@pytest.mark.parametrize(("family", "attention"), CASES)
def test_a_changed_token_changes_no_loss_of_its_neighbours(family: str, attention: str) -> None:
    model = tiny_model(family, attention)
    loaded = samples(model)
    row = [[loaded[number] for number in (2, 3, 6)]]  # 17, 300 and 64 tokens
    before, sample = model(collate(row, 0, model.layout))
    for changed in range(3):
        encoded, pixels = row[0][changed]
        other = dataclasses.replace(encoded, input_ids=[*encoded.input_ids[:-9], 7, *encoded.input_ids[-8:]])
        again = [*row[0][:changed], (other, pixels), *row[0][changed + 1 :]]
        after, _ = model(collate([again], 0, model.layout))
        assert {int(number) for number in sample[before != after]} == {changed}


def test_tasks_are_those_of_the_samples_not_of_the_rows() -> None:
    start_distributed()
    result, _ = step(*CASES[0], Way(batching="packed", rows=2))
    assert result.task_samples == {task: TASKS.count(task) for task in sorted(set(TASKS), key=TASKS.index)}
    assert 0 < result.padding < 0.5
    assert result.row_tokens == pytest.approx(sum(tokens for tokens, _ in SIZES) / 3)
