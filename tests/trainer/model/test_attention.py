"""Samples in a row do not attend to each other under any implementation, and no mask of the whole row is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.model.attention import BY_SAMPLE, Lengths
from trainer.model.language import LanguageModel
from trainer.model.precision import dtype_of
from trainer.model.registry import LANGUAGE_MODELS
from varyforge.errors import UserError

CONFIGS: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 600, "dropout": 0.0,
    },
    "qwen2": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 600,
    },
    "llama": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 600,
    },
    "mistral": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 1, "max_position_embeddings": 600,
    },
    "transformers": {
        "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 600,
    },
}  # fmt: skip
ROWS = ((5, 1, 9), (7,), (4, 4))  # the longest has 15 tokens; the others end in padding

everywhere = pytest.mark.parametrize("attention", sorted(BY_SAMPLE))
families = pytest.mark.parametrize("family", sorted(CONFIGS))


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def language_model(family: str, attention: str, **changes: Any) -> LanguageModel:
    """Return a language model in training mode, with weights far from the initial ones."""
    language, _ = LANGUAGE_MODELS[family].build({**CONFIGS[family], **changes}, None, attention, vocabulary=60)
    for parameter in language.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return language.train()


def positions(lengths: Lengths, width: int) -> Tensor:
    rows = [[p for length in row for p in range(length)] for row in lengths]
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def hidden_states(language: LanguageModel, embeddings: Tensor, lengths: Lengths) -> Tensor:
    at = positions(lengths, embeddings.shape[1]).to(embeddings.device)
    return language.hidden_states(embeddings, at, lengths)


def samples_of(rows: Tensor, lengths: Lengths) -> list[Tensor]:
    return [piece for row, sizes in zip(rows, lengths, strict=True) for piece in row[: sum(sizes)].split(list(sizes))]


def gradients(language: LanguageModel, loss: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
    trained = [
        (name, p) for name, p in language.named_parameters() if "lm_head" not in name and "embed_tokens" not in name
    ]
    actual = torch.autograd.grad(loss, [embeddings, *(p for _, p in trained)])
    return dict(zip(["input", *(name for name, _ in trained)], actual, strict=True))


@families
@everywhere
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_samples_are_what_they_are_alone(family: str, attention: str, checkpointing: bool) -> None:
    language = language_model(family, attention)
    if checkpointing:
        language.enable_gradient_checkpointing()
    embeddings = torch.randn(3, 15, 32, requires_grad=True)
    upstream = torch.randn(3, 15, 32)
    actual = samples_of(hidden_states(language, embeddings, ROWS), ROWS)
    weights = samples_of(upstream, ROWS)
    loss = sum(((h * w).sum() for h, w in zip(actual, weights, strict=True)), torch.zeros(()))
    found_gradients = gradients(language, loss, embeddings)

    language.model.set_attn_implementation(attention)  # transformers' own, one sample at a time
    alone = [
        language.model.base_model(inputs_embeds=sample[None], use_cache=False).last_hidden_state[0]
        for sample in samples_of(embeddings, ROWS)
    ]
    torch.testing.assert_close(actual, alone, atol=1e-5, rtol=1e-5)
    loss = sum(((h * w).sum() for h, w in zip(alone, weights, strict=True)), torch.zeros(()))
    expected = gradients(language, loss, embeddings)
    largest_gradient = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found_gradients[name] - gradient).abs().max() <= 1e-6 * largest_gradient, name


@families
@everywhere
def test_a_changed_token_changes_nothing_in_other_samples(family: str, attention: str) -> None:
    language = language_model(family, attention)
    embeddings = torch.randn(3, 15, 32)
    before = samples_of(hidden_states(language, embeddings, ROWS), ROWS)
    for row, place, sample in ((0, 0, 0), (0, 5, 1), (0, 6, 2), (2, 3, 4)):
        changed = embeddings.clone()
        changed[row, place] = torch.randn(32)
        after = samples_of(hidden_states(language, changed, ROWS), ROWS)
        assert [number for number in range(6) if not torch.equal(before[number], after[number])] == [sample]


@families
@everywhere
def test_padding_is_finite_and_has_no_gradient(family: str, attention: str) -> None:
    language = language_model(family, attention)
    embeddings = torch.randn(3, 15, 32, requires_grad=True)
    hidden = hidden_states(language, embeddings, ROWS)
    assert hidden.isfinite().all()
    torch.cat(samples_of(hidden, ROWS)).sum().backward()
    assert embeddings.grad is not None and embeddings.grad.isfinite().all()
    assert not embeddings.grad[1, 7:].any() and not embeddings.grad[2, 8:].any()
    assert embeddings.grad[0].any(dim=-1).all()


@families
@everywhere
def test_padding_alone_gives_every_layer_a_gradient_of_zeros(family: str, attention: str) -> None:
    language = language_model(family, attention)
    hidden = hidden_states(language, torch.randn(1, 1, 32), ((),))
    hidden[[], 0].sum().backward()
    layers = [p.grad for name, p in language.named_parameters() if "layers." in name]
    assert all(gradient is not None and not gradient.any() for gradient in layers)


@families
@everywhere
def test_dropout_is_drawn_again_where_a_layer_is_computed_again(family: str, attention: str) -> None:
    drop = {"attention_dropout": 0.5}
    plain, saved = language_model(family, attention, **drop), language_model(family, attention, **drop)
    plain.load_state_dict(saved.state_dict())
    saved.enable_gradient_checkpointing()
    embeddings = torch.randn(3, 15, 32, requires_grad=True)
    actual = []
    for language in (plain, saved):
        torch.manual_seed(1)
        hidden = hidden_states(language, embeddings, ROWS)
        actual.append((hidden, gradients(language, hidden.square().sum(), embeddings)))
    torch.testing.assert_close(actual[0], actual[1])
    other = hidden_states(plain, embeddings, ROWS)
    assert not torch.allclose(other, actual[0][0])
    plain.eval()
    assert torch.equal(hidden_states(plain, embeddings, ROWS), hidden_states(plain, embeddings, ROWS))


@pytest.mark.parametrize(
    ("family", "window"),
    [("qwen2", {"use_sliding_window": True, "max_window_layers": 1}), ("mistral", {})],
)
def test_layers_with_a_window_refuse_longer_samples(family: str, window: dict[str, Any]) -> None:
    language = language_model(family, "sdpa", **window, sliding_window=8)
    hidden_states(language, torch.randn(1, 16, 32), ((8, 8),))
    with pytest.raises(UserError, match="a sample of 9 tokens: the language model has a sliding window of 8"):
        hidden_states(language, torch.randn(1, 9, 32), ((9,),))
    without = language_model(family, "sdpa", **window, sliding_window=None)  # as the error says
    again, _ = LANGUAGE_MODELS[family].build(without.configuration(), None, "sdpa", vocabulary=60)
    for each in (without, again):
        hidden_states(each, torch.randn(1, 9, 32), ((9,),))


@families
def test_generation_leaves_the_borders_in_force(family: str) -> None:
    language = language_model(family, "sdpa").eval()
    embeddings, mask = torch.randn(2, 5, 32), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    language.generate(embeddings, mask, max_new_tokens=2, eos_id=2)
    assert language.model.config._attn_implementation == BY_SAMPLE["sdpa"]
    with pytest.raises((RuntimeError, ValueError)):
        language.generate(embeddings[..., :3], mask, max_new_tokens=2, eos_id=2)
    assert language.model.config._attn_implementation == BY_SAMPLE["sdpa"]


# --- what exists in memory


class Largest(TorchDispatchMode):
    """Return the largest number of elements of any operation's result, also inside torch's composite kernels."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


LONG = ((200, 150, 100, 50), (120,) * 4)  # 500 tokens


def largest(language: LanguageModel, embeddings: Tensor, lengths: Lengths) -> int:
    with Largest() as seen:
        hidden_states(language, embeddings, lengths).square().sum().backward()
    return seen.elements


def backends(*, cuda: bool) -> Sequence[Any]:
    names = ["MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION"] if cuda else ["MATH", "FLASH_ATTENTION"]
    return [pytest.param(getattr(SDPBackend, name), id=name.lower()) for name in names]


@families
@pytest.mark.parametrize("backend", backends(cuda=False))  # the CPU has no memory-efficient kernel
def test_nothing_of_the_rows_length_squared_exists(family: str, backend: SDPBackend) -> None:
    language = language_model(family, "sdpa")
    embeddings = torch.randn(2, 500, 32)
    with sdpa_kernel(backend):
        actual = largest(language, embeddings, LONG)
    # 4 heads of the longest sample's weights with the math kernel; the MLP's activations else
    assert actual <= (4 * 200**2 if backend == SDPBackend.MATH else 2 * 500 * 48) < 500**2


@families
def test_eager_has_the_weights_of_one_sample_at_a_time(family: str) -> None:
    assert largest(language_model(family, "eager"), torch.randn(2, 500, 32), LONG) <= 4 * 200**2


def test_the_count_sees_a_dense_mask() -> None:
    """transformers itself lets samples in a row attend to each other. Otherwise the tests above would prove nothing."""
    language = language_model("qwen2", "sdpa")
    language.model.set_attn_implementation("sdpa")
    with Largest() as seen:
        at = positions(LONG, 500)
        language.model.base_model(inputs_embeds=torch.randn(2, 500, 32), position_ids=at, use_cache=False)
    assert seen.elements >= 2 * 500**2


@pytest.mark.gpu
@families
@pytest.mark.parametrize("backend", backends(cuda=True))
def test_kernels_of_a_gpu_agree_with_the_cpu_and_hold_no_square(family: str, backend: SDPBackend) -> None:
    language = language_model(family, "sdpa", hidden_size=64)
    embeddings = torch.randn(2, 500, 64)
    expected = hidden_states(language, embeddings, LONG)
    dtype = dtype_of("bf16" if backend == SDPBackend.FLASH_ATTENTION else "fp32")
    language, embeddings = language.to("cuda", dtype), embeddings.to("cuda", dtype)
    with sdpa_kernel(backend):
        actual = hidden_states(language, embeddings, LONG).float().cpu()
        elements = largest(language, embeddings, LONG)
    tolerance = 0.1 if backend == SDPBackend.FLASH_ATTENTION else 1e-3
    for one, other in zip(samples_of(actual, LONG), samples_of(expected, LONG), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    assert elements < 500**2
