"""Chunked cross-entropy is plain cross-entropy, in value and in gradient."""

import pytest
import torch
import torch.nn.functional as F

from trainer.loss import token_losses
from trainer.precision import dtype_of


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
