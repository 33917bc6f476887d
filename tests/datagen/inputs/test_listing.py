"""Input files on this machine: which are listed, in which order, and by which name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datagen.inputs.listing import is_outside, list_files, name_of, within
from varyforge.errors import UserError
from varyforge.storage import Fetcher, folder_at, on_disk, signature


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of two kinds, two folders deep."""
    for name in ("b.pdf", "A.PDF", "notes.txt", "deep/er/c.pdf", "deep/d.Pdf", "deep/readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(*paths: str, suffixes: tuple[str, ...] = (".pdf",)) -> list[str]:
    return [os.path.relpath(path) for path in list_files(paths, *suffixes)]


def test_folders_are_searched_at_any_depth_whatever_the_case(root: Path) -> None:
    assert listed(".") == ["A.PDF", "b.pdf", "deep/d.Pdf", "deep/er/c.pdf"]
    assert listed("deep/", suffixes=(".pdf", ".txt")) == ["deep/d.Pdf", "deep/er/c.pdf"]
    assert all(os.path.isabs(path) for path in list_files(["."], ".pdf"))


def test_a_file_is_taken_whatever_its_name(root: Path) -> None:
    assert listed("notes.txt", "deep", "b.pdf") == ["notes.txt", "deep/d.Pdf", "deep/er/c.pdf", "b.pdf"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("gone/", "gone: no such file or folder"), ("empty", r"empty: no \*\.pdf or \*\.djvu in this folder")],
)
def test_what_is_missing_is_named(root: Path, path: str, message: str) -> None:
    (root / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        listed(path, suffixes=(".pdf", ".djvu"))


def test_links_are_followed_once(root: Path) -> None:
    (root / "deep" / "up").symlink_to(root)
    (root / "twice").symlink_to(root / "deep")
    (root / "broken.pdf").symlink_to(root / "gone")
    assert listed(".") == ["A.PDF", "b.pdf", "broken.pdf", "deep/d.Pdf", "deep/er/c.pdf"]
    assert listed("twice") == [
        "twice/d.Pdf",
        "twice/er/c.pdf",
        "twice/up/A.PDF",
        "twice/up/b.pdf",
        "twice/up/broken.pdf",
    ]


def test_a_shard_set_among_the_inputs_is_no_input(root: Path) -> None:
    (root / "deep" / "out" / "plan").mkdir(parents=True)
    (root / "deep" / "out" / "documents").mkdir()
    for name in ("job.json", "documents/made.pdf"):
        (root / "deep" / "out" / name).write_bytes(b"")
    assert listed("deep") == ["deep/d.Pdf", "deep/er/c.pdf"]
    assert listed("deep/out/documents") == ["deep/out/documents/made.pdf"]
    assert listed("deep/out") == ["deep/out/documents/made.pdf"]  # named by the user


def test_names_do_not_depend_on_where_files_lie(root: Path) -> None:
    path = str(root / "deep" / "er" / "c.pdf")
    assert name_of(path, ["."]) == name_of(path, [str(root)]) == name_of(path, [f"{root}/"]) == "deep/er/c.pdf"
    assert name_of(path, ["elsewhere", "deep"]) == "er/c.pdf"
    assert name_of(path, [path]) == name_of(path, []) == "c.pdf"
    assert name_of(f"{root}/deeper.pdf", [f"{root}/deep"]) == "deeper.pdf"  # no folder of that name


def test_a_link_leads_out_of_a_folder(root: Path) -> None:
    (root / "deep" / "out.jpg").symlink_to(root / "b.pdf")
    (root / "deep" / "in.jpg").symlink_to(root / "deep" / "d.Pdf")
    (root / "link").symlink_to(root / "deep")
    for folder in ("deep", "link"):
        assert is_outside(within(folder, "out.jpg"), folder)
        assert not is_outside(within(folder, "in.jpg"), folder)
        assert not is_outside(within(folder, "not/there.jpg"), folder)
        assert is_outside(within(folder, "/etc/passwd"), folder)


def test_names_that_are_not_utf8_are_read_and_written_with_escapes(tmp_path: Path) -> None:
    """Names of a Chinese zip (GBK) have no text in UTF-8; JSON and parquet get escapes, and files are still opened."""
    folder = os.fsencode(tmp_path) + b"/\xba\xcf"
    os.mkdir(folder)
    for name in (b"/\xcd\xfe.json", b"/../a\\xba.json"):  # the second has a backslash in its name
        with open(folder + name, "wb") as file:
            file.write(name)
    escaped = f"{tmp_path}/\\xba\\xcf"
    paths = [f"{escaped}/\\xcd\\xfe.json", f"{tmp_path}/a\\xba.json"]
    assert list(list_files([str(tmp_path)], ".json")) == paths
    assert list(list_files([os.fsdecode(folder)], ".json")) == list(list_files([escaped], ".json")) == paths[:1]
    with Fetcher() as copies:
        contents = [Path(path).read_bytes() for path in copies.local_paths(paths)]
    assert contents == [b"/\xcd\xfe.json", b"/../a\\xba.json"]
    assert folder_at(escaped).size("\\xcd\\xfe.json") == 8
    assert signature(f"{escaped}/\\xcd\\xfe.json").startswith("8-")
    assert on_disk(f"{tmp_path}/gone\\xba") == f"{tmp_path}/gone\\xba"
