from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import PIL.Image
import pytest
import webdataset

from varyforge.errors import UserError
from varyforge.files import atomic_file, sha256_file
from varyforge.images import encode_jpeg
from varyforge.sample import Image, Sample, Turn
from varyforge.shards import IndexRow, ShardSet, decode_sample, open_shard
from varyforge.storage import LocalFolder
from varyforge.tables import parse_table, schema_of, table_bytes


def picture(colour: str) -> Image:
    return encode_jpeg(PIL.Image.new("RGB", (8, 6), colour), 90)


def samples() -> list[Sample]:
    answer = Turn(role="assistant", text="一页文字 and more")
    one = Turn(role="user", text="<image>Read.")
    two = Turn(role="user", text="<image> and <image>?")
    return [
        Sample(key="a-1", task="ocr", turns=(one, answer), images=(picture("red"),), source="t"),
        Sample(key="a-2", task="vqa", turns=(two, answer), images=(picture("red"), picture("blue")), source="t"),
        Sample(key="a-3", task="text", turns=(Turn(role="user", text="?"), answer), source="t"),
    ]


def write(path: Path) -> list[tuple[int, int]]:
    with open_shard(LocalFolder(path.parent), path.name) as shard:
        places = [shard.add(sample) for sample in samples()]
        size, digest = shard.close()
    assert (size, digest) == (path.stat().st_size, sha256_file(path))
    return places


def test_round_trip_by_offset(tmp_path: Path) -> None:
    places = write(tmp_path / "s.tar")
    data = (tmp_path / "s.tar").read_bytes()
    assert [decode_sample(data[offset : offset + size], "s.tar") for offset, size in places] == samples()


def test_copied_members_give_the_same_tar(tmp_path: Path) -> None:
    places = write(tmp_path / "s.tar")
    data = (tmp_path / "s.tar").read_bytes()
    with open_shard(LocalFolder(tmp_path), "copy.tar") as shard:
        assert [shard.copy(data[offset : offset + size]) for offset, size in places] == places
        shard.close()
    assert (tmp_path / "copy.tar").read_bytes() == data


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one.tar")
    write(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_plain_tar_and_webdataset_read_it(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    write(path)
    with tarfile.open(path) as tar:
        names = [member.name for member in tar]
        assert all(member.mtime == 0 and member.uid == 0 for member in tar.getmembers())
    assert names == ["a-1.json", "a-1.jpg", "a-2.json", "a-2.0.jpg", "a-2.1.jpg", "a-3.json"]
    read = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == ["a-1", "a-2", "a-3"]
    assert json.loads(read[1]["json"])["turns"][1]["text"] == "一页文字 and more"
    assert PIL.Image.open(io.BytesIO(read[1]["1.jpg"])).size == (8, 6)


@pytest.mark.parametrize("cut", [1, 511, 512, 700])
def test_a_cut_sample_is_an_error_that_names_the_place(tmp_path: Path, cut: int) -> None:
    offset, size = write(tmp_path / "s.tar")[0]
    data = (tmp_path / "s.tar").read_bytes()[offset : offset + size - cut]
    with pytest.raises(ValueError, match=r"s\.tar"):
        decode_sample(data, "s.tar")


def member(text: bytes, size: bytes | None = None) -> bytes:
    """A member of a tar, perhaps with a size that is not its own."""
    info = tarfile.TarInfo("a-1.json")
    info.size = len(text)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    if size is not None:
        header[124:136], header[148:156] = size, b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + text + bytes(-len(text) % 512)


def test_a_sample_made_to_break_the_reader_is_a_bad_sample() -> None:
    for data, why in (
        (member(b"[" * 200_000), "not JSON: maximum recursion depth"),
        (member(b"[]"), "field missing or of the wrong type"),
        (member(b"", b"\xff" * 10 + b"\xfe\x00"), "a size of -512 at byte 0"),  # after which it would begin again
    ):
        with pytest.raises(ValueError, match=why):
            decode_sample(data, "s.tar")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "x") as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_shard_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such shard set"):
        ShardSet(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no job\.json"):
        ShardSet(tmp_path)
    (tmp_path / "job.json").write_text('{"config": {}, "source": "pdf"}')
    with pytest.raises(UserError, match="its job has not finished"):
        ShardSet(tmp_path)
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(UserError, match="broken"):
        ShardSet(tmp_path)


READS = """
import os, sys
from varyforge.tables import parse_table
before = os.listdir("/proc/self/task")
with open(sys.argv[1], "rb") as file:
    parse_table(file.read(), "index")
    parse_table(file, "index", ["key", "task"])
sys.exit(os.listdir("/proc/self/task") != before)
"""


def test_a_table_is_read_without_threads_that_outlive_it(tmp_path: Path) -> None:
    """One that held the file when Python ended took a job down that had just been finished (SIGABRT)."""
    (tmp_path / "index").write_bytes(table_bytes([{"key": f"a-{n}"} for n in range(9)], schema_of(IndexRow)))
    assert subprocess.run([sys.executable, "-c", READS, tmp_path / "index"], check=False).returncode == 0


def test_a_table_of_another_form_is_refused() -> None:
    data = table_bytes([{"key": "a"}], schema_of(IndexRow))
    assert parse_table(data, "x", ["task", "key"]).to_pylist() == [{"task": None, "key": "a"}]
    with pytest.raises(UserError, match=r"x: broken \(no column 'colour'\)"):
        parse_table(data, "x", ["colour", "key"])
    with pytest.raises(UserError, match="x: broken"):
        parse_table(data[:-9], "x")
