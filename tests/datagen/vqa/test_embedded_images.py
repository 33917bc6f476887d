"""Records with their images inside: Parquet from the hub, and OpenAI's parts with data URLs."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.caption.source import CaptionSource
from datagen.chat.source import ChatSource
from datagen.image_source import ImageSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import Source
from datagen.vqa.source import VqaSource
from varyforge.shards import ShardSet

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(number: int) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (80 + number, 70), (number, 0, 0)).save(out, "PNG")
    return out.getvalue()


def cell(number: int) -> dict[str, Any]:
    return {"bytes": png(number), "path": None}


def table(path: Path, rows: list[dict[str, Any]], kinds: dict[str, Any], **how: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))), path, **how)
    return str(path)


def make(source: Source, out: Path) -> tuple[dict[str, list[bytes]], dict[str, str]]:
    """The images of each written unit, and the reason and detail of each other one."""
    run_job(source, out, JobSettings(units_per_shard=8), LocalRunner())
    shards = ShardSet(out)
    images = {}
    for row in shards.table().to_pylist():
        sample = shards.read(row["shard"], row["offset"], row["size"])
        images[row["unit"].rpartition("#")[2].rpartition("/")[2]] = [image.data for image in sample.images]
    others = [row for row in shards.ledger().to_pylist() if row["outcome"] != "written"]
    return images, {
        row["unit"].rpartition("#")[2]: f"{row['gate'] or row['reason']}: {row['detail']}" for row in others
    }


def test_conversations_from_the_hub_with_every_kind_of_fault(tmp_path: Path) -> None:
    turns = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))
    asked = [{"user": "What is it?", "assistant": "Red."}]
    rows: list[dict[str, Any]] = [{"images": [cell(n), cell(n + 100)][: 1 + n % 2], "texts": asked} for n in range(30)]
    rows[3]["images"][1] = {"bytes": b"no image", "path": "x.jpg"}
    rows[4]["images"] = [None]
    rows[5]["texts"] = None
    rows[6]["texts"] = [{"user": "What?", "assistant": None}]
    rows[7]["images"] = [{"bytes": None, "path": "gone.jpg"}]
    rows[8]["images"] = []
    path = table(
        tmp_path / "data" / "train-00000-of-00001.parquet",
        rows,
        {"images": pa.list_(IMAGE), "texts": turns},
        row_group_size=7,
    )
    images, others = make(VqaSource(records=[str(Path(path).parent)]), tmp_path / "out")
    assert images == {
        f"{n:06d}": [image["bytes"] for image in row["images"]]
        for n, row in enumerate(rows)
        if n not in (3, 4, 5, 6, 7)
    }
    assert others == {
        "000003": "broken_image: images[1]: image cannot be decoded: none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM",
        "000004": "wrong_form: images[0] is null, expected an image or its file name",
        "000005": others["000005"],
        "000006": "wrong_form: texts[0] has no text under 'assistant'",
        "000007": "wrong_form: the image is the file 'gone.jpg'; give its folder with --images",
    }
    assert others["000005"].endswith("; null: texts")


def test_an_image_is_on_one_side_of_the_split_in_all_shards(tmp_path: Path) -> None:
    kinds = {"image": IMAGE, "query": pa.string(), "label": pa.list_(pa.string())}
    rows = [{"image": cell(n % 9), "query": f"How many in {n}?", "label": [str(n), "x"]} for n in range(60)]
    table(tmp_path / "in" / "train-00000-of-00002.parquet", rows[:30], kinds, row_group_size=4)
    table(tmp_path / "in" / "train-00001-of-00002.parquet", rows[30:], kinds)
    run_job(
        VqaSource(records=[str(tmp_path / "in")]),
        tmp_path / "out",
        JobSettings(units_per_shard=8, validation=12),
        LocalRunner(),
    )
    sides: dict[bytes, set[str]] = {}
    shards = ShardSet(tmp_path / "out")
    for row in shards.table().to_pylist():
        sides.setdefault(shards.read(row["shard"], row["offset"], row["size"]).images[0].data, set()).add(row["split"])
    assert len(sides) == 9 and all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "validation"}


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_openais_parts(tmp_path: Path, ending: str) -> None:
    def exchange(*images: object) -> dict[str, Any]:
        parts = [{"type": "image_url", "image_url": image} for image in images]
        asked = {"role": "user", "content": [*parts, {"type": "text", "text": "é What?"}]}
        return {"messages": [asked, {"role": "assistant", "content": "Red."}]}

    url = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    (tmp_path / "a.png").write_bytes(png(2))
    records = [
        exchange({"url": url}, "a.png"),
        exchange({"url": "https://a.org/b.jpg"}),
        exchange(url) | {"image": "a.png"},
    ]
    text = json.dumps(records, ensure_ascii=False) if ending == "json" else "\n".join(map(json.dumps, records))
    (tmp_path / f"own.{ending}").write_text(text)
    images, others = make(VqaSource(records=[str(tmp_path / f"own.{ending}")], images=str(tmp_path)), tmp_path / "out")
    assert images == {"000000": [png(1), png(2)]}
    assert "nothing is fetched" in others["000001"]
    assert others["000002"] == "wrong_form: has images under 'image' and at messages[0].content[0].image_url"


def test_captions_and_chats(tmp_path: Path) -> None:
    rows = [{"image": cell(1), "text": "A red square."}, {"image": None, "text": "x"}, {"image": cell(2), "text": None}]
    path = table(tmp_path / "captions.parquet", rows, {"image": IMAGE, "text": pa.string()})
    images, others = make(CaptionSource(form="table", paths=[path]), tmp_path / "captions")
    assert images == {"00000001": [png(1)]} and len(others) == 2
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    path = table(tmp_path / "chat.parquet", [{"messages": talk}, {"messages": None}], {"messages": turns})
    written, others = make(ChatSource(paths=[path]), tmp_path / "chats")
    assert written == {"000000": []} and others["000001"].endswith("; null: messages")


def test_a_view_of_a_refused_image(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [{"image": cell(1), "caption": "x"}], {"image": IMAGE, "caption": pa.string()})
    source = CaptionSource(form="table", paths=[path])
    (unit,) = source.units(path, path)  # type: ignore[misc]
    assert isinstance(source, ImageSource)
    picture = source.view(unit, unit.files).picture
    assert picture is not None and picture.data == png(1)


TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))


def talk(question: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "Red."}]


@pytest.mark.parametrize("kind", [IMAGE, pa.binary(), pa.list_(IMAGE)])
def test_an_image_in_another_column_is_no_text_sample(tmp_path: Path, kind: pa.DataType) -> None:
    value: Any = png(1) if kind == pa.binary() else cell(1) if kind == IMAGE else [cell(1)]
    rows: list[dict[str, Any]] = [
        {"img": value, "conversations": talk("What?")},
        {"image": cell(2), "img": value, "conversations": talk("<image> What?")},
        {"image": cell(2), "digest": b"\x01\x02", "conversations": talk("<image> What?")},
    ]
    kinds = {"image": IMAGE, "img": kind, "digest": pa.binary(), "conversations": TURNS}
    images, others = make(VqaSource(records=[table(tmp_path / "a.parquet", rows, kinds)]), tmp_path / "out")
    assert images == {"000002": [png(2)]}
    reason = "wrong_form: an image in column 'img' that is not read; call the column image or images"
    assert [detail.partition("; null")[0] for detail in others.values()] == [reason] * 2


def test_a_null_image_is_no_text_sample(tmp_path: Path) -> None:
    rows = [{"image": None, "conversations": talk("What?")}, {"image": cell(1), "conversations": talk("<image> x")}]
    path = table(tmp_path / "a.parquet", rows, {"image": IMAGE, "conversations": TURNS})
    images, others = make(VqaSource(records=[path]), tmp_path / "out")
    assert images == {"000001": [png(1)]} and others == {"000000": "images: 'image' is null"}
    lines = [{"images": None, "conversations": talk("What?")}, {"conversations": talk("What?")}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    images, others = make(VqaSource(records=[str(tmp_path / "a.jsonl")]), tmp_path / "lines")
    assert images == {"000001": []} and others == {"000000": "images: 'images' is null"}
