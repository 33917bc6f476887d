from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.cache import Cache, open_cache
from trainer.data.catalog import Catalog, read_item
from trainer.data.rows import rows_of as rows_of_a_tar
from trainer.settings import DataSettings, MixtureSettings, SourceSettings
from varyforge.errors import UserError
from varyforge.lengths import estimate_tokens
from varyforge.prompts import wordings
from varyforge.sample import IMAGE_MARKER
from varyforge.shards import IndexRow, ShardRecord, ShardSet
from varyforge.tables import schema_of, table_bytes


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cache_at(folder: str | None = None) -> Cache:
    return open_cache(DataSettings(mixture=MixtureSettings(sources={"some": SourceSettings(shards="")}), cache=folder))


def catalog(shards: Path | str, **settings: Any) -> Catalog:
    return Catalog("some", SourceSettings(shards=str(shards), **settings), cache_at())


def rows_of(shards: Path, **filters: object) -> list[dict[str, Any]]:
    rows = ShardSet(shards).table().to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in ({"split": "train"} | filters).items())]


def test_items_are_the_rows_of_the_index_and_read_as_its_samples(pdf_shards: Path) -> None:
    opened = catalog(pdf_shards)
    rows = rows_of(pdf_shards)
    assert len(opened) == len(rows) > 0
    for number, row in enumerate(rows):
        item = pickle.loads(pickle.dumps(opened.item(number)))
        values = (item.shard, item.offset, item.size, item.tokens, item.images, item.task)
        assert values == tuple(row[name] for name in ("shard", "offset", "size", "tokens", "images", "task"))
        assert opened.key(number) == row["key"]
    assert read_item(item) == ShardSet(pdf_shards).read(item.shard, item.offset, item.size)
    assert read_item(item).key == row["key"]
    assert opened.tokens.tolist() == [row["tokens"] for row in rows]
    assert opened.images.tolist() == [row["images"] for row in rows]
    assert {opened.item(number).task for number in range(len(opened))} == set(opened.tasks) == {"ocr"}
    assert opened.sums == (sum(opened.tokens.tolist()), sum(opened.answer_tokens.tolist()))


def test_what_is_held_out_stays_out_unless_asked_for(pdf_shards: Path) -> None:
    splits = Counter(row["split"] for row in ShardSet(pdf_shards).table().to_pylist())
    assert splits["validation"]
    assert len(catalog(pdf_shards)) == splits["train"]
    assert len(catalog(pdf_shards, where={"split": "validation"})) == splits["validation"]
    assert len(catalog(pdf_shards, where={"split": ["train", "validation"]})) == splits["train"] + splits["validation"]


def test_a_sample_excluded_for_its_twin_is_in_no_training(tmp_path: Path) -> None:
    write_index(tmp_path, [[row(0), row(1, split="excluded"), row(2, split="validation")]])
    assert [catalog(tmp_path).key(n) for n in range(len(catalog(tmp_path)))] == ["k-0"]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"language": "zh"}, [1, 3]),
        ({"language": ["zh", "de"]}, [1, 3]),
        ({"tokens": {"min": 2}}, [2, 3]),
        ({"tokens": {"max": 2}}, [0, 1, 2]),
        ({"tokens": {"min": 1, "max": 2}}, [1, 2]),
        ({"tokens": [0, 3]}, [0, 3]),
        ({"tokens": 2}, [2]),
        ({"sharpness": {"min": 0.25}}, [2]),
        ({"sharpness": {"max": 9}}, [0, 1, 2]),
        ({"language": "zh", "tokens": {"min": 2}}, [3]),
        ({"document": "d3"}, [3]),
    ],
)
def test_filters(tmp_path: Path, where: dict[str, Any], left: list[int]) -> None:
    rows = [row(n, tokens=n, language=("en", "zh")[n % 2], document=f"d{n}", sharpness=n / 8) for n in range(4)]
    rows[3]["sharpness"] = None
    write_index(tmp_path, [rows[:3], rows[3:]], ["sharpness"])
    opened = catalog(tmp_path, where=where)
    assert [opened.key(n) for n in range(len(opened))] == [f"k-{n}" for n in left]
    table = opened.table(["key", "language"])
    assert table.column("key").to_pylist() == [f"k-{n}" for n in left]
    assert table.column("language").to_pylist() == [("en", "zh")[n % 2] for n in left]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"where": {"langage": "en"}}, r"sources\.some\.where\.langage: no such column; did you mean language"),
        ({"where": {"sharpnes": 1}}, r"sources\.some\.where\.sharpnes: no such column; did you mean sharpness"),
        ({"where": {"language": 3}}, r"where\.language: found 3, expected a text"),
        ({"where": {"language": {"min": 3}}}, r"where\.language: found min or max, expected a text"),
        ({"where": {"tokens": "many"}}, r"where\.tokens: found 'many', expected a number"),
        ({"where": {"tokens": True}}, r"where\.tokens: found True"),
        ({"where": {"tokens": [10**400]}}, r"where\.tokens: found 1000"),
        ({"where": {"tokens": {"min": float("nan")}}}, r"where\.tokens\.min: found nan, expected a number"),
        ({"where": {"tokens": None}}, r"where\.tokens: found None"),
        ({"where": {"tokens": []}}, r"where\.tokens: an empty list"),
        ({"where": {"tokens": {"least": 3}}}, r"where\.tokens: found the key 'least'"),
        ({"where": {"tokens": {"min": "3"}}}, r"where\.tokens\.min: found '3', expected a number"),
        ({"where": {"tokens": {"min": 3, "max": 2}}}, r"min 3 is above max 2"),
        ({"task": "orc"}, r"sources\.some\.task: no task 'orc'; did you mean ocr"),
        ({"task": "vqa"}, r"none of the 2 samples in .* is left: 0 with task: vqa, 0 with split: train"),
        (
            {"where": {"language": "zh", "tokens": {"max": 5}}},
            r"sources\.some: none of the 2 .*: 2 with split: train, 0 with language: zh, 0 with tokens: max 5;",
        ),
    ],
)
def test_a_filter_that_cannot_be_is_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_index(tmp_path, [[row(0, sharpness=0.5), row(1, sharpness=0.5)]], ["sharpness"])
    for _ in range(2):  # also where the empty result was kept
        with pytest.raises(UserError, match=message):
            catalog(tmp_path, **settings)


def test_no_shard_set_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.mixture\.sources\.some\.shards: .*nowhere: no such shard set"):
        catalog(tmp_path / "nowhere")


def test_what_an_index_of_others_may_lack(tmp_path: Path) -> None:
    rows = [row(0, prompt=None, language=None), row(1, prompt="ocr.en.0", language="zh", tokens=40)]
    write_index(tmp_path, [rows, [row(2, prompt=None, language=None)]])
    opened = catalog(tmp_path)
    question_tokens = estimate_tokens(IMAGE_MARKER + wordings("ocr", "en")[0])
    assert opened.answer_tokens.tolist() == [8, 40 - question_tokens, 8]  # of no known wording: by its characters
    assert [opened.key(n) for n in range(len(opened))] == ["k-0", "k-1", "k-2"]
    assert len(catalog(tmp_path, where={"language": "zh"})) == 1
    with pytest.raises(UserError, match="none of the 3 samples"):
        catalog(tmp_path, where={"language": "None"})
    for task in (None, "orc"):
        write_index(tmp_path, [[row(0, task=task)]])
        with pytest.raises(
            UserError, match=rf"pages-0*\.tar: its index names the task '{task}'; there are caption, ocr"
        ):
            catalog(tmp_path)
    for lacking in ("language", "images"):
        schema = schema_of(IndexRow)
        write_set(tmp_path, [(table_bytes([], schema.remove(schema.get_field_index(lacking))), 0)])
        with pytest.raises(UserError, match=rf"pages-0*\.parquet: broken \(no column '{lacking}'\)"):
            catalog(tmp_path)


@pytest.mark.parametrize("place", ["tars/0.tar", "tars/{0..9}.tar"])
def test_a_tar_in_place_of_its_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "0.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"sources\.some\.shards: .*tar: name the folder of the tars"):
        catalog(tmp_path / place)


def test_what_fails_behind_a_url_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials,\nnone at all")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", refused)
    with pytest.raises(
        UserError, match=r"some\.shards: memory://some/where: RuntimeError: no credentials, none at all"
    ):
        catalog("memory://some/where")


def test_the_answers_tokens(pdf_shards: Path, chat_shards: Path) -> None:
    """Exact where the wording is the whole question; a fair guess of the sum where it is the sample's own."""
    for shards, exact in ((pdf_shards, True), (chat_shards, False)):
        opened = catalog(shards)
        truth = []
        for number in range(len(opened)):
            sample = read_item(opened.item(number))
            truth.append(sum(estimate_tokens(turn.text) for turn in sample.turns if turn.role == "assistant"))
        if exact:
            assert opened.answer_tokens.tolist() == truth
        else:
            assert opened.answer_tokens.sum() == pytest.approx(sum(truth), rel=0.5)  # short, with many digits
            assert ((opened.answer_tokens >= 1) & (opened.answer_tokens <= opened.tokens)).all()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "varyforge" / "catalogs").glob("*.rows"))


def test_rows_are_kept_and_made_again_when_torn_foreign_or_of_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_index(tmp_path / "set", [[row(n, tokens=n) for n in range(50)]])
    expected = catalog(tmp_path / "set").tokens.tolist()
    (path,) = files(tmp_path / "cache")
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:100], b"", b"foreign" * 99, whole.replace(b'"identity": "', b'"identity": "x')):
        path.write_bytes(damage)
        assert catalog(tmp_path / "set").tokens.tolist() == expected
        assert path.read_bytes() == whole
    with monkeypatch.context() as patch:
        patch.setattr("trainer.data.catalog.rows_of", lambda *_: pytest.fail("read the index again"))
        assert catalog(tmp_path / "set").tokens.tolist() == expected
    catalog(tmp_path / "set", where={"tokens": {"min": 3}})
    assert len(files(tmp_path / "cache")) == 2
    write_index(tmp_path / "set", [[row(n, tokens=n + 1) for n in range(50)]])
    assert catalog(tmp_path / "set").tokens.tolist() == [n + 1 for n in range(50)]


def test_ranks_that_start_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One makes the rows, the others wait for them."""
    write_index(tmp_path / "set", [[row(100 * k + n) for n in range(20)] for k in range(5)])
    made_of: list[int] = []

    def slowly(table: Any, number: int, conditions: Any) -> Any:
        made_of.append(number)
        time.sleep(0.05)
        return rows_of_a_tar(table, number, conditions)

    monkeypatch.setattr("trainer.data.catalog.rows_of", slowly)
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: catalog(tmp_path / "set"), range(6)))
    assert made_of == [0, 1, 2, 3, 4]
    assert {tuple(one.tokens.tolist()) for one in opened} == {tuple(opened[0].tokens.tolist())}
    assert len(files(tmp_path / "cache")) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    write_index(tmp_path / "set", [[row(0)]])
    source = SourceSettings(shards=str(tmp_path / "set"))
    assert len(Catalog("some", source, cache_at(str(tmp_path / "file")))) == 1
    assert "cannot write there" in capsys.readouterr().err
    assert list((tmp_path / "temporary").rglob("*.rows"))


def test_the_bytes_are_what_a_catalog_is_of_not_the_place(tmp_path: Path) -> None:
    for name, tokens in (("one", 1), ("two", 1), ("three", 2)):
        write_index(tmp_path / name, [[row(0, tokens=tokens)]])
    one, two, three = (catalog(tmp_path / name) for name in ("one", "two", "three"))
    assert one.identity == two.identity != three.identity
    assert catalog(tmp_path / "one", where={"tokens": 1}).identity != one.identity
    for tokens in (1, 2):  # of the last shard alone
        write_index(tmp_path / "four", [[row(0)], [row(1, tokens=tokens)]])
        assert catalog(tmp_path / "four").tokens.tolist() == [9, tokens]


def test_a_sample_that_is_cut_or_gone_says_where(pdf_shards: Path, tmp_path: Path) -> None:
    item = catalog(pdf_shards).item(0)
    for name, content in (("cut", (pdf_shards / item.shard).read_bytes()[: item.offset + 700]), ("bad", b"x" * 10**7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / item.shard).write_bytes(content)
        moved = type(item)(**{**asdict(item), "place": str(tmp_path / name)})
        with pytest.raises(ValueError, match=rf"{item.shard} at byte {item.offset}"):
            read_item(moved)
    with pytest.raises(OSError):
        read_item(type(item)(**{**asdict(item), "place": str(tmp_path / "gone")}))


def row(number: int, **about: Any) -> dict[str, Any]:
    """An index row as a job writes it."""
    texts = dict.fromkeys(("unit", "document", "group", "twins", "licence", "prompt"), "")
    numbers = {"width": 9, "height": 9, "boxes": 0, "answer_chars": 40, "tokens": 9, "images": 1, "fingerprint": b""}
    lies = {"shard": "", "offset": number * 2048, "size": 2048, "key": f"k-{number}"}
    return {**texts, **numbers, **lies, "task": "ocr", "split": "train", "language": "en", **about}


def write_index(folder: Path, shards: list[list[dict[str, Any]]], measures: list[str] | None = None) -> None:
    """A finished set without samples: its tars are holes."""
    tables = [table_bytes(rows, schema_of(IndexRow, measures or [])) for rows in shards]
    write_set(folder, [(data, len(rows)) for data, rows in zip(tables, shards, strict=True)])


def write_set(folder: Path, indexes: list[tuple[bytes, int]]) -> None:
    records = []
    for kind in ("index", "ledger"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, (data, samples) in enumerate(indexes):
        name = f"pages-{number:014b}"
        (folder / "index" / f"{name}.parquet").write_bytes(data)
        (folder / "ledger" / f"{name}.parquet").write_bytes(b"not read")
        with open(folder / f"{name}.tar", "wb") as tar:
            tar.truncate(samples * 200_000)
        sums = {"tar_sha256": f"{number:064x}", "index_sha256": hashlib.sha256(data).hexdigest(), "ledger_sha256": ""}
        counts = {"units": samples, "samples": samples, "written": samples, "rejected": 0, "failed": 0}
        about = {"name": name, "tar_bytes": samples * 200_000, "config_sha256": "", "units_sha256": ""}
        records.append(ShardRecord(**counts, **sums, **about))  # type: ignore[arg-type]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    (folder / "job.json").write_text(json.dumps({"source": "pdf", "config": {}, "inputs": []}))


OPEN = """
import resource, sys, time
start = time.perf_counter()
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.settings import DataSettings, MixtureSettings, SourceSettings
source = SourceSettings(shards=sys.argv[1], where={"language": ["en", "zh"], "ink": {"min": 0.1}})
data = DataSettings(mixture=MixtureSettings(sources={"pages": source}), cache=sys.argv[2])
corpus = Corpus(data, open_cache(data))
items = corpus.items(range(512))
print(len(corpus.catalogs[0]), len(items), time.perf_counter() - start)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_ten_million_samples(tmp_path: Path) -> None:
    """10,000 shards of 1,000: opened for the first time, then again, each in a fresh process below 2 GiB."""
    measures = [f"measure_{n}" for n in range(19)] + ["ink"]
    rows = [
        row(n, document=f"d{n // 9}", prompt=f"ocr.en.{n % 11}", tokens=300 + n, fingerprint=os.urandom(64))
        | dict(zip(measures, np.random.default_rng(n).random(20).tolist(), strict=True))
        for n in range(1000)
    ]
    data = table_bytes(rows, schema_of(IndexRow, measures))
    write_set(tmp_path / "set", [(data, 1000)] * 10_000)
    left = 10_000 * sum(one["ink"] >= 0.1 for one in rows)
    for which in ("first", "again"):
        command = [sys.executable, "-c", OPEN, str(tmp_path / "set"), str(tmp_path / "cache")]
        values = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        samples, items, seconds, gib = int(values[0]), int(values[1]), float(values[2]), float(values[3])
        assert (samples, items) == (left, 512)
        assert gib < 2
        print(f"{which}: 512 items of {samples:,} samples after {seconds:.1f} s, {gib:.2f} GiB")  # noqa: T201
