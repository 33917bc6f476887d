from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import UserError
from datagen.shards import ShardSet
from trainer.catalog import read_item
from trainer.corpus import Corpus
from trainer.settings import DataSettings, MixtureSettings, SourceSettings


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def corpus(seed: int = 0, **sources: SourceSettings) -> Corpus:
    return Corpus(DataSettings(mixture=MixtureSettings(sources=sources, seed=seed)))


def keys(shards: Path, **wanted: Any) -> list[str]:
    wanted = {"split": "train"} | wanted
    return [row["key"] for row in ShardSet(shards).table().to_pylist() if wanted.items() <= row.items()]


def test_positions_are_samples(pdf_shards: Path, chat_shards: Path) -> None:
    pdf, chat = SourceSettings(shards=str(pdf_shards)), SourceSettings(shards=str(chat_shards), samples=7)
    made = corpus(pdf=pdf, chat=chat)
    size = made.mixture.per_epoch
    assert size == len(keys(pdf_shards)) + 7
    items = made.items(range(size))
    assert Counter(item.source for item in items) == {"pdf": size - 7, "chat": 7}
    found = [read_item(item).key for item in items]
    assert found == [made.key(position) for position in range(size)]
    assert len(set(found)) == size
    assert set(found) <= {*keys(pdf_shards), *keys(chat_shards)}
    assert made.items([5, 3]) == [items[5], items[3]]
    assert made.items([]) == []
    assert made.asked_by_task(2) == {"ocr": 2 * (size - 7), "text": 14}


def test_training_never_sees_what_is_held_out(pdf_shards: Path, chat_shards: Path) -> None:
    made = corpus(pdf=SourceSettings(shards=str(pdf_shards)), chat=SourceSettings(shards=str(chat_shards)))
    held_out = {*keys(pdf_shards, split="validation"), *keys(chat_shards, split="validation")}
    assert held_out
    assert not held_out & {made.key(position) for position in range(made.mixture.per_epoch * 3)}


def test_sources_in_a_mixture_of_their_own(pdf_shards: Path, chat_shards: Path) -> None:
    inner = MixtureSettings(sources={"pdf": SourceSettings(shards=str(pdf_shards), samples=4)})
    made = corpus(pages=SourceSettings(mixture=inner), chat=SourceSettings(shards=str(chat_shards), samples=4))
    assert {item.source for item in made.items(range(8))} == {"pages/pdf", "chat"}
    bad = MixtureSettings(sources={"pdf": SourceSettings(shards=str(pdf_shards), where={"tokns": 3})})
    with pytest.raises(UserError, match=r"data\.mixture\.sources\.pages\.mixture\.sources\.pdf\.where\.tokns"):
        corpus(pages=SourceSettings(mixture=bad))


def test_what_is_not_used_need_not_exist(chat_shards: Path) -> None:
    unused = SourceSettings(shards="/nowhere", samples=0)
    made = corpus(chat=SourceSettings(shards=str(chat_shards)), gone=unused)
    assert [catalog.name for catalog in made.catalogs] == ["chat"]


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
