"""Parquet with images in it, as the library `datasets` writes it: rows, addresses, and the images behind them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.inputs.embedded import locate, read_embedded
from datagen.inputs.record import EmbeddedImage, ImageRef, Record
from datagen.inputs.record_files import list_record_files, records, split_named
from varyforge.errors import UserError, WrongFormat
from varyforge.storage import Fetcher

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABELS = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def write(path: Path, columns: dict[str, tuple[pa.DataType, Sequence[Any]]], features: Any = None, **how: Any) -> Path:
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
    if features is not None:
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: pa.array(values, kind) for name, (kind, values) in columns.items()}
    pq.write_table(pa.table(values, schema=schema), path, **how)
    return path


def pixels(number: int) -> bytes:
    """Bytes of an image, as far as this module is concerned."""
    return hashlib.sha256(bytes([number])).digest() * (1 + number * 20)


def images_in(value: Any) -> list[EmbeddedImage]:
    if isinstance(value, EmbeddedImage):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [image for one in inner for image in images_in(one)]


def read_back(path: str, images: Sequence[ImageRef]) -> list[bytes]:
    """The bytes of images of one record, by the pieces of the file that a unit names."""
    located = locate(path, images, {})
    with Fetcher() as copies:
        files = copies.local_paths(located.files)
        addresses = json.loads(json.dumps(located.payload["embedded"]))
        return [read_embedded(address, file, files[-1]) for address, file in zip(addresses, files, strict=False)]


@pytest.mark.parametrize(
    "how",
    [
        {"row_group_size": 3},
        {"row_group_size": 100, "compression": "zstd", "data_page_size": 1000, "write_batch_size": 2},
        {"row_group_size": 7, "use_dictionary": False, "compression": "none", "data_page_version": "2.0"},
        {"row_group_size": 100, "dictionary_pagesize_limit": 5000, "write_page_index": True},
    ],
)
def test_every_image_is_found_again_from_any_row(tmp_path: Path, how: dict[str, Any]) -> None:
    count, turn = 20, pa.list_(pa.struct([("role", pa.string()), ("picture", IMAGE)]))
    columns = {
        "id": (pa.int64(), range(count)),
        "an.image": (IMAGE, [{"bytes": pixels(n), "path": f"{n}.jpg"} for n in range(count)]),
        "images": (pa.list_(IMAGE), [[{"bytes": pixels(k), "path": None} for k in range(n % 3)] for n in range(count)]),
        "turns": (turn, [[{"role": "user", "picture": {"bytes": pixels(n), "path": "x"}}] for n in range(count)]),
        "raw": (pa.large_binary(), [pixels(n) for n in range(count)]),
    }
    path = write(tmp_path / "a.parquet", columns, **how)
    rows = list(records(path))
    assert [row.number for row in rows] == [row.fields["id"] for row in rows] == list(range(count))
    for n in (*range(count), 3, 0, count - 1, 5):  # units of a shard may come in any order
        found = images_in(rows[n].value)
        expected = [pixels(n), *map(pixels, range(n % 3)), pixels(n), pixels(n)]
        assert [image.sha256 for image in found] == [hashlib.sha256(data).hexdigest() for data in expected]
        assert read_back(str(path), found) == expected
    assert rows[7].value["an.image"].name == "7.jpg"


def test_behind_a_url_only_the_column_and_the_footer_are_fetched(tmp_path: Path) -> None:
    columns = {
        "image": (IMAGE, [{"bytes": pixels(n), "path": None} for n in range(6)]),
        "other": (pa.binary(), [bytes(100_000)] * 6),
    }
    path = write(tmp_path / "a.parquet", columns, row_group_size=2, compression="none", use_dictionary=False)
    fsspec.filesystem("memory").pipe("/in/a.parquet", path.read_bytes())
    row = list(records(path))[4]
    located = locate("memory://in/a.parquet", images_in(row.value["image"]), {})
    assert sum(int(name.rpartition("+")[2]) for name in located.files) < 30_000 < 600_000 < path.stat().st_size
    assert read_back("memory://in/a.parquet", images_in(row.value["image"])) == [pixels(4)]


def test_class_numbers_are_names_and_nulls_are_no_keys(tmp_path: Path) -> None:
    value = {"dtype": "string", "_type": "Value"}
    objects = pa.struct([("category", pa.list_(pa.int64())), ("note", pa.list_(pa.string()))])
    nested = pa.list_(pa.struct([("kind", pa.int64()), ("text", pa.string())]))
    columns = {
        "label": (pa.int64(), [1, None, 7]),
        "objects": (objects, [{"category": [0, 1], "note": ["a", None]}, None, {"category": [], "note": None}]),
        "turns": (nested, [[{"kind": 1, "text": None}], None, []]),
        "day": (pa.date32(), [1, 2, None]),
    }
    features = {
        "label": LABELS,
        "objects": {"feature": {"category": LABELS, "note": value}, "length": -1, "_type": "Sequence"},
        "turns": [{"kind": LABELS, "text": value}],
    }
    first, second, third = (row.value for row in records(write(tmp_path / "a.parquet", columns, features)))
    assert first["label"] == "dog" and first["objects"] == {"category": ["cat", "dog"], "note": ["a", None]}
    assert first["turns"] == [{"kind": "dog"}] and first["day"] == "1970-01-02"
    assert second == {"day": "1970-01-03"}
    assert third == {"label": 7, "objects": {"category": []}, "turns": []}
    for broken in (
        [],
        {"label": {"names": 3, "_type": "ClassLabel"}},
        {"objects": {"feature": 5, "_type": "List"}},
        "x",
    ):
        assert next(iter(records(write(tmp_path / "b.parquet", columns, broken)))).value["label"] == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"a": (pa.int64(), [1])})
    for name, data, message in (
        ("cut.parquet", path.read_bytes()[:-9], "not Parquet, or cut"),
        ("short.parquet", b"PAR1", "not Parquet, or cut"),
        ("lfs.parquet", b"version https://git-lfs.github.com/spec/v1\n", "type: git lfs pull"),
        ("text.parquet", b'{"a": 1}\n', "does not begin with PAR1"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WrongFormat, match=message):
            list(records(tmp_path / name))
    path.rename(tmp_path / "a.json")
    assert [row.value for row in records(tmp_path / "a.json")] == [{"a": 1}]


def test_a_broken_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    columns = {"n": (pa.int64(), range(9)), "image": (pa.binary(), [pixels(n) for n in range(9)])}
    path = write(tmp_path / "a.parquet", columns, row_group_size=3, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(1).data_page_offset
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    rows = list(records(path))
    assert [bool(row.wrong) for row in rows] == [False] * 3 + [True] * 3 + [False] * 3
    assert "row group 1 cannot be read" in rows[4].wrong and rows[8].value["n"] == 8


def test_a_file_that_was_replaced_gives_no_other_image(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for numbers in ((1, 2), (2, 1)):
        write(path, {"image": (pa.binary(), [bytes([n]) * 500 for n in numbers])}, compression="none")
        rows = list(records(path))
        assert read_back(str(path), [rows[1].value["image"]]) == [bytes([numbers[1]]) * 500]
    text = tmp_path / "a.jsonl"
    text.write_text(json.dumps({"image": "data:,one"}))
    (row,) = records(text)
    text.write_text(json.dumps({"image": "data:,two"}))
    with pytest.raises(WrongFormat, match="image is not the image that was there when the job was planned"):
        read_back(str(text), [row.image("data:,one", ("image",))])


def test_splits_are_told_by_names(tmp_path: Path) -> None:
    names = {
        "data/train-00000-of-00012.parquet": "train",
        "data/validation-00001-of-00002-0123abcd.parquet": "val",
        "default/test/0003.parquet": "test",
        "data/train_sft-00000-of-00001.parquet": "",
        "data/ai2d-dev-00000-of-00001.parquet": "val",
        "data/retrain.parquet": "",
    }
    assert {name: split_named(name) for name in names} == names
    for name in names:
        write(tmp_path / name, {"a": (pa.int64(), [1])})
    listed = {Path(path).name for path in list_record_files([str(tmp_path)], ["val"])}
    assert len(listed) == 4 and "0003.parquet" not in listed and "train-00000-of-00012.parquet" not in listed
    test = str(tmp_path / "default/test/0003.parquet")
    assert list(list_record_files([test], ["train"])) == [test]
    with pytest.raises(UserError, match=r"no file of train, but 1 of test$"):
        list(list_record_files([str(tmp_path / "default")], ["train"]))
    (tmp_path / "data/ai2d-dev-00000-of-00001.parquet").rename(tmp_path / "default/dev-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"no file of train, but 1 of test, 1 of val; add splits=\[val\]"):
        list(list_record_files([str(tmp_path / "default")], ["train"]))


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_data_urls_in_json_are_found_by_their_bytes(tmp_path: Path, bom: str) -> None:
    rows = [
        {"text": "é" * (n % 7), "image": "data:image/png;base64," + base64.b64encode(pixels(n)).decode()}
        for n in range(40)
    ]
    as_list = json.dumps(rows, ensure_ascii=False, indent=1)
    as_lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name, text in (("a.json", as_list), ("a.jsonl", as_lines)):
        path = tmp_path / name
        path.write_text(bom + text, encoding="utf-8")
        for row, n in zip(records(path), range(40), strict=True):
            assert read_back(str(path), [row.image(row.value["image"], ("image",))]) == [pixels(n)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("https://a.org/b.jpg", "is the web address 'https://a.org/b.jpg'; nothing is fetched"),
        ({"url": "http://a.org/b.jpg"}, "image.url is the web address"),
        ("data:image/png;base64,@@", "no data URL in base64"),
        ("data:image/png", "a data URL without data"),
        ({"url": 4}, "image.url is a number"),
        (["a.jpg"], "image is a list"),
        ("", "image is empty"),
        (None, "image is null"),
    ],
)
def test_what_is_no_image(value: object, message: str) -> None:
    from datagen.inputs.record import Home

    with pytest.raises(WrongFormat, match=message):
        Record(number=0, home=Home(spans={})).image(value, ("image",))
