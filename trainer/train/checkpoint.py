"""Checkpoints that a run resumes from, and the exported model that others read.

OUT/checkpoints/step-000500/   optimiser, weights, loss scale (snapshot.py) and state.json; whole or absent
OUT/model/                     model.safetensors, recipe.yaml, tokenizer: what evaluation and the next stage load
OUT/log.jsonl                  a line per step
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from trainer.train import universal_checkpoint as snapshot
from trainer.train.engine import Engine
from trainer.train.state import TrainState
from varyforge.errors import UserError
from varyforge.files import sync_folder, sync_tree, write_text

_STATE = "state.json"


def checkpoints(out: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    folders = {path.name.removeprefix("step-"): path for path in (out / "checkpoints").glob("step-*")}
    return [folders[step] for step in sorted(filter(str.isdecimal, folders), key=int)]  # a copy "…-old" is none


def save_checkpoint(engine: Engine, out: Path, state: TrainState, *, rank: int, keep: int) -> None:
    """Writes a checkpoint; every rank calls it. A kill while it is written leaves the earlier ones as they were."""
    folder = out / "checkpoints" / f"step-{state.step:06d}"
    temp = folder.with_name(f".{folder.name}.tmp")
    if rank == 0:
        for torn in folder.parent.glob(".step-*.tmp"):  # of a run that was killed while it saved
            shutil.rmtree(torn)
        temp.mkdir(parents=True)
    engine.barrier()
    snapshot.save(engine, temp)
    engine.barrier()
    if rank == 0:
        write_text(temp / _STATE, json.dumps(asdict(state), indent=2) + "\n")
        sync_tree(temp)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temp, folder)
        sync_folder(folder.parent)
        for old in checkpoints(out)[:-keep]:
            shutil.rmtree(old)
    engine.barrier()


def resume(engine: Engine, out: Path, data_sha256: str) -> TrainState:
    """Restores the newest checkpoint, if there is one.

    Raises:
        UserError: it is of other data, or does not fit the model.
    """
    found = checkpoints(out)
    if not found:
        return TrainState(data_sha256=data_sha256)
    try:
        state = TrainState(**json.loads((found[-1] / _STATE).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{found[-1]}: broken ({error}); delete it to continue from the one before") from error
    if state.data_sha256 != data_sha256:
        raise UserError(
            f"{found[-1]}: was trained on another mixture or global batch, or the shards have been made anew since. "
            "Choose another out= (or delete this one), or restore data.mixture and engine.global_batch_size"
        )
    snapshot.load(engine, found[-1])
    return state
