"""The data card says what is in a set, escapes what documents say, and is the same for equal sets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import PIL.Image
import pytest

from datagen.card.card import CARD_HTML, CARD_JSON, read_data_card, read_sample, sample_card, write_card
from datagen.card.contents import contents_of
from datagen.card.spread import spread
from datagen.chat.source import ChatSource
from datagen.detection.source import DetectionSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from varyforge.errors import UserError
from varyforge.sample import IMAGE_MARKER, Image, Sample, Turn, make_key
from varyforge.shards import ShardSet

HOSTILE = "<script>alert(1)</script>"


def detection(root: Path, out: Path) -> Path:
    """Three images of 400, 300 and 100 pixels with 1, 2 and 3 boxes, and one without any."""
    images, annotations = [], []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number, width in enumerate((400, 300, 100, 50)):
        PIL.Image.new("RGB", (width, 80), "white").save(root / "images" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": 80})
        for place in range((number + 1) % 4):
            annotations.append({"image_id": number, "category_id": 0, "bbox": [10 * place, 5, 8, 30]})
    form = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": HOSTILE}]}
    (root / "instances.json").write_text(json.dumps(form))
    places = {"annotations": str(root / "instances.json"), "images": str(root / "images")}
    source = DetectionSource(format="coco", **places, licence="CC0")
    run_job(source, out, JobSettings(validation_share=0), LocalRunner())
    return out


def test_numbers(tmp_path: Path) -> None:
    contents = contents_of(ShardSet(detection(tmp_path, tmp_path / "out")))
    assert (contents.tasks, contents.licences, contents.images) == ({"detection": 3}, {"CC0": 3}, 3)
    assert sum(contents.prompts.values()) == 3 and all(name.startswith("detection.en.") for name in contents.prompts)
    assert {bar.low: bar.samples for bar in contents.sides.bars if bar.samples} == {0: 1, 224: 1, 336: 1}
    assert (contents.sides.median, contents.sides.largest) == (300, 400)
    assert {bar.low: bar.samples for bar in contents.boxes.bars if bar.samples} == {1: 1, 2: 2}
    assert (contents.boxes.samples, contents.boxes.largest, contents.documents) == (3, 3, 3)


def test_the_card_as_json_and_html(tmp_path: Path) -> None:
    out = detection(tmp_path, tmp_path / "out")
    write_card(out)
    card = json.loads((out / CARD_JSON).read_text())
    assert card["ledger"]["by_outcome"] == {"written": 3, "rejected": 1, "failed": 0}
    assert card["ledger"]["by_cause"] == {"rejected: boxes": 1}
    assert card["contents"]["licences"] == {"CC0": 3}
    assert [unit["unit"] for unit in card["unwritten"]] == ["3.jpg#3"]
    assert len(card["samples"]) == 3 and "pictures" not in card["samples"][0]
    page = (out / CARD_HTML).read_text()
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 3


def test_equal_sets_have_equal_cards(tmp_path: Path) -> None:
    cards = []
    for name in ("one", "two"):
        write_card(out := detection(tmp_path / name, tmp_path / name / "out"))
        cards.append([(out / file).read_bytes() for file in (CARD_JSON, CARD_HTML)])
    assert cards[0] == cards[1]


def test_a_set_without_samples_and_one_without_images(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text(json.dumps([{"instruction": "a", "output": ""}]))
    run_job(ChatSource(paths=[str(tmp_path / "chat.json")]), tmp_path / "none", JobSettings(), LocalRunner())
    write_card(tmp_path / "none")
    assert "no sample" in (tmp_path / "none" / CARD_HTML).read_text()
    (tmp_path / "chat.json").write_text(json.dumps([{"instruction": "a", "output": "b"}]))
    run_job(ChatSource(paths=[str(tmp_path / "chat.json")]), tmp_path / "some", JobSettings(), LocalRunner())
    card = read_data_card(tmp_path / "some")
    assert (card.contents.sides.samples, card.contents.boxes.samples, card.samples[0].pictures) == (0, 0, [])


def test_a_folder_that_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a shard set"):
        write_card(tmp_path)


def chats(folder: Path, texts: list[tuple[str, str]]) -> Path:
    """A set of conversations; one without an answer is not written."""
    folder.mkdir(exist_ok=True)
    records = [{"instruction": question, "output": answer} for question, answer in texts]
    (folder / "chat.json").write_text(json.dumps(records))
    run_job(ChatSource(paths=[str(folder / "chat.json")]), folder / "out", JobSettings(), LocalRunner())
    return folder / "out"


def test_units_that_were_not_written_are_listed_up_to_ten(tmp_path: Path) -> None:
    card = read_data_card(chats(tmp_path, [(f"question {number}", "") for number in range(14)]))
    assert (card.ledger.units, card.ledger.samples, len(card.unwritten)) == (14, 0, 10)
    assert all(row["outcome"] != "written" for row in card.unwritten)


def test_samples_are_spread_over_the_set(tmp_path: Path) -> None:
    card = read_data_card(chats(tmp_path, [(f"question {number}", f"answer {number}") for number in range(40)]))
    assert len(card.samples) == 8 == len({sample.key for sample in card.samples})
    assert card.contents.tasks == {"text": 40}
    assert (card.contents.answers.samples, card.contents.answers.bars) == (40, ())


def test_numbers_are_spread_evenly() -> None:
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(0, 8) == []
    assert all(a < b for a, b in zip(spread(1000, 31), spread(1000, 31)[1:], strict=False))


def test_boxes_of_a_sample_are_read_from_its_text() -> None:
    image = Image(data=encoded_image(), format="png", width=40, height=40)
    turns = (
        Turn(role="user", text=f"{IMAGE_MARKER}Detect."),
        Turn(role="assistant", text="cat: [0, 0, 500, 500]; nonsense"),
    )
    sample = Sample(
        key=make_key("a", 0), task="detection", turns=turns, images=(image,), source="a", origin={"language": "en"}
    )
    card = sample_card(sample)
    assert [(entry.name, entry.count) for entry in card.legend] == [("cat", 1)]
    assert (card.not_boxes, card.language, len(card.pictures)) == (["nonsense"], "en", 1)


def encoded_image() -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (40, 40), "white").save(out, "PNG")
    return out.getvalue()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    out = chats(tmp_path, [("question", "answer")])
    shards = ShardSet(out)
    (row,) = shards.table(["shard", "offset", "size"]).to_pylist()
    assert read_sample(shards, row).answer == "answer"
    with pytest.raises(UserError, match="the shard set is damaged: delete"):
        read_sample(shards, row | {"shard": "gone-0.tar"})
    for file in (out / "index").iterdir():
        file.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="broken"):
        read_data_card(out)
