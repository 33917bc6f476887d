"""The model computes the same as the papers' parts, trains the parts of a recipe, and loads parts as a whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, OPTConfig, OPTForCausalLM
from transformers.models.sam.configuration_sam import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.convert.importer import Import
from trainer.loader.packing import Loaded, collate
from trainer.model.attention import BY_SAMPLE
from trainer.model.build import build
from trainer.model.encoders import relative_attention
from trainer.model.encoders.from_transformers import ClipEncoder
from trainer.model.encoders.sam import SamConfig, SamEncoder, from_windows, to_windows
from trainer.model.positions import stretch_positions
from trainer.model.registry import LANGUAGE_MODELS
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import PartReport
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, PartSettings
from varyforge.errors import UserError

IMAGE, EOS, VOCABULARY = 59, 2, 60
TOKENS = 4  # image tokens of every tiny encoder below

SAM = {
    "image_size": 64, "patch_size": 8, "width": 32, "depth": 3, "heads": 2, "window": 3,  # 8 % 3: windows are padded
    "global_layers": [1], "neck": 16, "conv_channels": [24, 32],
}  # fmt: skip
CLIP = {
    "image_size": 8, "patch_size": 4, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 2,
}  # fmt: skip
LANGUAGE: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 64, "dropout": 0.0,
    },
    "qwen2": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.set_num_threads(1)  # tensors this small only wait for a second thread
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)


def tiny_settings(language: str = "opt", *, frozen: bool = False, sam_weights: str | None = None) -> ModelSettings:
    """Return settings of one trained SAM with OPT, or of Vary-toy's pair of encoders with Qwen2."""
    vision = {"vary": EncoderSettings(type="sam", config=SAM, frozen=frozen, weights=sam_weights)}
    if language == "qwen2":
        vision = {"clip": EncoderSettings(type="clip", config=CLIP, frozen=frozen), **vision}
    part = LanguageSettings(type=language, tokenizer="-", template="-", config=LANGUAGE[language])
    return ModelSettings(vision=vision, language=part)


def tiny_build(settings: ModelSettings, seed: int = 0, **changes: Any) -> tuple[VisionLanguageModel, list[PartReport]]:
    options = {"attention": "sdpa", "gradient_checkpointing": False, **changes}
    return build(settings, vocabulary=VOCABULARY, image_token_id=IMAGE, seed=seed, **options)


def tiny_pixels(model: VisionLanguageModel, count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(256, (count, p.size, p.size, 3), generator=generator, dtype=torch.uint8)
        for name, p in model.layout.preprocess.items()
    }


def tiny_batch(model: VisionLanguageModel, images: list[int], *, supervised: bool = True, seed: int = 0) -> Batch:
    """Return one row per entry of `images`, with so many images, text of varying length, and supervised last tokens."""
    pixels = tiny_pixels(model, sum(images), seed)
    pictures = iter([{name: p[i : i + 1].numpy() for name, p in pixels.items()} for i in range(sum(images))])
    rows: list[list[Loaded]] = []
    for row, count in enumerate(images):
        text = torch.randint(3, IMAGE, (6 + row,), generator=torch.Generator().manual_seed(row)).tolist()
        ids = [*text[:2], *[IMAGE] * (count * TOKENS), *text[2:]]
        labels = [IGNORE_INDEX] * (len(ids) - 3) + (ids[-3:] if supervised else [IGNORE_INDEX] * 3)
        sizes = ((8, 8),) * count
        encoded = Encoded(key=str(row), task="ocr", input_ids=ids, labels=labels, image_sizes=sizes)
        rows.append([(encoded, [next(pictures) for _ in range(count)])])
    return collate(rows, 0, model.layout)


def ids_of(batch: Batch, row: int) -> Tensor:
    """Return the tokens of a row without padding."""
    return batch.input_ids[row, : sum(batch.lengths[row])]


def randomise(module: torch.nn.Module) -> None:
    """Move weights far from the initial ones, where zero tables and unit norms would hide mistakes."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)


def without_gradient(model: torch.nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


# --- the parts compute what the originals compute


def their_name(name: str) -> str:
    """Return transformers' name of a parameter of SAM."""
    names = {
        "patch_embed.proj.": "patch_embed.projection.", "blocks.": "layers.", ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.", "neck.0.": "neck.conv1.", "neck.1.": "neck.layer_norm1.", "neck.2.": "neck.conv2.",
        "neck.3.": "neck.layer_norm2.",
    }  # fmt: skip
    for here, there in names.items():
        name = name.replace(here, there)
    return name


def sam_by_transformers(ours: SamEncoder, config: SamConfig) -> SamVisionEncoder:
    theirs = SamVisionEncoder(
        SamVisionConfig(
            hidden_size=config.width,
            output_channels=config.neck,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            window_size=config.window,
            global_attn_indexes=config.global_layers,
            attn_implementation="eager",
        )
    )
    state = {their_name(name): tensor for name, tensor in ours.state_dict().items() if not name.startswith("net_")}
    theirs.load_state_dict(state)
    return theirs.eval()


@pytest.mark.parametrize("numbers_at_once", [1, 2**22])
def test_sam_equals_transformers_and_the_two_convolutions(
    monkeypatch: pytest.MonkeyPatch, numbers_at_once: int
) -> None:
    """The gradient agrees, too, with one head or all heads per call."""
    monkeypatch.setitem(relative_attention._WIDE_NUMBERS, "cpu", numbers_at_once)
    config = SamConfig(**{**SAM, "global_layers": (1,), "conv_channels": (24, 32)})
    ours = SamEncoder(config).eval()
    randomise(ours)
    theirs, convolutions = sam_by_transformers(ours, config), [ours.net_2.weight, ours.net_3.weight]
    pixels = torch.randn(2, 3, 64, 64)
    first = F.conv2d(theirs(pixels).last_hidden_state, convolutions[0], stride=2, padding=1)
    second = F.conv2d(first, convolutions[1], stride=2, padding=1)
    with torch.no_grad():
        actual = ours(pixels)
    assert actual.shape == (2, ours.view.count, ours.width) == (2, TOKENS, 32)
    for row in range(2):
        for column in range(2):
            expected = second[:, :, row, column].detach()
            torch.testing.assert_close(
                actual[:, 2 * row + column], expected, rtol=1e-5, atol=1e-5 * expected.abs().max()
            )

    upstream = torch.randn_like(second)
    second.backward(upstream)
    expected_of = {name: p.grad for name, p in theirs.named_parameters()}
    of_convolutions = [weight.grad for weight in convolutions]
    ours.zero_grad()
    with_gradient = ours(pixels)
    torch.testing.assert_close(with_gradient, actual, rtol=1e-5, atol=float(1e-5 * actual.abs().max()))
    with_gradient.transpose(1, 2).reshape(upstream.shape).backward(upstream)
    found_of = {their_name(name): p.grad for name, p in ours.named_parameters()}
    for name, expected in zip(("net_2.weight", "net_3.weight"), of_convolutions, strict=True):
        torch.testing.assert_close(found_of.pop(name), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert found_of.keys() == expected_of.keys()
    for name, expected in expected_of.items():
        torch.testing.assert_close(found_of[name], expected, rtol=0, atol=1e-5 * float(expected.abs().max()), msg=name)


@pytest.mark.parametrize("numbers", [1, 3 * 2 * 8 * 64, 2**22])  # rows of queries at once: 1, 3 of 8, all
def test_sam_is_the_same_with_a_gradient_and_without(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.model.encoders.relative_attention._BIAS_NUMBERS", numbers)
    config = SamConfig(**{**SAM, "global_layers": (1,), "conv_channels": (24, 32)})
    encoder = SamEncoder(config).eval()
    randomise(encoder)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        actual = encoder(pixels)
    expected = encoder(pixels).detach()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=float(1e-5 * expected.abs().max()))


def test_windows_come_back_as_they_went() -> None:
    x = torch.randn(2, 8, 8, 5)
    windows = to_windows(x, 3)
    assert windows.shape == (2 * 9, 3, 3, 5)
    assert torch.equal(windows[1], x[0, :3, 3:6])  # the second window lies to the right of the first
    assert not windows[2, :, 2:].any()  # and the third has a column of padding
    assert torch.equal(from_windows(windows, 8), x)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain, _ = tiny_build(tiny_settings())
    saving, _ = tiny_build(tiny_settings(), gradient_checkpointing=True)
    assert saving.encoders["vary"].gradient_checkpointing and saving.language.model.is_gradient_checkpointing
    for model in (plain, saving):
        model(tiny_batch(model, [1, 0]))[0].backward()
    expected = dict(plain.named_parameters())
    for name, parameter in saving.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_clip_is_the_last_layer_but_one_of_transformers(attention: str) -> None:
    ours, _ = ClipEncoder.build(CLIP, None, attention)
    theirs = CLIPVisionModel(CLIPVisionConfig(**CLIP))
    theirs.load_state_dict(ours.model.state_dict())
    ours.eval(), theirs.eval()
    pixels = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = theirs(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(ours(pixels), expected)
    assert (ours.view.count, ours.width) == expected.shape[1:]


# --- sizes


def test_parameter_counts_of_the_papers_models() -> None:
    vary = EncoderSettings(type="sam")
    opt = LanguageSettings(
        type="opt", tokenizer="-", template="-", config={"max_position_embeddings": 4096, "vocab_size": 50268}
    )
    qwen = LanguageSettings(
        type="qwen2",
        tokenizer="-",
        template="-",
        config={
            "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16,
            "num_key_value_heads": 16, "vocab_size": 151936,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    )  # fmt: skip
    clip_large = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 224, "patch_size": 14,
    }  # fmt: skip
    clip = EncoderSettings(type="clip", frozen=True, config=clip_large)
    pair = {"clip": clip, "vary": dataclasses.replace(vary, frozen=True)}
    options: dict[str, Any] = {"attention": "sdpa", "gradient_checkpointing": True, "seed": 0}
    with torch.device("meta"):
        tiny, parts = build(
            ModelSettings(vision={"vary": vary}, language=opt), vocabulary=50268, image_token_id=50265, **options
        )
        toy, _ = build(ModelSettings(vision=pair, language=qwen), vocabulary=151860, image_token_id=151859, **options)
    assert parts[0].parameters == 95_569_152
    assert sum(p.numel() for p in tiny.parameters()) == 223_165_440 == sum(part.parameters for part in parts)
    assert sum(p.numel() for p in toy.parameters()) == 2_237_676_800
    assert sum(p.numel() for p in toy.parameters() if p.requires_grad) == 1_838_927_872
    assert tiny.layout.planned_tokens == toy.layout.num_tokens((600, 800)) == 256


# --- forward


@pytest.mark.parametrize("language", ["opt", "qwen2"])
def test_losses_are_those_of_a_plain_computation(language: str) -> None:
    model, _ = tiny_build(tiny_settings(language))
    model.eval()
    batch = tiny_batch(model, [1, 0, 2])
    total, losses, rows = model(batch)

    lm = model.language.model
    lm.set_attn_implementation("sdpa")  # from here on transformers' own
    features = [model.encode_images({n: p[i : i + 1] for n, p in batch.pixels.items()}, [(8, 8)]) for i in range(3)]
    expected = []
    for row, images in enumerate([[0], [], [1, 2]]):  # one row at a time, without padding
        ids = ids_of(batch, row)
        embeddings = lm.get_input_embeddings()(ids).clone()
        embeddings[ids == IMAGE] = torch.cat([embeddings[:0], *(features[image] for image in images)])
        logits = lm(inputs_embeds=embeddings[None]).logits[0]
        expected.append(F.cross_entropy(logits[-4:-1], ids[-3:], reduction="none"))
    assert rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    torch.testing.assert_close(losses, torch.cat(expected))
    torch.testing.assert_close(total, torch.cat(expected).sum())


def test_the_image_matters_and_only_to_its_own_row() -> None:
    model, _ = tiny_build(tiny_settings("qwen2"))
    one, other = (model(tiny_batch(model, [1, 0], seed=seed))[1] for seed in (0, 1))
    assert (one[:3] - other[:3]).abs().max() > 1e-6
    assert torch.equal(one[3:], other[3:])


def test_encoders_share_the_channels_in_the_recipes_order() -> None:
    model, _ = tiny_build(tiny_settings("qwen2", frozen=True))
    pixels = tiny_pixels(model, 2)
    features = model.encode_images(pixels, [(8, 8)] * 2).unflatten(0, (2, TOKENS))
    for start, name in ((0, "clip"), (16, "vary")):
        tokens = model.encoders[name](model.layout.preprocess[name].normalise(pixels[name], features.dtype))
        assert tokens.grad_fn is None  # frozen: no graph is kept
        torch.testing.assert_close(features[..., start : start + 16], model.connectors[name](tokens))


def test_wrong_number_of_image_tokens_is_refused() -> None:
    model, _ = tiny_build(tiny_settings())
    batch = tiny_batch(model, [1])
    with pytest.raises(ValueError, match="batch of 2 images: expected 8 image tokens in its rows, found 4"):
        model(dataclasses.replace(batch, pixels=tiny_pixels(model, 2), image_sizes=((8, 8),) * 2))


@pytest.mark.parametrize("language", ["opt", "qwen2"])
@pytest.mark.parametrize("images", [[0, 0], [1, 0]])
@pytest.mark.parametrize("supervised", [True, False])
def test_every_trainable_parameter_gets_a_gradient(language: str, images: list[int], supervised: bool) -> None:
    model, _ = tiny_build(tiny_settings(language), gradient_checkpointing=True)
    total, losses, rows = model(tiny_batch(model, images, supervised=supervised))
    total.backward()
    assert len(losses) == len(rows) == 6 * supervised
    assert without_gradient(model) == []
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    vision = {"encoders", "connectors"} if any(images) else set()
    assert trained == ({"language"} | vision if supervised else set())


@pytest.mark.parametrize("frozen", [True, False])
def test_text_calls_no_encoder_and_survives_infinite_vision_weights(frozen: bool) -> None:
    model, _ = tiny_build(tiny_settings("qwen2", frozen=frozen))
    calls: list[int] = []
    for part in model.encoders.values():
        part.register_forward_pre_hook(lambda *_: calls.append(1))
    model(tiny_batch(model, [0, 0]))
    model.eval()
    model(tiny_batch(model, [0, 0]))
    assert not calls
    model.train()
    model.connectors["vary"].bias.data.fill_(torch.inf)
    total, losses, _ = model(tiny_batch(model, [0, 0]))
    total.backward()
    assert losses.isfinite().all()
    assert not model.connectors["vary"].bias.grad.any()
    assert not calls


def test_frozen_encoders_stay_in_evaluation_mode_without_gradient() -> None:
    model, parts = tiny_build(tiny_settings("qwen2", frozen=True), gradient_checkpointing=True)
    model.train()
    assert not any(module.training for module in model.encoders.modules() if module is not model.encoders)
    assert model.language.model.training and model.connectors["vary"].training
    model(tiny_batch(model, [1, 1]))[0].backward()
    assert all(p.grad is None for p in model.encoders.parameters())
    assert without_gradient(model) == []
    assert {part.part: part.trainable > 0 for part in parts} == {
        "encoders.clip": False,
        "encoders.vary": False,
        "connectors.clip": True,
        "connectors.vary": True,
        "language": True,
    }
    assert not model.eval().language.training


def test_half_precision_runs() -> None:
    model, _ = tiny_build(tiny_settings("qwen2"))
    batch = tiny_batch(model, [1, 0])
    _, expected, _ = model(batch)
    _, losses, _ = model.bfloat16()(batch)
    assert losses.dtype == expected.dtype
    torch.testing.assert_close(losses, expected, atol=0.1, rtol=0)


# --- generation


@pytest.mark.parametrize("language", ["opt", "qwen2"])
def test_generation_in_a_batch_equals_one_by_one_and_plain_greedy(language: str) -> None:
    model, _ = tiny_build(tiny_settings(language))
    randomise(model)
    model.eval()
    batch = tiny_batch(model, [1, 0, 2])
    alone, plain, left = [], [], []
    first = 0
    for row, count in enumerate([1, 0, 2]):
        ids = ids_of(batch, row)
        pixels = {name: p[first : first + count] for name, p in batch.pixels.items()}
        first += count
        alone += model.generate(
            ids[None], torch.ones_like(ids)[None], pixels, [(8, 8)] * count, max_new_tokens=8, eos_id=EOS
        )
        plain.append(greedy_without_cache(model, ids, pixels, 8))
        left.append(F.pad(ids, (batch.input_ids.shape[1] - len(ids), 0), value=-1))
    ids = torch.stack(left)
    together = model.generate(
        ids.clamp(min=0), (ids >= 0).long(), batch.pixels, batch.image_sizes, max_new_tokens=8, eos_id=EOS
    )
    assert together == alone == plain
    assert len({tuple(row) for row in together}) == 3  # else it would prove nothing


def greedy_without_cache(model: VisionLanguageModel, ids: Tensor, pixels: dict[str, Tensor], count: int) -> list[int]:
    actual: list[int] = []
    with torch.no_grad():
        embeddings = model.language.embed(ids)
        if (ids == IMAGE).any():
            sizes = [(8, 8)] * len(pixels["vary"])
            embeddings[ids == IMAGE] = model.encode_images(pixels, sizes)
        while len(actual) < count:
            length = len(embeddings)
            hidden = model.language.hidden_states(embeddings[None], torch.arange(length)[None], ((length,),))
            token = int((hidden[0, -1] @ model.language.head.T).argmax())
            actual.append(token)
            if token == EOS:
                break
            embeddings = torch.cat([embeddings, model.language.embed(torch.tensor([token]))])
    return actual


def test_generation_stops_at_the_end_token_and_at_the_last_position() -> None:
    model, _ = tiny_build(tiny_settings())
    model.eval()
    pixels = tiny_pixels(model, 0)
    prompt = torch.full((1, 60), 5)
    mask = torch.ones_like(prompt)
    (ids,) = model.generate(prompt, mask, pixels, [], max_new_tokens=50, eos_id=EOS)
    assert 0 < len(ids) <= 64 - 60
    assert model.generate(prompt, mask, pixels, [], max_new_tokens=50, eos_id=ids[0]) == [ids[:1]]
    longer = torch.full((1, 64), 5)
    with pytest.raises(ValueError, match="prompt of 64 tokens: the language model has 64 positions"):
        model.generate(longer, torch.ones_like(longer), pixels, [], max_new_tokens=1, eos_id=EOS)


# --- building


def test_random_weights_depend_on_the_seed_alone() -> None:
    one, again, other = (tiny_build(tiny_settings(), seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["encoders.vary.pos_embed"], other["encoders.vary.pos_embed"])
    assert torch.initial_seed() == 0  # the caller's generator is left alone


def test_rows_of_the_vocabulary_and_tied_head() -> None:
    model, _ = tiny_build(tiny_settings())
    assert model.language.vocabulary == VOCABULARY
    assert model.language.head is model.language.model.get_input_embeddings().weight
    assert model.language.model.get_input_embeddings().padding_idx is None  # every row trains, whatever id padding has
    untied, _ = tiny_build(tiny_settings("qwen2"))
    assert untied.language.head is not untied.language.model.get_input_embeddings().weight
    more, _ = LANGUAGE_MODELS["opt"].build({**LANGUAGE["opt"], "vocab_size": 70}, None, "sdpa", vocabulary=60)
    assert more.vocabulary == 70


def change(settings: ModelSettings, **changes: Any) -> ModelSettings:
    (name, encoder), *_ = settings.vision.items()
    return dataclasses.replace(settings, vision={name: dataclasses.replace(encoder, **changes)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (change(tiny_settings(), type="samm"), r"model.vision.vary.type: found 'samm'.*sam, clip.*mean 'sam'"),
        (
            change(tiny_settings(), connector=PartSettings(type="linaer")),
            r"model.vision.vary.connector.type: found 'linaer'.*one of linear.*did you mean 'linear'",
        ),
        (
            change(tiny_settings(), connector=PartSettings(type="linear", config={"depth": 2})),
            "connector linear: unknown key 'depth'; it takes none",
        ),
        (change(tiny_settings(), preprocess={"sise": 3}), "model.vision.vary.preprocess: unknown key 'sise'"),
        (change(tiny_settings(), config={**SAM, "widht": 3}), r"sam: unknown key 'widht' \(did you mean 'width'\?\)"),
        (change(tiny_settings(), config={**SAM, "heads": 5}), "width 32 is not a multiple of heads 5"),
        (change(tiny_settings("qwen2"), config={**CLIP, "patchsize": 3}), "clip: unknown key.*mean 'patch_size'"),
        (dataclasses.replace(tiny_settings(), vision={}), "model.vision: found no encoder"),
        (dataclasses.replace(tiny_settings(), fusion="chanel"), r"model.fusion: found 'chanel'.*mean 'channel'"),
        (
            dataclasses.replace(
                tiny_settings(),
                language=LanguageSettings(type="opt", tokenizer="-", template="-", config={"hiden_size": 3}),
            ),
            "opt: unknown key 'hiden_size'.*mean 'hidden_size'",
        ),
        (
            dataclasses.replace(
                tiny_settings(),
                vision={name: EncoderSettings(type="sam", config=SAM) for name in ("a", "b", "c")},
            ),
            "3 encoders cannot share the language model's hidden size 32",
        ),
        (
            dataclasses.replace(
                tiny_settings("qwen2"),
                vision={
                    "clip": EncoderSettings(type="clip", config=CLIP),
                    "vary": EncoderSettings(type="sam", config={**SAM, "image_size": 128}),
                },
            ),
            "equally many tokens per image, found clip 2x2, vary 4x4",
        ),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_built_is_told_why(settings: ModelSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_build(settings)


# --- weights


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Export a trained Vary-tiny."""
    model, _ = tiny_build(tiny_settings(), seed=3)
    randomise(model)
    folder = tmp_path / "tiny-v1.0"  # a dot in a folder's name is no suffix
    folder.mkdir()
    save_model(model, str(folder / "model.safetensors"))
    return folder


def test_the_vision_vocabulary_moves_from_tiny_to_toy(export: Path) -> None:
    tiny = load_file(export / "model.safetensors")
    toy, parts = tiny_build(tiny_settings("qwen2", frozen=True, sam_weights=str(export)))
    for name, tensor in toy.encoders["vary"].state_dict().items():
        assert torch.equal(tensor, tiny[f"encoders.vary.{name}"]), name
    sources = {part.part: (part.source, part.tensors_random) for part in parts}
    assert sources["encoders.vary"] == (str(export / "model.safetensors"), 0)
    assert sources["connectors.vary"] == ("RANDOM", 2)


def test_a_tied_language_model_comes_back_from_an_export(export: Path) -> None:
    stored = load_file(export / "model.safetensors")
    names = {"language.model.lm_head.weight", "language.model.model.decoder.embed_tokens.weight"}
    (saved,) = names & stored.keys()  # safetensors stores a tied tensor once
    language, loaded = LANGUAGE_MODELS["opt"].build(LANGUAGE["opt"], str(export), "sdpa", vocabulary=VOCABULARY)
    assert loaded.random == ()
    assert torch.equal(language.head, stored[saved])
    assert torch.equal(language.model.get_input_embeddings().weight, stored[saved])


def test_weights_of_another_shape_are_refused(export: Path) -> None:
    settings = change(tiny_settings(sam_weights=str(export)), config={**SAM, "conv_channels": [24, 40]})
    with pytest.raises(ValueError, match=r"model.safetensors: net_3.weight has shape \(32, 24.*expected \(40, 24"):
        tiny_build(settings)


def test_an_encoder_that_no_export_has_is_refused(export: Path) -> None:
    settings = change(tiny_settings(sam_weights=str(export)), config={**SAM, "depth": 4})
    with pytest.raises(ValueError, match=r"0 of its encoders fit; encoders found: encoders.vary \(53 tensors\)"):
        tiny_build(settings)


def test_original_sam_leaves_only_the_convolutions_random(tmp_path: Path) -> None:
    encoder, _ = SamEncoder.build(SAM, None, "sdpa")
    randomise(encoder)
    trunk = {name: t for name, t in encoder.state_dict().items() if not name.startswith("net_")}
    file = tmp_path / "sam.pth"
    stored = {f"image_encoder.{name}": tensor for name, tensor in trunk.items()}
    torch.save({**stored, "mask_decoder.iou_token.weight": torch.zeros(1)}, file)

    model, parts = tiny_build(tiny_settings(sam_weights=str(file)))
    for name, tensor in trunk.items():
        assert torch.equal(model.encoders["vary"].state_dict()[name], tensor), name
    assert (parts[0].tensors_random, parts[0].tensors_loaded) == (2, len(trunk))

    del stored["image_encoder.neck.0.weight"]
    torch.save(stored, file)
    with pytest.raises(ValueError, match=r"sam.pth lacks 1 tensors: neck.0.weight"):
        tiny_build(tiny_settings(sam_weights=str(file)))


def test_missing_files_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "sam.pth", tmp_path / "run"):
        with pytest.raises(ValueError, match=rf"{path}.*no such file.*null for random weights"):
            tiny_build(tiny_settings(sam_weights=str(path)))
    with pytest.raises(ValueError, match=r"no such folder.*give a local folder, or null for random weights"):
        LANGUAGE_MODELS["opt"].build({}, str(tmp_path / "opt"), "sdpa", vocabulary=9)


@pytest.fixture
def opt_folder(tmp_path: Path) -> Path:
    """Save an OPT of 20 positions and 50 rows by transformers."""
    model = OPTForCausalLM(OPTConfig(**{**LANGUAGE["opt"], "max_position_embeddings": 20, "vocab_size": 50}))
    randomise(model)
    model.save_pretrained(tmp_path)
    return tmp_path


def test_opt_gets_more_positions_and_rows_and_keeps_what_it_has(opt_folder: Path) -> None:
    stored = load_file(opt_folder / "model.safetensors")
    config = {"max_position_embeddings": 40, "dropout": 0.25}
    language, loaded = LANGUAGE_MODELS["opt"].build(config, str(opt_folder), "eager", vocabulary=55)
    decoder = language.model.model.decoder
    table = stored["model.decoder.embed_positions.weight"]
    assert loaded.random == ()
    assert torch.equal(decoder.embed_positions.weight, stretch_positions(table, 40))
    assert (language.vocabulary, language.max_positions) == (55, 40)
    assert torch.equal(language.head[:50], stored["model.decoder.embed_tokens.weight"])
    assert language.head is language.model.get_input_embeddings().weight
    assert decoder.layers[0].dropout == 0.25
    assert language.model.config._attn_implementation == BY_SAMPLE["eager"]
    ids = torch.arange(40)[None]
    assert language.hidden_states(language.embed(ids), ids, ((40,),)).isfinite().all()

    fewer, _ = LANGUAGE_MODELS["opt"].build({}, str(opt_folder), "sdpa", vocabulary=9)
    assert (fewer.vocabulary, fewer.max_positions) == (50, 20)
    with pytest.raises(ValueError, match="max_position_embeddings 10: expected at least the 20"):
        LANGUAGE_MODELS["opt"].build({"max_position_embeddings": 10}, str(opt_folder), "sdpa", vocabulary=9)


def test_an_exported_language_model_grows_as_a_folder_of_transformers_does(opt_folder: Path, tmp_path: Path) -> None:
    """One recipe fits both: it has more positions and more rows than the weights."""
    Import(opt_folder).write(tmp_path / "ours")
    part = yaml.safe_load((tmp_path / "ours" / "part.yaml").read_text())
    config = {**part["config"], "max_position_embeddings": 40}
    language, loaded = LANGUAGE_MODELS["opt"].build(config, part["weights"], "sdpa", vocabulary=55)
    folders, _ = LANGUAGE_MODELS["opt"].build({"max_position_embeddings": 40}, str(opt_folder), "sdpa", vocabulary=55)
    ours, theirs = language.state_dict(), folders.state_dict()
    assert loaded.random == ()
    assert (language.vocabulary, language.max_positions) == (55, 40)
    assert language.head is language.model.get_input_embeddings().weight
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name][:50], tensor[:50]), name  # new rows are drawn
    ids = torch.arange(40)[None]
    assert language.hidden_states(language.embed(ids), ids, ((40,),)).isfinite().all()
    same, _ = LANGUAGE_MODELS["opt"].build(part["config"], part["weights"], "sdpa", vocabulary=9)
    assert (same.vocabulary, same.max_positions) == (50, 20)
    with pytest.raises(ValueError, match=f"max_position_embeddings 10: expected at least the 20 of {part['weights']}"):
        LANGUAGE_MODELS["opt"].build({**config, "max_position_embeddings": 10}, part["weights"], "sdpa", vocabulary=9)
    with pytest.raises(UserError, match="max_position_embeddings 'x'"):
        LANGUAGE_MODELS["opt"].build({**config, "max_position_embeddings": "x"}, part["weights"], "sdpa", vocabulary=9)


@pytest.mark.parametrize(
    ("key", "value", "stated"),
    [
        ("num_hidden_layers", 10**9, "expected at most"),
        ("num_attention_heads", 0, "zero"),
        ("hidden_size", "x", "hidden_size"),
    ],
)
def test_a_config_of_a_folder_that_makes_no_model(opt_folder: Path, key: str, value: object, stated: str) -> None:
    file = opt_folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=stated) as error:
        LANGUAGE_MODELS["opt"].build({}, str(opt_folder), "sdpa", vocabulary=9)
    assert str(opt_folder) in str(error.value) and "\n" not in str(error.value)


def test_stretched_positions_keep_offset_rows_and_ends() -> None:
    table = torch.cat([torch.tensor([[90.0], [91.0]]), torch.arange(5.0)[:, None]])
    assert stretch_positions(table, 9).flatten().tolist() == [90, 91, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]


def test_a_language_model_with_a_hole_is_refused(opt_folder: Path) -> None:
    file = opt_folder / "model.safetensors"
    stored = load_file(file)
    with pytest.raises(ValueError, match=r"fc1.bias has shape \(48,\), expected \(64,\)"):
        LANGUAGE_MODELS["opt"].build({"ffn_dim": 64}, str(opt_folder), "sdpa", vocabulary=9)
    del stored["model.decoder.layers.1.fc1.weight"]
    save_file(stored, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors: model.decoder.layers.1.fc1.weight"):
        LANGUAGE_MODELS["opt"].build({}, str(opt_folder), "sdpa", vocabulary=9)


def test_clip_takes_its_sizes_from_the_checkpoint(tmp_path: Path) -> None:
    stored = CLIPVisionModel(CLIPVisionConfig(**CLIP))
    stored.save_pretrained(tmp_path)
    encoder, loaded = ClipEncoder.build({}, str(tmp_path), "sdpa")
    assert loaded.random == () and encoder.view.count == TOKENS
    for name, tensor in stored.state_dict().items():
        assert torch.equal(encoder.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 cut", None])
def test_a_checkpoint_that_is_none_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "sam.pth"
    if content is None:
        torch.save([torch.zeros(1)], path)
    else:
        path.write_bytes(content)
    vision = {"vary": dataclasses.replace(tiny_settings().vision["vary"], weights=str(path))}
    with pytest.raises(ValueError, match=r"sam\.pth: (not a file of tensors|expected tensors by name)") as error:
        tiny_build(dataclasses.replace(tiny_settings(), vision=vision))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"conv_channels": [8]}, "conv_channels"),
        ({"global_layers": 1}, "global_layers"),
        ({"patch_size": 0}, "patch_size"),
        ({"image_size": "big"}, "image_size"),
        ({"window": -1}, "window"),
    ],
)
def test_impossible_sizes_of_sam_are_named(config: dict[str, object], name: str) -> None:
    part = tiny_settings().vision["vary"]
    vision = {"vary": dataclasses.replace(part, config={**part.config, **config})}
    with pytest.raises(ValueError, match=f"sam: {name}"):
        tiny_build(dataclasses.replace(tiny_settings(), vision=vision))


@pytest.mark.parametrize("config", [{"num_attention_heads": 5}, {"num_key_value_heads": 3}])
def test_impossible_heads_of_a_language_model_are_named(config: dict[str, object]) -> None:
    settings = tiny_settings("qwen2")
    language = dataclasses.replace(settings.language, config={**settings.language.config, **config})
    with pytest.raises(ValueError, match="num_attention_heads"):
        tiny_build(dataclasses.replace(settings, language=language))
