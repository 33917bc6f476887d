"""Files and folders are whole or absent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from varyforge.errors import UserError
from varyforge.files import atomic_folder, locked


def test_a_folder_appears_with_all_that_was_written(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a" / "new") as temp:
        (temp / "below").mkdir()
        (temp / "below" / "file").write_text("x")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "below" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]


def test_nothing_appears_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "new") as temp:
        (temp / "file").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_kept(kind: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    if kind == "file":
        there.write_text("x")
    else:
        there.mkdir()
        (there / "file").write_text("x")
    with pytest.raises(UserError, match="exists already"), atomic_folder(there):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as temp:
        (temp / "file").touch()
    assert (tmp_path / "empty" / "file").exists()


def test_the_folder_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_folder(Path(".")) as temp:
        (temp / "file").touch()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]


def test_what_is_replaced_goes_away_after_the_new_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "old").touch()
    seen = []
    replace = os.replace

    def watched(source: Any, target: Any) -> None:
        replace(source, target)
        seen.append([path.name for path in there.iterdir()] if there.exists() else None)

    monkeypatch.setattr(os, "replace", watched)
    with atomic_folder(there, replace=True) as temp:
        (temp / "new").touch()
    assert seen == [None, ["new"]]  # never a part of the old one
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


KILLED = """
import sys, time
from pathlib import Path
from varyforge.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temp:
    (temp / "below").mkdir()
    (temp / "below" / "half").write_text("x")
    print("there", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"there\n"
            (half,) = tmp_path.iterdir()
            with atomic_folder(tmp_path / "new"):
                pass
            assert (half / "below" / "half").exists()
        finally:
            writer.send_signal(signal.SIGKILL)
    with atomic_folder(tmp_path / "new", replace=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    (tmp_path / ".other.1-2.tmp").mkdir()
    with atomic_folder(tmp_path / "new", replace=True):
        pass
    assert (tmp_path / ".other.1-2.tmp").exists()
    with pytest.raises(UserError, match="another process"), locked(tmp_path), locked(tmp_path):
        pass


@pytest.fixture
def _full_disk() -> Iterator[None]:
    """No file grows beyond 10 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _with_torch(temp: Path) -> None:
    with open(temp / "a.pth", "wb") as file:
        torch.save({"a": torch.zeros(9999)}, file)


def _with_tokenizers(temp: Path) -> None:
    Tokenizer(models.WordLevel({f"word{n}": n for n in range(9999)}, "word0")).save(str(temp / "tokenizer.json"))


@pytest.mark.parametrize(
    "write",
    [
        lambda temp: (temp / "text").write_text("x" * 99999),
        lambda temp: save_file({"a": np.zeros(9999)}, temp / "a.safetensors"),
        _with_tokenizers,
        _with_torch,
    ],
    ids=["text", "safetensors", "tokenizers", "torch"],
)
@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_told_of_by_the_folders_name(write: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, atomic_folder(tmp_path / "new") as temp:
        write(temp)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_block_stays_what_it_is(tmp_path: Path) -> None:
    for mistake in (UserError("a"), ValueError("b"), FileNotFoundError(errno.ENOENT, "gone", "source")):
        with pytest.raises(type(mistake)) as error, atomic_folder(tmp_path / "new"):
            raise mistake
        assert error.value is mistake


def test_all_files_may_be_read_by_whoever_reads_new_ones(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new") as temp:
        save_file({"a": np.zeros(1)}, temp / "a.safetensors")  # which is made for the owner alone
        (temp / "a.safetensors").chmod(0o600)
    (tmp_path / "plain").touch()
    assert (tmp_path / "new" / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_lock_leaves_no_empty_folder_behind_an_error(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(UserError), locked(out):
        raise UserError("a mistake")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError), locked(out):
        (out / "file").write_text("x")
        raise UserError("a mistake")
    assert (out / "file").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError), locked(tmp_path / "mine"):
        raise UserError("a mistake")
    assert (tmp_path / "mine").exists()
