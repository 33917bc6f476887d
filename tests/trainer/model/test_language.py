"""Any causal language model of transformers is accepted if it meets the assumptions of packed rows and of the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.model.language import AnyLanguage
from trainer.model.registry import LANGUAGE_MODELS

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2}


def any_language(model_type: str, attention: str = "eager", **config: Any) -> AnyLanguage:
    row = LANGUAGE_MODELS["transformers"]
    language, _ = row.build({"model_type": model_type, **config}, None, attention, vocabulary=60)
    assert isinstance(language, AnyLanguage)
    return language


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("qwen3", {**GROUPED, "head_dim": 8}),
        ("gemma", {**GROUPED, "head_dim": 8}),
        ("gpt_neox", SIZES),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
        ("olmo2", GROUPED),
        ("phi3", {**GROUPED, "pad_token_id": 0}),
    ],
)
def test_a_model_that_fits_comes_back_from_its_configuration(
    model_type: str, config: dict[str, Any], attention: str
) -> None:
    language = any_language(model_type, attention, **config)
    assert language.training and language.vocabulary == 60
    again = any_language(attention=attention, **language.configuration())
    again.load_state_dict(language.state_dict())
    ids, positions = torch.arange(5)[None], torch.tensor([[0, 1, 2, 0, 1]])
    actual, expected = (each.eval().hidden_states(each.embed(ids), positions, ((3, 2),)) for each in (again, language))
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("model_type", "config", "reason"),
    [
        ("cohere", GROUPED, "logits of two samples in a row differ"),  # scaled
        ("granite", {**GROUPED, "logits_scaling": 8.0}, "logits of two samples in a row differ"),
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "logits of two samples in a row differ"),  # ALiBi
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2}, "num_attention_heads"),
        ("gemma2", {**GROUPED, "head_dim": 8}, "its config has .*softcapping"),
        ("phi", SIZES, "its output layer has a bias"),
        ("stablelm", GROUPED, "missing 1 required keyword-only argument: 'lengths'"),
    ],
)
def test_a_model_that_does_something_else_is_refused(model_type: str, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(
        ValueError, match=f"transformers: .*ForCausalLM cannot be trained on packed samples: .*{reason}"
    ):
        any_language(model_type, **config)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"model_type 'qwen33': transformers has no such causal language model .*qwen3"
    ):
        any_language("qwen33")
    with pytest.raises(ValueError, match=r"model_type 'vit': transformers has no such causal language model"):
        any_language("vit")
