"""Every recipe loads, and its numbers are those of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.run.__main__ import Pipeline
from trainer.model.build import build
from trainer.settings import MixtureSettings, Recipe
from trainer.train.engine import engine_config
from varyforge.config import load
from varyforge.errors import UserError

RECIPES = Path(__file__).parents[1] / "recipes"
FRAGMENTS = {RECIPES / part for part in ("hardware/11gb.yaml", "demo/toy_sizes.yaml")} | {
    *(RECIPES / "model").iterdir()
}
MIXTURES = set((RECIPES / "mixtures").glob("*.yaml"))
DATA = set((RECIPES / "data").glob("*.yaml"))
TRAINING = sorted(set(RECIPES.rglob("*.yaml")) - FRAGMENTS - MIXTURES - DATA - {RECIPES / "demo.yaml"})


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_loads_and_gives_an_engine(path: Path) -> None:
    recipe = load(Recipe, path)
    engine_config(recipe.engine, recipe.optim.grad_clip)


def test_fragments_are_no_recipes() -> None:
    for path in FRAGMENTS:
        with pytest.raises(UserError, match="out"):
            load(Recipe, path)


def test_the_demo_names_stages_in_order() -> None:
    pipeline = load(Pipeline, RECIPES / "demo.yaml", ["pdfs=my papers"])
    assert "my papers" in pipeline.stages["pdf"].command
    written: set[str] = {"my papers"}
    for stage in pipeline.stages.values():
        for path in stage.reads:
            inside = any(path == built or path.startswith(built + "/") for built in written)
            assert inside or (RECIPES.parent / path).is_file(), path
        written |= set(stage.writes)


@pytest.mark.parametrize("path", sorted(MIXTURES), ids=lambda path: path.stem)
def test_a_mixture_is_a_file_of_its_own(path: Path) -> None:
    assert load(MixtureSettings, path) == load(Recipe, RECIPES / path.name).data.mixture


@pytest.mark.parametrize(
    ("name", "rate", "epochs"), [("tiny_plus", 5e-5, 2), ("toy_pretrain", 5e-5, 1), ("toy_sft", 2e-5, 1)]
)
def test_the_papers_training_settings(name: str, rate: float, epochs: int) -> None:
    recipe = load(Recipe, RECIPES / f"{name}.yaml")
    assert (recipe.optim.learning_rate, recipe.data.epochs) == (rate, epochs)
    assert (recipe.engine.global_batch_size, recipe.engine.micro_batch_size) == (512, 1)  # rows
    assert (recipe.optim.warmup_ratio, recipe.optim.weight_decay, recipe.optim.grad_clip) == (0.03, 0, None)
    assert (recipe.data.max_length, recipe.engine.zero_stage, recipe.engine.precision) == (4096, 2, "bf16")


@pytest.mark.parametrize(
    ("name", "rate", "batch", "epochs", "warmup"),
    [
        ("vary_base_pretrain", 5e-5, 256, 1, 0.03),
        ("vary_base_sft", 1e-5, 256, 1, 0.03),
        ("llava_pretrain", 2e-3, 128, 1, 0.03),
        ("llava_sft", 2e-5, 32, 3, 0.03),
        ("llava_15_pretrain", 1e-3, 256, 1, 0.03),
        ("llava_15_sft", 2e-5, 128, 1, 0.03),
        ("llava_16_pretrain", 1e-3, 256, 1, 0.03),
        ("llava_16_sft", 1e-5, 128, 1, 0.03),
        ("llava_16_mistral_pretrain", 1e-3, 256, 1, 0.03),
        ("llava_16_mistral_sft", 1e-5, 128, 1, 0.03),
        ("deepseek_vl_adaptor", 1e-3, 256, 1, 128 / 15_000),
        ("deepseek_vl_pretrain", 4.2e-5, 2304, 1, 2_000 / 42_000),
        ("deepseek_vl_sft", 2e-5, 256, 1, 256 / 10_000),
    ],
)
def test_the_other_papers_training_settings(name: str, rate: float, batch: int, epochs: int, warmup: float) -> None:
    recipe = load(Recipe, RECIPES / f"{name}.yaml")
    assert (recipe.optim.learning_rate, recipe.engine.global_batch_size, recipe.data.epochs) == (rate, batch, epochs)
    assert recipe.optim.warmup_ratio == pytest.approx(warmup, abs=5e-5)
    assert (recipe.optim.weight_decay, recipe.engine.precision) == (0, "bf16")
    clip = 1.0 if name.startswith("deepseek") else None
    betas = (0.9, 0.95) if name.startswith("deepseek") else (0.9, 0.999)
    assert (recipe.optim.grad_clip, recipe.optim.betas) == (clip, betas)


def test_the_papers_mixtures() -> None:
    requested = {
        name: {source: s.samples for source, s in load(Recipe, RECIPES / f"{name}.yaml").data.mixture.sources.items()}
        for name in ("tiny_plus", "toy_pretrain", "toy_sft")
    }
    assert sum(n or 0 for n in requested["tiny_plus"].values()) == 7_000_000
    assert requested["toy_pretrain"] == {
        "laion_coco": 4_000_000,
        "blip_558k": 558_000,
        "pdf": 1_000_000,
        "markdown": 500_000,
        "coco": 50_000,
        "refcoco": None,
        "sharegpt": 125_000,
        "baize": 112_000,
        "alpaca": 52_000,
        "docvqa": None,
        "chartqa": None,
    }
    assert requested["toy_sft"] == {"llava_80k": 80_000}


@pytest.mark.parametrize(
    ("name", "vocabulary", "parameters", "trained"),
    # Vary-tiny keeps OPT's 50,272 rows, 4 more than the release's 50,268 of 768 numbers each.
    [
        ("tiny_plus", 50_268, 223_165_440 + 4 * 768, 223_165_440 + 4 * 768),
        ("toy_pretrain", 151_860, 2_237_676_800, 1_838_927_872),
    ],
)
def test_the_papers_model_sizes(name: str, vocabulary: int, parameters: int, trained: int) -> None:
    recipe = load(
        Recipe,
        RECIPES / f"{name}.yaml",
        ["model.language.weights=null", "model.vision.vary.weights=null"]
        + (["model.vision.clip.weights=null"] if name == "toy_pretrain" else []),
    )
    with torch.device("meta"):
        model, _ = build(
            recipe.model,
            vocabulary=vocabulary,
            image_token_id=vocabulary - 1,
            attention="sdpa",
            gradient_checkpointing=False,
            seed=0,
        )
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained


@pytest.mark.parametrize("name", ["tiny_plus_1080ti", "toy_pretrain_1080ti"])
def test_consumer_recipes_use_nothing_that_pascal_lacks(name: str) -> None:
    recipe = load(Recipe, RECIPES / f"{name}.yaml")
    config = engine_config(recipe.engine, recipe.optim.grad_clip)
    assert config["fp16"]["enabled"] and "bf16" not in config
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert recipe.engine.gradient_checkpointing and recipe.engine.attention == "sdpa"
