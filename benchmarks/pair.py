"""A pair of models, ours and the released one, with the same sizes, weights and samples, and a step's time and memory.

Shared by `benchmarks/model_step.py` and `benchmarks/mix_stream.py`; nothing to run. The released model is
`benchmarks/released.py`: a forward pass per image, attention with materialised maps and masks, logits of all positions.
Each model takes what its loader ships: ours bytes, the released one floats that are normalised before the clock starts.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.released import Released, ReleasedTiny, ReleasedToy, SamSizes, TinySizes, ToySizes
from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.convert.names import KINDS
from trainer.loader.packing import Loaded, collate
from trainer.model.build import build
from trainer.model.precision import dtype_of
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings

Sizes = ToySizes | TinySizes
MIB, GIB = 2**20, 2**30


# --- the two models


def settings_of(sizes: Sizes) -> ModelSettings:
    """Return the recipe of the released model of these sizes: Vary-toy with frozen towers or Vary-tiny."""
    frozen = isinstance(sizes, ToySizes)
    sam = EncoderSettings(type="sam", config=_sam(sizes.sam), frozen=frozen)
    if isinstance(sizes, ToySizes):
        clip, qwen = sizes.clip, sizes.qwen
        low = {
            "image_size": clip.image, "patch_size": clip.patch, "hidden_size": clip.width,
            "intermediate_size": clip.mlp, "num_hidden_layers": clip.depth, "num_attention_heads": clip.heads,
        }  # fmt: skip
        config = {
            "vocab_size": qwen.vocabulary, "hidden_size": qwen.width, "intermediate_size": qwen.mlp,
            "num_hidden_layers": qwen.depth, "num_attention_heads": qwen.heads, "num_key_value_heads": qwen.heads,
            "max_position_embeddings": qwen.positions, "tie_word_embeddings": False,
        }  # fmt: skip
        language = LanguageSettings(type="qwen2", tokenizer="-", template="-", config=config)
        return ModelSettings(
            vision={"clip": EncoderSettings(type="clip", config=low, frozen=True), "vary": sam}, language=language
        )
    opt = sizes.opt
    config = {
        "vocab_size": opt.vocabulary, "hidden_size": opt.width, "word_embed_proj_dim": opt.width, "ffn_dim": opt.mlp,
        "num_hidden_layers": opt.depth, "num_attention_heads": opt.heads, "max_position_embeddings": opt.positions,
        "dropout": opt.dropout,
    }  # fmt: skip
    return ModelSettings(
        vision={"vary": sam}, language=LanguageSettings(type="opt", tokenizer="-", template="-", config=config)
    )


def _sam(sizes: SamSizes) -> dict[str, Any]:
    return {
        "image_size": sizes.image, "patch_size": sizes.patch, "width": sizes.width, "depth": sizes.depth,
        "heads": sizes.heads, "mlp_ratio": sizes.mlp // sizes.width, "window": sizes.window,
        "global_layers": list(sizes.global_layers), "neck": sizes.neck, "conv_channels": list(sizes.convolutions),
    }  # fmt: skip


def ours(sizes: Sizes, *, recompute: bool = False, device: str = "cpu", precision: str = "fp32") -> VisionLanguageModel:
    """Build our model with random weights, in training mode. On the device "meta" it has no weights and no memory."""
    vocabulary = sizes.qwen.vocabulary if isinstance(sizes, ToySizes) else sizes.opt.vocabulary
    with torch.device("meta" if device == "meta" else "cpu"):
        model, _ = build(
            settings_of(sizes),
            vocabulary=vocabulary,
            image_token_id=sizes.ids.pad,
            attention="sdpa",
            gradient_checkpointing=recompute,
            seed=0,
        )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "rel_pos" in name and device != "meta":  # built as zeros, which would hide a mistake
            parameter.data.normal_(std=0.02, generator=generator)
    return model.to(device=device, dtype=dtype_of(precision))


def released(sizes: Sizes, model: VisionLanguageModel) -> Released:
    """Build the released model in training mode. It shares its weights with ours."""
    toy = isinstance(sizes, ToySizes)
    with torch.device("meta"):
        theirs: Released = ReleasedToy(sizes) if isinstance(sizes, ToySizes) else ReleasedTiny(sizes)
    kind, weights = KINDS["vary_toy" if toy else "vary_tiny"], model.state_dict()
    state = {}
    for name in theirs.state_dict():
        parts = [weights[ours] for ours in kind.to_ours(name) or ()]
        state[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    theirs.load_state_dict(state, assign=True)
    if isinstance(theirs, ReleasedTiny):
        theirs.lm_head.weight = theirs.model.decoder.embed_tokens.weight
    else:
        body: Any = theirs.body()
        body.vision_tower.requires_grad_(False)
        body.vision_tower_high.requires_grad_(False)
    return theirs.train()


# --- samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample of random ids, of which the last are supervised, and random pictures."""

    ids: list[int]
    supervised: int
    pictures: list[dict[str, np.ndarray]]  # per image and encoder its one view, (1, S, S, 3) uint8

    @property
    def labels(self) -> list[int]:
        """The supervised ids, and `IGNORE_INDEX` elsewhere."""
        prompt = len(self.ids) - self.supervised
        return [IGNORE_INDEX] * prompt + self.ids[prompt:]


def sample(sizes: Sizes, tokens: int, images: int, supervised: int, rng: np.random.Generator) -> Sample:
    """Draw a sample of `tokens` tokens in all: images at its beginning, then text of which the end is supervised."""
    block = [sizes.ids.start, *[sizes.ids.pad] * sizes.sam.tokens, sizes.ids.end]
    text = tokens - images * len(block)
    assert 0 <= supervised < text or (images and supervised <= text), (tokens, images, supervised)
    ids = block * images + rng.integers(3, min(sizes.ids.start, sizes.ids.pad), text).tolist()
    sides = {"clip": sizes.clip.image} if isinstance(sizes, ToySizes) else {}
    sides["vary"] = sizes.sam.image
    pictures = [
        {name: rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8) for name, side in sides.items()}
        for _ in range(images)
    ]
    return Sample(ids=ids, supervised=supervised, pictures=pictures)


def our_batch(model: VisionLanguageModel, rows: Sequence[Sequence[Sample]]) -> Batch:
    """Collate rows of samples as our loader does, on the model's device."""
    loaded: list[list[Loaded]] = [
        [
            (
                Encoded(
                    key="-",
                    task="-",
                    input_ids=np.array(s.ids),
                    labels=np.array(s.labels),
                    image_sizes=tuple(next(iter(views.values())).shape[1:3] for views in s.pictures),
                ),
                s.pictures,
            )
            for s in row
        ]
        for row in rows
    ]
    return collate(loaded, 0, model.layout).to(next(model.parameters()).device)


def released_batch(theirs: Released, model: VisionLanguageModel, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the arguments of `Released.forward`: padded samples, pixels as floats, black images for a row of text."""
    weight = theirs.lm_head.weight
    width = max(len(s.ids) for s in samples)
    ids, labels = torch.zeros(len(samples), width, dtype=torch.int64), torch.full((len(samples), width), IGNORE_INDEX)
    mask = torch.zeros_like(ids)
    images: list[Any] = []
    for row, s in enumerate(samples):
        ids[row, : len(s.ids)], mask[row, : len(s.ids)] = torch.tensor(s.ids), 1
        labels[row, : len(s.ids)] = torch.tensor(s.labels)
        if not s.pictures:
            images.append(theirs.black())
            continue
        pixels = {name: torch.from_numpy(np.concatenate([p[name] for p in s.pictures])) for name in s.pictures[0]}
        floats = {
            name: model.layout.preprocess[name].normalise(p, weight.dtype).to(weight.device)
            for name, p in pixels.items()
        }
        images.append((floats["clip"], floats["vary"]) if "clip" in floats else floats["vary"])
    device = weight.device
    return {
        "ids": ids.to(device),
        "attention_mask": mask.to(device),
        "images": images,
        "labels": labels.to(device),
    }


# --- a step: forward and backward, no update; returns the sum of the token losses


def our_step(model: VisionLanguageModel, batch: Batch) -> float:
    """Compute the gradients of the mean loss over the batch's supervised tokens with our model."""
    total, *_ = model(batch)
    total = total.sum()
    (total / batch.num_supervised).backward()
    return total.item()


def released_step(theirs: Released, batch: Mapping[str, Any]) -> float:
    """Compute the same gradients as the release does, which holds its output with all logits in the backward pass."""
    output = theirs(**batch)
    assert output.loss is not None
    output.loss.backward()
    return output.loss.item() * int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())


def agree(losses: Mapping[str, float], tolerance: float = 1e-4) -> None:
    """Compare the losses of all sides; without equal losses their times mean nothing.

    Raises:
        AssertionError: losses differ by more than a relative `tolerance`.
    """
    lowest, highest = min(losses.values()), max(losses.values())
    assert highest - lowest <= tolerance * abs(highest), f"different losses: {losses}"


# --- measuring


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a step: the least of all rounds, for each clock by itself."""

    wall_s: float
    cpu_s: float  # of all threads


def interleaved(
    runs: Mapping[str, Callable[[], float]], models: Sequence[torch.nn.Module], rounds: int
) -> dict[str, Timed]:
    """Time each of `runs` in turns, `rounds` times. A run returns a loss; the losses of a round have to agree."""
    times: dict[str, list[Timed]] = {name: [] for name in runs}
    for _ in range(rounds):
        losses = {}
        for name, run in runs.items():
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            losses[name] = run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(Timed(time.perf_counter() - wall, time.process_time() - cpu))
            for model in models:
                model.zero_grad(set_to_none=True)
        agree(losses)
    return {name: Timed(min(t.wall_s for t in ts), min(t.cpu_s for t in ts)) for name, ts in times.items()}


@dataclass(slots=True)
class Peak:
    """Bytes of memory before a block of `watch`, and at most during it."""

    before: int = 0
    peak: int = 0


@contextmanager
def watch(device: str) -> Iterator[Peak]:
    """Context manager: measure the peak of memory in its block, of this process or of torch on the GPU.

    On a CPU this needs Linux, whose kernel resets a process's peak when 5 is written to clear_refs (proc(5)).
    """
    gc.collect()
    gauge = Peak()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        gauge.before = torch.cuda.memory_allocated()
        yield gauge
        torch.cuda.synchronize()
        gauge.peak = torch.cuda.max_memory_allocated()
        return
    ctypes.CDLL(None).malloc_trim(0)  # free memory goes back to the system
    Path("/proc/self/clear_refs").write_text("5")
    gauge.before = _status("VmRSS")
    yield gauge
    gauge.peak = _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def gradient_bytes(model: torch.nn.Module) -> int:
    """Return the size of all gradients of a step."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def warm_up() -> None:
    """Let the libraries allocate their buffers before memory is measured."""
    x = torch.randn(1, 4, 256, 256, requires_grad=True)
    y = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    (torch.nn.functional.conv2d(y, torch.randn(4, 4, 3, 3)) @ torch.randn(254, 64)).sum().backward()
