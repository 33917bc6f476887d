"""A training state on disk that knows neither ranks nor ZeRO stages.

state-00000.safetensors, …   fp32 weights and moments of what trains, under weight/NAME, exp_avg/NAME, exp_avg_sq/NAME
engine.json                  updates done, loss scale, and the digests of what is frozen

What is frozen is not stored: the recipe brings it again, and the digests tell whether it is the same.
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
_SHARD_ELEMENTS = 256 * 1024**2  # 1 GiB in fp32: what a rank holds in host memory while it writes


def save(engine: Engine, folder: Path) -> None:
    """Writes the state into `folder`; every rank calls it, and they take turns at the files."""
    engine.masters.prepare()
    for number, keys in enumerate(_shards(engine)):
        mine = number % engine.world_size == engine.rank
        tensors: dict[str, Tensor] = {}
        for key in keys:
            tensor = _read(engine, key)  # all ranks together
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
            "step": engine.masters.step,
            "skipped_updates": engine.skipped_updates,
            "loss_scale": engine.masters.loss_scale,
            "frozen": engine.frozen,
        }
        write_text(folder / _ENGINE, json.dumps(about, indent=2) + "\n")


def load(engine: Engine, folder: Path) -> None:
    """Restores what `save` wrote, on any number of ranks and any ZeRO stage; every rank calls it.

    Raises:
        UserError: files are missing or broken, or the state is of another model. The engine is then as it was.
    """
    about = _about(folder)
    _compare(folder, "frozen", about["frozen"], engine.frozen)
    with ExitStack() as stack:
        files = [_open(path, stack) for path in sorted(folder.glob("state-*.safetensors"))]
        holder = {key: file for file in files for key in file.keys()}
        found = {key: tuple(file.get_slice(key).get_shape()) for key, file in holder.items()}
        _compare(folder, "trained", found, {f"{kind}/{name}": shape for kind, name, shape in _units(engine)})
        engine.masters.prepare(step=about["step"])
        for key, file in holder.items():
            kind, name = key.split("/", 1)
            engine.masters.write(engine.trained[name], kind, file.get_tensor(key))
    engine.masters.loss_scale = about["loss_scale"]
    engine.skipped_updates = about["skipped_updates"]
    engine.apply_masters()


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


def _compare(folder: Path, what: str, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raises UserError unless both say the same of the same names."""
    differ = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differ:
        name = differ[0]
        raise UserError(
            f"{folder}: does not fit this run: {len(differ)} of what is {what} differ, first {name}, "
            f"saved {found.get(name, 'nothing')}, this run has {expected.get(name, 'nothing')}. "
            "Continue with the model and weights of the recipe it was saved with, or choose another out="
        )


def _read(engine: Engine, key: str) -> Tensor:
    kind, name = key.split("/", 1)
    return engine.masters.read(engine.trained[name], kind)


def _units(engine: Engine) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(kind, name, shape) of each tensor of a state, in a fixed order."""
    for name, shape in engine.shapes.items():
        for kind in KINDS:
            yield kind, name, shape


def _shards(engine: Engine) -> list[list[str]]:
    """The keys of each file: as many as fit into one, at least one."""
    shards: list[list[str]] = []
    room = 0
    for kind, name, shape in _units(engine):
        size = math.prod(shape)
        if size > room:
            shards.append([])
            room = _SHARD_ELEMENTS
        shards[-1].append(f"{kind}/{name}")
        room -= size
    return shards
