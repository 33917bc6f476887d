"""The step and the run with the real engine: gradients, resuming after a kill, and the exported model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import load_file

from tests.trainer.world import make_tokenizer, tiny_recipe, toy_model
from trainer import run as entry
from trainer.assemble import assemble
from trainer.batch import Batch, Progress, Step
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.exported import load_exported
from trainer.loader.packing import empty_batch
from trainer.loader.step_loader import Share, StepLoader, load_sample, open_pool
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import preprocess_of_export
from trainer.settings import EngineSettings, MixtureSettings, OptimSettings, Recipe, SourceSettings
from trainer.train.checkpoint import checkpoints
from trainer.train.engine import Engine, start_distributed
from trainer.train.journal import read_log
from trainer.train.loop import Counts, count, train_step
from trainer.train.optim import build_optimizer, learning_rate
from varyforge.config import load, to_yaml
from varyforge.errors import UserError

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture(scope="module")
def tokenizer(pdf_shards: Path, chat_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tokenizer([pdf_shards, chat_shards], tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def recipe(tmp_path: Path, tokenizer: str, pdf_shards: Path, chat_shards: Path) -> Recipe:
    return tiny_recipe(tmp_path / "run", tokenizer, {"pdf": pdf_shards, "chat": chat_shards})


@pytest.fixture(autouse=True)
def flush_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield


def first_steps(recipe: Recipe, count: int) -> list[Step]:
    start_distributed()
    _, encoder, _ = assemble(recipe)
    share = Share(global_batch_size=recipe.engine.global_batch_size, micro_batch_size=recipe.engine.micro_batch_size)
    corpus, load = (
        Corpus(recipe.data, open_cache(recipe.data)),
        load_sample(encoder, recipe.data, open_cache(recipe.data)),
    )
    with open_pool(load, recipe.data, corpus, Path(recipe.out)) as pool:
        return list(StepLoader(corpus, load, pool, share, recipe.data).steps(0, count))


def empty_of(model: VisionLanguageModel) -> Batch:
    return empty_batch(0, model.layout)


def weights_after(recipe: Recipe, count: int) -> dict[str, torch.Tensor]:
    """Return the weights after `count` steps at a constant rate."""
    steps = first_steps(recipe, count)
    model, _, _ = assemble(recipe)
    engine = Engine(model, build_optimizer(model, recipe.optim), recipe.engine, None)
    for step in steps:
        train_step(engine, step, 1e-3, empty_of(model))
    return {name: tensor.clone() for name, tensor in engine.state_dict().items()}


def test_a_step_does_not_depend_on_how_it_is_cut_up(recipe: Recipe) -> None:
    whole, halves, singles = (
        weights_after(
            replace(
                recipe,
                engine=replace(recipe.engine, micro_batch_size=size),
                data=replace(recipe.data, batching=batching),
            ),
            3,
        )
        for size, batching in ((4, "padded"), (2, "bucketed"), (1, "packed"))
    )
    for name, tensor in whole.items():
        # Adam divides by the gradient's size, so a tiny difference in a tiny gradient may show; 1e-5 is 1 % of a step.
        torch.testing.assert_close(halves[name], tensor, atol=1e-5, rtol=0)
        torch.testing.assert_close(singles[name], tensor, atol=1e-5, rtol=0)


def test_the_loss_is_the_mean_over_the_steps_supervised_tokens(recipe: Recipe) -> None:
    (step,) = first_steps(recipe, 1)
    model, _, _ = assemble(recipe)
    with torch.no_grad():
        losses = torch.cat([model(batch)[1] for batch in step.batches])
    engine = Engine(model, build_optimizer(model, recipe.optim), recipe.engine, None)
    result = train_step(engine, step, 1e-3, empty_of(model))
    assert result.loss == pytest.approx(losses.mean().item(), rel=1e-5)
    assert result.supervised_tokens == len(losses) == sum(batch.num_supervised for batch in step.batches)
    assert sum(result.task_samples.values()) == 4
    assert set(result.task_losses) == set(result.task_samples) <= {"ocr", "text"}


@pytest.mark.parametrize(("stage", "offload"), [(0, False), (1, True), (2, True), (3, False), (3, True)])
def test_zero_stages_and_offload_agree(recipe: Recipe, stage: int, offload: bool) -> None:
    engine = replace(recipe.engine, zero_stage=stage, offload_optimizer=offload)
    expected, actual = weights_after(recipe, 2), weights_after(replace(recipe, engine=engine), 2)
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bit_steps_lower_the_loss(recipe: Recipe, precision: str) -> None:
    settings = replace(recipe.engine, precision=precision, offload_optimizer=True, gradient_checkpointing=True)
    (step,) = first_steps(recipe, 1)
    model, _, _ = assemble(replace(recipe, engine=settings))
    engine = Engine(model, build_optimizer(model, recipe.optim), settings, 1.0)
    losses = [train_step(engine, step, 3e-3, empty_of(model)).loss or 0.0 for _ in range(12)]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", ["tiny_plus_1080ti", "toy_pretrain_1080ti"])
def test_consumer_recipes_run_shrunk(recipe: Recipe, tokenizer: str, name: str) -> None:
    """Engine, schedule and data settings are the recipes'. Sizes, mixture and batch are small."""
    consumer = load(Recipe, RECIPES / f"{name}.yaml")
    model = recipe.model if name.startswith("tiny") else toy_model(tokenizer, None)
    shrunk = replace(
        consumer,
        out=recipe.out,
        model=model,
        data=replace(recipe.data, max_length=consumer.data.max_length),
        engine=replace(consumer.engine, global_batch_size=4),
        wandb=recipe.wandb,
    )
    entry.train_recipe(shrunk)
    log = read_log(Path(recipe.out))
    assert len(log) == 8
    assert log[-1]["skipped_updates"] < 4  # the loss scale may have to come down at first
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_whole_chain_resumes_and_hands_on(recipe: Recipe, tokenizer: str, tmp_path: Path) -> None:
    dropping = replace(recipe.model.language, config={**recipe.model.language.config, "dropout": 0.1})
    recipe = replace(recipe, model=replace(recipe.model, language=dropping))
    straight = entry.train_recipe(replace(recipe, out=str(tmp_path / "straight")))

    # Stopped after step 5 of 8, that is with a checkpoint of step 4 and a log that is one step ahead.
    stopped = replace(recipe, out=str(tmp_path / "stopped"))
    real, calls = Engine.step, iter(range(5))

    def stop_in_step_6(self: Engine, rate: float) -> float:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(self, rate)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Engine, "step", stop_in_step_6)
        entry.train_recipe(stopped)
    assert [path.name for path in checkpoints(tmp_path / "stopped")] == ["step-000002", "step-000004"]
    resumed = entry.train_recipe(stopped)

    expected, actual = load_file(straight / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())
    logs = [read_log(tmp_path / name) for name in ("straight", "stopped")]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]
    assert [line["step"] for line in logs[1]] == list(range(1, 9))
    assert [line["sources"] for line in logs[0]] == [line["sources"] for line in logs[1]]

    # Vary-toy: the vision vocabulary comes over exactly, and stays as it is while the rest trains.
    toy = replace(recipe, out=str(tmp_path / "toy"), model=toy_model(tokenizer, str(straight)))
    trained = load_file(entry.train_recipe(toy) / "model.safetensors")
    for name, tensor in expected.items():
        if name.startswith("encoders.vary."):
            assert torch.equal(trained[name], tensor)
    fresh, _, _ = assemble(toy)
    for name, tensor in fresh.state_dict().items():
        if name in trained and name.startswith(("encoders.", "connectors.", "language.")):
            moved = not torch.equal(trained[name], tensor)
            assert moved == (not name.startswith("encoders.")), name

    # Instruction tuning starts from the whole of it.
    sft = replace(toy, out=str(tmp_path / "sft"), init=str(tmp_path / "toy" / "model"))
    started, _, parts = assemble(sft)
    assert all(torch.equal(started.state_dict()[name], tensor) for name, tensor in trained.items())
    assert {part.source for part in parts} == {sft.init}
    entry.train_recipe(sft)
    model, _, _ = load_exported(tmp_path / "sft" / "model")
    assert not model.training


def test_other_data_and_other_models_do_not_resume(recipe: Recipe) -> None:
    entry.train_recipe(recipe)
    other = replace(recipe.data, mixture=replace(recipe.data.mixture, seed=1))
    with pytest.raises(UserError, match="trained on another mixture"):
        entry.train_recipe(replace(recipe, data=other))
    vary = recipe.model.vision["vary"]
    wider = replace(vary, config={**vary.config, "depth": 3})
    with pytest.raises(UserError, match="does not fit this run"):
        entry.train_recipe(replace(recipe, model=replace(recipe.model, vision={"vary": wider})))
    newest = checkpoints(Path(recipe.out))[-1]
    (newest / "state.json").write_text("{")
    with pytest.raises(UserError, match="delete it to continue from the one before"):
        entry.train_recipe(recipe)


def test_bad_samples_are_counted_not_replaced(recipe: Recipe, chat_shards: Path, tmp_path: Path) -> None:
    short = replace(recipe, data=replace(recipe.data, max_length=60))  # most answers no longer fit
    (step,) = first_steps(short, 1)
    skipped = step.skipped
    assert len(skipped) + sum(len(batch.keys) for batch in step.batches) == 4
    assert skipped and all("no answer token" in reason for _, reason in skipped)
    with pytest.raises(UserError, match=r"could not be used, more than data\.max_bad_share"):
        entry.train_recipe(short)
    lines = [json.loads(line) for line in (Path(short.out) / "skipped.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} >= {key for key, _ in skipped}


def test_samples_left_out_for_their_length_are_counted_and_no_fault(recipe: Recipe) -> None:
    entry.train_recipe(replace(recipe, data=replace(recipe.data, max_length=60, too_long="drop")))
    last = read_log(Path(recipe.out))[-1]
    assert last["dropped"] > 1 and last["skipped"] == last["truncated"] == 0
    assert last["samples"] + last["dropped"] == 32
    lines = [json.loads(line) for line in (Path(recipe.out) / "skipped.jsonl").read_text().splitlines()]
    assert len(lines) == last["dropped"] and all("too long" in line["reason"] for line in lines)


def test_a_step_without_a_usable_sample_updates_nothing(recipe: Recipe) -> None:
    model, _, _ = assemble(recipe)
    engine = Engine(model, build_optimizer(model, recipe.optim), recipe.engine, None)
    before = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
    step = Step(batches=[], skipped=(("key", "broken"),), truncated=0)
    result = train_step(engine, step, 1e-3, empty_of(model))
    assert (result.loss, result.skipped, result.supervised_tokens) == (None, 1, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in engine.state_dict().items())


def test_a_loss_that_is_not_finite_stops_before_the_update(recipe: Recipe) -> None:
    (step,) = first_steps(recipe, 1)
    model, _, _ = assemble(recipe)
    with torch.no_grad():
        next(model.connectors.parameters()).fill_(float("nan"))
    engine = Engine(model, build_optimizer(model, recipe.optim), recipe.engine, None)
    before = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
    with pytest.raises(UserError, match="the loss is nan"):
        train_step(engine, step, 1e-3, empty_of(model))
    for name, tensor in engine.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_is_not_finite_stops_before_the_update(recipe: Recipe, stage: int) -> None:
    recipe = replace(recipe, engine=replace(recipe.engine, zero_stage=stage))
    handle = torch.nn.modules.module.register_module_forward_hook(_poison)
    try:
        with pytest.raises(UserError, match="gradient of step 1 is not finite"):
            entry.train_recipe(recipe)
    finally:
        handle.remove()
    assert not checkpoints(Path(recipe.out))


def _poison(module: torch.nn.Module, _: object, output: object) -> None:
    """Make the gradient of SAM's neck infinite, without changing its forward pass."""
    if isinstance(module, torch.nn.Conv2d) and isinstance(output, torch.Tensor) and output.requires_grad:
        output.register_hook(lambda gradient: gradient * torch.inf)


def test_what_came_with_the_weights_is_in_the_export(recipe: Recipe, tokenizer: str, tmp_path: Path) -> None:
    settings = toy_model(tokenizer, None)
    odd = {
        **settings.language.config,
        "rms_norm_eps": 1e-2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 77.0},
    }
    model, _, _ = assemble(replace(recipe, model=replace(settings, language=replace(settings.language, config=odd))))
    model.language.model.save_pretrained(tmp_path / "hub")
    from_hub = replace(settings.language, weights=str(tmp_path / "hub"), config={})
    folder = entry.train_recipe(replace(recipe, model=replace(settings, language=from_hub)))
    loaded, _, _ = load_exported(folder)
    assert loaded.language.model.config.rms_norm_eps == 1e-2
    assert loaded.language.model.config.rope_parameters["rope_theta"] == 77.0
    assert preprocess_of_export(str(folder)) == loaded.layout.preprocess
    stated = load(Recipe, folder / "recipe.yaml").model.vision["clip"].preprocess
    assert stated == loaded.layout.preprocess["clip"].as_settings() and stated["fit"] == "crop"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_with_and_without_images_train_like_one(recipe: Recipe, stage: int, tmp_path: Path) -> None:
    """Micro-batches have one sample, so that one rank often has only text. The vision encoder is trained."""
    engine = replace(recipe.engine, zero_stage=stage, micro_batch_size=1)
    one, two = (replace(recipe, engine=engine, out=str(tmp_path / name)) for name in ("one", "two"))
    expected = load_file(entry.train_recipe(one) / "model.safetensors")
    (tmp_path / "two.yaml").write_text(to_yaml(two))
    command = ["deepspeed", "--num_gpus", "2", "--master_port", str(29600 + stage), "trainer/run.py"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [*command, str(tmp_path / "two.yaml")],
        cwd=RECIPES.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    actual = load_file(tmp_path / "two" / "model" / "model.safetensors")
    for name, tensor in expected.items():
        # 8 steps of 1e-3: ranks that sum the wrong gradients differ by several thousandths.
        torch.testing.assert_close(
            actual[name], tensor, atol=2e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    logs = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("one", "two")]
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    one, two = (read_log(tmp_path / name)[-1] for name in ("one", "two"))
    assert one["sources"] == two["sources"]
    assert sum(source["supervised_tokens"] for source in one["sources"].values()) == one["supervised_tokens"]


def test_the_log_says_how_far_each_source_is(recipe: Recipe, pdf_shards: Path, chat_shards: Path) -> None:
    sources = {
        "pdf": SourceSettings(shards=str(pdf_shards), samples=12, repeat="as_needed", times=100),
        "chat": SourceSettings(shards=str(chat_shards), samples=4),
    }
    entry.train_recipe(replace(recipe, data=replace(recipe.data, mixture=MixtureSettings(sources=sources), epochs=2)))
    log = read_log(Path(recipe.out))
    assert [line["sources"]["pdf"]["samples"] for line in log] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert [line["sources"]["chat"]["samples"] for line in log] == [1, 2, 3, 4, 5, 6, 7, 8]
    available = len(Corpus(recipe.data, open_cache(recipe.data)).catalogs[0])
    assert log[-1]["sources"]["pdf"]["epochs"] == pytest.approx(24 / available, abs=1e-4)
    tokens = [sum(source["supervised_tokens"] for source in line["sources"].values()) for line in log]
    assert tokens == [line["supervised_tokens"] for line in log]
    assert all(source["supervised_tokens"] > 0 for source in log[0]["sources"].values())


def test_frozen_parts_are_in_no_optimiser(recipe: Recipe, tokenizer: str) -> None:
    model, _, _ = assemble(replace(recipe, model=toy_model(tokenizer, None)))
    optimised = sum(p.numel() for group in build_optimizer(model, recipe.optim).param_groups for p in group["params"])
    parts = (*model.connectors.parameters(), *model.language.parameters())
    assert optimised == sum(p.numel() for p in parts)


def test_the_first_lines_say_which_parts_are_recomputed(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part may differ from the engine's setting, and a connector is never recomputed."""
    Path(recipe.out).mkdir(parents=True)
    for default in (True, False):
        language = replace(recipe.model.language, gradient_checkpointing=not default)
        engine = replace(recipe.engine, gradient_checkpointing=default)
        changed = replace(recipe, model=replace(recipe.model, language=language), engine=engine)
        _, _, parts = assemble(changed)
        entry.introduce(changed, Corpus(recipe.data, open_cache(recipe.data)), parts, 1, 1)
        lines = capsys.readouterr().err.splitlines()
        rows = [[cell.strip() for cell in line.strip(" │").split("│")] for line in lines]
        cells = {row[0]: row[3] for row in rows if len(row) == 5}
        assert cells["encoders.vary"] == ("yes" if default else "no")
        assert cells["language"] == ("no" if default else "yes")
        assert cells["connectors.vary"] == "no"
        assert not any("gradient checkpointing o" in line for line in lines)


def test_learning_rate() -> None:
    settings = OptimSettings(learning_rate=1.0, warmup_ratio=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["zero_stage=4"], "engine.zero_stage: 4, expected one of 0, 1, 2, 3"),
        (["zero_stage=0"], "engine.zero_stage: 0 with precision bf16"),
        (["zero_stage=0", "precision=fp32", "offload_optimizer=true"], "engine.offload_optimizer: needs"),
    ],
)
def test_engine_settings_are_checked_with_the_recipe(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(EngineSettings, None, ["global_batch_size=4", *overrides])


def test_a_mixture_smaller_than_a_step_is_refused(recipe: Recipe) -> None:
    large = replace(recipe, engine=replace(recipe.engine, global_batch_size=64))
    with pytest.raises(UserError, match="less than one engine"):
        entry.train_recipe(large)


def test_a_precision_that_the_device_lacks_is_refused_before_weights_are_read(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_accelerator()), "is_bf16_supported", lambda _: False)
    monkeypatch.setattr(entry, "assemble", None)
    with pytest.raises(UserError, match="this device has no bf16; use fp16 or fp32"):
        entry.train_recipe(replace(recipe, engine=replace(recipe.engine, precision="bf16")))


def test_counts_survive_the_way_through_a_tensor() -> None:
    counts = count(Step(batches=[], skipped=(("key", "broken"),), progress={"a": Progress(1, 2), "b": Progress(3, 4)}))
    assert counts == Counts.from_tensor(counts.to_tensor())
    assert (counts.micro_batches, counts.skipped, counts.source_tokens) == (0, 1, (0, 0))
