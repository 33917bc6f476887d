"""Shard sets that others wrote: img2dataset's, plain WebDataset, and what may be wrong with them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datagen.made_tars import SIDE, img2dataset, picture, write_tar
from trainer.data.cache import Cache
from trainer.data.external import ExternalSet
from trainer.data.external_sample import decode_external, external_key
from varyforge.errors import UserError
from varyforge.escape import unescape
from varyforge.prompts import choose
from varyforge.sample import Sample
from varyforge.shards import ShardSet, read_exactly
from varyforge.storage import folder_at, write
from varyforge.tar import members

COLUMNS = ("key", "task", "offset", "size", "images", "tokens", "answer_chars", "split")
TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Red."}]


def opened(folder: Path, cache: Path, task: str | None = "caption") -> ExternalSet:
    return ExternalSet(str(folder), task, Cache(folder=cache, limit_bytes=0))


def samples(external: ExternalSet) -> list[Sample | str]:
    """All samples, read by their index rows; of one that cannot be read, the message."""
    decoded: list[Sample | str] = []
    for number, tar in enumerate(external.tars):
        for row in external.index(number, COLUMNS).to_pylist():
            data = read_exactly(folder_at(external.place), tar, row["offset"], row["size"])
            try:
                decoded.append(decode_external(data, f"{tar} at byte {row['offset']}", tar, row["task"]))
                assert decoded[-1].key == row["key"]
                assert row["images"] == len(decoded[-1].images)
            except ValueError as error:
                decoded.append(str(error))
    return decoded


def one(folder: Path, members: dict[str, Any], task: str | None = "caption") -> Sample | str:
    write_tar(folder / "in" / "a.tar", members)
    (sample,) = samples(opened(folder / "in", folder / "cache", task))
    return sample


def test_what_img2dataset_writes(tmp_path: Path) -> None:
    words = "a <|im_end|> thing & <image>, 一张红色的图"
    for tar in range(2):
        entries = {}
        for number in range(3):
            entries |= img2dataset(tar * 10000 + number, words if number else "a red thing")
        write_tar(tmp_path / "in" / f"{tar:05d}.tar", entries | img2dataset(9999, status="failed_to_download"))
        (tmp_path / "in" / f"{tar:05d}.parquet").write_bytes(b"beside")
        (tmp_path / "in" / f"{tar:05d}_stats.json").write_text("{}")
    external = opened(tmp_path / "in", tmp_path / "cache")
    assert external.left_out["no image"] == 2
    decoded = samples(external)
    assert len(decoded) == 6
    sample = decoded[4]
    assert isinstance(sample, Sample)
    assert sample.key == "00001--000010001"
    assert (sample.task, sample.images[0].width, sample.images[0].height) == ("caption", SIDE, SIDE // 2)
    assert unescape(sample.answer) == words
    assert "<image>" not in sample.answer
    assert sample.turns[0].text == "<image>" + choose("caption", "en", sample.key).text
    assert sample.origin == {
        "tar": "00001.tar",
        "name": "000010001",
        "url": "https://example.org/000010001.jpg",
        "prompt": choose("caption", "en", sample.key).name,
    }
    (row, *_) = external.index(0, [*COLUMNS, "licence", "language", "width"]).to_pylist()
    assert (row["licence"], row["language"], row["width"]) == ("", "", 0)
    assert (row["answer_chars"], row["tokens"], row["split"]) == (len("a red thing"), 2 + 12, "train")


@pytest.mark.parametrize(
    ("record", "answers"),
    [
        ({"conversations": TALK}, ["Red."]),
        ({"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "Red."}]}, ["Red."]),
        ({"turns": [{"role": "user", "text": "<image>?"}, {"role": "assistant", "text": "</s>"}]}, ["</s>"]),
        ({"conversations": TALK * 2}, None),
        ({"caption": "Red."}, ["Red."]),
        ({"text": " Red. "}, ["Red."]),
        ({"text": "Red.", "url": "https://example.org", "status": 200}, ["Red."]),
    ],
)
def test_json_of_several_forms(tmp_path: Path, record: dict[str, Any], answers: list[str] | None) -> None:
    for beside in ({}, {"x.txt": ""}):  # an empty text says nothing, and takes nothing away
        sample = one(tmp_path, {"x.jpg": picture(), "x.json": record, **beside})
        if answers is None:
            assert sample == "a.tar at byte 0: x: 2 <image> in questions for 1 images"
        else:
            assert isinstance(sample, Sample)
            assert [unescape(turn.text) for turn in sample.turns if turn.role == "assistant"] == answers


def test_a_caption_is_cleaned_as_in_a_data_job_and_a_page_is_not(tmp_path: Path) -> None:
    text = "A\0 red\r\nbox &amp; a\u200b blue one "
    members = {"x.jpg": picture(), "x.txt": text}
    caption, page = one(tmp_path, members), one(tmp_path / "ocr", members, "ocr")
    assert isinstance(caption, Sample) and isinstance(page, Sample)
    assert caption.answer == "A red box & a blue one"  # as tests/varyforge/external/test_captions.py has it
    assert page.answer == text.strip()
    assert one(tmp_path / "none", {"x.jpg": picture(), "x.txt": "nan"}) == "a.tar at byte 0: x: no text"


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"from": "human", "value": "<image>\n<video>\nWhat?"}, "'<video>' in a question: only images are read"),
        ({"role": "user", "content": "<image>\nWhat?"}, None),
    ],
)
def test_conversations_of_others_are_read_as_by_a_data_job(
    tmp_path: Path, turn: dict[str, Any], expected: str | None
) -> None:
    answers = [{"from": "gpt", "value": "bad", "weight": 0}, {"from": "gpt", "value": "good"}]
    turns = [turn, answers[0], {"from": "human", "value": "And?"}, answers[1]]
    sample = one(tmp_path, {"x.jpg": picture(), "x.json": {"conversations": turns}}, "vqa")
    if expected:
        assert isinstance(sample, str) and expected in sample
    else:
        assert isinstance(sample, Sample) and [turn.supervised for turn in sample.turns] == [True, False, True, True]


def test_several_images_and_text_alone(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image> or <image>?"}, {"from": "gpt", "value": "The second."}]
    members = {f"x.{n}.jpg": picture(colour=colour) for n, colour in ((10, "blue"), (9, "red"))}
    sample = one(
        tmp_path, {"x.json": {"conversations": talk}, **members, "x.cls": "3", "x.depth.png": b"?"}, "instruct"
    )
    assert isinstance(sample, Sample)
    assert [image.data for image in sample.images] == [picture(colour="red"), picture(colour="blue")]
    talk = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
    sample = one(tmp_path / "text", {"x.json": {"conversations": talk}}, "text")
    assert isinstance(sample, Sample)
    assert (sample.images, sample.task) == ((), "text")


def test_images_are_brought_into_the_form_of_our_shards(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # turned by a quarter
    contents = {"jpg": picture(), "png": picture("png"), "webp": picture("webp"), "jpeg": picture(exif=exif)}
    entries = {f"{form}.{form}": data for form, data in contents.items()}
    entries |= {f"grey.{form}": picture(form, "#808080", mode="L") for form in ("png",)}
    names = sorted({name.split(".")[0] for name in entries})
    write_tar(tmp_path / "in" / "a.tar", dict(sorted({**entries, **{f"{name}.txt": "x" for name in names}}.items())))
    decoded = {str(s.origin["name"]): s.images[0] for s in samples(opened(tmp_path / "in", tmp_path / "c"))}  # type: ignore[union-attr]
    assert {name: image.format for name, image in decoded.items()} == {
        "jpg": "jpg", "png": "png", "webp": "jpg", "jpeg": "jpg", "grey": "jpg"
    }  # fmt: skip
    assert decoded["jpg"].data == contents["jpg"] and decoded["png"].data == contents["png"]
    assert (decoded["jpeg"].width, decoded["jpeg"].height) == (SIDE // 2, SIDE)


def test_our_own_tars_without_their_index(pdf_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for tar in pdf_shards.glob("*.tar"):
        (tmp_path / "in" / tar.name).symlink_to(tar)
    decoded = samples(opened(tmp_path / "in", tmp_path / "cache", None))
    own = ShardSet(pdf_shards)
    expected = [own.read(row["shard"], row["offset"], row["size"]) for row in own.table().to_pylist()]
    assert [(s.turns, s.images, s.task, s.origin) for s in decoded] == [  # type: ignore[union-attr]
        (s.turns, s.images, s.task, s.origin) for s in expected
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_kind(tmp_path: Path, form: int) -> None:
    names = ["./UPPER", "sub/folder/0001", "space d", "图像", "a--b", "x" * 60, "plain_1-2"]
    names += [] if form == tarfile.USTAR_FORMAT else ["long" * 60]
    entries = {f"{name}.{ending}": data for name in names for ending, data in (("jpg", picture()), ("txt", name))}
    write_tar(tmp_path / "in" / "Tar-01.tar", {"README": "no dot", ".hidden": "x", **entries}, form)
    decoded = samples(opened(tmp_path / "in", tmp_path / "cache"))
    assert [sample.answer for sample in decoded] == names  # type: ignore[union-attr]
    assert [sample.origin["name"] for sample in decoded] == [name.removeprefix("./") for name in names]  # type: ignore[union-attr]
    assert len({sample.key for sample in decoded}) == len(names)  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.text("ab-_A.", max_size=8), st.text("ab-_A", max_size=8)), unique=True, max_size=20))
def test_keys_do_not_collide(places: list[tuple[str, str]]) -> None:
    assert len({external_key(f"{tar}.tar", name) for tar, name in places}) == len(places)
    assert external_key("00012.tar", "000120045") == "00012--000120045"


@pytest.mark.parametrize(
    ("members", "task", "reason"),
    [
        ({"x.txt": "words"}, "caption", "no image"),
        ({"x.jpg": b"?"}, "caption", "no text"),
        ({"x.jpg": b"?", "x.cls": "1"}, "caption", "no text"),
        ({"x.jpg": b"?", "x.txt": ""}, "caption", "no text"),
        (img2dataset(0, ""), "caption", "no text"),
        ({"x.jpg": b"?", "x.json": "not JSON", "x.txt": ""}, "caption", "no text"),
        ({"x.jpg": b"?", "x.txt": "words"}, "vqa", "a text without a question, which vqa needs"),
        ({"x.txt": "words"}, "text", "a text without a question, which text needs"),
        ({"x.jpg": b"?", "x.png": b"?", "x.txt": "words"}, "caption", "several .png"),
        ({"x.jpg": b"?", "x.0.png": b"?", "x.txt": "words"}, "caption", "images with and without a number"),
        ({"x.jpg": b"?", "x.txt": "w" * (1 << 20) + "w"}, "caption", "a .txt of more than 1 MiB"),
        ({"x.jpg": b"?", "x.json": {"caption": "?"}}, None, "no task in its JSON"),
        ({"x.jpg": b"?", "x.json": {"caption": "?", "task": "orc"}}, None, "no task in its JSON"),
        ({"x.jpg": b"?", "x.json": "not JSON"}, None, "no task in its JSON"),
    ],
)
def test_what_is_no_sample_is_counted(tmp_path: Path, members: dict[str, Any], task: str | None, reason: str) -> None:
    good = {"json": {"conversations": TALK, "task": "instruct"}, "jpg": picture()}
    write_tar(tmp_path / "in" / "a.tar", members)
    write_tar(tmp_path / "in" / "b.tar", {f"good.{ending}": content for ending, content in good.items()})
    if task == "text":
        talk = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
        write_tar(tmp_path / "in" / "b.tar", {"good.json": {"conversations": talk}})
    external = opened(tmp_path / "in", tmp_path / "cache", task)
    assert external.left_out == {reason: 1, "tars without a sample": 1}
    assert len(samples(external)) == 1
    (tmp_path / "in" / "b.tar").unlink()
    with pytest.raises(
        UserError, match=rf"1 tars without our job\.json, no sample .*\(1 {reason}.*name (the|another) task"
    ):
        opened(tmp_path / "in", tmp_path / "cache", task)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.jpg": b"no image", "x.txt": "words"}, "a.tar at byte 0: x: image cannot be decoded"),
        ({"x.jpg": picture(), "x.txt": " \n"}, "a.tar at byte 0: x: no text"),
        ({"x.jpg": picture(), "x.txt": b"\xff"}, "a.tar at byte 0: x: not UTF-8: invalid start byte at byte 0"),
        ({"x.jpg": picture(), "x.json": "{"}, "a.tar at byte 0: x: not JSON: Expecting"),
        ({"x.jpg": picture(), "x.json": "[]"}, "a.tar at byte 0: x: its JSON is a list"),
        ({"x.jpg": picture(), "x.json": "[" * 100_000}, "a.tar at byte 0: x: JSON nested too deeply"),
        ({"x.jpg": picture(), "x.json": {"caption": 3}}, "a.tar at byte 0: x: its caption is no text"),
        ({"x.jpg": picture(), "x.json": {}}, "a.tar at byte 0: x: no text"),
        ({"x.jpg": picture(), "x.json": {"turns": "?"}}, "a.tar at byte 0: x: no text"),
        (
            {"x.jpg": picture(), "x.json": {"turns": ["?"]}},
            "a.tar at byte 0: x: messages[0] has no text under 'from' or 'role'",
        ),
        ({"x.jpg": picture(), "x.json": {"conversations": TALK[:1]}}, "a.tar at byte 0: x: no conversation to learn"),
        (
            {"x.jpg": picture(), "x.json": {"url": "u", "status": "failed_to_resize", "caption": "c"}},
            "a.tar at byte 0: x: img2dataset's status is 'failed_to_resize'",
        ),
    ],
)
def test_broken_content_names_tar_name_and_rule(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    sample = one(tmp_path, members)
    assert isinstance(sample, str)
    assert sample.startswith(message)


def test_members_that_do_not_stand_together(tmp_path: Path) -> None:
    entries = {"a.jpg": picture(), "a.txt": "1", "b.jpg": picture(), "b.txt": "2", "a.json": {}}
    write_tar(tmp_path / "in" / "a.tar", entries)
    external = opened(tmp_path / "in", tmp_path / "cache")
    assert external.left_out == {"members that do not stand together": 1}
    assert [sample.answer for sample in samples(external)] == ["1", "2"]  # type: ignore[union-attr]


def test_the_same_name_in_two_tars(tmp_path: Path) -> None:
    for tar in "abc":
        write_tar(tmp_path / "in" / f"{tar}.tar", {"0001.jpg": picture(), "0001.txt": tar})
    external = opened(tmp_path / "in", tmp_path / "cache")
    assert external.left_out == {}
    assert [sample.key for sample in samples(external)] == ["a--0001", "b--0001", "c--0001"]  # type: ignore[union-attr]


def places(path: Path) -> list[tuple[int, int]]:
    """Start and end of each sample of a whole tar."""
    external = opened(path.parent, path.parent / "cache")
    return [(row["offset"], row["offset"] + row["size"]) for row in external.index(0, COLUMNS).to_pylist()]


def test_a_cut_tar_keeps_what_is_before_the_cut(tmp_path: Path) -> None:
    entries: dict[str, Any] = {}
    for number in range(4):
        entries |= {f"{number}.jpg": picture(), f"{number}.txt": f"words {number}"}
    whole = write_tar(tmp_path / "whole" / "a.tar", entries)
    data, borders = whole.read_bytes(), places(whole)
    assert [start for start, _ in borders[1:]] == [-(-end // 512) * 512 for _, end in borders[:-1]]
    for cut in range(0, borders[-1][1] + 100, 100):
        folder = tmp_path / str(cut)
        write(folder_at(folder / "in"), "a.tar", data[:cut])
        write_tar(folder / "in" / "b.tar", {"x.jpg": picture(), "x.txt": "another"})
        external = opened(folder / "in", folder / "cache")
        expected = sum(end <= cut for _, end in borders)
        decoded = samples(external)
        assert [s.answer for s in decoded] == [f"words {n}" for n in range(expected)] + ["another"]  # type: ignore[union-attr]
        assert external.left_out["tars that are cut"] == 1
        (line,) = external.cuts
        assert line.startswith(f"{folder}/in/a.tar: ") and f"{expected} samples before it are used" in line


def test_a_sample_that_a_cut_goes_through_is_cut_whatever_is_left_of_it(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "whole.tar", img2dataset(0) | img2dataset(1))
    with open(path, "rb") as file:
        *_, image, record, text = members(file)
    for number, end in enumerate((text.offset + 3, text.offset - 512, record.offset - 512, image.offset + 3)):
        folder = tmp_path / str(number)
        write(folder_at(folder / "in"), "a.tar", path.read_bytes()[:end])
        external = opened(folder / "in", folder / "cache")
        if end == text.offset - 512:  # nothing tells that there was a text beside the JSON
            assert (len(samples(external)), external.left_out) == (2, {"tars that are cut": 1})
        else:
            assert (len(samples(external)), external.left_out) == (1, {"cut": 1, "tars that are cut": 1})


def test_the_index_is_kept_and_follows_the_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_tar(tmp_path / "in" / f"{number}.tar", img2dataset(number))
    first = opened(tmp_path / "in", tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.data.external.index_tar", lambda *_: pytest.fail("read the headers again"))
        again = opened(tmp_path / "in", tmp_path / "cache")
    assert (again.tars, again.identity) == (first.tars, first.identity)
    write_tar(tmp_path / "in" / "2.tar", {**img2dataset(2), **img2dataset(7)})
    indexed = []
    with monkeypatch.context() as patch:
        from trainer.data.external import index_tar

        patch.setattr("trainer.data.external.index_tar", lambda *args: indexed.append(args[1]) or index_tar(*args))
        third = opened(tmp_path / "in", tmp_path / "cache")
    assert indexed == ["2.tar"]
    assert [len(third.index(number, ["name"])) for number in range(3)] == [1, 1, 2]
    assert third.identity != first.identity
    for path in (tmp_path / "cache").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:50])
    repaired = opened(tmp_path / "in", tmp_path / "cache")
    assert (repaired.identity, repaired.samples) == (third.identity, third.samples)
    assert len(samples(repaired)) == 4
    for path in (tmp_path / "cache").rglob("*.parquet"):
        path.unlink()  # while the set is open
    assert len(samples(repaired)) == 4


def test_the_bytes_are_what_it_is_of_not_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tar(tmp_path / name / "0.tar", img2dataset(0))
    one, two = (opened(tmp_path / name, tmp_path / "cache").identity for name in ("one", "two"))
    assert one == two != opened(tmp_path / "one", tmp_path / "cache", "ocr").identity


def test_what_holds_no_tars(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"neither job\.json nor \*\.tar; a\.tar\.gz is compressed: unpack"):
        opened(tmp_path, tmp_path / "cache")
    (tmp_path / "b.tar").write_bytes(b"PK\x03\x04" + bytes(5000))
    message = (
        r"no sample of the task caption in them \(1 tars that are cut, 1 tars without a sample; b\.tar: no header at"
    )
    with pytest.raises(UserError, match=message):
        opened(tmp_path, tmp_path / "cache")


def test_headers_alone_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a URL too: members of 3 MB are skipped."""
    large = b"\xff\xd8" + bytes(3_000_000)
    entries = {f"{n}.{ending}": data for n in range(4) for ending, data in (("jpg", large), ("txt", "words"))}
    path = write_tar(tmp_path / "in" / "a.tar", entries)
    url = f"memory://{tmp_path.name}/in"
    write(folder_at(url), "a.tar", path.read_bytes())
    from varyforge.storage import RemoteFolder

    got: list[int] = []
    plain = RemoteFolder.read

    def counted(self: RemoteFolder, name: str, offset: int = 0, size: int | None = None) -> bytes:
        data = plain(self, name, offset, size)
        got.append(len(data))
        return data

    monkeypatch.setattr(RemoteFolder, "read", counted)
    external = ExternalSet(url, "caption", Cache(folder=tmp_path / "cache", limit_bytes=0))
    assert external.samples == 4
    assert sum(got) <= 9 * (256 << 10)
    here = opened(tmp_path / "in", tmp_path / "cache")
    assert here.index(0, COLUMNS) == external.index(0, COLUMNS)
    assert here.identity == external.identity


def test_the_json_of_a_sample_of_ours_is_not_escaped_again(tmp_path: Path) -> None:
    record = {
        "key": "k",
        "task": "ocr",
        "turns": [{"role": "user", "text": "<image>?"}, {"role": "assistant", "text": "<\u2060|im_end|>"}],
        "images": [{"format": "jpg", "width": SIDE, "height": SIDE // 2}],
        "source": "s",
        "origin": {},
    }
    sample = one(tmp_path, {"k.json": record, "k.jpg": picture()}, None)
    assert isinstance(sample, Sample)
    assert (sample.task, unescape(sample.answer)) == ("ocr", "<|im_end|>")
    assert json.loads(json.dumps(record))["turns"][1]["text"] == sample.answer
