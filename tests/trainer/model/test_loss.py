"""Chunked cross-entropy equals plain cross-entropy. A step's loss and gradient do not depend on its split."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.gradients import (
    CASES,
    CASES_ON_TWO_RANKS,
    IMAGE,
    ON_TWO_RANKS,
    SIZES,
    TASKS,
    Way,
    samples,
    step,
    tiny_model,
)
from trainer.loader.packing import collate
from trainer.model.loss import token_losses
from trainer.model.precision import dtype_of
from trainer.train.engine import start_distributed
from trainer.train.state import StepResult

ROOT = Path(__file__).parents[3]
TEXT = tuple(number for number, (_, images) in enumerate(SIZES) if not images)
PICTURES = tuple(number for number, (_, images) in enumerate(SIZES) if images)


def head(count: int, *, width: int = 16, rows: int = 50, spread: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, a head and labels. The first two require a gradient."""
    torch.manual_seed(0)
    weight = (spread * torch.randn(rows, width)).requires_grad_()
    return torch.randn(count, width, requires_grad=True), weight, torch.randint(rows, (count,))


def chunks_of(positions: int, weight: Tensor) -> dict[str, int]:
    """Return the `chunk_bytes` for so many positions per chunk."""
    return {"chunk_bytes": positions * len(weight) * (4 if weight.dtype == dtype_of("fp32") else 6)}


@pytest.mark.parametrize("upstream", [1.0, -0.37, 65536 / 21])
@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_equals_plain_cross_entropy_with_gradients(count: int, upstream: float) -> None:
    hidden, weight, labels = head(count)
    plain = F.cross_entropy(hidden @ weight.T, labels, reduction="none")
    expected = torch.autograd.grad(upstream * plain.sum(), [hidden, weight])
    total, losses = token_losses(hidden, weight, labels, **chunks_of(8, weight))
    actual = torch.autograd.grad(upstream * total, [hidden, weight])

    torch.testing.assert_close(losses, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(total, plain.sum(), atol=1e-6 * count, rtol=1e-6)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=0)
    assert not losses.requires_grad


def test_a_head_that_is_also_the_embeddings_gets_both_gradients() -> None:
    _, weight, labels = head(21)
    ids = labels.roll(3)
    (expected,) = torch.autograd.grad(F.cross_entropy(weight[ids].tanh() @ weight.T, labels, reduction="sum"), weight)
    (actual,) = torch.autograd.grad(token_losses(weight[ids].tanh(), weight, labels, **chunks_of(4, weight))[0], weight)
    torch.testing.assert_close(actual, expected, atol=1e-6 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("trained", [(True, False), (False, True)])
def test_only_what_trains_gets_a_gradient(trained: tuple[bool, bool]) -> None:
    hidden, weight, labels = head(5)
    hidden.requires_grad_(trained[0]), weight.requires_grad_(trained[1])
    with Largest() as seen:
        token_losses(hidden, weight, labels)[0].backward()
    assert (hidden.grad is not None, weight.grad is not None) == trained
    assert (seen.made[weight.shape] > 0) == trained[1]


class Largest(TorchDispatchMode):
    """A mode that records the shape of every tensor that an operation creates, except views."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[torch.Size] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        known = {tensor.data_ptr() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.data_ptr() not in known:
                self.made[tensor.shape] += 1
        return result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_of_all_positions_never_exist_and_are_computed_once(precision: str) -> None:
    hidden, weight, labels = (t.to(dtype_of(precision)) if t.is_floating_point() else t for t in head(60, width=4))
    hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    products = []
    mm = torch.mm
    with pytest.MonkeyPatch.context() as patch, Largest() as seen:
        patch.setattr(torch, "mm", lambda a, b, out: products.append(out.shape) or mm(a, b, out=out))
        token_losses(hidden, weight, labels, **chunks_of(7, weight))[0].backward()
    assert max(shape.numel() for shape in seen.made) == 7 * 50 < 60 * 50  # nine chunks: 60 / 9 = 7 at most
    assert sum(shape[0] for shape in products if shape[1] == 50) == 60
    # One gradient of the head is made, and handed over as it is.
    assert seen.made[weight.shape] == 1


def test_gradient_of_the_head_is_handed_over_without_a_copy() -> None:
    hidden, weight, labels = head(9)
    with Largest() as forward:
        total, _ = token_losses(hidden, weight, labels)
    with Largest() as backward:
        total.backward()
    assert forward.made[weight.shape] == 1 and backward.made[weight.shape] == 0
    with pytest.raises(RuntimeError, match="second backward pass through token_losses"):
        total.backward()


def test_without_gradient_there_are_losses_alone() -> None:
    hidden, weight, labels = head(9)
    total, losses = token_losses(hidden, weight, labels)
    with torch.no_grad(), Largest() as seen:
        again = token_losses(hidden, weight, labels)
    assert seen.made[weight.shape] == seen.made[hidden.shape] == 0
    assert torch.equal(again[0], total) and torch.equal(again[1], losses) and not again[0].requires_grad
    detached, _ = token_losses(hidden.detach(), weight.detach(), labels)
    assert torch.equal(detached, total) and not detached.requires_grad


@pytest.mark.parametrize("spread", [0.1, 1.0])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_are_as_near_to_the_truth_as_the_plain_computation(precision: str, spread: float) -> None:
    """Losses and both gradients agree. The head's gradient is also compared with one micro-batch per chunk."""
    hidden, weight, labels = head(256, rows=400, spread=spread)
    hidden, weight = (t.detach().to(dtype_of(precision)).requires_grad_() for t in (hidden, weight))
    exact_hidden, exact_weight = (t.detach().double().requires_grad_() for t in (hidden, weight))
    exact = F.cross_entropy(exact_hidden @ exact_weight.T, labels, reduction="sum") / 256
    exact.backward()

    def error(actual: Tensor | None, truth: Tensor | None) -> float:
        assert actual is not None and truth is not None
        return float((actual.double() - truth).norm() / truth.norm())

    def errors(pieces: int, *, plainly: bool) -> list[float]:
        total, hidden.grad, weight.grad = torch.zeros(()), None, None
        for states, target in zip(hidden.chunk(pieces), labels.chunk(pieces), strict=True):
            if plainly:
                part = F.cross_entropy((states @ weight.T).float(), target, reduction="sum") / 256
            else:
                part = token_losses(states, weight, target, **chunks_of(64, weight))[0] / 256
            part.backward()
            total += part.detach()
        return [
            error(total, exact.detach()),
            error(hidden.grad, exact_hidden.grad),
            error(weight.grad, exact_weight.grad),
        ]

    ours, plain, in_four = errors(1, plainly=False), errors(1, plainly=True), errors(4, plainly=True)
    assert ours[0] <= 1.1 * plain[0] + 1e-6
    assert ours[1] <= 1.1 * plain[1]
    assert ours[2] <= 1.1 * in_four[2]
    whole = token_losses(hidden, weight, labels, **chunks_of(256, weight))[0] / 256  # one chunk
    (of_head,) = torch.autograd.grad(whole, weight)
    assert error(of_head, exact_weight.grad) <= 1.1 * plain[2]


def test_a_sum_that_fp16_does_not_hold_is_a_mean_until_it_is_scaled() -> None:
    """The sum of the tokens' gradients exceeds fp16's largest number, 65,504. Their mean, which is used, does not."""
    hidden = torch.full((4096, 2), 64.0, dtype=dtype_of("fp16"), requires_grad=True)
    weight = torch.zeros(8, 2, dtype=dtype_of("fp16"), requires_grad=True)
    total, _ = token_losses(hidden, weight, torch.zeros(4096, dtype=torch.long), **chunks_of(512, weight))
    (total / 4096).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[:, 0].float(), torch.tensor([-56.0] + 7 * [8.0]), rtol=2e-3, atol=0)


def test_a_sure_token_still_pulls_in_sixteen_bits() -> None:
    """A probability of 1 - 2e-4 rounds to 1 in bf16, but its gradient must not round to 0."""
    hidden = torch.tensor([[8.5]], dtype=dtype_of("bf16"), requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]], dtype=dtype_of("bf16"), requires_grad=True)
    token_losses(hidden, weight, torch.tensor([0]))[0].backward()
    assert weight.grad is not None
    left = torch.tensor(-8.5).sigmoid()
    torch.testing.assert_close(weight.grad.flatten().float(), 8.5 * torch.stack([-left, left]), rtol=1e-2, atol=0)


def test_losses_are_fp32_whatever_the_model_computes_in() -> None:
    hidden = torch.randn(3, 4, dtype=dtype_of("bf16"), requires_grad=True)
    assert {each.dtype for each in token_losses(hidden, hidden, torch.arange(3))} == {dtype_of("fp32")}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_supervised_token_still_backpropagates_zeros(precision: str) -> None:
    hidden = torch.randn(0, 4, dtype=dtype_of(precision), requires_grad=True)
    weight = torch.randn(9, 4, dtype=dtype_of(precision), requires_grad=True)
    total, losses = token_losses(hidden, weight, torch.zeros(0, dtype=torch.long))
    (total / 3).backward()
    assert losses.shape == (0,) and total == 0
    assert hidden.grad is not None and hidden.grad.shape == (0, 4)
    assert weight.grad is not None and weight.grad.shape == (9, 4) and not weight.grad.any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_seen_and_stays_where_it_is(bad: float) -> None:
    """Subtracting the largest logit must not hide infinity, because the loop stops at a loss that is not finite."""
    hidden, weight, labels = head(5)
    with torch.no_grad():
        hidden[3, 2] = bad
    total, losses = token_losses(hidden, weight, labels)
    total.backward()
    assert not total.isfinite()
    assert losses.isfinite().tolist() == [True, True, True, False, True]
    assert hidden.grad is not None and hidden.grad.isfinite().all(dim=1).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("label", [50, -100])
def test_a_label_that_is_no_row_of_the_head_is_an_error(label: int) -> None:
    hidden, weight, labels = head(5)
    labels[2] = label
    with pytest.raises(RuntimeError, match=f"index {label} is out of bounds"):
        token_losses(hidden, weight, labels)


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
    """Return loss by task ("" for all) and gradient of transformers' own forward pass, one sample at a time."""
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
        actual = F.cross_entropy(logits[:-1], labels[1:], reduction="none")[labels[1:] >= 0]
        losses.setdefault(encoded.task, []).append(actual)
    by_task = {task: torch.cat(parts) for task, parts in losses.items()}
    whole = torch.cat(list(by_task.values())).mean()
    whole.backward()
    gradient = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"": whole.item()} | {task: loss.mean().item() for task, loss in by_task.items()}, gradient


def agree(family: str, attention: str, way: Way, actual: tuple[StepResult, dict[str, Tensor]]) -> None:
    result, gradient = actual
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
@pytest.mark.parametrize(
    ("family", "attention"),
    [pytest.param(*case, marks=pytest.mark.slow if "eager" in case else ()) for case in CASES],
)
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
        message = [process.communicate(timeout=200)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], "".join(message)
    of_rank = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for family, attention in CASES_ON_TWO_RANKS:
        for name, way in ON_TWO_RANKS.items():
            actual = [each[family, attention, name] for each in of_rank]
            agree(family, attention, way, actual[0])
            assert actual[0][0] == actual[1][0]
            assert all(torch.equal(actual[0][1][part], actual[1][1][part]) for part in actual[0][1])


@pytest.mark.parametrize(("family", "attention"), CASES)
def test_a_changed_token_changes_no_loss_of_its_neighbours(family: str, attention: str) -> None:
    model = tiny_model(family, attention)
    loaded = samples(model)
    row = [[loaded[number] for number in (2, 3, 6)]]  # 17, 300 and 64 tokens
    _, before, sample = model(collate(row, 0, model.layout))
    for changed in range(3):
        encoded, pixels = row[0][changed]
        other = dataclasses.replace(encoded, input_ids=[*encoded.input_ids[:-9], 7, *encoded.input_ids[-8:]])
        again = [*row[0][:changed], (other, pixels), *row[0][changed + 1 :]]
        _, after, _ = model(collate([again], 0, model.layout))
        assert {int(number) for number in sample[before != after]} == {changed}


def test_tasks_are_those_of_the_samples_not_of_the_rows() -> None:
    start_distributed()
    result, _ = step(*CASES[0], Way(batching="packed", rows=2))
    assert result.task_samples == {task: TASKS.count(task) for task in sorted(set(TASKS), key=TASKS.index)}
    assert 0 < result.padding < 0.5
    assert result.row_tokens == pytest.approx(sum(tokens for tokens, _ in SIZES) / 3)
