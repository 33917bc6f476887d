"""Checkpoints that are refused, and the state that a kill during a save leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.ranks import make_engine, micro_batches, state
from trainer.train import universal_checkpoint
from trainer.train.checkpoint import checkpoints, resume, save_checkpoint
from trainer.train.engine import Engine, start_distributed
from trainer.train.master_weights import KINDS
from trainer.train.state import TrainState
from varyforge.errors import UserError

DATA = "0" * 64


@pytest.fixture(scope="module")
def engine() -> Engine:
    start_distributed()
    engine, model = make_engine("untied", 2)
    update(engine, model, 0)
    return engine


def update(engine: Engine, model: Any, step: int) -> None:
    for batch in micro_batches(step, 0, 1, model.layout):
        engine.backward(engine(batch)[0], last=True)
    engine.step(1e-3)


def save(engine: Engine, out: Path, step: int) -> Path:
    save_checkpoint(engine, out, TrainState(step=step, data_sha256=DATA), rank=0, keep=2)
    return checkpoints(out)[-1]


def test_a_checkpoint_has_the_trained_tensors_once_and_the_digests_of_the_rest(engine: Engine, tmp_path: Path) -> None:
    folder = save(engine, tmp_path, 1)
    tensors = state(folder)
    assert set(tensors) == {f"{kind}/{name}" for kind in KINDS for name in engine.trained}
    assert not any("encoders.clip" in name for name in tensors)
    about = json.loads((folder / "engine.json").read_text())
    assert set(about["frozen"]) == {"encoders.clip"}
    assert about["step"] == 1
    assert resume(engine, tmp_path, DATA) == TrainState(step=1, data_sha256=DATA)


def test_an_interrupted_save_leaves_the_one_before(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(engine, tmp_path, 1)
    monkeypatch.setattr(universal_checkpoint, "_SHARD_ELEMENTS", 20_000)
    real, calls = universal_checkpoint.save_file, iter(range(2))

    def stop_in_the_third(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if next(calls, None) is None:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(universal_checkpoint, "save_file", stop_in_the_third)
        save(engine, tmp_path, 2)
    assert checkpoints(tmp_path) == [first]
    assert resume(engine, tmp_path, DATA).step == 1
    assert save(engine, tmp_path, 2).name == "step-000002"  # over what was left half-written
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000001", "step-000002"]
    assert resume(engine, tmp_path, DATA).step == 2


def test_a_killed_runs_torn_checkpoint_is_cleared_away_by_the_next_save(engine: Engine, tmp_path: Path) -> None:
    torn = tmp_path / "checkpoints" / ".step-000003.tmp"
    torn.mkdir(parents=True)
    (torn / "state-00000.safetensors").write_bytes(b"half")
    save(engine, tmp_path, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000002"]


def test_the_newest_checkpoint_goes_by_its_number(tmp_path: Path) -> None:
    for name in ("step-1000000", "step-999999", "step-000500", "step-999999-copy"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000500", "step-999999", "step-1000000"]


def truncate(folder: Path) -> None:
    path = next(folder.glob("state-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])


def delete_the_tensors(folder: Path) -> None:
    next(folder.glob("state-*.safetensors")).unlink()


def delete_the_engine(folder: Path) -> None:
    (folder / "engine.json").unlink()


def garble_the_engine(folder: Path) -> None:
    (folder / "engine.json").write_text("[1]")


def garble_the_state(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def foreign(folder: Path) -> None:
    shutil.copy(next(folder.glob("state-*.safetensors")), folder / "state-00009.safetensors")
    next(folder.glob("state-*.safetensors")).write_bytes(b"\x80\x02 a pickle, say")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "state-00000.safetensors"),
        (foreign, "safetensors"),
        (delete_the_tensors, "does not fit this run"),
        (delete_the_engine, "engine.json"),
        (garble_the_engine, "broken"),
        (garble_the_state, "broken"),
    ],
)
def test_damage_is_said_and_changes_nothing(engine: Engine, tmp_path: Path, damage: Any, message: str) -> None:
    folder = save(engine, tmp_path, 1)
    before = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        resume(engine, tmp_path, DATA)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in engine.state_dict().items())


def test_another_model_is_refused_by_name(engine: Engine, tmp_path: Path) -> None:
    folder = save(engine, tmp_path, 1)
    other, _ = make_engine("tied", 2)
    with pytest.raises(UserError, match=r"does not fit this run: .* frozen entries differ, first encoders.clip"):
        resume(other, tmp_path, DATA)
    about = json.loads((folder / "engine.json").read_text())
    about["frozen"]["encoders.clip"] = "1" * 64  # the weights it is built from have been replaced
    (folder / "engine.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"first encoders.clip, saved 1111"):
        resume(engine, tmp_path, DATA)
