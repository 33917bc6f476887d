"""What a program of others does with a shard set: iterate samples, filter, feed torch's DataLoader on several nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
import torch.utils.data

import varyforge
from varyforge.shards import SPLITS, ShardSet

RANK = """
import sys, torch.utils.data
from varyforge import open_set
samples = open_set(sys.argv[1]).webdataset(split=sys.argv[2]).decode().map(lambda sample: sample["__key__"])
for key in torch.utils.data.DataLoader(samples, batch_size=None, num_workers=int(sys.argv[3])):
    print(key)
"""


@pytest.fixture(scope="module")
def shards(chat_shards: Path) -> ShardSet:
    opened = varyforge.open_set(chat_shards)
    assert len(opened.records) > 3 and len(set(opened.table(["split"])["split"].to_pylist())) > 1
    return opened


def keys_of(shards: ShardSet, **columns: object) -> list[str]:
    rows = shards.table().to_pylist()
    return [row["key"] for row in rows if all(row[name] == value for name, value in columns.items())]


def test_samples_come_in_order_of_the_index(shards: ShardSet) -> None:
    samples = list(shards.samples())
    assert [sample.key for sample in samples] == keys_of(shards)
    assert all(isinstance(sample, varyforge.Sample) for sample in samples)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_taken_by_the_index(shards: ShardSet, split: str) -> None:
    expected = keys_of(shards, split=split)
    assert [sample.key for sample in shards.samples(split)] == expected
    assert [sample["__key__"] for sample in shards.webdataset(split)] == expected


def test_a_condition_is_on_any_column_of_the_index(shards: ShardSet) -> None:
    condition = pc.field("language") == "zh"
    expected = keys_of(shards, language="zh", split="train")
    assert 0 < len(expected) < len(keys_of(shards, split="train"))
    assert [sample.key for sample in shards.samples("train", condition)] == expected
    assert [sample["__key__"] for sample in shards.webdataset("train", condition)] == expected


def test_a_wrong_split_or_column_is_named(shards: ShardSet) -> None:
    with pytest.raises(ValueError, match="split is one of train, validation, excluded, not 'test'"):
        next(shards.samples("test"))
    with pytest.raises(ValueError, match="colour"):
        next(shards.samples(filters=pc.field("colour") == "red"))


def test_a_pipeline_is_a_plain_one_of_webdataset(pdf_shards: Path) -> None:
    pages = varyforge.open_set(pdf_shards).webdataset(split="train", shardshuffle=10, seed=1)
    picture, record = next(iter(pages.shuffle(10).decode("pil").to_tuple("jpg", "json")))
    assert picture.size == (record["images"][0]["width"], record["images"][0]["height"])


@pytest.mark.parametrize("workers", [1, 3, 9])  # 9: more than there are shards
def test_workers_of_a_loader_give_each_sample_once(shards: ShardSet, workers: int) -> None:
    loader = torch.utils.data.DataLoader(shards.webdataset("train"), batch_size=None, num_workers=workers)
    assert sorted(sample["__key__"] for sample in loader) == sorted(keys_of(shards, split="train"))


@pytest.mark.parametrize("split", ["train", pytest.param("validation", marks=pytest.mark.slow)])
def test_two_nodes_with_two_workers_each_give_each_sample_once(shards: ShardSet, split: str) -> None:
    parts = []
    for rank in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", RANK, str(shards.folder), split, "2"],
            env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"},
            capture_output=True,
            text=True,
            check=True,
        )
        parts.append(run.stdout.split())
    assert all(parts) or split == "validation"
    assert sorted(parts[0] + parts[1]) == sorted(keys_of(shards, split=split))


def test_the_package_is_quick_to_import_and_names_what_it_offers() -> None:
    code = "import sys, varyforge; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pyarrow", "PIL", "omegaconf", "fsspec", "rich", "varyforge.shards"} & set(loaded)
    assert all(getattr(varyforge, name) for name in dir(varyforge))
    assert {"open_set", "parse_boxes", "Sample", "UserError"} <= set(dir(varyforge))
    with pytest.raises(AttributeError, match="no attribute 'open_sets'"):
        _ = varyforge.open_sets
