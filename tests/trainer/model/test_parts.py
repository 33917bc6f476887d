"""Whole models built from parts: logits equal transformers', every parameter has a gradient, and sizes agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.sam.configuration_sam import SamVisionConfig

from tests.trainer.parts import (
    ENCODERS,
    IMAGE,
    LANGUAGE,
    VOCABULARY,
    batch_of,
    built,
    logits_of,
    randomise,
    settings,
    without_gradient,
)
from trainer.batch import Batch
from trainer.images.sizes import ViewTokens
from trainer.model import registry
from trainer.model.build import build, image_layout
from trainer.model.connectors import CONNECTORS
from trainer.model.registry import LANGUAGE_MODELS
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, PartSettings


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)


GELU_MLP = {"type": "mlp", "config": {"depth": 1, "activation_first": True}}
DEEPSEEK = {"projector": GELU_MLP}


def rename(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Rename the prefixes of all tensors, each exactly once."""
    actual = {}
    for name, tensor in state.items():
        (prefix,) = (old for old in names if name.startswith(old))
        actual[names[prefix] + name.removeprefix(prefix)] = tensor
    return actual


def normalised(model: VisionLanguageModel, batch: Batch, name: str) -> Tensor:
    return model.layout.preprocess[name].normalise(batch.pixels[name], torch.get_default_dtype())


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


# --- against transformers' own models


@pytest.mark.parametrize("language", ["llama", "mistral"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llava_15_is_transformers_llava(language: str, attention: str) -> None:
    model = built(settings("clip", language=language, connector={"type": "mlp"}), attention=attention).eval()
    randomise(model)
    speaks = {"llama": LlamaConfig, "mistral": MistralConfig}[language]
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**ENCODERS["clip"]),
        text_config=speaks(**LANGUAGE[language], vocab_size=VOCABULARY),
        image_token_id=IMAGE, vision_feature_layer=-2, vision_feature_select_strategy="default",
    )  # fmt: skip
    theirs = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    names = {
        "encoders.clip.model.": "model.vision_tower.", "connectors.clip.0.": "model.multi_modal_projector.linear_1.",
        "connectors.clip.2.": "model.multi_modal_projector.linear_2.",
        "language.model.model.": "model.language_model.", "language.model.lm_head.": "lm_head.",
    }  # fmt: skip
    theirs.load_state_dict(rename(model.state_dict(), names))
    same_logits(model, theirs)


def test_llava_is_transformers_llava_with_a_single_layer() -> None:
    """transformers always has two layers. Make the second the identity, without an activation between them."""
    model = built(settings("clip")).eval()
    randomise(model)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**ENCODERS["clip"]), text_config=LlamaConfig(**LANGUAGE["llama"], vocab_size=60),
        image_token_id=IMAGE, projector_hidden_act="linear",
    )  # fmt: skip
    theirs = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    names = {
        "encoders.clip.model.": "model.vision_tower.", "connectors.clip.": "model.multi_modal_projector.linear_1.",
        "language.model.model.": "model.language_model.", "language.model.lm_head.": "lm_head.",
    }  # fmt: skip
    second = {"weight": torch.eye(64), "bias": torch.zeros(64)}
    second = {f"model.multi_modal_projector.linear_2.{name}": tensor for name, tensor in second.items()}
    theirs.load_state_dict(rename(model.state_dict(), names) | second)
    same_logits(model, theirs)


def same_logits(model: VisionLanguageModel, theirs: LlavaForConditionalGeneration) -> None:
    """Our packed rows agree with transformers' rows one at a time."""
    batch = batch_of(model, [1, 0, 2])
    pixels = normalised(model, batch, "clip")
    with torch.no_grad():
        for row, images in enumerate(([0], [], [1, 2])):
            ids = batch.input_ids[row : row + 1, : sum(batch.lengths[row])]
            expected = theirs(input_ids=ids, pixel_values=pixels[images] if images else None).logits[0]
            close(logits_of(model, batch, row), expected)


def deepseek_pair() -> ModelSettings:
    chosen = settings("sam", "siglip", **DEEPSEEK)
    sam = replace(chosen.vision["sam"], config={**ENCODERS["sam"], "neck_grid": 16, "conv_channels": [32, 64]})
    return replace(chosen, vision={**chosen.vision, "sam": sam})


def test_deepseek_vl_is_transformers_hybrid_model() -> None:
    model = built(deepseek_pair()).eval()
    randomise(model)
    sam = SamVisionConfig(
        hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8,
        window_size=3, global_attn_indexes=[1],
    )  # fmt: skip
    config = DeepseekVLHybridConfig(
        text_config=LlamaConfig(**LANGUAGE["llama"], vocab_size=VOCABULARY),
        vision_config=SiglipVisionConfig(**ENCODERS["siglip"]),
        high_res_vision_config=sam, image_token_id=IMAGE, tie_word_embeddings=False,
    )  # fmt: skip
    theirs = DeepseekVLHybridForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    state = rename(
        model.state_dict(),
        {
            "encoders.sam.net_2.": "model.high_res_vision_proj.conv1.",
            "encoders.sam.net_3.": "model.high_res_vision_proj.conv2.",
            "encoders.sam.blocks.": "model.high_res_vision_model.vision_encoder.layers.",
            "encoders.sam.patch_embed.proj.": "model.high_res_vision_model.vision_encoder.patch_embed.projection.",
            "encoders.sam.pos_embed": "model.high_res_vision_model.vision_encoder.pos_embed",
            "encoders.sam.neck.0.": "model.high_res_vision_model.vision_encoder.neck.conv1.",
            "encoders.sam.neck.1.": "model.high_res_vision_model.vision_encoder.neck.layer_norm1.",
            "encoders.sam.neck.2.": "model.high_res_vision_model.vision_encoder.neck.conv2.",
            "encoders.sam.neck.3.": "model.high_res_vision_model.vision_encoder.neck.layer_norm2.",
            "encoders.siglip.model.": "model.vision_model.",
            "connectors.sam.": "model.aligner.high_res_vision_proj.",
            "connectors.siglip.": "model.aligner.vision_proj.",
            "joint.projector.1.": "model.aligner.proj.",
            "language.model.model.": "model.language_model.",
            "language.model.lm_head.": "lm_head.",
        },
    )
    state = {
        name.replace(".norm1.", ".layer_norm1.").replace(".norm2.", ".layer_norm2."): t for name, t in state.items()
    }
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert unexpected == []
    # The release's own addition, which `high_res_vision_alpha` starts at zero and which the paper does not have.
    assert all(name.startswith(("model.high_res_vision_alpha", "model.high_res_vision_neck.")) for name in missing)
    assert not theirs.model.high_res_vision_alpha.any()

    batch = batch_of(model, [1])
    with torch.no_grad():
        expected = theirs(
            input_ids=batch.input_ids,
            pixel_values=normalised(model, batch, "siglip"),
            high_res_pixel_values=normalised(model, batch, "sam"),
        ).logits[0]
        close(logits_of(model, batch, 0), expected)


# --- every combination trains

COMBINATIONS: dict[str, ModelSettings] = {
    **{f"{encoder} alone": settings(encoder) for encoder in ENCODERS},
    **{f"{language} speaks": settings("clip", "sam", language=language) for language in LANGUAGE},
    "mlp": settings("clip", connector={"type": "mlp"}),
    "pixel_shuffle": settings("convnext", connector={"type": "pixel_shuffle", "config": {"depth": 2}}),
    "perceiver": settings("dinov2", connector={"type": "perceiver", "config": {"queries": 7, "heads": 4, "depth": 1}}),
    "sequence": settings("clip", "convnext", fusion="sequence"),
    "sequence, projector": settings("siglip", "dinov2", fusion="sequence", projector={"type": "mlp"}),
    "channels, perceiver behind": settings(
        "siglip", "dinov2", projector={"type": "perceiver", "config": {"queries": 3, "heads": 4}}
    ),
    "channels, pixel shuffle behind": settings("clip", "sam", projector={"type": "pixel_shuffle"}),
    "deepseek": deepseek_pair(),
}
TOKENS = {
    "pixel_shuffle": 4, "perceiver": 7, "sequence": 32, "sequence, projector": 32, "channels, perceiver behind": 3,
    "channels, pixel shuffle behind": 4,
}  # fmt: skip
combinations = pytest.mark.parametrize("name", COMBINATIONS)


@combinations
@pytest.mark.parametrize("images", [[1, 0, 2], [0, 0]])
def test_every_combination_trains_whole_also_from_text_alone(name: str, images: list[int]) -> None:
    model = built(COMBINATIONS[name], gradient_checkpointing=True)
    total, *_ = model(batch_of(model, images))
    total.backward()
    assert without_gradient(model) == []
    vision = [p for part, p in model.named_parameters() if not part.startswith("language.") and p.requires_grad]
    if any(images):
        assert sum(bool(p.grad.any()) for p in vision) > 0.9 * len(vision)  # what starts at zero may stay there
    else:
        assert total.isfinite() and not any(p.grad.any() for p in vision)


@combinations
def test_every_combination_comes_back_from_its_export(name: str, tmp_path: Path) -> None:
    chosen = COMBINATIONS[name]
    model = built(chosen).eval()
    randomise(model)
    save_model(model, str(tmp_path / "model.safetensors"))
    stored = str(tmp_path)
    of_encoders = {
        key: replace(part, config=model.encoders[key].configuration(), weights=stored)
        for key, part in chosen.vision.items()
    }
    of_language = replace(chosen.language, config=model.language.configuration(), weights=stored)
    again = built(replace(chosen, vision=of_encoders, language=of_language), seed=1).eval()
    for part in ("connectors", "joint"):  # as a checkpoint does it
        again.get_submodule(part).load_state_dict(
            {k.removeprefix(f"{part}."): v for k, v in load_file(tmp_path / "model.safetensors").items() if part in k}
        )
    batch = batch_of(model, [1, 0])
    with torch.no_grad():
        assert torch.equal(again(batch)[1], model(batch)[1])


@combinations
def test_the_layout_is_known_from_sizes_alone(name: str) -> None:
    layout = image_layout(COMBINATIONS[name])
    assert layout == built(COMBINATIONS[name]).layout
    assert layout.num_tokens((40, 30)) == TOKENS.get(name, 16)
    assert (layout.view.grid is None) == (
        name in {"perceiver", "sequence", "sequence, projector", "channels, perceiver behind"}
    )


@pytest.mark.parametrize("name", ["sequence, projector", "perceiver", "deepseek"])
def test_evaluation_does_not_depend_on_the_rows_beside(name: str) -> None:
    model = built(COMBINATIONS[name]).eval()
    randomise(model)
    batch = batch_of(model, [1, 2])
    with torch.no_grad():
        both = model.encode_images(batch.pixels, batch.image_sizes)
        alone = [
            model.encode_images({key: p[i : i + 1] for key, p in batch.pixels.items()}, [(40, 30)]) for i in range(3)
        ]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-5, atol=float(1e-5 * both.abs().max()))


# --- sizes of known models

CLIP_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
SIGLIP_384 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 384, "patch_size": 16,
}  # fmt: skip
LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32064,
}  # fmt: skip
QWEN_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip


def on_meta(chosen: ModelSettings, vocabulary: int) -> VisionLanguageModel:
    options: dict[str, Any] = {"attention": "sdpa", "gradient_checkpointing": False, "seed": 0}
    with torch.device("meta"):
        model, _ = build(chosen, vocabulary=vocabulary, image_token_id=3, **options)
    return model


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def speaks(family: str, config: dict[str, Any]) -> LanguageSettings:
    return LanguageSettings(type=family, tokenizer="-", template="-", config=config)


def test_llava_15_7b_has_the_parameters_of_transformers_llava() -> None:
    vision = {"clip": EncoderSettings(type="clip", config=CLIP_336, connector=PartSettings(type="mlp"))}
    model = on_meta(ModelSettings(vision=vision, language=speaks("llama", LLAMA_7B)), 32000)
    config = LlavaConfig(vision_config=CLIPVisionConfig(**CLIP_336), text_config=LlamaConfig(**LLAMA_7B))
    with torch.device("meta"):
        theirs = LlavaForConditionalGeneration(config)
    assert count(model) == count(theirs) == 7_063_427_072
    assert model.layout.num_tokens((480, 640)) == 576
    assert model.layout.view == ViewTokens(576, (24, 24))


def test_deepseek_vls_pair_has_the_parameters_of_its_pieces() -> None:
    sam = EncoderSettings(type="sam", config={"neck_grid": 96})
    siglip = EncoderSettings(type="siglip", config={**SIGLIP_384, "vision_use_head": False})
    chosen = ModelSettings(
        vision={"sam": sam, "siglip": siglip},
        language=speaks("llama", {**LLAMA_7B, "num_hidden_layers": 30, "vocab_size": 102400}),
        projector=PartSettings(**GELU_MLP),
    )
    model = on_meta(chosen, 102400)
    with torch.device("meta"):
        theirs = SiglipVisionModel(SiglipVisionConfig(**SIGLIP_384, vision_use_head=False))
    assert count(model.encoders["siglip"]) == count(theirs)
    assert count(model.encoders["sam"]) == 95_569_152  # Vary's: the interpolation has none
    assert count(model.connectors) == 2 * (1024 * 2048 + 2048)
    assert count(model.joint) == 4096 * 4096 + 4096
    assert model.layout.view == ViewTokens(576, (24, 24))  # "576 tokens of 2048 channels", section 3.1
    assert not [name for name, p in model.named_parameters() if not p.requires_grad]


def test_vary_base_has_the_parameters_of_its_pieces() -> None:
    clip = {**CLIP_336, "image_size": 224}
    vision = {"clip": EncoderSettings(type="clip", config=clip), "vary": EncoderSettings(type="sam")}
    model = on_meta(ModelSettings(vision=vision, language=speaks("qwen2", QWEN_7B)), 151860)
    with torch.device("meta"):
        theirs = Qwen2ForCausalLM(Qwen2Config(**QWEN_7B))
    # Qwen-7B by its config.json: no bias but of q, k, v; two tables of 151,936 rows; MLPs of 11,008.
    layer = 4 * 4096**2 + 3 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    assert count(model.language) == count(theirs) == 32 * layer + 2 * 151936 * 4096 + 4096 == 7_721_324_544
    assert count(model.connectors) == 2 * (1024 * 2048 + 2048)
    assert count(model.encoders["vary"]) == 95_569_152
    assert count(model.encoders["clip"]) == 303_179_776  # with its last layer and norm, which do not train
    assert model.layout.num_tokens((1000, 800)) == 256


def test_the_tables_of_parts_are_all_here() -> None:
    assert registry.ENCODERS.keys() == ENCODERS.keys()
    assert LANGUAGE_MODELS.keys() == LANGUAGE.keys()
    used = {part.connector.type for chosen in COMBINATIONS.values() for part in chosen.vision.values()}
    assert used == CONNECTORS.keys()
