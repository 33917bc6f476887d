"""Released checkpoints into our form and back: the same bytes, the same logits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from benchmarks.released import QwenSizes, Released, TinySizes, ToySizes
from tests.trainer import exports, releases
from tests.trainer.parity import batch_of, case, released_batch
from tests.trainer.releases import bytes_of, stored, write_tiny, write_toy
from trainer.assemble import assemble
from trainer.batch import Batch
from trainer.convert.__main__ import import_released, write_released
from trainer.convert.exporter import Release
from trainer.convert.importer import Import
from trainer.evaluate import __main__ as evaluate
from trainer.exported import export_model, load_exported
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.model.weights import preprocess_of_export
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, Recipe
from varyforge.config import load
from varyforge.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def imported(source: Path, folder: Path, **options: Any) -> Path:
    Import(source, **options).write(folder)
    return folder


def written_back(model: Path, folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return stored(Release(model).write(folder))


def logits_of(ours: VisionLanguageModel, batch: Batch) -> Tensor:
    """(B, T, vocabulary) of a padded batch."""
    kept: list[Tensor] = []
    hook = ours.language.model.base_model.register_forward_hook(lambda _m, _i, out: kept.append(out.last_hidden_state))
    ours(batch)
    hook.remove()
    return kept[0] @ ours.language.head.T


@torch.no_grad()
def assert_same_logits(ours: VisionLanguageModel, released: Released) -> None:
    sizes = released.body().sizes
    cases = [case(sizes, images=1, text=12, seed=1), case(sizes, images=2, text=30, seed=2)]
    ids, mask, _, labels = released_batch(cases, released)
    images = []
    for one in cases:
        pixels = {
            name: how.normalise(torch.from_numpy(np.stack([each[name] for each in one.pictures])), torch.float32)
            for name, how in ours.layout.preprocess.items()
        }
        images.append(tuple(pixels.values()) if len(pixels) > 1 else pixels["vary"])
    expected = released.float()(ids, mask, images, labels).logits
    found = logits_of(ours.eval(), batch_of([[one] for one in cases], ours))
    for row, one in enumerate(cases):
        place = slice(len(one.ids))
        assert (found[row, place] - expected[row, place]).abs().max() <= 1e-5 * expected.abs().max()


CHECKPOINTS = {"toy": (releases.toy(), write_toy), "tiny": (releases.tiny(), write_tiny)}
BOTH = pytest.mark.parametrize(("sizes", "write"), CHECKPOINTS.values(), ids=list(CHECKPOINTS))


@BOTH
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=list(DTYPES))
def test_a_release_is_imported_computes_the_same_and_is_written_back(
    sizes: ToySizes | TinySizes, write: Any, dtype: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released = releases.drawn(sizes, dtype)
    before = bytes_of(released.state_dict())
    source = write(tmp_path / "release", released)
    model = imported(source, tmp_path / "ours")
    assert {kind for kind, _, _ in stored(model / "model.safetensors").values()} == {str(dtype)}
    assert Release(model).warnings == []
    assert written_back(model, tmp_path / "back") == before
    assert sorted(p.name for p in source.iterdir()) == sorted(p.name for p in (tmp_path / "back").iterdir())
    ours, encoder, _ = load_exported(model)
    assert capsys.readouterr().err == ""  # nothing to be warned of: the images are those that it was trained with
    assert preprocess_of_export(str(model)) == ours.layout.preprocess
    assert encoder.tokenizer.convert_tokens_to_ids(["<imgpad>", "<img>", "</img>"]) == [
        sizes.ids.pad, sizes.ids.start, sizes.ids.end,
    ]  # fmt: skip
    assert ours.image_token_id == sizes.ids.pad
    assert_same_logits(ours, released)
    assert written_back(imported(tmp_path / "back", tmp_path / "again"), tmp_path / "back again") == before


def test_without_a_tokenizer_it_is_imported_with_a_warning_and_not_looked_for_on_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_toy(tmp_path / "release", releases.drawn(releases.toy()))
    (source / "qwen.tiktoken").unlink()
    import_released(source, tmp_path / "ours", positions=None, tokenizer=None)
    assert "has no tokenizer beside it; name a folder with one by --tokenizer" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"ours/tokenizer: no such folder; .*--tokenizer"):
        load_exported(tmp_path / "ours")


@BOTH
@pytest.mark.parametrize("form", [{"form": "bin"}, {"form": "bin", "shards": 3}, {"shards": 2}], ids=str)
def test_every_form_on_the_disk_is_read(
    sizes: ToySizes | TinySizes, write: Any, form: dict[str, Any], tmp_path: Path
) -> None:
    released = releases.drawn(sizes)
    model = imported(write(tmp_path / "release", released, **form), tmp_path / "ours")
    assert written_back(model, tmp_path / "back") == bytes_of(released.state_dict())


def test_each_release_keeps_its_own_way_to_pixels(tmp_path: Path) -> None:
    """Reference: resampling and statistics in the release's image processors."""
    toy = load_exported(imported(write_toy(tmp_path / "a", releases.drawn(releases.toy())), tmp_path / "toy"))[0]
    tiny = load_exported(imported(write_tiny(tmp_path / "b", releases.drawn(releases.tiny())), tmp_path / "tiny"))[0]
    clip, imagenet = (0.48145466, 0.4578275, 0.40821073), (0.485, 0.456, 0.406)
    expected = {"clip": ("crop", "pillow_bicubic", clip), "vary": ("stretch", "pillow_bicubic", clip)}
    assert {n: (p.fit, p.resample, p.mean) for n, p in toy.layout.preprocess.items()} == expected
    (high,) = tiny.layout.preprocess.values()
    assert (high.fit, high.resample, high.mean) == ("stretch", "opencv_bilinear", imagenet)
    assert high.std == (0.229, 0.224, 0.225)


def test_a_model_may_mix_types(tmp_path: Path) -> None:
    released = releases.drawn(releases.toy(), torch.bfloat16)
    released.body().vision_tower.float()
    model = imported(write_toy(tmp_path / "release", released), tmp_path / "ours")
    assert written_back(model, tmp_path / "back") == bytes_of(released.state_dict())


def test_stale_buffers_are_ignored_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = releases.drawn(releases.toy())
    stale = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
        "transformer.h.1.attn.rotary_emb.inv_freq": torch.ones(4),
        "transformer.vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    source = write_toy(tmp_path / "release", released)
    releases.write(source, {**released.state_dict(), **stale}, releases.config_of(releases.toy()))
    import_released(source, tmp_path / "ours", positions=None, tokenizer=None)
    shown = capsys.readouterr().err
    assert all(name in shown.replace("\n", "") for name in stale)
    rows = {words[0]: words[1:] for words in re.findall(r"(\S+) +│ +(\d+) │ +(\d+) │ +(\d+) │ +(\d+) │ +(\d+)", shown)}
    assert rows["language"] == ("39", "0", "0", "3", "0")
    assert rows["encoders.clip"] == ("55", "0", "0", "1", "0")
    assert written_back(tmp_path / "ours", tmp_path / "back") == bytes_of(released.state_dict())


@pytest.mark.parametrize("rows", [releases.QWEN_ENTRIES, releases.QWEN_ENTRIES + 76])
def test_any_number_of_rows_from_the_tokenizers_on(rows: int, tmp_path: Path) -> None:
    released = releases.drawn(releases.toy(rows=rows))
    model = imported(write_toy(tmp_path / "release", released), tmp_path / "ours")
    assert written_back(model, tmp_path / "back") == bytes_of(released.state_dict())
    assert load_exported(model)[0].language.vocabulary == rows


def test_a_tied_vary_toy(tmp_path: Path) -> None:
    released = releases.drawn(releases.toy())
    released.lm_head.weight = released.body().wte.weight
    tensors = {**released.state_dict()}
    del tensors["lm_head.weight"]
    source = write_toy(tmp_path / "release", released)
    releases.write(source, tensors, {**releases.config_of(releases.toy()), "tie_word_embeddings": True})
    model = imported(source, tmp_path / "ours")
    assert written_back(model, tmp_path / "back") == bytes_of(released.state_dict())  # under both names
    assert_same_logits(load_exported(model)[0], released)


@pytest.mark.parametrize("left", ["lm_head.weight", "model.decoder.embed_tokens.weight"])
def test_a_tied_head_may_stand_under_either_name(left: str, tmp_path: Path) -> None:
    released = releases.drawn(releases.tiny())
    tensors = {**released.state_dict()}
    del tensors[left]
    source = write_tiny(tmp_path / "release", released)
    releases.write(source, tensors, releases.config_of(releases.tiny()))
    assert written_back(imported(source, tmp_path / "ours"), tmp_path / "back") == bytes_of(released.state_dict())


def test_vary_tiny_600k(tmp_path: Path) -> None:
    """A .pth file with the tensors under `model`, and no tokenizer beside it."""
    released = releases.drawn(releases.tiny())
    names = {"model.vision_tower.": "visual_encoder.", "model.mm_projector.": "opt_proj."}
    tensors = {}
    for name, tensor in released.state_dict().items():
        prefix = next((old for old in names if name.startswith(old)), None)
        tensors[name.replace(prefix, names[prefix]) if prefix else f"opt_model.{name}"] = tensor
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "checkpoint.pth")
    (tmp_path / "config.json").write_text(json.dumps(releases.config_of(releases.tiny())))
    releases.opt().save_pretrained(tmp_path / "opt")
    model = imported(tmp_path / "checkpoint.pth", tmp_path / "ours", tokenizer_folder=tmp_path / "opt")
    assert_same_logits(load_exported(model)[0], released)
    back = torch.load(Release(model).write(tmp_path / "back"), weights_only=True)
    assert bytes_of(back["model"]) == bytes_of(tensors)


def test_a_model_that_was_trained_here_gets_the_releases_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `export_model` writes it: no note of its origin, a tied output layer once, preprocessing of its own."""
    released = releases.drawn(releases.tiny())
    recipe = load(Recipe, imported(write_tiny(tmp_path / "release", released), tmp_path / "ours") / "recipe.yaml")
    ours, encoder, _ = load_exported(tmp_path / "ours")
    for name, how in (("same", {}), ("other", {"resample": "bicubic", "mean": (0.5, 0.5, 0.5)})):
        ours.layout.preprocess["vary"] = replace(ours.layout.preprocess["vary"], **how)
        trained = export_model(ours.state_dict(), ours, replace(recipe, out=str(tmp_path / name)), encoder.tokenizer)
        capsys.readouterr()
        write_released(trained, tmp_path / f"{name} back")
        said = capsys.readouterr().err
        assert stored(tmp_path / f"{name} back" / "model.safetensors") == bytes_of(released.state_dict())
        assert "copy both from the release" in said
        assert ("makes its images otherwise" in said) == bool(how)
    assert all(text in said for text in ("opencv_bilinear (trained with bicubic)", "(trained with [0.5, 0.5, 0.5])"))


@pytest.mark.parametrize("name", ["vary_toy", "vary_tiny"])
def test_what_the_releases_code_would_do_otherwise_is_said(name: str, tmp_path: Path) -> None:
    """The model was trained from other parts than the release's, as Vary-toy from Qwen 1.5."""
    settings = getattr(exports, name)(tmp_path)
    if name == "vary_toy":
        settings.language.config["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6}
        settings.vision["clip"].config["layer"] = -1
    said = "\n".join(Release(exports.trained(settings, tmp_path)).warnings)
    expected = {
        "vary_toy": [
            "language: the released Vary-toy computes otherwise unless its config.json says so: ",
            "rope_parameters {'rope_theta': 10000.0, 'rope_type': 'default'} (trained with {",
            "max_position_embeddings 8192 (trained with 2048)",
            "encoder clip: the released Vary-toy computes otherwise unless",
            "layer -2 (trained with -1)",
            "conversations were written as chatml_vary, the released Vary-toy's code writes them as vary_toy",
            "the released Vary-toy's code has [151857, 151858, 151859] and another tokenizer",
        ],
        "vary_tiny": ["num_attention_heads 1 (trained with 2)", "written as vicuna_v1", "opencv_bilinear"],
    }[name]
    assert all(text in said for text in expected), said
    assert "dropout" not in said and "initializer" not in said  # of no consequence
    assert "encoder vary: the released Vary-toy computes" not in said


def test_grouped_queries_have_no_place_in_the_release(tmp_path: Path) -> None:
    settings = exports.vary_toy(tmp_path)
    settings.language.config["num_key_value_heads"] = 1
    with pytest.raises(UserError, match=r"c_attn.* is parts of one shape, found .*k_proj.bias \(16,\)"):
        Release(exports.trained(settings, tmp_path))


# --- parts alone


def parts_recipe(tmp_path: Path) -> ModelSettings:
    """A recipe that takes every part's configuration and weights from what was converted."""
    (tmp_path / "recipe.yaml").write_text(f"""
out: runs/-
model:
  vision:
    clip: {{base: {tmp_path / "clip" / "part.yaml"}}}
    vary: {{base: {tmp_path / "sam" / "part.yaml"}}}
  language: {{base: {tmp_path / "language" / "part.yaml"}, template: chatml_vary, tokenizer: "-"}}
data: {{mixture: {{sources: {{one: {{shards: "-"}}}}}}}}
optim: {{learning_rate: 1.0}}
engine: {{global_batch_size: 1}}
""")
    return load(Recipe, tmp_path / "recipe.yaml").model


def built(settings: ModelSettings, vocabulary: int) -> VisionLanguageModel:
    options = {"attention": "sdpa", "gradient_checkpointing": False, "seed": 0}
    return build(settings, vocabulary=vocabulary, image_token_id=1, **options)[0]


def test_parts_are_converted_alone_and_put_together_by_a_recipe(tmp_path: Path) -> None:
    sam = {
        name.replace("transformer.vision_tower_high.", "image_encoder."): tensor
        for name, tensor in releases.drawn(releases.toy()).state_dict().items()
        if name.startswith("transformer.vision_tower_high.") and ".net_" not in name
    }
    others = {"prompt_encoder.x.weight": torch.ones(2), "mask_decoder.y.weight": torch.ones(3)}
    torch.save({**sam, **others}, tmp_path / "sam_vit.pth")
    found = Import(tmp_path / "sam_vit.pth")
    rows = {report.module: report for report in found.reports}
    assert rows["prompt_encoder"].ignored == rows["mask_decoder"].ignored == 1
    assert (rows["encoders.vary"].loaded, rows["encoders.vary"].random) == (len(sam), 2)
    found.write(tmp_path / "sam")

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16, "hidden_act": "gelu"}  # fmt: skip
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "vocab_size": 9, "bos_token_id": 7, "eos_token_id": 8}  # fmt: skip
    clip = CLIPModel(CLIPConfig(vision_config=vision, text_config=text))
    clip.save_pretrained(tmp_path / "hub clip")
    imported(tmp_path / "hub clip", tmp_path / "clip")

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 1e6}
    qwen = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=70, rope_parameters=rope))
    qwen.save_pretrained(tmp_path / "hub qwen")
    imported(tmp_path / "hub qwen", tmp_path / "language")

    model = built(parts_recipe(tmp_path), vocabulary=70)
    state = model.state_dict()
    for prefix, tensors in (
        ("encoders.vary.", {name.removeprefix("image_encoder."): tensor for name, tensor in sam.items()}),
        ("encoders.clip.model.", clip.vision_model.state_dict()),
        ("language.model.", qwen.state_dict()),
    ):
        assert bytes_of(tensors) == bytes_of({name: state[prefix + name] for name in tensors})
    assert model.encoders["clip"].configuration()["hidden_act"] == "gelu"
    config = model.language.model.config
    assert (config.rope_parameters["rope_theta"], config.num_attention_heads, config.num_key_value_heads) == (1e6, 4, 2)

    back = torch.load(Release(tmp_path / "sam").write(tmp_path / "sam back"), weights_only=True)
    assert bytes_of(back) == bytes_of(sam)
    assert written_back(tmp_path / "language", tmp_path / "qwen back") == bytes_of(qwen.state_dict())
    assert Qwen2ForCausalLM.from_pretrained(tmp_path / "qwen back").config.rope_parameters == rope


def test_a_clip_vision_model_alone_and_the_exported_names_are_transformers(tmp_path: Path) -> None:
    config = CLIPConfig(
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    ).vision_config
    clip = CLIPVisionModel(config)
    clip.save_pretrained(tmp_path / "hub")
    model = imported(tmp_path / "hub", tmp_path / "ours")
    assert written_back(model, tmp_path / "back") == bytes_of(clip.state_dict())


def test_opts_positions_are_interpolated(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 400}
    hub = OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=32, max_position_embeddings=16))
    hub.save_pretrained(tmp_path / "hub")
    releases.opt().save_pretrained(tmp_path / "hub")
    assert Import(tmp_path / "hub").parts.language.config["max_position_embeddings"] == 16  # as they are
    model = imported(tmp_path / "hub", tmp_path / "ours", positions=31)
    name = "model.decoder.embed_positions.weight"
    before = hub.state_dict()[name]
    language = LanguageSettings(type="opt", tokenizer="-", template="-", weights=str(model), config={
        **sizes, "word_embed_proj_dim": 32, "max_position_embeddings": 31})  # fmt: skip
    sam = EncoderSettings(
        type="sam", config={"width": 24, "depth": 1, "heads": 2, "image_size": 64, "global_layers": []}
    )
    after = built(ModelSettings(vision={"vary": sam}, language=language), 400).language.model.state_dict()[name]
    assert after.shape == (33, 32)
    assert torch.equal(after[:2], before[:2])  # no positions
    torch.testing.assert_close(after[2::2], before[2:])  # every old position lies on a new one
    torch.testing.assert_close(after[3::2], (before[2:-1] + before[3:]) / 2)
    assert json.loads((model / "release" / "config.json").read_text())["max_position_embeddings"] == 31
    Release(model).write(tmp_path / "back")
    assert torch.equal(OPTForCausalLM.from_pretrained(tmp_path / "back").state_dict()[name], after)


def test_the_vocabulary_moves_from_vary_tiny_to_vary_toy_and_the_projector_does_not(tmp_path: Path) -> None:
    released = releases.drawn(releases.tiny(), torch.bfloat16)
    model = imported(write_tiny(tmp_path / "release", released), tmp_path / "tiny")
    toy = imported(write_toy(tmp_path / "toy release", releases.drawn(releases.toy())), tmp_path / "toy")
    settings = load(Recipe, toy / "recipe.yaml").model
    taken = replace(settings.vision["vary"], weights=str(model))
    made = built(replace(settings, vision={**settings.vision, "vary": taken}), releases.QWEN_ENTRIES)
    for name, tensor in released.body().vision_tower.state_dict().items():
        assert torch.equal(made.encoders["vary"].state_dict()[name], tensor.float())
    assert made.connectors["vary"].weight.shape == (32, 32)  # half of Qwen's width; Vary-tiny's is (64, 32)


MEMORY = """
import sys, threading, time
from pathlib import Path
from trainer.convert.exporter import Release
from trainer.convert.importer import Import

def anonymous_bytes():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) * 1024

source, ours, back = map(Path, sys.argv[1:])
most, done = anonymous_bytes(), threading.Event()
def watch():
    global most
    while not done.wait(0.001):
        most = max(most, anonymous_bytes())
before = most
watcher = threading.Thread(target=watch)
watcher.start()
Import(source).write(ours)
Release(ours).write(back)
done.set()
watcher.join()
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_for_one_tensor_and_not_for_all(tmp_path: Path) -> None:
    """Only memory that is no page of a file counts, as the kernel may drop those. The tensors are 240 MB."""
    qwen = QwenSizes(vocabulary=releases.QWEN_ENTRIES, width=1024, mlp=2816, depth=5, heads=8)
    sizes = replace(releases.toy(), qwen=qwen)
    source = write_toy(tmp_path / "release", releases.drawn(sizes), shards=2)
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    words = [sys.executable, "-c", MEMORY, str(source), str(tmp_path / "ours"), str(tmp_path / "back")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert size > 200e6
    assert int(done.stdout) < size / 8


def test_an_imported_model_is_evaluated_and_a_stage_goes_on_from_it(pdf_shards: Path, tmp_path: Path) -> None:
    model = imported(write_toy(tmp_path / "release", releases.drawn(releases.toy())), tmp_path / "ours")
    scores = evaluate.evaluate_models([model], [pdf_shards], tmp_path / "scores", limit=1, max_new_tokens=3)
    assert [score.n for score in scores] == [1]
    recipe = load(Recipe, model / "recipe.yaml")
    assert recipe.init == str(model)
    ours, _, parts = assemble(recipe)
    assert {part.source for part in parts} == {str(model)}
    assert sum(part.tensors_random for part in parts) == 0
    trained = {name.split(".")[0] for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {"connectors", "language"}  # Vary-toy's encoders are frozen
