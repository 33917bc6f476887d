"""Inputs and outputs behind URLs: in memory, and on an S3-compatible server of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from datagen.inputs.listing import is_outside, list_files, name_of, within
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from pipelines.verify.check import check
from tests.datagen.job.test_incremental import SETTINGS, bytes_of, run, write_inputs
from tests.datagen.sources import LinesSource
from tests.datagen.web import web_server
from varyforge.errors import UserError
from varyforge.shards import ShardSet
from varyforge.storage import Fetcher, LocalFolder, folder_at, signature, write


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of a bucket."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place behind a URL."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def upload(folder: Path, url: str) -> None:
    for path in folder.iterdir():
        write(folder_at(url), path.name, path.read_bytes())


def test_a_job_from_and_to_urls_gives_the_same_bytes(url: str, tmp_path: Path) -> None:
    local = write_inputs(tmp_path / "in", range(10))
    run(tmp_path / "out", local)
    upload(tmp_path / "in", f"{url}/in")
    source = LinesSource(paths=[f"{url}/in"])
    out = f"{url}/out"
    # memory:// hands all threads the same open file, so that two that read it at once move each other's place.
    run_job(source, out, SETTINGS, LocalRunner(1 if url.startswith("memory") else 2))
    expected = bytes_of(tmp_path / "out")
    folder = folder_at(out)
    found = {name for below in ("", "index", "ledger") for name in folder.names(below=below)}
    assert found - {"job.json"} == expected.keys()
    for name in expected:
        assert folder.read(name) == (tmp_path / "out" / name).read_bytes(), name
    assert check(out).problems == []
    sample = next(iter(ShardSet(out).table().to_pylist()))
    assert ShardSet(out).read(sample["shard"], sample["offset"], sample["size"]).key == sample["key"]


def test_a_job_on_a_url_is_resumed_and_updated(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_inputs(tmp_path / "in", range(10))
    out = f"{url}/out"
    run_job(source, out, SETTINGS, LocalRunner())

    def refuse(*_: object) -> None:
        raise AssertionError("a shard was made again")

    with monkeypatch.context() as patch:
        patch.setattr("datagen.job.shard_task.ShardTask.__call__", refuse)
        run_job(source, out, SETTINGS, LocalRunner())
    write_inputs(tmp_path / "in", range(12))
    with pytest.raises(UserError, match="inputs 40 → 48 units"):
        run_job(source, out, SETTINGS, LocalRunner())
    run(out, source, update=True)  # type: ignore[arg-type]  # a URL is a place too
    run(tmp_path / "fresh", source)
    for name in bytes_of(tmp_path / "fresh"):
        assert folder_at(out).read(name) == (tmp_path / "fresh" / name).read_bytes(), name


def test_what_a_folder_promises(url: str, tmp_path: Path) -> None:
    for place in (url, str(tmp_path / "local")):
        folder = folder_at(place)
        assert not folder.names()
        assert folder.size("a/b.txt") is None
        folder.remove("a/b.txt")
        with pytest.raises(OSError):
            folder.read("a/b.txt")
        with pytest.raises(RuntimeError), folder.writer("a/b.txt") as file:
            file.write(b"half")
            raise RuntimeError
        assert folder.size("a/b.txt") is None
        write(folder, "a/b.txt", b"0123456789")
        write(folder, "c.txt", b"")
        assert folder.exists()
        assert (folder.names(), folder.names(".txt", "a"), folder.names(".tar")) == (["c.txt"], ["a/b.txt"], [])
        assert (folder.size("a/b.txt"), folder.read("a/b.txt", 2, 3), folder.read("a/b.txt", 8, 9)) == (
            10,
            b"234",
            b"89",
        )
        with folder.open("a/b.txt") as file:
            file.seek(7)
            assert file.read() == b"789"
        folder.remove("c.txt")
        assert folder.names() == []


def test_a_web_server_is_a_folder_to_read_from(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    write(LocalFolder(tmp_path), "a/b.tar", b"0123456789")
    write(LocalFolder(tmp_path), "c.tar", b"x")
    with web_server(tmp_path) as url:
        folder = folder_at(url)
        assert (folder.sizes(".tar"), folder.sizes(".tar", "a")) == ({"c.tar": 1}, {"a/b.tar": 10})
        assert (folder.size("a/b.tar"), folder.size("gone")) == (10, None)
        assert (folder.read("a/b.tar", 2, 3), folder.read("a/b.tar", 8, 9)) == (b"234", b"89")
    for kind, message in (("whole", "has no ranges"), ("hangs up", "a/b.tar: ServerDisconnectedError")):
        with web_server(tmp_path, kind) as url, pytest.raises(OSError, match=message):
            folder_at(url).read("a/b.tar", 2, 3)


def test_listing_and_naming_behind_urls(url: str) -> None:
    for name in ("b.txt", "deep/er/a.TXT", "c.md"):
        write(folder_at(url), name, b"x")
    found = list(list_files([url], ".txt"))
    assert found == [f"{url}/b.txt", f"{url}/deep/er/a.TXT"]
    assert [name_of(path, [url]) for path in found] == ["b.txt", "deep/er/a.TXT"]
    assert name_of(found[0], [found[0]]) == "b.txt"
    for wrong, message in ((f"{url}/gone", "no such file or folder"), ("nonsense://x", "nonsense")):
        with pytest.raises(UserError, match=message):
            list(list_files([wrong], ".txt"))


def test_a_name_does_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    for folder in ("memory://images", str(tmp_path)):
        assert not is_outside(within(folder, "deep/a.jpg"), folder)
        assert is_outside(within(folder, "../a.jpg"), folder)
        assert is_outside(within(folder, "deep/../../a.jpg"), folder)
        assert is_outside(within(folder, "deep/.."), within(folder, "deep"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "in" / "same").symlink_to(tmp_path / "in")
    assert [
        is_outside(within(str(tmp_path / "in"), name), str(tmp_path / "in")) for name in ("file.jpg", "up/a.jpg")
    ] == [
        True,
        True,
    ]
    assert not is_outside(within(str(tmp_path / "in" / "same"), "b.jpg"), str(tmp_path / "in"))


def test_copies_are_fetched_once_and_removed(url: str) -> None:
    write(folder_at(url), "a.txt", b"one")
    with Fetcher() as copies:
        (first,) = copies.local_paths([f"{url}/a.txt"])
        assert Path(first).read_bytes() == b"one"
        assert copies.local_paths([f"{url}/a.txt"]) == [first]
        copies.local_paths([])
        assert not Path(first).exists()


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, LocalFolder(tmp_path).writer("x.tar") as file:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
        file.write(b"never")
    assert raised.value.filename == str(tmp_path / "x.tar")


def test_settings_of_an_unknown_url_are_one_line() -> None:
    with pytest.raises(UserError, match="nonsense"):
        run_job(LinesSource(paths=[]), "nonsense://out", JobSettings(), LocalRunner())


def test_a_file_that_changed_on_a_web_server_has_another_signature(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    with web_server(tmp_path) as url:
        before = signature(f"{url}/a.tar")
        assert signature(f"{url}/a.tar") == before
        os.utime(tmp_path / "a.tar", (0, 0))
        assert signature(f"{url}/a.tar") != before
