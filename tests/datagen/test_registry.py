"""From a shard set back to its source, and to a picture of a unit that gave no sample."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from datagen.chat.source import ChatSource
from datagen.detection.source import DetectionSource
from datagen.examples.shapes import write_detection
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource
from datagen.registry import SOURCES, source_of, view_of
from datagen.source import UnitView
from varyforge.errors import UserError
from varyforge.shards import ShardSet


def job(source: str, inputs: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"source": source, "config": {"settings": settings}, "inputs": inputs}


def test_a_set_names_its_source_with_all_settings(pdf_shards: Path, chat_shards: Path) -> None:
    source = source_of(ShardSet(pdf_shards).job)
    assert isinstance(source, PdfSource) and source.short_side_px == 256
    assert [Path(path).is_dir() for path in source.paths] == [True]
    assert isinstance(source_of(ShardSet(chat_shards).job), ChatSource)


def test_every_source_has_the_name_that_it_is_listed_under() -> None:
    inputs = {
        "pdf": {"paths": ["in"]},
        "scan": {"paths": ["in"]},
        "labelled": {"paths": ["in"]},
        "markdown": {"paths": ["in"]},
        "detection": {"format": "coco", "annotations": "in", "images": "in"},
        "referring": {"refs": ["in"], "jsonl": [], "images": "in", "convention": "xyxy"},
        "caption": {"paths": ["in"]},
        "chat": {"paths": ["in"]},
        "vqa": {"records": ["in"], "images": "in"},
        "chart": {"charts": 3},
    }
    assert {name: source_of(job(name, inputs[name])).name for name in SOURCES} == {name: name for name in SOURCES}


def test_a_source_that_this_version_does_not_have_is_named() -> None:
    with pytest.raises(UserError, match="no source 'video'; there are pdf, scan, labelled, markdown"):
        source_of(job("video", {}))
    with pytest.raises(UserError, match="resolution"):
        source_of(job("pdf", {"paths": ["in"]}, resolution=3))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of six images; a gate refuses all of them."""
    root = tmp_path_factory.mktemp("boxes")
    annotations = write_detection(root, images=6)
    images = str(root / "images")
    source = DetectionSource(format="coco", annotations=str(annotations), images=images, licences=["CC0"])
    run_job(source, root / "out", JobSettings(units_per_shard=8), LocalRunner())
    return root


def test_what_was_refused_can_be_looked_at(boxes: Path) -> None:
    rows = ShardSet(boxes / "out").ledger().to_pylist()
    assert {row["outcome"] for row in rows} == {"rejected"}
    view = view_of(str(boxes / "out"), rows[0]["unit"])
    assert isinstance(view, UnitView) and view.picture and view.text == ""
    name = rows[0]["document"].rpartition("/")[2]
    with PIL.Image.open(io.BytesIO(view.picture.data)) as seen, PIL.Image.open(boxes / "images" / name) as stored:
        assert seen.size == stored.size


def test_why_there_is_no_picture(boxes: Path, chat_shards: Path) -> None:
    assert view_of(str(boxes / "out"), "gone#1") == "the unit is in no plan file"
    unit = ShardSet(chat_shards).ledger().to_pylist()[0]["unit"]
    assert view_of(str(chat_shards), unit) == "nothing to see in a unit of this kind"


def test_an_input_that_is_gone_is_no_error(boxes: Path) -> None:
    row = ShardSet(boxes / "out").ledger().to_pylist()[-1]
    (boxes / "images" / row["document"].rpartition("/")[2]).unlink()
    reason = view_of(str(boxes / "out"), row["unit"])
    assert isinstance(reason, str) and reason


def test_a_set_without_its_job_is_refused(boxes: Path, tmp_path: Path) -> None:
    shutil.copytree(boxes / "out" / "plan", tmp_path / "plan")
    unit = ShardSet(boxes / "out").ledger().to_pylist()[0]["unit"]
    with pytest.raises(UserError, match="not a shard set"):
        view_of(str(tmp_path), unit)
    assert view_of(str(tmp_path / "gone"), unit) == "the unit is in no plan file"
