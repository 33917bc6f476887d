"""With a guard, no source writes an image of a benchmark, whatever it is called and however it was disguised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.detection.source import DetectionSource
from datagen.examples.documents import write_documents
from datagen.guard.benchmark_sets import BenchmarkImage
from datagen.guard.guard import build_guard
from datagen.inputs.image_ids import image_id_of
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.source import PdfSource
from tests.datagen.made_pictures import cropped, scene
from varyforge.errors import UserError
from varyforge.images import encode_jpeg
from varyforge.shards import ShardSet

KNOWN = "COCO_train2014_000000000007.jpg"


@pytest.fixture
def guard(tmp_path: Path) -> str:
    """Guards scene 1 by look, and image 7 of COCO by name alone."""
    scene(1).save(tmp_path / "exam.png")
    images = [
        BenchmarkImage(benchmark="ours test", name="exam.png", id="", path=tmp_path / "exam.png"),
        BenchmarkImage(benchmark="refcoco val", name=KNOWN, id=image_id_of(KNOWN) or "", path=None),
    ]
    build_guard(images, tmp_path / "guard.arrow")
    return str(tmp_path / "guard.arrow")


def detection(folder: Path, guard: str) -> DetectionSource:
    """Four images with a box: scene 1 smaller and cropped, image 7 under its name of 2017, and two others."""
    (folder / "images").mkdir(exist_ok=True)
    pictures = {
        "a.jpg": cropped(scene(1), 0.03, 0.0, 0.02, 0.04).reduce(2).convert("L").convert("RGB"),
        "000000000007.jpg": scene(2),
        "b.jpg": scene(3),
        "000000000008.jpg": scene(4),
    }
    images, annotations = [], []
    for number, (name, picture) in enumerate(pictures.items()):
        picture.save(folder / "images" / name, quality=60)
        images.append({"id": number, "file_name": name, "width": picture.width, "height": picture.height})
        annotations.append({"image_id": number, "category_id": 0, "bbox": [5, 5, 30, 30]})
    form = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(form))
    return DetectionSource(
        format="coco", annotations=str(folder / "instances.json"), images=str(folder / "images"), guard=guard
    )


def outcomes(out: Path) -> dict[str, tuple[str, str]]:
    rows = ShardSet(out).ledger().to_pylist()
    return {row["unit"]: (row["gate"] or row["outcome"], row["detail"].partition(":")[0]) for row in rows}


def test_images_of_benchmarks_are_refused_by_name_and_by_look(tmp_path: Path, guard: str) -> None:
    run_job(detection(tmp_path, guard), tmp_path / "out", JobSettings(), LocalRunner())
    assert outcomes(tmp_path / "out") == {
        "a.jpg#0": ("benchmark", "ours test"),
        "000000000007.jpg#1": ("benchmark", "refcoco val"),
        "b.jpg#2": ("written", ""),
        "000000000008.jpg#3": ("written", ""),
    }


def test_another_guard_is_a_change_and_the_same_elsewhere_is_none(tmp_path: Path, guard: str) -> None:
    run_job(detection(tmp_path, guard), tmp_path / "out", JobSettings(), LocalRunner())
    elsewhere = tmp_path / "moved.arrow"
    elsewhere.write_bytes(Path(guard).read_bytes())
    run_job(detection(tmp_path, str(elsewhere)), tmp_path / "out", JobSettings(), LocalRunner())
    build_guard([], tmp_path / "empty.arrow")
    with pytest.raises(UserError, match="benchmark guard"):
        run_job(detection(tmp_path, str(tmp_path / "empty.arrow")), tmp_path / "out", JobSettings(), LocalRunner())
    update = JobSettings(update=True)
    run_job(detection(tmp_path, str(tmp_path / "empty.arrow")), tmp_path / "out", update, LocalRunner())
    assert {kind for kind, _ in outcomes(tmp_path / "out").values()} == {"written"}


def test_a_guard_made_again_in_its_place_is_read_again(tmp_path: Path, guard: str) -> None:
    """Also by the child that goes on from one job to the next."""
    build_guard([], tmp_path / "own.arrow")
    source = detection(tmp_path, str(tmp_path / "own.arrow"))
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    Path(guard).replace(tmp_path / "own.arrow")
    run_job(source, tmp_path / "out", JobSettings(update=True), LocalRunner())
    assert sum(kind == "benchmark" for kind, _ in outcomes(tmp_path / "out").values()) == 2


def test_pages_of_benchmarks_are_refused(tmp_path: Path) -> None:
    first = write_documents(tmp_path / "documents", documents=2)[0]
    with open_document(str(first)) as document:
        page = document.page(0, short_side_px=400, long_side_px=4096).picture
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "page.jpg").write_bytes(encode_jpeg(page, 80).data)
    build_guard(
        [BenchmarkImage(benchmark="pages", name="p", id="", path=tmp_path / "exam" / "page.jpg")], tmp_path / "g"
    )
    source = PdfSource(paths=[str(tmp_path / "documents")], short_side_px=256, guard=str(tmp_path / "g"))
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    found = outcomes(tmp_path / "out")
    assert found[f"{first.name}#0000"] == ("benchmark", "pages")
    assert sum(kind == "benchmark" for kind, _ in found.values()) < len(found) / 2


def test_a_guard_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the guard"):
        run_job(detection(tmp_path, str(tmp_path / "gone")), tmp_path / "out", JobSettings(), LocalRunner())
