"""Checkpoints that a run resumes from.

OUT/checkpoints/step-000500/   weights, optimiser, loss scale (universal_checkpoint.py) and state.json; whole or absent
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from trainer.train.engine import Engine
from trainer.train.state import TrainState
from trainer.train.universal_checkpoint import load_universal, save_universal
from varyforge.errors import UserError
from varyforge.files import sync_folder, sync_tree, write_text

_STATE = "state.json"


def checkpoints(out: Path) -> list[Path]:
    """Return the whole checkpoints under `out`, oldest first."""
    folders = {path.name.removeprefix("step-"): path for path in (out / "checkpoints").glob("step-*")}
    # Only names that are numbers count: a user's copy "step-000500-old" is not a checkpoint of the run.
    return [folders[step] for step in sorted(filter(str.isdecimal, folders), key=int)]


def save_checkpoint(engine: Engine, out: Path, state: TrainState, *, rank: int, keep: int) -> None:
    """Write a checkpoint and delete all but the newest `keep`. Every rank calls this function.

    The checkpoint's folder is renamed when it is complete, so a kill leaves the earlier checkpoints unchanged.
    """
    folder = out / "checkpoints" / f"step-{state.step:06d}"
    temp = folder.with_name(f".{folder.name}.tmp")
    if rank == 0:
        for torn in folder.parent.glob(".step-*.tmp"):  # of a run that was killed while it saved
            shutil.rmtree(torn)
        temp.mkdir(parents=True)
    engine.barrier()
    save_universal(engine, temp)
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
    """Restore the newest checkpoint under `out` into the engine, or return the state of a new run.

    Raises:
        UserError: the checkpoint is broken, belongs to other data, or does not fit the model.
    """
    folders = checkpoints(out)
    if not folders:
        return TrainState(data_sha256=data_sha256)
    newest = folders[-1]
    try:
        state = TrainState(**json.loads((newest / _STATE).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{newest}: broken ({error}); delete it to continue from the one before") from error
    if state.data_sha256 != data_sha256:
        raise UserError(
            f"{newest}: was trained on another mixture or global batch, or the shards have been rebuilt since. "
            "Choose another out= (or delete the checkpoint), or restore data.mixture and engine.global_batch_size"
        )
    load_universal(engine, newest)
    return state
