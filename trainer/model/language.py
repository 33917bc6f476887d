"""Causal language models of transformers behind the few operations that training and evaluation need.

Shape legend: B rows, T tokens, H hidden size, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    GenerationConfig,
    LlamaForCausalLM,
    MistralForCausalLM,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
)
from typing_extensions import override

from trainer.model.attention import BY_SAMPLE, Lengths
from trainer.model.positions import OPT_OFFSET, stretch_positions
from trainer.model.tables import check_keys
from trainer.model.weights import (
    RANDOM,
    Loaded,
    class_named,
    config_class_of,
    config_keys,
    configuration_of,
    from_config,
    is_export,
    load_from_hub,
    load_part_of_export,
    shape_in_export,
)
from varyforge.errors import UserError

_SAMPLES = (3, 2)  # tokens of the two samples by which an unknown model is checked
_TOLERANCE = 1e-4  # of the largest logit; a model with another formula differs by far more


class LanguageModel(nn.Module):
    """A family of causal language models. A subclass names transformers' class of the family."""

    model_class: type[PreTrainedModel]

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        # A checkpoint's settings of sampling and penalties must not change `generate`, which compares models.
        model.generation_config = GenerationConfig()
        self.model = model
        self._attention: str = model.config._attn_implementation  # transformers' own, with masks
        # Set whenever a layer may run outside of `generate`, also when the backward pass recomputes the layer.
        model.set_attn_implementation(BY_SAMPLE[self._attention])

    @classmethod
    def build(
        cls, config: dict[str, Any], weights: str | None, attention: str, *, vocabulary: int
    ) -> tuple[Self, Loaded]:
        """Build a recipe's language model with at least `vocabulary` rows of embeddings, and name its weights' source.

        `config` takes the keys of transformers' configuration class. With weights from a folder or hub it replaces
        single values of the checkpoint's configuration.

        Raises:
            UserError: an unknown key, or weights that do not fit.
        """
        config_class = config_class_of(cls.model_class)
        check_keys(config, config_keys(config_class), config_class.model_type)
        if weights is not None and not is_export(weights):
            language = cls(load_from_hub(cls.model_class, weights, config, attention))
            language._grow(vocabulary)
            return language, Loaded(weights)
        rows = config.get("vocab_size", 0)
        if type(rows) is not int or rows < 0:
            raise UserError(f"{config_class.model_type}: vocab_size {rows!r}: expected a whole number")
        # Without a padding row, which transformers would zero and never train, whichever token has its id here.
        sizes = {"pad_token_id": None, **config, "vocab_size": rows if weights and rows else max(vocabulary, rows)}
        language = cls(from_config(cls.model_class, sizes, attention))
        width, heads = language.hidden_size, int(language.model.config.num_attention_heads)
        groups = int(getattr(language.model.config, "num_key_value_heads", None) or heads)
        if width % heads or heads % groups:
            raise UserError(
                f"{config_class.model_type}: hidden_size {width}, num_attention_heads {heads}, num_key_value_heads "
                f"{groups}: each must be a multiple of the next"
            )
        loaded = RANDOM if weights is None else load_part_of_export(language, weights, "language")
        language._grow(vocabulary)
        return language, loaded

    @property
    def hidden_size(self) -> int:
        """Number of channels H of the embeddings and of `hidden_states`."""
        return self._table.embedding_dim

    @property
    def vocabulary(self) -> int:
        """Number of rows V of the embeddings, which may exceed the tokenizer's number of entries."""
        return self._table.num_embeddings

    @property
    def max_positions(self) -> int:
        """Number of tokens of the longest sequence that the model has positions for."""
        return int(self.model.config.max_position_embeddings)

    @property
    def head(self) -> Tensor:
        """The weight of the output layer, (V, H)."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def flops(self, lengths: Lengths, supervised: int) -> dict[str, int]:
        """Return the forward FLOPs of the linear `layers`, of `attention` within samples (dense) and of the `head`.

        `supervised` is the number of tokens with a label. `trainer.model.flops` has the formulas.
        """
        config, layers = self.model.config, self.model.base_model.modules()
        weights = sum(module.in_features * module.out_features for module in layers if isinstance(module, nn.Linear))
        samples = [length for row in lengths for length in row]
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = 4 * config.num_hidden_layers * config.num_attention_heads * head
        return {
            "layers": 2 * weights * sum(samples),
            "attention": attention * sum(length**2 for length in samples),
            "head": 2 * self.head.numel() * supervised,
        }

    def enable_gradient_checkpointing(self) -> None:
        """Save only each layer's input for the backward pass, which computes the layer again."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings (B, T, H) of ids (B, T)."""
        embeddings: Tensor = self._table(input_ids)
        return embeddings

    def hidden_states(self, embeddings: Tensor, positions: Tensor, lengths: Lengths) -> Tensor:
        """Return the last hidden states (B, T, H) of packed rows from their embeddings (B, T, H).

        `positions` (B, T) int64 count from 0 in each sample. `lengths` are the samples' tokens, as in `Batch`. No
        sample attends to another. States at padding are finite and depend on the padding alone.
        """
        output = self.model.base_model(
            inputs_embeds=embeddings, position_ids=positions, lengths=lengths, use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def configuration(self) -> dict[str, Any]:
        """Return the whole configuration, from which `build` builds the same model without the weights' own."""
        return configuration_of(self.model.config)

    def generate(self, embeddings: Tensor, attention_mask: Tensor, *, max_new_tokens: int, eos_id: int) -> Tensor:
        """Return a greedy continuation, (B, at most max_new_tokens) ids. Finished rows are padded with `eos_id`.

        The rows of `embeddings` are padded on the left. Generation ends at the model's last position.

        Raises:
            UserError: the longest row leaves no position free.
        """
        longest = int(attention_mask.sum(dim=1).max())
        if longest >= self.max_positions:
            raise UserError(f"prompt of {longest} tokens: the language model has {self.max_positions} positions")
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=min(max_new_tokens, self.max_positions - longest),
            eos_token_id=eos_id,
            pad_token_id=eos_id,
        )
        model: Any = self.model  # generate() is in a mixin that PreTrainedModel's type does not have
        with self._masked_attention():
            ids: Tensor = model.generate(
                inputs_embeds=embeddings, attention_mask=attention_mask, generation_config=config
            )
        return ids

    def _grow(self, rows: int) -> None:
        """Extend the embeddings to at least `rows` rows. New rows are drawn around the mean of the old ones."""
        if rows > self.vocabulary:
            self.model.resize_token_embeddings(rows)

    @contextmanager
    def _masked_attention(self) -> Iterator[None]:
        """Context manager: use transformers' own attention, which supports caches and padding on the left."""
        self.model.set_attn_implementation(self._attention)
        try:
            yield
        finally:
            self.model.set_attn_implementation(BY_SAMPLE[self._attention])

    @property
    def _table(self) -> nn.Embedding:
        return cast(nn.Embedding, self.model.get_input_embeddings())


class Qwen2(LanguageModel):
    """The family of Qwen 1.5, 2 and 2.5 (arXiv 2309.16609, 2407.10671). Qwen-1.8B is the same with other names."""

    model_class = Qwen2ForCausalLM


class Llama(LanguageModel):
    """The family of Llama 1 to 3 (arXiv 2302.13971, 2307.09288, 2407.21783) and of its descendants such as Vicuna."""

    model_class = LlamaForCausalLM


class Mistral(LanguageModel):
    """The family of Mistral 7B (arXiv 2310.06825). With a `sliding_window`, samples must not be longer than it."""

    model_class = MistralForCausalLM


class Opt(LanguageModel):
    """The OPT family (arXiv 2205.01068), which has a learned table of positions."""

    model_class = OPTForCausalLM

    @classmethod
    def build(
        cls, config: dict[str, Any], weights: str | None, attention: str, *, vocabulary: int
    ) -> tuple[Self, Loaded]:
        """Build as `LanguageModel`. Interpolate if `config` has more positions than the weights, refuse fewer."""
        key = "max_position_embeddings"
        if weights is None or key not in config:
            return super().build(config, weights, attention, vocabulary=vocabulary)
        positions, own = config[key], {name: value for name, value in config.items() if name != key}
        if is_export(weights):
            own[key] = shape_in_export(weights, "language.model.model.decoder.embed_positions.weight")[0] - OPT_OFFSET
        language, loaded = super().build(own, weights, attention, vocabulary=vocabulary)
        language._stretch(positions, weights)
        return language, loaded

    def _stretch(self, positions: int, weights: str) -> None:
        config, decoder = self.model.config, cast(OPTForCausalLM, self.model).model.decoder
        own = config.max_position_embeddings
        if type(positions) is not int or positions < own:
            raise UserError(
                f"opt: max_position_embeddings {positions!r}: expected at least the {own} of {weights}; positions "
                "are never cut off"
            )
        if positions > own:
            table = decoder.embed_positions
            table.weight = nn.Parameter(stretch_positions(table.weight.detach(), positions))
            table.num_embeddings = len(table.weight)
            config.max_position_embeddings = decoder.max_target_positions = positions


class AnyLanguage(LanguageModel):
    """Any causal language model of transformers, named by `model_type` (qwen3, gemma, gpt_neox, olmo2, …).

    `LanguageModel` and the loss assume that samples in a row do not influence each other, and that logits are the
    hidden states times the head. `build` checks both with a few forward passes: logits of two short samples in one row
    must be those that transformers computes for each alone. Models that mix tokens in another way than by attention, or
    that change attention or logits, are refused.
    """

    @classmethod
    def build(
        cls, config: dict[str, Any], weights: str | None, attention: str, *, vocabulary: int
    ) -> tuple[Self, Loaded]:
        """Build as `LanguageModel`, of the class that `config["model_type"]` names. Refuse an unsuitable model."""
        model_class = class_named(config.get("model_type", ""), MODEL_FOR_CAUSAL_LM_MAPPING, "causal language model")
        row: Any = type(cls.__name__, (cls,), {"model_class": model_class})
        parent: Any = super(AnyLanguage, row)
        sizes = {key: value for key, value in config.items() if key != "model_type"}
        language: Self
        try:
            language, loaded = parent.build(sizes, weights, attention, vocabulary=vocabulary)
        except AttributeError as error:  # for instance a configuration without heads
            name = model_class.__name__
            raise UserError(f"transformers: {name} cannot be trained on packed samples: {error}") from error
        language._check()
        return language, loaded

    @override
    def configuration(self) -> dict[str, Any]:
        return super().configuration() | {"model_type": self.model.config.model_type}

    def _check(self) -> None:
        """Raise UserError for an unsuitable model. On the meta device only its configuration is checked."""
        capped = [key for key, value in self.model.config.to_dict().items() if "softcap" in key and value]
        if capped:  # hardly visible in the small numbers of `_trial`
            raise self._refusal(f"its config has {capped[0]}, which training does not compute")
        if getattr(self.model.get_output_embeddings(), "bias", None) is not None:  # zero where weights are random
            raise self._refusal("its output layer has a bias, which the loss does not have")
        if self.head.is_meta:
            return
        self.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                ours, theirs = self._trial()
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise self._refusal(" ".join(str(error).split())[:200]) from error
        self.train()
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        if not difference <= _TOLERANCE:
            raise self._refusal(f"logits of two samples in a row differ by {difference:.0e} from those of each alone")

    def _trial(self) -> tuple[Tensor, Tensor]:
        """Return the logits of two samples, (tokens, V): once packed by us, once computed alone by transformers."""
        embeddings = self.embed(torch.randint(self.vocabulary, (1, sum(_SAMPLES))))
        positions = torch.cat([torch.arange(length) for length in _SAMPLES])[None]
        ours = self.hidden_states(embeddings, positions, (_SAMPLES,))[0] @ self.head.T
        model: Any = self.model
        with self._masked_attention():
            alone = [
                model(inputs_embeds=sample, use_cache=False).logits[0] for sample in embeddings.split(_SAMPLES, dim=1)
            ]
        return ours, torch.cat(alone)

    def _refusal(self, reason: str) -> UserError:
        return UserError(f"transformers: {self.model_class.__name__} cannot be trained on packed samples: {reason}")
