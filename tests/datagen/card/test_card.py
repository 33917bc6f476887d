"""The data card says what is in a set, escapes what documents say, and is the same for equal sets."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest

from datagen.card.card import CARD_HTML, CARD_JSON, read_data_card, write_card
from datagen.card.contents import contents_of
from datagen.chat.source import ChatSource
from datagen.detection.source import DetectionSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from varyforge.errors import UserError
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
