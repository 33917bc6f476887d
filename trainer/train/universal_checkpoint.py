"""A training state on disk that depends neither on the number of ranks nor on the ZeRO stage.

state-00000.safetensors, …   fp32 weights and moments of trained parameters: weight/NAME, exp_avg/NAME, exp_avg_sq/NAME
engine.json                  number of updates, loss scale, and digests of the frozen parts

Frozen weights are not stored. The recipe brings them again, and the digests show whether they are the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.train.engine import Engine
from trainer.train.master_weights import KINDS
from varyforge.errors import UserError
from varyforge.files import write_text

_ENGINE = "engine.json"
_FORMAT = 1
_SHARD_ELEMENTS = 256 * 1024**2  # 1 GiB in fp32: host memory that a rank needs while it writes


def save_universal(engine: Engine, folder: Path) -> None:
    """Write the engine's state into `folder`. Every rank calls this function, and the ranks take turns at the files."""
    engine.master_weights.prepare()
    for number, keys in enumerate(_shards(engine)):
        mine = number % engine.world_size == engine.rank
        tensors: dict[str, Tensor] = {}
        for key in keys:
            kind, name = key.split("/", 1)
            tensor = engine.master_weights.read(engine.trained[name], kind)  # a collective operation of all ranks
            if mine:
                tensors[key] = tensor.cpu().contiguous()
        if mine:
            path = folder / f"state-{number:05d}.safetensors"
            save_file(tensors, path)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    if engine.rank == 0:
        about = {
            "format": _FORMAT,
            "step": engine.master_weights.step,
            "skipped_updates": engine.skipped_updates,
            "loss_scale": engine.master_weights.loss_scale,
            "frozen": engine.frozen,
        }
        write_text(folder / _ENGINE, json.dumps(about, indent=2) + "\n")


def load_universal(engine: Engine, folder: Path) -> None:
    """Restore a saved state, on any number of ranks and any ZeRO stage. Every rank calls this function.

    Raises:
        UserError: files are missing or broken, or the state belongs to another model. The engine is then unchanged.
    """
    about = _about(folder)
    _compare(folder, "frozen", about["frozen"], engine.frozen)
    with ExitStack() as stack:
        files = [_open(path, stack) for path in sorted(folder.glob("state-*.safetensors"))]
        file_of = {key: file for file in files for key in file.keys()}
        saved = {key: tuple(file.get_slice(key).get_shape()) for key, file in file_of.items()}
        _compare(folder, "trained", saved, {f"{kind}/{name}": shape for kind, name, shape in _tensors(engine)})
        engine.master_weights.prepare(step=about["step"])
        for key, file in file_of.items():
            kind, name = key.split("/", 1)
            engine.master_weights.write(engine.trained[name], kind, file.get_tensor(key))
    engine.master_weights.loss_scale = about["loss_scale"]
    engine.skipped_updates = about["skipped_updates"]
    engine.apply_master_weights()


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / _ENGINE).read_bytes())
        known = about["format"] == _FORMAT and {"step", "skipped_updates", "loss_scale", "frozen"} <= about.keys()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(_broken(folder, error)) from error
    if not known:
        raise UserError(_broken(folder, f"{_ENGINE} is of another version"))
    return about


def _open(path: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(path, framework="pt"))
    except (OSError, SafetensorError) as error:
        raise UserError(_broken(path.parent, f"{path.name}: {error}")) from error


def _broken(folder: Path, reason: object) -> str:
    return (
        f"{folder}: broken, or not a checkpoint of this version ({reason}); delete it to continue from the one before"
    )


def _compare(folder: Path, kind: str, saved: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raise UserError unless both mappings are equal. `kind` is "frozen" or "trained"."""
    differ = sorted(name for name in saved.keys() | expected.keys() if saved.get(name) != expected.get(name))
    if differ:
        name = differ[0]
        raise UserError(
            f"{folder}: does not fit this run: {len(differ)} {kind} entries differ, first {name}, "
            f"saved {saved.get(name, 'nothing')}, this run has {expected.get(name, 'nothing')}. "
            "Continue with the model and weights of the recipe it was saved with, or choose another out="
        )


def _tensors(engine: Engine) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield (kind, name, shape) of each tensor of a state, in a fixed order."""
    for name, shape in engine.shapes.items():
        for kind in KINDS:
            yield kind, name, shape


def _shards(engine: Engine) -> list[list[str]]:
    """Group the tensors' keys into files of at most `_SHARD_ELEMENTS` elements, at least one tensor each."""
    shards: list[list[str]] = []
    room = 0
    for kind, name, shape in _tensors(engine):
        size = math.prod(shape)
        if size > room:
            shards.append([])
            room = _SHARD_ELEMENTS
        shards[-1].append(f"{kind}/{name}")
        room -= size
    return shards
