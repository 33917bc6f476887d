"""Pieces of files behind URLs in the cache folder."""

from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from trainer.data import cache as module
from trainer.data.cache import Cache, one_at_a_time, open_cache
from trainer.settings import DataSettings, MixtureSettings, SourceSettings


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has written nothing yet."""
    module._warn_once.cache_clear()
    monkeypatch.setattr(module, "_bytes_written", {})


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = pickle.loads(pickle.dumps(Cache(folder=tmp_path, limit_bytes=10_000)))
    assert cache.get("a") is None
    for name, data in (("a", b"one"), ("b", b"two"), ("a", b"three")):
        cache.put(name, data)
        assert cache.get(name) == data
    cache.put("large", bytes(10_001))
    assert cache.get("large") is None
    assert Cache(folder=tmp_path, limit_bytes=0).get("b") == b"two"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: bytes(len(d)), lambda d: d[:1] * 2 + d[2:]]
)
def test_a_damaged_piece_is_none(tmp_path: Path, damage: Any) -> None:
    cache = Cache(folder=tmp_path, limit_bytes=10_000)
    cache.put("a", b"content")
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("a") is None
    cache.put("a", b"content")
    assert cache.get("a") == b"content"


def test_the_oldest_go_first(tmp_path: Path) -> None:
    cache = Cache(folder=tmp_path, limit_bytes=40_000)
    for number in range(100):
        cache.put(str(number), bytes(1000))
        for path in files(tmp_path):  # a clock that ticks once per piece
            age = os.stat(path).st_mtime
            os.utime(path, (age - 10, age - 10))
    left = [number for number in range(100) if cache.get(str(number))]
    assert left == list(range(left[0], 100))
    assert 34 <= len(left) <= 42


def test_what_killed_processes_left_goes_when_it_is_old(tmp_path: Path) -> None:
    cache = Cache(folder=tmp_path, limit_bytes=1000)
    cache.put("a", bytes(900))
    (newest,) = files(tmp_path)
    for name, age in (("old.tmp", 7200), ("young.tmp", 60)):
        (newest.parent / name).write_bytes(bytes(900))
        os.utime(newest.parent / name, (os.stat(newest).st_mtime - age,) * 2)
    for number in range(3):
        cache.put(str(number), bytes(10))
        cache.put(str(number), bytes(50))
    assert (newest.parent / "young.tmp").exists()
    assert not (newest.parent / "old.tmp").exists()


def put_many(folder: Path, start: int) -> int:
    cache = Cache(folder=folder, limit_bytes=50_000)
    wrong = 0
    for number in range(start, start + 400):
        name, data = str(number % 37), bytes([number % 37]) * (500 + number % 37)
        cache.put(name, data)
        wrong += cache.get(name) not in (data, None)
    return wrong


def test_several_processes_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(put_many, [tmp_path] * 4, range(0, 40, 10))) == [0] * 4
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 50_000 * 1.3
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_is_said_once_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Cache(folder=tmp_path, limit_bytes=1000)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        for number in range(3):
            cache.put(str(number), b"x")
            assert cache.get(str(number)) is None
    assert files(tmp_path) == []
    assert capsys.readouterr().err.count("cannot store pieces (No space left on device)") == 1
    cache.put("a", b"x")
    assert cache.get("a") == b"x"


def folder_of(path: str | None = None) -> Path:
    return open_cache(
        DataSettings(mixture=MixtureSettings(sources={"any": SourceSettings(shards="")}), cache=path)
    ).folder


def test_which_folder_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder_of(str(tmp_path / "mine")) == tmp_path / "mine"
    assert folder_of() == tmp_path / "xdg" / "varyforge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folder_of() == tmp_path / "home" / ".cache" / "varyforge"
    assert capsys.readouterr().err == ""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert folder_of(str(tmp_path / "file" / "below")) == tmp_path / "temporary" / f"varyforge-{os.getuid()}"
    assert "cannot write there" in capsys.readouterr().err


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for name, age in (("dead", 7200), ("alive", 0)):
        (tmp_path / f".{name}.rows.1-ab.tmp").write_bytes(b"half")
        about = (tmp_path / f".{name}.rows.1-ab.tmp").stat()
        os.utime(tmp_path / f".{name}.rows.1-ab.tmp", (about.st_atime - age, about.st_mtime - age))
    with one_at_a_time(tmp_path / "other.rows"):
        assert [path.name for path in tmp_path.glob(".*.tmp")] == [".alive.rows.1-ab.tmp"]
