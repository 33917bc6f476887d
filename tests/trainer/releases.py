"""Small released checkpoints on the disk, in every form that they come in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.released import ClipSizes, ImageIds, OptSizes, QwenSizes, Released, SamSizes, TinySizes, ToySizes, draw
from tests.trainer.parity import released_of
from tests.trainer.tokenizers_of_all_kinds import TEXT, opt

SAM = SamSizes(
    image=64, patch=8, width=32, mlp=128, depth=4, heads=4, window=3, global_layers=(1, 3), neck=16,
    convolutions=(24, 32),
)  # fmt: skip
CLIP = ClipSizes(image=8, patch=4, width=64, mlp=48, depth=3, heads=1)  # no config.json tells heads: they are 64 wide
RANKS = 300  # byte pairs of the small Qwen tokenizer
QWEN_IDS = ImageIds(start=RANKS + 214, end=RANKS + 215, pad=RANKS + 216)
QWEN_ENTRIES = RANKS + 217


def toy(*, rows: int = QWEN_ENTRIES) -> ToySizes:
    """A small Vary-toy, heads of 64 channels in CLIP as everywhere, and of another width in Qwen."""
    return ToySizes(
        clip=CLIP, sam=SAM, qwen=QwenSizes(vocabulary=rows, width=64, mlp=88, depth=3, heads=4), ids=QWEN_IDS
    )


def tiny(*, rows: int | None = None, positions: int = 128) -> TinySizes:
    """A small Vary-tiny; its image tokens stand behind the tokenizer's other entries."""
    entries = len(opt())
    sizes = OptSizes(
        vocabulary=rows or entries + 3, width=64, mlp=96, depth=2, heads=4, positions=positions, dropout=0.0
    )
    return TinySizes(sam=SAM, opt=sizes, ids=ImageIds(pad=entries, start=entries + 1, end=entries + 2))


def drawn(sizes: ToySizes | TinySizes, dtype: torch.dtype = torch.float32) -> Released:
    """A released model with weights in which no mistake hides."""
    model = released_of(sizes)
    draw(model, seed=0)
    return model.to(dtype).eval()


def config_of(sizes: ToySizes | TinySizes) -> dict[str, Any]:
    """Return the entries of a release's config.json that its tensors do not tell."""
    if isinstance(sizes, TinySizes):
        return {
            "architectures": ["varyOPTForCausalLM"], "model_type": "vary", "num_attention_heads": sizes.opt.heads,
            "dropout": 0.0, "vocab_size": 7,  # stale, as the release's
        }  # fmt: skip
    return {
        "architectures": ["varyQwenForCausalLM"], "model_type": "vary", "auto_map": {"AutoConfig": "remote.Config"},
        "num_attention_heads": sizes.qwen.heads, "seq_length": sizes.qwen.positions, "rotary_emb_base": 10000,
        "layer_norm_epsilon": 1e-6, "intermediate_size": 2 * sizes.qwen.mlp, "tie_word_embeddings": False,
    }  # fmt: skip


def write(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    form: str = "safetensors",
    shards: int = 1,
) -> Path:
    """A Hugging Face folder: one file, or several and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    names = list(tensors)
    weight_map = {}
    for number in range(shards):
        file = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        part = {name: tensors[name].clone() for name in names[number::shards]}
        save_file(part, folder / file) if form == "safetensors" else torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_toy(folder: Path, model: Released, **form: Any) -> Path:
    """A released Vary-toy with its tokenizer."""
    write(folder, model.state_dict(), config_of(model.body().sizes), **form)
    write_ranks(folder / "qwen.tiktoken")
    return folder


def write_tiny(folder: Path, model: Released, **form: Any) -> Path:
    """A released Vary-tiny with its tokenizer."""
    write(folder, model.state_dict(), config_of(model.body().sizes), **form)
    opt().save_pretrained(folder)
    return folder


def ranks() -> dict[bytes, int]:
    """All bytes, then pairs learnt from a text the plain way: the most frequent neighbours become one."""
    rank_of = {bytes([byte]): byte for byte in range(256)}
    words = [[bytes([byte]) for byte in word.encode()] for word in TEXT.replace(" ", "\0 ").split("\0")]
    while len(rank_of) < RANKS:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        rank_of[b"".join(best)] = len(rank_of)
        words = [_merged(word, best) for word in words]
    return rank_of


def _merged(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    merged: list[bytes] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged


def write_ranks(path: Path) -> dict[bytes, int]:
    """A `.tiktoken` file: base64, a blank, the rank."""
    rank_of = ranks()
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in rank_of.items()))
    return rank_of


def bytes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes by name."""
    return {
        name: (str(t.dtype), tuple(t.shape), t.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for name, t in tensors.items()
    }


def stored(file: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of all tensors of a safetensors file."""
    return bytes_of(load_file(file))
