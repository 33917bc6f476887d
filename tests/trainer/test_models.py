"""The models that ship: at full size what they are made of, shrunk what they do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.mix.report import read_mixture_file, report_on
from tests.pipelines.shard_world import photo, talk, write_set
from tests.trainer import tokenizers_of_all_kinds as kinds
from tests.trainer.world import CLIP, OPT, QWEN, SAM
from trainer.assemble import assemble, planned_image
from trainer.batch import Step
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.evaluate.generate import answers
from trainer.exported import export_model, load_exported
from trainer.images.layout import ImageLayout
from trainer.images.sizes import Size
from trainer.loader.packing import empty_batch
from trainer.loader.step_loader import Share, StepLoader, load_sample, open_pool
from trainer.model.build import build, image_layout
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import MixtureSettings, ModelSettings, Recipe, SourceSettings, WandbSettings
from trainer.text.encode import ConversationEncoder
from trainer.train.checkpoint import resume, save_checkpoint
from trainer.train.engine import Engine, start_distributed
from trainer.train.loop import train_step
from trainer.train.optim import build_optimizer
from trainer.train.state import TrainState
from varyforge.config import load
from varyforge.sample import Sample
from varyforge.shards import ShardSet

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
PAGE = (ROOT / "docs" / "models.md").read_text()
STAGES = sorted(path for path in RECIPES.glob("*.yaml") if path.name != "demo.yaml")

LLAMA = {**QWEN, "num_key_value_heads": 1}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "sam": SAM,
    "clip": CLIP,
    "siglip": {**CLIP, "image_size": 32, "patch_size": 8},  # 4 x 4 tokens
    "opt": OPT,
    "qwen2": QWEN,
    "llama": LLAMA,
    "mistral": LLAMA,
}
"""Sizes for each type of part, in place of a recipe's; what else its config says stays."""

SMALL_NECK = 16  # side of SAM's map, then 4 x 4 tokens, in place of DeepSeek-VL's 96
TOKENIZERS = {"opt": kinds.opt, "qwen2": kinds.qwen, "llama": kinds.llama, "mistral": kinds.llama}

CLIP_224 = 303_179_776  # checkpoint-keys of the releases; 336 px have 320 positions more, of 1024 numbers
CLIP_336 = CLIP_224 + (577 - 257) * 1024
SAM_B = 95_569_152
# SigLIP-L/16-384: patches and positions, 24 layers, the last norm, the pooling head (probe, attention, norm, MLP).
_LAYER = 4 * (1024 * 1024 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
SIGLIP_L = (3 * 256 * 1024 + 1024) + 576 * 1024 + 24 * _LAYER + 2048
SIGLIP_L += 1024 + 4 * (1024 * 1024 + 1024) + 2048 + (2 * 1024 * 4096 + 4096 + 1024)
LLAMA_7B, MISTRAL_7B, QWEN_7B = 6_738_415_616, 7_241_732_096, 7_721_324_544  # as published with the weights
DEEPSEEK_7B = 6_910_365_696
OPT_125M = 125_239_296 + 2048 * 768  # 4096 positions
QWEN_1_8B = 1_836_828_672


def _linear(width_in: int, width_out: int) -> int:
    return width_in * width_out + width_out


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """The known figures of a model; `parts` counts parameters."""

    tokens: Mapping[Size, int]  # of images of (height, width) px
    parts: Mapping[str, int]


def _llava_16(language: int) -> Shipped:
    # 24 x 24 tokens of the whole image, then the grid's, unpadded, with a separator for each of their rows.
    sizes = {
        (672, 672): 576 + 48 * (48 + 1),
        (336, 1344): 576 + 24 * (96 + 1),
        (1344, 336): 576 + 96 * (24 + 1),
        (480, 640): 576 + 36 * (48 + 1),  # 672 x 504 px of the tiles' 672 x 672
        (500, 1000): 576 + 24 * (48 + 1),  # 672 x 336 px of them
    }
    connector = _linear(1024, 4096) + _linear(4096, 4096)
    return Shipped(
        tokens=sizes,
        parts={"encoders.clip": CLIP_336, "connectors.clip": connector, "joint": 4096, "language": language},
    )


_TINY_PLUS = Shipped(
    tokens={(1000, 700): 256},
    parts={"encoders.vary": SAM_B, "connectors.vary": _linear(1024, 768), "joint": 0, "language": OPT_125M},
)
_TOY = Shipped(
    tokens={(1000, 700): 256},
    parts={
        "encoders.clip": CLIP_224,
        "encoders.vary": SAM_B,
        "connectors.clip": _linear(1024, 1024),
        "connectors.vary": _linear(1024, 1024),
        "joint": 0,
        "language": QWEN_1_8B,
    },
)
MODELS: dict[str, Shipped] = {
    "tiny_plus": _TINY_PLUS,
    "toy": _TOY,
    "vary_base": replace(
        _TOY,
        parts={
            **_TOY.parts,
            "connectors.clip": _linear(1024, 2048),
            "connectors.vary": _linear(1024, 2048),
            "language": QWEN_7B,
        },
    ),
    "llava": Shipped(
        tokens={(1000, 700): 256},
        parts={"encoders.clip": CLIP_224, "connectors.clip": _linear(1024, 4096), "joint": 0, "language": LLAMA_7B},
    ),
    "llava_15": Shipped(
        tokens={(1000, 700): 576},
        parts={
            "encoders.clip": CLIP_336,
            "connectors.clip": _linear(1024, 4096) + _linear(4096, 4096),
            "joint": 0,
            "language": LLAMA_7B,
        },
    ),
    "llava_16": _llava_16(LLAMA_7B),
    "llava_16_mistral": _llava_16(MISTRAL_7B),
    "deepseek_vl": Shipped(
        tokens={(1000, 700): 576},
        parts={
            "encoders.sam": SAM_B,
            "encoders.siglip": SIGLIP_L,
            "connectors.sam": _linear(1024, 2048),
            "connectors.siglip": _linear(1024, 2048),
            "joint": _linear(4096, 4096),
            "language": DEEPSEEK_7B,
        },
    ),
}
CONNECTS = {"connectors", "joint"}
TRAINED = {  # parts that learn, by stage
    "tiny_plus": CONNECTS | {"encoders.vary", "language"},
    "tiny_plus_1080ti": CONNECTS | {"encoders.vary", "language"},
    "llava_pretrain": CONNECTS,
    "llava_15_pretrain": CONNECTS,
    "llava_16_pretrain": CONNECTS,
    "llava_16_mistral_pretrain": CONNECTS,
    "llava_16_sft": CONNECTS | {"encoders.clip", "language"},
    "llava_16_mistral_sft": CONNECTS | {"encoders.clip", "language"},
    "deepseek_vl_adaptor": CONNECTS,
    "deepseek_vl_sft": CONNECTS | {"encoders.siglip", "language"},
}
every_stage = pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
ONE_OF_A_KIND = {
    "tiny_plus",
    "toy_sft",
    "vary_base_sft",
    "llava_15_pretrain",
    "llava_16_mistral_sft",
    "deepseek_vl_sft",
}
every_stage_slowly = pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in ONE_OF_A_KIND else pytest.mark.slow) for path in STAGES],
    ids=lambda path: path.stem,
)


def model_of(stage: str) -> Shipped:
    """The model of a recipe: the longest name that its own begins with."""
    return MODELS[max((name for name in MODELS if stage.startswith(name)), key=len)]


def bare(model: ModelSettings) -> ModelSettings:
    """Without weights to load."""
    vision = {name: replace(part, weights=None) for name, part in model.vision.items()}
    return replace(model, vision=vision, language=replace(model.language, weights=None))


MADE: dict[str, tuple[VisionLanguageModel, ImageLayout]] = {}


def full_size(path: Path) -> tuple[VisionLanguageModel, ImageLayout]:
    """A recipe's model without memory for its parameters, and the layout that planning asks; once for all stages."""
    model = bare(load(Recipe, path).model)
    vision = {name: replace(part, frozen=False) for name, part in model.vision.items()}
    model = replace(model, vision=vision, language=replace(model.language, frozen=False, template=""))
    if repr(model) not in MADE:
        sizes: dict[str, Any] = {"vocabulary": 1, "image_token_id": 0, "seed": 0}
        with torch.device("meta"):
            built, _ = build(model, attention="sdpa", gradient_checkpointing=False, **sizes)
        MADE[repr(model)] = built, image_layout(model)
    return MADE[repr(model)]


def shrunk(recipe: Recipe, out: Path, shards: Path) -> Recipe:
    """A recipe with its parts' sizes, its batch and its data small, in fp32; all else as it is."""
    vision = {}
    for name, part in bare(recipe.model).vision.items():
        small = dict(SMALL[part.type]) | ({"neck_grid": SMALL_NECK} if "neck_grid" in part.config else {})
        vision[name] = replace(part, config={**part.config, **small})
    speaks = recipe.model.language
    language = replace(
        speaks,
        weights=None,
        tokenizer=make_tokenizer(speaks.type, speaks.template, out.parent),
        config={**speaks.config, **SMALL[speaks.type]},
    )
    sources = {
        name: SourceSettings(shards=str(shards / name), repeat="times", times=100) for name in ("photos", "talks")
    }
    return replace(
        recipe,
        out=str(out),
        init=None,
        model=replace(recipe.model, vision=vision, language=language),
        data=replace(recipe.data, mixture=MixtureSettings(sources=sources), max_length=1024, workers=0),
        engine=replace(recipe.engine, global_batch_size=4, precision="fp32"),
        wandb=WandbSettings(mode="disabled"),
    )


def make_tokenizer(language: str, template: str, folder: Path) -> str:
    """A small tokenizer of the kind that a language model has, with its template's tokens."""
    place = folder / "tokenizers" / f"{language}-{template}"
    kinds.with_tokens(TOKENIZERS[language](), template).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of several shapes, and talk without one."""
    root = tmp_path_factory.mktemp("models")
    shapes = ((96, 64), (40, 120), (120, 40), (64, 64))
    write_set(root / "photos", "detection", [[photo(n, ["cat"], *shape) for n, shape in enumerate(shapes)]])
    write_set(root / "talks", "chat", [[talk(n, f"question {n}", f"answer {n}") for n in range(2)]])
    return root


@pytest.fixture(autouse=True)
def flush_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield


def first_step(recipe: Recipe, encoder: ConversationEncoder) -> Step:
    share = Share(global_batch_size=4, micro_batch_size=recipe.engine.micro_batch_size)
    corpus, loads = (
        Corpus(recipe.data, open_cache(recipe.data)),
        load_sample(encoder, recipe.data, open_cache(recipe.data)),
    )
    with open_pool(loads, recipe.data, corpus, Path(recipe.out)) as pool:
        (step,) = StepLoader(corpus, loads, pool, share, recipe.data).steps(0, 1)
    assert not step.skipped and any(batch.image_sizes for batch in step.batches)
    return step


def started(recipe: Recipe) -> tuple[Engine, VisionLanguageModel, ConversationEncoder]:
    start_distributed()
    model, encoder, _ = assemble(recipe)
    optimizer = build_optimizer(model, recipe.optim)
    return Engine(model, optimizer, recipe.engine, recipe.optim.grad_clip), model, encoder


def state_of(engine: Engine) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in engine.state_dict().items()}


@torch.no_grad()
def losses_of(model: VisionLanguageModel, step: Step) -> Tensor:
    """Return the loss of each supervised token of a step."""
    return torch.cat([model(batch)[-2] for batch in step.batches])


def samples_of(shards: Path) -> list[Sample]:
    rows = ShardSet(shards / "photos").table(["shard", "offset", "size"]).to_pylist()
    return [ShardSet(shards / "photos").read(row["shard"], row["offset"], row["size"]) for row in rows]


def trains_resumes_exports_and_answers(recipe: Recipe, shards: Path) -> set[str]:
    """Does so, and names the parameters that a step has moved."""
    engine, model, encoder = started(recipe)
    step, before = first_step(recipe, encoder), state_of(engine)
    result = train_step(engine, step, 1e-3, empty_batch(encoder.pad_id, encoder.layout))
    assert result.loss is not None and result.supervised_tokens > 0
    trained = state_of(engine)
    for name, _ in model.named_parameters():
        if not name.endswith("k_proj.bias"):  # attention's softmax cancels it: its gradient is rounding
            assert torch.equal(trained[name], before[name]) == (name not in engine.trained), name
    save_checkpoint(engine, Path(recipe.out), TrainState(step=1, data_sha256="data"), rank=0, keep=1)
    again, again_model, _ = started(recipe)
    assert any(not torch.equal(tensor, trained[name]) for name, tensor in again.state_dict().items())
    assert resume(again, Path(recipe.out), "data").step == 1
    assert all(torch.equal(tensor, trained[name]) for name, tensor in again.state_dict().items())

    written = export_model(again.state_dict(), again_model, recipe, encoder.tokenizer)
    exported, its_encoder, _ = load_exported(written)
    plain, _, _ = assemble(recipe)  # ZeRO 3 keeps a model's own weights in pieces
    plain.load_state_dict(trained)
    assert torch.equal(losses_of(exported, step), losses_of(plain.eval(), step))
    losses = [
        list(answers(m, its_encoder, samples_of(shards), max_new_tokens=3, batch_size=2)) for m in (exported, plain)
    ]
    assert len(losses[0]) == 4 and losses[0] == losses[1]
    return set(engine.trained)


@every_stage_slowly
def test_a_stage_trains_resumes_exports_and_answers(path: Path, shards: Path, tmp_path: Path) -> None:
    trained = trains_resumes_exports_and_answers(shrunk(load(Recipe, path), tmp_path / "run", shards), shards)
    learn = tuple(TRAINED.get(path.stem, CONNECTS | {"language"}))
    parts = {part for part, parameters in model_of(path.stem).parts.items() if parameters}
    learnt = {part for part in parts if any(name.startswith(f"{part}.") for name in trained)}
    assert learnt == {part for part in parts if part.startswith(learn)}


@every_stage_slowly
def test_a_stage_starts_from_one_that_ships_and_fits(path: Path) -> None:
    recipe = load(Recipe, path)
    if recipe.init is None:
        return
    outs = {f"{load(Recipe, other).out}/model": other for other in STAGES}
    (earlier, _), (model, _) = full_size(outs[recipe.init]), full_size(path)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in earlier.named_parameters()}


@every_stage
def test_image_tokens_at_full_size(path: Path) -> None:
    (_, layout), known = full_size(path), model_of(path.stem).tokens
    assert {size: layout.num_tokens(size) for size in known} == known
    assert layout.planned_tokens >= max(known.values())
    assert max(known.values()) <= load(Recipe, path).data.max_length
    assert layout.most_views <= load(Recipe, path).data.max_images


@every_stage
def test_parameters_at_full_size(path: Path) -> None:
    (model, _), known = full_size(path), model_of(path.stem).parts
    assert {part: sum(p.numel() for p in model.get_submodule(part).parameters()) for part in known} == known
    total = sum(p.numel() for p in model.parameters())
    assert total == sum(known.values())
    (row,) = (line for line in PAGE.splitlines() if line.startswith("|") and f"`{path.stem}`" in line)
    assert f"| {total:,} |" in row


def test_a_mixture_is_planned_with_the_models_image_tokens(shards: Path) -> None:
    path = RECIPES / "llava_16_sft.yaml"
    mixture = read_mixture_file(path, [f"data.mixture.sources.llava_next.shards={shards / 'photos'}"])
    report = report_on(mixture, global_batch=2)
    assert report.image_tokens == planned_image(load(Recipe, path).model).tokens == 576 + 96 * 25
    (source,) = report.sources
    assert source.counts.tokens > 4 * report.image_tokens


def test_the_example_of_the_page(shards: Path, tmp_path: Path) -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mixtures").symlink_to(RECIPES / "mixtures")
    (tmp_path / "mine.yaml").write_text(written)
    recipe = load(Recipe, tmp_path / "mine.yaml")
    layout = image_layout(recipe.model)
    assert (layout.view.count, layout.num_tokens((384, 768)), layout.planned_tokens) == (144, 432, 1008)
    assert layout.most_views <= recipe.data.max_images
    trained = trains_resumes_exports_and_answers(shrunk(recipe, tmp_path / "run", shards), shards)
    assert {name.split(".")[0] for name in trained} == {"connectors", "language"}
