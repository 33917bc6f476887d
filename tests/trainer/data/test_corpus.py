from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.datagen.made_tars import img2dataset, write_tar
from trainer.data.cache import open_cache
from trainer.data.catalog import read_item
from trainer.data.corpus import Corpus
from trainer.settings import DataSettings, MixtureSettings, SourceSettings
from varyforge.errors import UserError
from varyforge.shards import ShardSet
from varyforge.storage import folder_at, write


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(seed: int = 0, **sources: SourceSettings) -> DataSettings:
    return DataSettings(mixture=MixtureSettings(sources=sources, seed=seed))


def corpus(seed: int = 0, **sources: SourceSettings) -> Corpus:
    data = settings(seed, **sources)
    return Corpus(data, open_cache(data))


def keys(shards: Path, **filters: Any) -> list[str]:
    filters = {"split": "train"} | filters
    return [row["key"] for row in ShardSet(shards).table().to_pylist() if filters.items() <= row.items()]


def test_positions_are_samples(pdf_shards: Path, chat_shards: Path) -> None:
    pdf, chat = SourceSettings(shards=str(pdf_shards)), SourceSettings(shards=str(chat_shards), samples=7)
    opened = corpus(pdf=pdf, chat=chat)
    size = opened.mixture.per_epoch
    assert size == len(keys(pdf_shards)) + 7
    items = opened.items(range(size))
    assert Counter(item.source for item in items) == {"pdf": size - 7, "chat": 7}
    item_keys = [read_item(item).key for item in items]
    assert item_keys == [opened.key(position) for position in range(size)]
    assert len(set(item_keys)) == size
    assert set(item_keys) <= {*keys(pdf_shards), *keys(chat_shards)}
    assert opened.items([5, 3]) == [items[5], items[3]]
    assert opened.items([]) == []
    assert opened.asked_by_task(2) == {"ocr": 2 * (size - 7), "text": 14}


def test_training_never_sees_what_is_held_out(pdf_shards: Path, chat_shards: Path) -> None:
    opened = corpus(pdf=SourceSettings(shards=str(pdf_shards)), chat=SourceSettings(shards=str(chat_shards)))
    held_out = {*keys(pdf_shards, split="validation"), *keys(chat_shards, split="validation")}
    assert held_out
    assert not held_out & {opened.key(position) for position in range(opened.mixture.per_epoch * 3)}


def test_sources_in_a_mixture_of_their_own(pdf_shards: Path, chat_shards: Path) -> None:
    inner = MixtureSettings(sources={"pdf": SourceSettings(shards=str(pdf_shards), samples=4)})
    opened = corpus(pages=SourceSettings(mixture=inner), chat=SourceSettings(shards=str(chat_shards), samples=4))
    assert {item.source for item in opened.items(range(8))} == {"pages/pdf", "chat"}
    bad = MixtureSettings(sources={"pdf": SourceSettings(shards=str(pdf_shards), where={"tokns": 3})})
    with pytest.raises(UserError, match=r"data\.mixture\.sources\.pages\.mixture\.sources\.pdf\.where\.tokns"):
        corpus(pages=SourceSettings(mixture=bad))


def test_what_is_not_used_need_not_exist(chat_shards: Path) -> None:
    unused = SourceSettings(shards="/nowhere", samples=0)
    opened = corpus(chat=SourceSettings(shards=str(chat_shards)), gone=unused)
    assert [catalog.name for catalog in opened.catalogs] == ["chat"]


def test_the_hash_is_of_order_and_bytes(pdf_shards: Path, chat_shards: Path, tmp_path: Path) -> None:
    pdf, chat = SourceSettings(shards=str(pdf_shards)), SourceSettings(shards=str(chat_shards))
    expected = corpus(pdf=pdf, chat=chat).sha256
    assert corpus(pdf=pdf, chat=chat).sha256 == expected
    shutil.copytree(pdf_shards, tmp_path / "moved")
    assert corpus(pdf=SourceSettings(shards=str(tmp_path / "moved")), chat=chat).sha256 == expected
    others = [
        corpus(1, pdf=pdf, chat=chat),
        corpus(chat=chat, pdf=pdf),
        corpus(pages=pdf, chat=chat),
        corpus(pdf=pdf),
        corpus(pdf=pdf, chat=SourceSettings(shards=str(chat_shards), samples=3)),
        corpus(pdf=SourceSettings(shards=str(pdf_shards), where={"split": "validation"}), chat=chat),
    ]
    assert len({expected, *(other.sha256 for other in others)}) == len(others) + 1


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """File, offset and bytes of what was read from memory://, call by call."""
    calls: list[tuple[str, int, int]] = []
    plain = MemoryFileSystem.cat_file

    def counted(self: MemoryFileSystem, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        data = plain(self, path, start=start, end=end)
        calls.append((path.rsplit("/", 1)[-1], start or 0, len(data)))
        return bytes(data)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    return calls


def upload(folder: Path, url: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            write(folder_at(url), str(path.relative_to(folder)), path.read_bytes())
    return url


def test_behind_a_url_the_bytes_of_a_sample_are_fetched_once_and_no_others(
    pdf_shards: Path, tmp_path: Path, fetched: list[tuple[str, int, int]]
) -> None:
    """Resuming at position 20 reads what is there, and of what is skipped not a byte."""
    url = upload(pdf_shards, f"memory://{tmp_path.name}")
    opened, local = corpus(pdf=SourceSettings(shards=url)), corpus(pdf=SourceSettings(shards=str(pdf_shards)))
    assert opened.sha256 == local.sha256
    assert not [name for name, _, _ in fetched if name.endswith(".tar")]
    opened = corpus(pdf=SourceSettings(shards=url))
    cache = open_cache(settings(pdf=SourceSettings(shards=url)))
    fetched.clear()
    items = opened.items(range(20, 26))
    assert fetched == []
    samples = [read_item(item, cache) for item in items]
    assert fetched == [(item.shard, item.offset, item.size) for item in items]
    assert [read_item(item, cache) for item in items] == samples
    assert len(fetched) == 6
    assert [read_item(item) for item in local.items(range(20, 26))] == samples
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_cache_of_no_size_stores_no_pieces(
    pdf_shards: Path, tmp_path: Path, fetched: list[tuple[str, int, int]]
) -> None:
    data = replace(settings(pdf=SourceSettings(shards=upload(pdf_shards, f"memory://{tmp_path.name}"))), cache_gb=0.0)
    cache = open_cache(data)
    (item,) = Corpus(data, cache).items([0])
    fetched.clear()
    assert read_item(item, cache) == read_item(item, cache)
    assert len(fetched) == 2
    assert not (cache.folder / "pieces").exists()


def test_a_tar_that_was_replaced_is_read_anew(tmp_path: Path, fetched: list[tuple[str, int, int]]) -> None:
    url = f"memory://{tmp_path.name}"
    for caption in ("a red thing", "a bad thing"):
        write_tar(tmp_path / "0.tar", img2dataset(0, caption))
        write(folder_at(url), "0.tar", (tmp_path / "0.tar").read_bytes())
        data = settings(pdf=SourceSettings(shards=url, task="caption", samples=1))
        (item,) = Corpus(data, open_cache(data)).items([0])
        assert read_item(item, open_cache(data)).answer == caption


def test_tars_of_others_in_a_mixture(tmp_path: Path, chat_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tar in range(2):
        entries = {key: data for n in range(5) for key, data in img2dataset(10 * tar + n, f"thing {n}").items()}
        write_tar(tmp_path / "in" / f"{tar}.tar", entries | img2dataset(99, status="failed_to_download"))
    cut = tmp_path / "in" / "1.tar"
    cut.write_bytes(cut.read_bytes()[:12_000])
    others = SourceSettings(shards=str(tmp_path / "in"), task="caption")
    opened = corpus(laion=others, chat=SourceSettings(shards=str(chat_shards), samples=3))
    stderr = capsys.readouterr().err
    assert "1.tar: the tar ends at byte 12000" in stderr and "3 samples before it are used, the rest is lost" in stderr
    assert "8 samples in 2 external tars; left out or odd: 1 no image, 1 cut, 1 tars that are cut" in stderr
    items = opened.items(range(opened.mixture.per_epoch))
    samples = [read_item(item) for item in items]
    assert Counter(sample.task for sample in samples) == {"caption": 8, "text": 3} == opened.asked_by_task(1)
    assert [sample.key for sample in samples] == [opened.key(position) for position in range(len(items))]
    few = SourceSettings(shards=str(tmp_path / "in"), task="caption", where={"tokens": {"max": 0}})
    with pytest.raises(UserError, match=r"none of the 8 samples in .* is left: 8 with task: caption"):
        corpus(laion=few)
    with pytest.raises(UserError, match=r"sources\.laion\.where\.language: no such column"):
        corpus(laion=SourceSettings(shards=str(tmp_path / "in"), task="caption", where={"language": "en"}))
    with pytest.raises(UserError, match=r"sources\.laion\.shards: .*no sample of any task .* name the task"):
        corpus(laion=SourceSettings(shards=str(tmp_path / "in")))
