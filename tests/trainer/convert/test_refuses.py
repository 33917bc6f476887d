"""Broken, unknown and hostile checkpoints are refused with one line that names the file and the fault."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer import releases
from tests.trainer.releases import write, write_tiny, write_toy
from trainer.convert.exporter import Release
from trainer.convert.importer import Import
from varyforge.errors import UserError

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "release", releases.drawn(releases.toy()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "release", releases.drawn(releases.tiny()))


def refusal(source: Path, folder: Path) -> str:
    """Return the one line of the error, and check that nothing was written."""
    with pytest.raises(UserError) as error:
        Import(source).write(folder)
    message = str(error.value)
    assert "\n" not in message
    assert not [path for path in folder.parent.iterdir() if folder.name in path.name]
    return message


def changed(release: Path, folder: Path, change: Callable[[Tensors], object]) -> Path:
    tensors = load_file(release / "model.safetensors")
    change(tensors)
    return write(folder, tensors, json.loads((release / "config.json").read_text()))


def without(*endings: str) -> Callable[[Tensors], object]:
    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.endswith(endings)]:
            del tensors[name]

    return change


def put(name: str, *shape: int) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: torch.ones(shape)})


VISION, HIGH = "transformer.vision_tower.vision_model.", "transformer.vision_tower_high."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("blocks.1.attn.qkv.bias"), ["lacks 1 tensors", f"{HIGH}blocks.1.attn.qkv.bias"]),
        (without("net_3.weight"), [f"{HIGH}net_3.weight"]),
        (without("h.0.attn.c_attn.bias"), ["lacks 3", "transformer.h.0.attn.c_attn.bias"]),
        (without("lm_head.weight"), ["lacks 1", "lm_head.weight"]),  # untied, says config.json
        (without("mm_projector.bias"), ["transformer.mm_projector.bias"]),
        (without("vision_tower_high.patch_embed.proj.weight"), ["encoders.vary.patch_embed.proj.weight", "nothing"]),
        (put("transformer.h.0.attn.lora_A", 4), ["has 1 tensors", "transformer.h.0.attn.lora_A"]),
        (put(f"{VISION}encoder.layers.0.gate", 4), ["has 1 tensors", f"{VISION}encoder.layers.0.gate"]),
        (put(f"{HIGH}blocks.0.attn.qkv.weight", 96, 31), [f"{HIGH}blocks.0.attn.qkv.weight", "(96, 31)", "(96, 32)"]),
        (put("transformer.h.0.attn.c_attn.weight", 193, 64), ["c_attn.weight", "(193, 64)", "3 equal parts"]),
        (put("transformer.h.0.attn.c_attn.weight", 189, 64), ["c_attn.weight", "(63, 64)", "(64, 64)"]),
        (put("transformer.wte.weight", 500, 64), ["lm_head.weight", "(517, 64)", "(500, 64)"]),
        (put(f"{HIGH}pos_embed", 8), ["encoders.vary.pos_embed", "(8,)", "4 dimensions"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_checkpoint_that_is_not_whole(toy: Path, change: Any, said: list[str], tmp_path: Path) -> None:
    message = refusal(changed(toy, tmp_path / "changed", change), tmp_path / "ours")
    assert all(part in message for part in said), message


def test_a_missing_last_layer_is_seen_where_the_config_or_the_width_tells(toy: Path, tmp_path: Path) -> None:
    tensors = load_file(toy / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".h.2." not in name}
    config = {**json.loads((toy / "config.json").read_text()), "num_hidden_layers": 3}
    message = refusal(write(tmp_path / "short", kept, config), tmp_path / "ours")
    assert "transformer.h.2." in message


def test_fewer_rows_than_the_tokenizer_has_entries(tmp_path: Path) -> None:
    """As with base Qwen's tokenizer and Vary's: the image tokens would have no row."""
    source = write_toy(tmp_path / "release", releases.drawn(releases.toy(rows=releases.QWEN_ENTRIES - 3)))
    message = refusal(source, tmp_path / "ours")
    assert f"{releases.QWEN_ENTRIES - 3} rows" in message
    assert f"{releases.QWEN_ENTRIES} entries" in message


def test_a_tied_head_that_differs(tiny: Path, tmp_path: Path) -> None:
    source = changed(tiny, tmp_path / "changed", lambda tensors: tensors["lm_head.weight"].add_(1))
    message = refusal(source, tmp_path / "ours")
    assert "model.decoder.embed_tokens.weight and lm_head.weight differ" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_attention_heads", "four"), ("num_attention_heads", 0), ("num_attention_heads", 3), ("seq_length", "x"),
     ("num_hidden_layers", 10**9), ("num_hidden_layers", -1), ("layer_norm_epsilon", []), ("rotary_emb_base", {}),
     ("rotary_emb_base", "nan")],
)  # fmt: skip
def test_a_config_that_fits_no_model(toy: Path, key: str, value: Any, tmp_path: Path) -> None:
    config = {**json.loads((toy / "config.json").read_text()), key: value}
    refusal(write(tmp_path / "changed", load_file(toy / "model.safetensors"), config), tmp_path / "ours")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("executed", "w"))


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"image_encoder.pos_embed": torch.ones(1), "x": Hostile()}, tmp_path / "zip.pth")
    torch.save({"x": Hostile()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"x": Hostile()}))
    for name in ("zip.pth", "old.pth", "bare.pth"):
        message = refusal(tmp_path / name, tmp_path / "ours")
        assert name in message
        assert "weights_only" not in message  # torch's advice to have it executed
    assert not (tmp_path / "executed").exists()


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    tensors = load_file(write_tiny(tmp_path / "r", releases.drawn(releases.tiny())) / "model.safetensors")
    sam = {n.replace("model.vision_tower", "image_encoder"): t for n, t in tensors.items() if "vision_tower" in n}
    torch.save(sam, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    Import(tmp_path / "old.pth").write(tmp_path / "ours")
    assert len(load_file(tmp_path / "ours" / "model.safetensors")) == len(sam)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_torn_files(toy: Path, form: str, tmp_path: Path) -> None:
    tensors = load_file(toy / "model.safetensors")
    source = write(tmp_path / "release", tensors, {}, form=form)
    file = next(path for path in source.iterdir() if path.name != "config.json")
    whole = file.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert file.name in refusal(source, tmp_path / "ours")
    file.write_bytes(whole[:8] + b"{" * (len(whole) - 8))
    assert file.name in refusal(source, tmp_path / "ours")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665c92c\nsize 4475405312\n"
PAGE = "\n<!DOCTYPE html><html><head><title>404</title></head></html>"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "qwen.tiktoken"])
@pytest.mark.parametrize(("content", "said"), [(POINTER, "`git lfs pull`"), (PAGE, "a web page")], ids=["lfs", "html"])
def test_what_lies_in_the_place_of_a_large_file(toy: Path, name: str, content: str, said: str, tmp_path: Path) -> None:
    shutil.copytree(toy, tmp_path / "cloned")
    if name.endswith(".bin"):
        (tmp_path / "cloned" / "model.safetensors").unlink()
    (tmp_path / "cloned" / name).write_text(content)
    message = refusal(tmp_path / "cloned", tmp_path / "ours")
    assert name in message and said in message


def test_other_things_with_the_names_of_small_files(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy, tmp_path / "release")
    (tmp_path / "release" / "folder.json").mkdir()
    (tmp_path / "release" / "gone.txt").symlink_to(tmp_path / "nowhere")
    Import(tmp_path / "release").write(tmp_path / "ours")
    assert {path.name for path in (tmp_path / "ours" / "release").iterdir()} == {"config.json", "qwen.tiktoken"}


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_shards(toy: Path, form: str, tmp_path: Path) -> None:
    source = write(tmp_path / "release", load_file(toy / "model.safetensors"), {}, form=form, shards=3)
    second = next(path for path in source.iterdir() if "00002" in path.name)
    content = second.read_bytes()
    second.unlink()
    message = refusal(source, tmp_path / "ours")
    assert second.name in message and "missing" in message
    first = next(path for path in source.iterdir() if "00001" in path.name)
    second.write_bytes(first.read_bytes())
    assert second.name in refusal(source, tmp_path / "ours")
    second.write_bytes(content)
    index = next(source.glob("*.index.json"))
    for text in ("{", "[]", "{}", '{"weight_map": {"a": "../secret.bin"}}', '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        assert index.name in refusal(source, tmp_path / "ours")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": 3}, "expected a tensor"),
        ([torch.ones(1)], "found a list"),
        ({"a.weight": torch.ones(1)}, "of no known kind"),
        ({}, "no tensor at all"),
    ],
)
def test_pickles_of_other_things(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert said in refusal(tmp_path / "x.pth", tmp_path / "ours")


def test_no_such_folder_an_empty_one_and_one_that_is_there(toy: Path, tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "gone", tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    assert "found none" in refusal(tmp_path / "empty", tmp_path / "ours")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "precious").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        Import(toy).write(tmp_path / "ours")
    assert (tmp_path / "ours" / "precious").read_text() == "x"


def test_a_kill_while_it_writes_leaves_nothing_of_the_name(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.convert import importer

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importer, "write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        Import(toy).write(tmp_path / "ours")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("      type: sam", "      type: clip", "expected clip: clip, vary: sam"),
        ("type: linear", "type: mlp", "a linear connector"),
        ("fusion: channel", "fusion: sequence", "fusion channel"),
        ("tiling: null", "tiling: {type: whole}", "no tiling"),
    ],
)
def test_a_model_that_the_release_would_join_otherwise(
    toy: Path, old: str, new: str, said: str, tmp_path: Path
) -> None:
    Import(toy).write(tmp_path / "ours")
    recipe = tmp_path / "ours" / "recipe.yaml"
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=said):
        Release(tmp_path / "ours")


def test_a_model_of_ours_is_no_release(toy: Path, tmp_path: Path) -> None:
    Import(toy).write(tmp_path / "first")
    assert "--to release" in refusal(tmp_path / "first", tmp_path / "ours")


def test_a_model_of_ours_that_was_never_released(toy: Path, tmp_path: Path) -> None:
    Import(toy).write(tmp_path / "ours")
    file = tmp_path / "ours" / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "joint.projector.weight": torch.ones(2)}, file)  # the note of its kind is gone too
    with pytest.raises(UserError, match=r"no released model consists of .*joint"):
        Release(tmp_path / "ours")
    with pytest.raises(UserError, match="no such file"):
        Release(tmp_path)
    del tensors["language.model.model.layers.0.self_attn.k_proj.bias"]
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"k_proj.bias.*c_attn.bias"):
        Release(tmp_path / "ours")
