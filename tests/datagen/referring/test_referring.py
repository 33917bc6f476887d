from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.referring.references import MAX_LINE_BYTES
from datagen.referring.source import MAX_PHRASE_CHARS, ReferringSource, clean_phrase
from datagen.source import Unit
from varyforge.boxes import parse_boxes
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.escape import unescape
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.shards import ShardSet
from varyforge.storage import folder_at, write

SIZE = (200, 100)
NAMES = {1: "COCO_train2014_000000000001.jpg", 2: "COCO_train2014_000000000002.jpg"}


def ref(number: int, *phrases: str, image: int = 1, **changes: Any) -> dict[str, Any]:
    """A ref of RefCOCO, of annotation 10 × its number."""
    sentences = [{"tokens": p.split(), "raw": p.title(), "sent_id": n, "sent": p} for n, p in enumerate(phrases)]
    return {
        "sent_ids": list(range(len(phrases))),
        "file_name": f"COCO_train2014_{image:012d}_{number * 10}.jpg",
        "ann_id": number * 10,
        "sentences": sentences,
        "split": "train",
        "image_id": image,
        "category_id": 1,
        "ref_id": number,
    } | changes


def annotation(number: int, box: list[float], image: int = 1) -> dict[str, Any]:
    return {"id": number * 10, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": 0, "segmentation": []}


def published(
    folder: Path,
    refs: Any,
    annotations: list[dict[str, Any]],
    name: str = "refcoco",
    file: str = "refs(unc).p",
    protocol: int = 0,
) -> ReferringSource:
    """A miniature RefCOCO: two images of 200 x 100."""
    images = folder / "train2014"
    images.mkdir(exist_ok=True)
    for number, image in NAMES.items():
        PIL.Image.new("RGB", SIZE, (number, 0, 0)).save(images / image)
    form = {
        "info": {"description": "This is dev 1.0 version of the 2014 MS COCO dataset."},
        "images": [
            {"license": 1, "file_name": image, "width": SIZE[0], "height": SIZE[1], "id": number}
            for number, image in NAMES.items()
        ],
        "licenses": [{"id": 1, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "annotations": annotations,
        "categories": [{"supercategory": "person", "id": 1, "name": "person"}],
    }
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "instances.json").write_text(json.dumps(form))
    (folder / name / file).write_bytes(pickle.dumps(refs, protocol))
    return ReferringSource(refs=[str(folder / name)], images=str(images))


def lines(folder: Path, *records: Any, convention: Any = "xyxy_px", **settings: Any) -> ReferringSource:
    """JSON Lines and one image, a.jpg of 200 x 100."""
    PIL.Image.new("RGB", SIZE, "white").save(folder / "a.jpg")
    text = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    (folder / "own.jsonl").write_bytes(b"\n".join(text) + b"\n")
    return ReferringSource(jsonl=[str(folder / "own.jsonl")], images=str(folder), convention=convention, **settings)


def units(source: ReferringSource) -> list[Unit]:
    found: list[Unit] = []
    for path in source.inputs():
        made = source.units(path, path)
        assert not isinstance(made, Failed), made
        found += made  # type: ignore[arg-type]
    return found


def outcomes(source: ReferringSource) -> list[Outcome]:
    return [unit.verdict or source.make(unit, unit.files) for unit in units(source)]


def written(source: ReferringSource) -> Written:
    (made,) = outcomes(source)
    assert isinstance(made, Written), made
    return made


def causes(source: ReferringSource) -> list[str]:
    """What became of each unit, in a word."""
    words = {Written: lambda o: "written", Rejected: lambda o: o.gate, Failed: lambda o: o.reason}
    return [words[type(outcome)](outcome) for outcome in outcomes(source)]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_each_phrase_of_an_object_asks_for_its_box(tmp_path: Path, protocol: int) -> None:
    refs = [ref(3, "the left woman", "lady in  red.", "the left woman.", " . ")]
    source = published(tmp_path, refs, [annotation(3, [20, 10, 100, 80])], protocol=protocol)
    made = written(source)
    assert made.notes == {"repeated_phrases": 1, "empty_phrases": 1}
    assert [sample.answer for sample in made.samples] == ["[100, 100, 600, 900]"] * 2
    for sample, phrase in zip(made.samples, ("the left woman", "lady in red"), strict=True):
        question = sample.turns[0].text
        assert question.startswith("<image>") and phrase in question and ".." not in question
        (found,), refused = parse_boxes(sample.answer)
        assert (found.label, refused) == ("", [])
        assert found.box.to_xyxy_px(width=200, height=100) == pytest.approx((20, 10, 120, 90))
    assert dict(made.samples[0].origin) == {
        "ref_id": 3,
        "ann_id": 30,
        "image_id": 1,
        "licence": "http://creativecommons.org/licenses/by/2.0/",
        "published_split": "train",
        "document": "coco/000000000001",
        "language": "en",
        "prompt": made.samples[0].origin["prompt"],
        "boxes": 1,
    }
    assert made.samples[0].images[0].data == (tmp_path / "train2014" / NAMES[1]).read_bytes()


def test_the_papers_prompt(tmp_path: Path) -> None:
    """Of enough phrases some get the paper's own wording."""
    refs = [ref(1, *(f"woman {number}" for number in range(60)))]
    made = written(published(tmp_path, refs, [annotation(1, [0, 0, 50, 50])]))
    first = [s.turns[0].text for s in made.samples if s.origin["prompt"] == "referring_phrase.en.0"]
    assert first and all(text.startswith("<image>Detect an object: woman ") for text in first)


def test_the_reverse(tmp_path: Path) -> None:
    record = {"image": "a.jpg", "phrase": "the left woman", "bbox": [20, 10, 120, 90]}
    forth, back = written(lines(tmp_path, record, reverse="also")).samples
    assert (forth.answer, back.answer) == ("[100, 100, 600, 900]", "the left woman")
    assert forth.answer in back.turns[0].text
    assert str(back.origin["prompt"]).startswith("referring_box.en.")
    assert (forth.task, back.task) == ("referring", "referring")
    assert written(lines(tmp_path, record, reverse="only")).samples == (back,)
    assert written(lines(tmp_path, record)).samples == (forth,)


def test_only_the_splits_asked_for(tmp_path: Path) -> None:
    refs = [ref(1, "a"), ref(2, "b", split="testA"), ref(3, "c", split="val", image=2)]
    boxes = [annotation(1, [0, 0, 9, 9]), annotation(2, [0, 0, 9, 9]), annotation(3, [0, 0, 9, 9], image=2)]
    source = published(tmp_path, refs, boxes)
    assert outcomes(source)[1:] == [
        Rejected(gate="split", value=0, threshold=1, detail="split 'testA'"),
        Rejected(gate="split", value=0, threshold=1, detail="split 'val'"),
    ]
    both = ReferringSource(refs=source.refs, images=source.images, splits=["train", "val"])
    assert causes(both) == ["written", "split", "written"]


def test_refs_that_cannot_be_used_cost_themselves_alone(tmp_path: Path) -> None:
    refs: list[Any] = [
        ref(1, "the good one"),
        ref(2, "its annotation is not there"),
        ref(1, "its image is not there", image_id=99),
        ref(3, "an annotation of another image", image_id=2),
        ref(4, "a bad box"),
        ref(1, ann_id="10"),
        ref(1, sentences=[{"raw": "no sent"}]),
        ref(1, split=None),
        "prose",
        ref(1),
        ref(5, "outside"),
        ref(1, "x" * (MAX_PHRASE_CHARS + 1)),
    ]
    boxes = [(1, [10, 10, 20, 20]), (3, [10, 10, 20, 20]), (4, [10, float("nan"), 20, 20]), (5, [300, 10, 20, 20])]
    source = published(tmp_path, refs, [annotation(number, box) for number, box in boxes])
    made = dict(zip([unit.id for unit in units(source)], causes(source), strict=True))
    assert {int(name.removeprefix("refcoco/refs(unc).p#")): cause for name, cause in made.items()} == {
        0: "written",
        1: "unlisted_annotation",
        2: "unlisted_image",
        3: "wrong_form",
        4: "wrong_form",
        5: "wrong_form",
        6: "wrong_form",
        7: "wrong_form",
        8: "wrong_form",
        9: "phrases",
        10: "box",
        11: "phrases",
    }
    details = [o.detail for o in outcomes(source) if isinstance(o, Failed)]
    assert "key 'ann_id' is a str, expected int" in details
    assert "key 'sent' is missing, expected str" in details


@pytest.mark.parametrize(
    ("refs", "instances", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", None, "refs(unc).p: not a pickle of plain data: instruction GLOBAL"),
        (b"(lp0\nS'cut", None, "refs(unc).p: not a pickle, or a broken one"),
        (b"}.", None, "the refs are a dict, expected a list"),
        (b"].", b"{", "instances.json: not JSON"),
        (b"].", b"[" * 100_000, "instances.json: not JSON"),
        (b"].", b'{"images": []}', "instances.json: key 'annotations'"),
        (b"].", b"[]", "instances.json: key 'images'"),
    ],
)
def test_a_set_of_the_wrong_form(tmp_path: Path, refs: bytes, instances: bytes | None, said: str) -> None:
    source = published(tmp_path, [], [])
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(refs)
    if instances is not None:
        (tmp_path / "refcoco" / "instances.json").write_bytes(instances)
    path = next(source.inputs())
    failed = source.units(path, path)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.detail[: len(said)]) == ("wrong_form", said)


@pytest.mark.parametrize(
    ("convention", "numbers"),
    [
        ("xyxy_px", [20, 10, 120, 90]),
        ("xywh_px", [20, 10, 100, 80]),
        ("xyxy_voc", [21, 11, 120, 90]),
        ("xyxy", [0.1, 0.1, 0.6, 0.9]),
        ("cxcywh", [0.35, 0.5, 0.5, 0.8]),
        ("xyxy_1000", [100, 100, 600, 900]),
    ],
)
def test_conventions_of_boxes(tmp_path: Path, convention: Any, numbers: list[float]) -> None:
    made = written(lines(tmp_path, {"image": "a.jpg", "phrase": "it", "bbox": numbers}, convention=convention))
    assert made.samples[0].answer == "[100, 100, 600, 900]"
    assert not made.notes


def test_boxes_that_leave_the_image(tmp_path: Path) -> None:
    record = {"image": "a.jpg", "phrase": "it"}
    boxes = [[-50, 10, 120, 190], [0, 0, 200, 100], [120, 10, 20, 90], [20, 10, 20.01, 90], [201, 0, 300, 100]]
    made = outcomes(lines(tmp_path, *(record | {"bbox": box} for box in boxes)))
    assert isinstance(made[0], Written) and isinstance(made[1], Written)
    assert (made[0].samples[0].answer, made[0].notes) == ("[000, 100, 600, 1000]", {"clipped_boxes": 1})
    assert (made[1].samples[0].answer, made[1].notes) == ("[000, 000, 1000, 1000]", {})
    assert isinstance(made[2], Written)
    assert (made[2].samples[0].answer, made[2].notes) == ("[100, 100, 600, 900]", {"swapped_boxes": 1})
    refused = [outcome for outcome in made[3:] if isinstance(outcome, Rejected) and outcome.gate == "box"]
    assert len(refused) == 2
    assert refused[0].detail == "xyxy_px 20, 10, 20.01, 90 in 200x100 px is less than a bin wide or high"


@pytest.mark.parametrize(
    ("boxes_of", "size", "bbox"), [("seen", (100, 200), [40, 20, 90, 120]), ("stored", (200, 100), [20, 10, 120, 60])]
)
def test_a_turned_image(tmp_path: Path, boxes_of: Any, size: tuple[int, int], bbox: list[int]) -> None:
    """Stored 200 x 100, seen 100 x 200: turned clockwise."""
    silent = {"image": "a.jpg", "phrase": "it", "bbox": bbox}
    sized = silent | {"width": size[0], "height": size[1]}
    source = lines(tmp_path, silent, sized, silent | {"width": size[1], "height": size[0]}, boxes_of=boxes_of)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", SIZE, "white").save(tmp_path / "a.jpg", exif=exif)
    *good, bad = outcomes(source)
    for made in good:
        assert isinstance(made, Written)
        assert made.samples[0].answer == "[400, 100, 900, 600]"
        assert made.notes == {"rotated_images": 1}
    assert isinstance(bad, Failed) and bad.reason == "image_size"
    other = "stored" if boxes_of == "seen" else "seen"
    says = f"the annotations say {size[1]}x{size[0]}, which it is as {other}: boxes_of={other}"
    assert bad.detail == f"the image is {size[0]}x{size[1]} px, {says}"


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    good: dict[str, Any] = {"image": "a.jpg", "phrase": "left", "bbox": [1, 2, 30, 40]}
    records: list[Any] = [
        good,
        b"",
        b"   ",
        b"{",
        b'"prose"',
        b'{"image": "a.jpg", "phrase": "caf\xe9", "bbox": [1, 2, 30, 40]}',
        b"[" * 100_000,
        b'{"image": "' + b"a" * MAX_LINE_BYTES * 2 + b'"}',
        good | {"bbox": [1, 2, 30]},
        good | {"bbox": [1, 2, 30, "40"]},
        good | {"bbox": [1, 2, 30, True]},
        good | {"bbox": [1, 2, 30, 1e400]},
        good | {"bbox": [1, 2, 30, 10**400]},
        good | {"bbox": "1 2 30 40"},
        good | {"phrase": 5},
        good | {"width": 200},
        good | {"width": 200, "height": 0},
        {"phrase": "left", "bbox": [1, 2, 30, 40]},
        good | {"image": "gone.jpg"},
        good | {"image": "../a.jpg"},
        good | {"phrase": "half \ud83d"},
        good | {"phrase": "the last one"},
    ]
    source = lines(tmp_path, *records)
    found = {unit.id: cause for unit, cause in zip(units(source), outcomes_of_a_job(source, tmp_path), strict=True)}
    expected = ["wrong_form"] * 15 + ["missing_image", "outside", "unreadable", "written"]
    assert list(found.values()) == ["written", *expected]
    assert list(found) == [f"own.jsonl#{number:06d}" for number in (1, *range(4, 23))]


def outcomes_of_a_job(source: ReferringSource, folder: Path) -> list[str]:
    run_job(source, folder / "out", JobSettings(), LocalRunner())
    rows = sorted(ShardSet(folder / "out").ledger().to_pylist(), key=lambda row: row["unit"])
    return [row["gate"] or row["reason"] or "written" for row in rows]


def test_two_sets_in_one_job(tmp_path: Path) -> None:
    """The same object and phrases in both is a duplicate, but not of what its split keeps out."""
    boxes = [annotation(1, [10, 10, 50, 50]), annotation(2, [20, 20, 50, 50], image=2)]
    one = published(tmp_path, [ref(1, "left", "lady"), ref(2, "dog", image=2, split="val")], boxes)
    two = published(tmp_path, [ref(1, "lady.", "left"), ref(2, "dog", image=2)], boxes, name="refcoco+", protocol=2)
    source = ReferringSource(refs=[*one.refs, *two.refs], images=one.images, reverse="also")
    run_job(source, tmp_path / "out", JobSettings(units_per_shard=2), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    rows = {row["unit"]: row["gate"] or row["outcome"] for row in shards.ledger().to_pylist()}
    assert sorted((rows.pop("refcoco/refs(unc).p#000000"), rows.pop("refcoco+/refs(unc).p#000000"))) == [
        "duplicate",
        "written",
    ]
    assert rows == {"refcoco/refs(unc).p#000001": "split", "refcoco+/refs(unc).p#000001": "written"}
    index = shards.table().to_pylist()
    assert [(row["boxes"], row["licence"], row["task"]) for row in index] == [
        (1, "http://creativecommons.org/licenses/by/2.0/", "referring")
    ] * 6
    assert {row["document"] for row in index} == {"coco/000000000001", "coco/000000000002"}


def test_a_set_behind_a_url(tmp_path: Path) -> None:
    local = published(tmp_path, [ref(1, "left")], [annotation(1, [10, 10, 50, 50])])
    for name in ("refs(unc).p", "instances.json"):
        write(folder_at("memory://data/refcoco"), name, (tmp_path / "refcoco" / name).read_bytes())
    source = ReferringSource(refs=["memory://data/refcoco/"], images=local.images)
    (path, _), (copy, _) = source.inputs(), local.inputs()
    assert source.document(path) == local.document(copy) == "refcoco/refs(unc).p"
    assert list(source.units(path, copy)) == units(local)  # type: ignore[arg-type]


def test_a_changed_annotation_file_is_seen(tmp_path: Path) -> None:
    source = published(tmp_path, [ref(1, "left")], [annotation(1, [10, 10, 50, 50])])
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    published(tmp_path, [ref(1, "left")], [annotation(1, [10, 10, 150.5, 50])])
    with pytest.raises(UserError, match="inputs have other contents"):
        run_job(source, tmp_path / "out", JobSettings(), LocalRunner())


def test_languages_and_control_tokens(tmp_path: Path) -> None:
    record = {"image": "a.jpg", "bbox": [1, 2, 30, 40]}
    phrases = ["左边的女人。", "say <image> </s> <|im_end|> {phrase}", "42"]
    source = lines(tmp_path, *(record | {"phrase": phrase} for phrase in phrases), reverse="also", language="zh")
    made = [outcome.samples for outcome in outcomes(source) if isinstance(outcome, Written)]
    assert [samples[0].origin["language"] for samples in made] == ["zh", "en", "zh"]
    assert "左边的女人" in made[0][0].turns[0].text and "。。" not in made[0][0].turns[0].text
    forth, back = made[1]
    assert forth.turns[0].text.count("<image>") == 1
    assert "<|im_end|>" not in forth.turns[0].text + back.answer
    assert unescape(back.answer) == phrases[1]


def test_licences_and_splits_of_lines(tmp_path: Path) -> None:
    record = {"image": "a.jpg", "phrase": "it", "bbox": [1, 2, 30, 40], "id": "x7"}
    records = [record | {"licence": "CC0"}, record | {"license": "MIT"}, record | {"split": "test"}]
    first, second, third = outcomes(lines(tmp_path, *records))
    assert isinstance(first, Written) and isinstance(second, Written)
    assert (first.samples[0].origin["licence"], first.samples[0].origin["id"]) == ("CC0", "x7")
    assert second.samples[0].origin["licence"] == "MIT"
    assert third == Rejected(gate="split", value=0, threshold=1, detail="split 'test'")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("the left woman.", "the left woman"),
        ("  a\tb\n c . ", "a b c"),
        ("左边的女人。", "左边的女人"),
        ("the U.S. flag", "the U.S. flag"),
        ("...", ""),
    ],
)
def test_clean_phrase(text: str, clean: str) -> None:
    assert clean_phrase(text) == clean
    assert clean_phrase(clean) == clean


def test_user_mistakes(tmp_path: Path) -> None:
    source = published(tmp_path, [], [])
    images, folder = source.images, tmp_path / "refcoco"

    def refused(**settings: Any) -> str:
        with pytest.raises(UserError) as caught:
            list(load(ReferringSource, None, inputs={"images": images} | settings).inputs())
        return str(caught.value)

    assert "give --refs or --jsonl" in refused()
    assert "no such folder (--images)" in refused(images=str(tmp_path / "gone"), refs=source.refs)
    assert "no folder with refs(….p) and instances.json" in refused(refs=[str(tmp_path)])
    assert "no folder with refs" in refused(refs=[str(tmp_path / "gone")])
    assert "needs convention=…" in refused(jsonl=[str(tmp_path / "own.jsonl")])
    assert "no such file" in refused(jsonl=[str(tmp_path / "own.jsonl")], convention="xyxy_px")
    assert "convention" in refused(refs=source.refs, convention="corners")
    (folder / "refs(google).p").write_bytes(b"].")
    said = refused(refs=source.refs)
    assert "refs(google).p, refs(unc).p: choose one with split_by, such as split_by=[google]" in said
    assert "refs(google).p, refs(unc).p" in refused(refs=source.refs, split_by=["umd"])
    chosen = ReferringSource(refs=source.refs, images=images, split_by=["unc", "umd"])
    assert [Path(path).name for path in chosen.inputs()] == ["refs(unc).p", "instances.json"]
