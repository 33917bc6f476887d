"""Files and folders are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.errors import UserError
from datagen.files import atomic_folder


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
