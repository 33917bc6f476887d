from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pyarrow as pa
import pytest

from datagen.guard.__main__ import main
from datagen.guard.benchmark_sets import chartqa_images, docvqa_images, folder_images, refcoco_images
from datagen.guard.guard import Guard, build_guard, guard_at
from datagen.guard.image_similarity import ALIKE
from datagen.inputs.image_ids import coco_id, image_id_of
from tests.datagen.made_pictures import chart, cropped, jpeg, page, scene
from varyforge.errors import UserError


def write_refcoco(folder: Path) -> Path:
    """RefCOCO, + and g: image 1 in two of them, image 9 in training."""
    splits = {
        "refcoco/refs(unc).p": [(1, "val"), (2, "testA"), (9, "train")],
        "refcoco+/refs(unc).p": [(1, "val"), (3, "testB"), (9, "train")],
        "refcocog/refs(umd).p": [(4, "test"), (4, "test")],
    }
    for name, refs in splits.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        records = [{"ref_id": n, "image_id": image, "split": split} for n, (image, split) in enumerate(refs)]
        (folder / name).write_bytes(pickle.dumps(records, 2))
    return folder


def write_coco(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        scene(number).save(folder / f"COCO_train2014_{number:012d}.jpg", quality=95)
    return folder


def write_docvqa(folder: Path, names: dict[str, str], images: str) -> Path:
    """`names`: the file of each split; `images`: where its page lies."""
    for number, (split, name) in enumerate(names.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        record = {"questionId": 1, "image": f"documents/{split}_1.png", "question": "?", "data_split": split}
        (folder / name).write_text(json.dumps({"dataset_name": "docvqa", "data": [record, record]}))
        place = folder / images.format(split=split)
        place.mkdir(parents=True, exist_ok=True)
        page(number).save(place / f"{split}_1.png")
    return folder


def write_chartqa(folder: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        (folder / split / "png").mkdir(parents=True)
        chart(number).save(folder / split / "png" / f"two_col_{number}.png")
        asked = [{"imgname": f"two_col_{number}.png", "query": "?", "label": "1"}]
        (folder / split / f"{split}_human.json").write_text(json.dumps(asked))
    return folder


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """All that is published, in miniature."""
    folder = tmp_path_factory.mktemp("benchmarks")
    coco = write_coco(folder / "train2014", [1, 2, 3, 4])
    docvqa = {"val": "val/val_v1.0.json", "test": "test/test_v1.0.json"}
    (folder / "exam").mkdir()
    scene(77).save(folder / "exam" / "photo.png")
    build_guard(
        [
            *refcoco_images(write_refcoco(folder / "refer"), coco),
            *docvqa_images(write_docvqa(folder / "docvqa", docvqa, "{split}/documents")),
            *chartqa_images(write_chartqa(folder / "chartqa")),
            *folder_images("our exam", folder / "exam"),
        ],
        folder / "guard.arrow",
    )
    return Guard.read(str(folder / "guard.arrow"))


NOTHING = PIL.Image.new("RGB", (64, 64))


def test_by_name_with_every_benchmark_that_has_it(guard: Guard) -> None:
    match = guard.find([image_id_of("train2017/000000000001.jpg") or ""], NOTHING)
    assert match is not None
    assert (match.by, match.similarity) == ("id", 1.0)
    assert str(match) == "refcoco val, refcoco+ val: COCO_train2014_000000000001.jpg"
    assert guard.find([coco_id(9)], NOTHING) is None  # of their training splits
    found = guard.find(["elsewhere/1", image_id_of("documents/test_1.png", "docvqa") or ""], NOTHING)
    assert found is not None and str(found) == "docvqa test: documents/test_1.png"


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (scene(2), "refcoco testA: COCO_train2014_000000000002.jpg"),
        (scene(3).convert("L").convert("RGB"), "refcoco+ testB: COCO_train2014_000000000003.jpg"),
        (jpeg(scene(4).resize((320, 240)), 40), "refcocog-umd test: COCO_train2014_000000000004.jpg"),
        (cropped(page(0), 0.05, 0.02, 0, 0.03), "docvqa val: documents/val_1.png"),
        (jpeg(page(1), 30), "docvqa test: documents/test_1.png"),
        (chart(1).resize((350, 250)), "chartqa val: two_col_1.png"),
        (cropped(chart(2), 0.03, 0.03, 0.03, 0.03), "chartqa test: two_col_2.png"),
        (cropped(scene(77), 0, 0.05, 0.05, 0), "our exam: photo.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_by_look_whatever_its_name(guard: Guard, picture: PIL.Image.Image, expected: str) -> None:
    match = guard.find(["coco/000000777777"], picture)
    assert match is not None
    assert (str(match), match.by) == (expected, "appearance")
    assert ALIKE <= match.similarity <= 1


def test_other_images_pass(guard: Guard) -> None:
    for seed in range(100, 120):
        for draw in (scene, page, chart):
            assert guard.find([coco_id(seed)], draw(seed)) is None
    assert guard.find([], chart(0)) is None  # of ChartQA's training
    assert guard.find([], NOTHING) is None


def test_the_bytes_depend_on_the_images_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name, picture in {"b.png": scene(1), "a.png": page(1), "c.png": chart(1)}.items():
        picture.save(tmp_path / "one" / name)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in ("one", "two"):
        build_guard(folder_images("exam", tmp_path / name), tmp_path / f"{name}.arrow")
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()
    first = Guard.read(str(tmp_path / "one.arrow"))
    (tmp_path / "two" / "c.png").unlink()
    build_guard(folder_images("exam", tmp_path / "two"), tmp_path / "two.arrow")
    assert first.digest != Guard.read(str(tmp_path / "two.arrow")).digest
    assert guard_at(str(tmp_path / "one.arrow")) is guard_at(str(tmp_path / "one.arrow"))


def test_images_that_cannot_be_read_are_named_and_guarded_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco = write_coco(tmp_path / "train2014", [1])
    (coco / "COCO_train2014_000000000002.jpg").write_bytes(b"no image")
    PIL.Image.new("RGB", (200, 200), "red").save(coco / "COCO_train2014_000000000003.jpg")
    scene(5, (900, 900)).save(tmp_path / "bomb.png")
    (tmp_path / "exam").mkdir()
    (tmp_path / "bomb.png").rename(tmp_path / "exam" / "bomb.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 640 * 480)
    images = [
        *refcoco_images(write_refcoco(tmp_path / "refer"), coco),
        *folder_images("exam", tmp_path / "exam"),
    ]
    report = build_guard(images, tmp_path / "guard.arrow")
    assert report.images["refcoco val"] == report.by_id["refcoco val"] == report.by_appearance["refcoco val"] == 1
    assert (report.by_id["refcoco testA"], report.by_appearance["refcoco testA"]) == (1, 0)
    lines = sorted(report.without_fingerprint)
    assert [line.split(": ", 2)[0] for line in lines] == [
        "exam",
        "refcoco testA",
        "refcoco+ testB",
        "refcocog-umd test",
    ]
    assert "exam: bomb.png: image larger than" in lines[0]
    assert "image cannot be decoded" in lines[1]
    assert "nearly of one colour" in lines[2]
    assert lines[3].endswith("no such file")
    assert report.unguarded == 1  # the bomb: no name that others know
    guard = Guard.read(str(tmp_path / "guard.arrow"))
    for number in (1, 2, 3, 4):
        assert guard.find([coco_id(number)], NOTHING) is not None


def test_without_images_names_are_guarded(tmp_path: Path) -> None:
    report = build_guard(refcoco_images(write_refcoco(tmp_path), None), tmp_path / "guard.arrow")
    assert not report.without_fingerprint and not any(report.by_appearance.values())
    guard = Guard.read(str(tmp_path / "guard.arrow"))
    assert len(guard) == 4
    assert guard.find([coco_id(4)], NOTHING) and not guard.find([coco_id(9)], scene(1))


def test_the_other_layouts(tmp_path: Path) -> None:
    names = {"val": "spdocvqa_qas/val_v1.0_withQT.json", "test": "spdocvqa_qas/test_v1.0.json"}
    pages = list(docvqa_images(write_docvqa(tmp_path / "docvqa", names, "spdocvqa_images")))
    assert [(one.benchmark, one.id, one.path and one.path.is_file()) for one in pages] == [
        ("docvqa val", "docvqa/val_1", True),
        ("docvqa test", "docvqa/test_1", True),
    ]
    write_chartqa(tmp_path / "ChartQA" / "ChartQA Dataset")
    assert [one.name for one in chartqa_images(tmp_path / "ChartQA")] == ["two_col_1.png", "two_col_2.png"]
    as_pickle = list(refcoco_images(write_refcoco(tmp_path / "refer"), None))
    for refs in (tmp_path / "refer").glob("*/*.p"):
        refs.with_suffix(".json").write_text(json.dumps(pickle.loads(refs.read_bytes())))
        refs.unlink()
    assert list(refcoco_images(tmp_path / "refer", None)) == as_pickle


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"refs\(unc\).p: not a pickle of plain data: instruction GLOBAL"),
        (b"", r"refs\(unc\).p: not a pickle, or a broken one"),
        (pickle.dumps({"image_id": 1}, 2), "expected a list of references, found dict"),
        (pickle.dumps([{"image_id": 1, "split": "val"}, {"split": "val"}], 2), "reference 1 has no split and image_id"),
        (pickle.dumps([{"image_id": True, "split": "val"}], 2), "reference 0 has no"),
        (pickle.dumps([7], 2), "reference 0 has no"),
    ],
)
def test_wrong_refs_are_an_error_not_a_hole(tmp_path: Path, refs: bytes, message: str) -> None:
    (write_refcoco(tmp_path) / "refcoco" / "refs(unc).p").write_bytes(refs)
    with pytest.raises(UserError, match=message):
        list(refcoco_images(tmp_path, None))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object with a list `data`"),
        ('{"data": 3}', "expected an object with a list `data`"),
        ('{"data": [{"image": "documents/a.png"}, {"image": 3}]}', "record 1 has no 'image'"),
    ],
)
def test_wrong_questions_are_an_error_not_a_hole(tmp_path: Path, records: str, message: str) -> None:
    write_docvqa(tmp_path, {"val": "val/val_v1.0.json", "test": "test/test_v1.0.json"}, "{split}/documents")
    (tmp_path / "val" / "val_v1.0.json").write_text(records)
    with pytest.raises(UserError, match=f"val_v1.0.json: {message}"):
        list(docvqa_images(tmp_path))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no refcoco/refs\(unc\).p .*--refcoco"):
        list(refcoco_images(tmp_path, None))
    write_refcoco(tmp_path / "refer")
    with pytest.raises(UserError, match=r"no COCO_train2014_\*.jpg there \(--coco-images\)"):
        list(refcoco_images(tmp_path / "refer", tmp_path / "empty"))
    with pytest.raises(UserError, match=r"no val_v1.0.json .*--docvqa"):
        list(docvqa_images(tmp_path))
    with pytest.raises(UserError, match=r"no val/png/\*.png .*--chartqa"):
        list(chartqa_images(tmp_path))
    with pytest.raises(UserError, match=r"empty: no \*.jpg or \*.jpeg .* in this folder"):
        list(folder_images("exam", tmp_path / "empty"))


def test_what_is_no_guard_is_said(tmp_path: Path) -> None:
    for data in (b"", b"prose", b"PAR1" * 100):
        (tmp_path / "guard.arrow").write_bytes(data)
        with pytest.raises(UserError, match=r"guard.arrow: not a guard"):
            Guard.read(str(tmp_path / "guard.arrow"))
    with pytest.raises(UserError, match=r"gone.arrow: cannot read the guard"):
        Guard.read(str(tmp_path / "gone.arrow"))
    other = pa.record_batch({"a": [1]})
    with pa.ipc.new_file(str(tmp_path / "guard.arrow"), other.schema) as writer:
        writer.write_batch(other)
    with pytest.raises(UserError, match="a guard of another version"):
        Guard.read(str(tmp_path / "guard.arrow"))


def test_a_guard_behind_a_url(tmp_path: Path) -> None:
    build_guard(refcoco_images(write_refcoco(tmp_path), None), tmp_path / "guard.arrow")
    fsspec.filesystem("memory").pipe("/guards/guard.arrow", (tmp_path / "guard.arrow").read_bytes())
    assert Guard.read("memory://guards/guard.arrow").digest == Guard.read(str(tmp_path / "guard.arrow")).digest
    with pytest.raises(UserError, match="cannot read the guard"):
        Guard.read("memory://guards/gone.arrow")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["datagen.guard", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    refer, coco = write_refcoco(tmp_path / "refer"), write_coco(tmp_path / "train2014", [1, 2, 3])
    given: list[Any] = ["--refcoco", refer, "--coco-images", coco, "--folder", f"exam={coco}"]
    assert run(monkeypatch, "--out", str(tmp_path / "guard.arrow"), *map(str, given)) == 0
    shown = capfd.readouterr().err
    assert "not known by appearance: refcocog-umd test: COCO_train2014_000000000004.jpg: no such file" in shown
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in shown.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["refcoco testA"]] == ["1", "1", "1"]
    assert [cell.strip() for cell in rows["refcocog-umd test"]] == ["1", "1", "0"]
    assert [cell.strip() for cell in rows["exam"]] == ["3", "3", "3"]
    match = Guard.read(str(tmp_path / "guard.arrow")).find([], scene(1))
    assert match is not None and match.benchmark == "refcoco val, refcoco+ val, exam"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to guard"),
        (("--coco-images", "."), "--coco-images needs --refcoco"),
        (("--folder", "exam"), "expected NAME=PATH"),
        (("--folder", "exam=gone"), "gone: no such folder"),
        (("--refcoco", "gone"), "gone: no such folder"),
    ],
)
def test_user_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, "--out", str(tmp_path / "guard.arrow"), *arguments) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "guard.arrow").exists()
