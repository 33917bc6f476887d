"""Training in the small on several ranks: started as processes by test_zero.py, one start for many runs.

python -m tests.trainer.ranks OUT JOBS      JOBS: JSON, a list of keyword arguments of `train`
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer.world import CLIP, OPT, QWEN, SAM
from trainer.batch import IGNORE_INDEX, Batch, Encoded
from trainer.images.layout import ImageLayout
from trainer.loader.packing import Loaded, collate, empty_batch
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, EngineSettings, LanguageSettings, ModelSettings, PartSettings
from trainer.train import engine as engine_module
from trainer.train import universal_checkpoint
from trainer.train.engine import Engine, start_distributed

IMAGE = 5  # the id of an image token
SHARES = 4  # micro-batches of a step, whatever the ranks; the first half is text, the second has images


def model_settings(kind: str) -> ModelSettings:
    """`tied`: OPT, whose head is its embeddings, and two encoders that train. `untied`: Qwen2, one of them frozen.

    `connectors`: nothing else trains. `tiled`: an image is cut into differently many tiles, by its size.
    `parts`: learned queries, two encoders in sequence and a projector behind them.
    """
    if kind == "tiled":
        return ModelSettings(
            vision={"clip": EncoderSettings(type="clip", config=CLIP)},
            language=LanguageSettings(type="qwen2", tokenizer="", template="", config=QWEN),
            tiling=PartSettings(type="any_res", config={"grids": [[1, 2], [2, 1], [2, 2]]}),
        )
    if kind == "parts":
        resampler = PartSettings(type="perceiver", config={"queries": 2, "depth": 1, "heads": 4})
        return ModelSettings(
            vision={
                "clip": EncoderSettings(type="clip", config=CLIP, connector=resampler),
                "vary": EncoderSettings(type="sam", config=SAM, connector=resampler),
            },
            language=LanguageSettings(type="llama", tokenizer="", template="", config=QWEN),
            fusion="sequence",
            projector=PartSettings(type="mlp"),
        )
    tied, frozen = kind == "tied", kind == "connectors"
    return ModelSettings(
        vision={
            "clip": EncoderSettings(type="clip", config=CLIP, frozen=not tied),
            "vary": EncoderSettings(type="sam", config=SAM, frozen=frozen),
        },
        language=LanguageSettings(
            type="opt" if tied else "qwen2", tokenizer="", template="", config=OPT if tied else QWEN, frozen=frozen
        ),
    )


def make_model(kind: str) -> VisionLanguageModel:
    """Random weights, the same at each call; gradient checkpointing in the untied one."""
    model, _ = build(
        model_settings(kind),
        vocabulary=300,
        image_token_id=IMAGE,
        attention="sdpa",
        gradient_checkpointing=kind == "untied",
        seed=3,
    )
    return model


def make_sample(random: torch.Generator, *, image: bool, layout: ImageLayout) -> Loaded:
    """Between 12 and 24 random ids, supervised from the ninth on, and the image they may hold."""
    length = int(torch.randint(12, 25, (), generator=random))
    ids = torch.randint(10, 300, (length,), generator=random).tolist()
    labels = [IGNORE_INDEX] * 8 + ids[8:]
    pixels, image_sizes = [], ()
    if image:
        image_sizes = ([(8, 8), (30, 90), (90, 50)][length % 3],)
        tokens, views = layout.num_tokens(*image_sizes), layout.num_views(*image_sizes)
        ids[2:6], labels[2:6] = [IMAGE] * tokens, [IGNORE_INDEX] * tokens
        sizes = {name: (views, how.size, how.size, 3) for name, how in layout.preprocess.items()}
        pixels = [{n: torch.randint(256, size, generator=random).byte().numpy() for n, size in sizes.items()}]
    encoded = Encoded(key="a", task="ocr", input_ids=ids, labels=labels, image_sizes=image_sizes)
    return encoded, pixels


def micro_batches(step: int, rank: int, world_size: int, layout: ImageLayout) -> list[Batch]:
    """This rank's part of the SHARES micro-batches of a step, a pure function of (step, share).

    With two ranks the first has text alone and the second images, and an empty one for want of samples, for 20 steps;
    then it is the other way round, and after that nobody has an image.
    """
    batches = []
    for share in range(SHARES):
        random = torch.Generator().manual_seed(1000 * step + share)
        image = 2 * share >= SHARES and step < 21
        row = [[make_sample(random, image=image, layout=layout) for _ in range(2)] for _ in range(2)]
        batches.append(collate(row, 0, layout) if share < SHARES - 1 else empty_batch(0, layout))
    if step >= 20:
        batches.reverse()
    each = SHARES // world_size
    return batches[rank * each : (rank + 1) * each]


def make_engine(
    kind: str, stage: int, *, precision: str = "fp32", offload: bool = False, eps: float = 1e-8
) -> tuple[Engine, VisionLanguageModel]:
    model = make_model(kind)
    settings = EngineSettings(global_batch_size=8, precision=precision, zero_stage=stage, offload_optimizer=offload)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1]}, {"params": [p for p in trained if p.ndim <= 1]}]
    return Engine(model, torch.optim.AdamW(groups, eps=eps, weight_decay=0.01, fused=True), settings, None), model


def train(
    out: Path,
    name: str,
    kind: str,
    stage: int,
    *,
    first: int = 0,
    last: int = 4,
    saves: list[int] | None = None,
    start: str | None = None,
    overflow: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Run steps `first` to `last` from the checkpoint `start`, or from random weights; save checkpoints and weights.

    Returns:
        The losses of this rank's steps, and how often its encoders were called.
    """
    engine, model = make_engine(kind, stage, **changes)
    weights = engine.state_dict()
    if engine.rank == 0:
        _save_weights(weights, out / f"{name}.initial.safetensors")
    if start is not None:
        universal_checkpoint.load_universal(engine, out / start)
    calls = dict.fromkeys(model.encoders, 0)
    for encoder_name, encoder in model.encoders.items():
        encoder.register_forward_hook(lambda *_, encoder_name=encoder_name: _count(calls, encoder_name))
    losses = []
    for step in range(first, last):
        batches = micro_batches(step, engine.rank, engine.world_size, model.layout)
        supervised = int(engine.total(torch.tensor(sum(batch.num_supervised for batch in batches))))
        total = torch.zeros((), dtype=torch.float64)
        for number, batch in enumerate(batches):
            summed, per_token, _ = engine(batch)
            total += per_token.double().sum()
            scale = 1e30 if step == overflow else 1
            engine.backward(scale * summed / supervised, last=number == len(batches) - 1)
        losses.append(float(engine.total(total)) / supervised)
        engine.step(1e-3)
        if step + 1 in (saves or []):
            _save(engine, out / f"{name}.{step + 1}")
    _save(engine, out / name)
    weights = engine.state_dict()
    if engine.rank == 0:
        _save_weights(weights, out / f"{name}.safetensors")
    return {"losses": losses, "calls": calls, "skipped": engine.skipped_updates}


def _save(engine: Engine, folder: Path) -> None:
    if engine.rank == 0:
        folder.mkdir()
    engine.barrier()
    universal_checkpoint.save_universal(engine, folder)
    engine.barrier()


def state(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a universal checkpoint."""
    tensors: dict[str, Tensor] = {}
    for path in folder.glob("state-*.safetensors"):
        tensors |= load_file(path)
    return tensors


def launch(out: Path, world_size: int, jobs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs the jobs one after the other on `world_size` processes; by job, what each rank returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size)}
    environment |= {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(out), json.dumps(jobs)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)
    ranks = [json.loads((out / f"results-{rank}.json").read_text()) for rank in range(world_size)]
    return {job["name"]: [results[job["name"]] for results in ranks] for job in jobs}


SMALL = {
    (engine_module, "_BUCKET_ELEMENTS"): 5000,  # fills up several times in a backward pass
    (engine_module, "_PERSISTENT_ELEMENTS"): 0,  # no parameter of the language model is left whole
    (universal_checkpoint, "_SHARD_ELEMENTS"): 20_000,  # few tensors to a file
}
"""Sizes for a model this small to be cut up as large ones are."""


def _count(calls: dict[str, int], name: str) -> None:
    calls[name] += 1


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, path)


def main() -> None:
    out, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for (module, size), value in SMALL.items():
        setattr(module, size, value)
    rank, _ = start_distributed()
    results = {job["name"]: train(out, **job) for job in jobs}
    (out / f"results-{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
