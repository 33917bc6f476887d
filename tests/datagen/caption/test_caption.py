"""Captions in miniature copies of the forms in which they are published."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.caption.source import CaptionGates, CaptionSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import Unit
from varyforge import prompts
from varyforge.errors import UserError
from varyforge.external.captions import clean
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import wordings
from varyforge.sample import Sample
from varyforge.shards import ShardSet
from varyforge.storage import Fetcher

Entry = tuple[str, bytes | str]


def picture(width: int = 100, height: int = 80, seed: int = 0, form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (seed, 99, 200)).save(out, form)
    return out.getvalue()


def folder_of_images(folder: Path, *names: str) -> str:
    for number, name in enumerate(names):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(picture(seed=number))
    return str(folder / "images")


def write_tar(path: Path, *entries: Entry) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            content = data.encode() if isinstance(data, str) else data
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, caption: str = "A dog on a beach.", seed: int = 0, **about: Any) -> list[Entry]:
    """As img2dataset writes it."""
    meta = {"caption": caption, "url": f"https://example.org/{key}.jpg", "key": key, "status": "success"}
    meta |= {"error_message": None, "width": 100, "height": 80, "exif": "{}", **about}
    return [(f"{key}.jpg", picture(seed=seed)), (f"{key}.txt", caption), (f"{key}.json", json.dumps(meta, indent=4))]


def units(source: CaptionSource, path: Path | None = None) -> list[Unit]:
    place = str(path or source.paths[0])
    made = source.units(place, place)
    assert not isinstance(made, Failed), made
    return [unit for unit in made if unit]


def outcomes(source: CaptionSource, path: Path | None = None) -> list[Outcome]:
    return [unit.verdict or source.make(unit, unit.files) for unit in units(source, path)]


def said(source: CaptionSource, path: Path | None = None) -> list[str]:
    """An answer, or what was refused, per unit."""
    found = []
    for outcome in outcomes(source, path):
        if isinstance(outcome, Written):
            found.append(" / ".join(sample.answer for sample in outcome.samples))
        else:
            found.append(outcome.gate if isinstance(outcome, Rejected) else f"{outcome.reason}: {outcome.detail}")
    return found


def tars(path: Path, **settings: Any) -> CaptionSource:
    return CaptionSource(paths=[str(path)], **settings)


def test_a_folder_of_img2dataset(tmp_path: Path) -> None:
    write_tar(tmp_path / "laion" / "00000.tar", *sample("000000000"), *sample("000000003", "Zwei Hunde.", seed=1))
    write_tar(tmp_path / "laion" / "00001.tar", *sample("000010001", "x", seed=2))
    for name in ("00000.parquet", "00000_stats.json"):
        (tmp_path / "laion" / name).write_bytes(b"not read")
    run_job(tars(tmp_path / "laion"), tmp_path / "out", JobSettings(), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    ended = {row["unit"]: row["outcome"] + row["gate"] for row in shards.ledger().to_pylist()}
    assert ended == {
        "00000.tar/000000000": "written",
        "00000.tar/000000003": "written",
        "00001.tar/000010001": "rejectedmin_chars",
    }
    row = next(row for row in shards.table().to_pylist() if row["unit"] == "00000.tar/000000000")
    made: Sample = shards.read(row["shard"], row["offset"], row["size"])
    assert (made.task, made.answer, made.images[0].data) == ("caption", "A dog on a beach.", picture())
    assert made.turns[0].text.removeprefix("<image>") in wordings("caption")
    assert made.origin["url"] == "https://example.org/000000000.jpg"
    assert made.origin["document"] == "00000.tar/000000000"
    assert (row["short_side_px"], row["aspect"], row["longest_chars"]) == (80, 1.25, 17)


def test_captions_in_one_language_asked_for_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed wording concerns the samples that were asked with it, whatever language the caption is in."""
    write_tar(tmp_path / "in" / "00000.tar", *sample("000000000", "一只狗在沙滩上"))
    run_job(tars(tmp_path / "in"), tmp_path / "out", JobSettings(validation_share=0), LocalRunner())
    lists = {name: dict(languages) for name, languages in prompts._lists().items()}
    monkeypatch.setattr(prompts, "_lists", lambda: lists)
    lists["caption"]["zh"] = ("换了说法",)
    with pytest.raises(UserError, match="0 of 1 shards would be made again"):
        run_job(tars(tmp_path / "in"), tmp_path / "out", JobSettings(validation_share=0), LocalRunner())
    lists["caption"]["en"] = ("Say it.",)
    with pytest.raises(UserError, match="1 of 1 shards would be made again"):
        run_job(tars(tmp_path / "in"), tmp_path / "out", JobSettings(validation_share=0), LocalRunner())


def test_how_samples_of_a_tar_end(tmp_path: Path) -> None:
    whole = sample("a")
    entries: list[Entry] = [
        ("README", "no sample"),
        *whole,
        *sample("dir.x/b.0", "The key ends at the first dot of the name.")[1:],
        ("c.webp", picture(form="WEBP")),
        ("c.txt", "An upper-case ending is one too."),
        ("c.JSON", "{}"),
        ("d.jpg", picture()),
        ("d.json", '{"caption": "not asked for"}'),
        ("e.json", json.dumps({"error_message": "HTTP Error 404"})),
        ("e.txt", "A failed download."),
        ("f.jpg", picture()[:300]),
        ("f.txt", "A cut image."),
        ("g.jpg", picture()),
        ("g.png", picture()),
        ("g.txt", "Two images."),
        ("h.txt", "once"),
        ("h.txt", "twice"),
        ("h.jpg", picture()),
        ("i.txt", b"\xff\xfe"),
        ("i.jpg", picture()),
        ("j.json", "[" * 100_000),
        ("j.jpg", picture()),
        ("../../k.jpg", picture()),
        ("../../k.txt", "A name that leads out is a name."),
        ("l.jpg", picture()),
        ("l.txt", " \n&nbsp;\u200b"),
        ("a.txt", "Behind all others."),
        ("m.jpg", picture()),
        ("m.txt", b"x" * ((1 << 20) + 1)),
    ]
    found = said(tars(write_tar(tmp_path / "0.tar", *entries)))
    assert [one.replace(str(tmp_path), "") for one in found[:2]] == [
        "A dog on a beach.",
        "missing_image: no image among the members of this key; its endings: 0.json, 0.txt",
    ]
    assert found[2:5] == [
        "An upper-case ending is one too.",
        "missing_caption: nothing is said about this image",
        "missing_image: HTTP Error 404",
    ]
    assert found[5].startswith("broken_image: image cannot be decoded")
    assert found[6:9] == [
        "wrong_form: more than one image",
        "wrong_form: two members h.txt",
        "wrong_form: i.txt: not UTF-8: invalid start byte at byte 0; it looks like UTF-16: save it as UTF-8",
    ]
    assert found[9].startswith("wrong_form: j.json: maximum recursion depth")
    assert found[10:] == [
        "A name that leads out is a name.",
        "min_chars",
        "wrong_form: the members of a sample do not stand together",
        "wrong_form: m.txt has 1048577 bytes, 1048576 at most",
    ]
    ids = [unit.id for unit in units(tars(tmp_path / "0.tar"))]
    assert len(set(ids)) == len(ids)
    assert ids[1] == "0.tar/dir.x/b"


def test_links_in_a_tar_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        text = tarfile.TarInfo("a.txt")
        text.size = 4
        tar.addfile(text, io.BytesIO(b"four"))
    assert said(tars(path)) == ["wrong_form: a.jpg is a link, and no file"]


def test_a_cut_tar_gives_what_is_whole(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", *sample("a"), *sample("b", seed=1), *sample("c", seed=2)).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as opened:
        last = opened.getmember("c.txt").offset_data
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[: last + 3])
    assert said(tars(path)) == [
        "A dog on a beach.",
        "A dog on a beach.",
        f"truncated: c.txt at byte {last - 512} is cut: 3 of 17 bytes; what follows is not read",
    ]
    assert units(tars(path))[-1].id == "cut.tar/c"
    damaged = bytearray(whole)
    damaged[last - 500] ^= 255  # the checksum is wrong
    path.write_bytes(damaged)
    assert [one.split(":")[0] for one in said(tars(path))] == ["A dog on a beach."] * 2 + ["truncated"]
    for data, why in ((whole[:200], "no tar"), (b"\x1f\x8b\x08" + whole, "compressed"), (b"", "no tar")):
        path.write_bytes(data)
        failed = tars(path).units(str(path), str(path))
        assert isinstance(failed, Failed) and failed.reason == "wrong_form" and why in failed.detail


def test_which_caption_of_the_json(tmp_path: Path) -> None:
    about = {"top_caption": "a dog &amp; a cat", "all_captions": ["a dog", "a cat", "a  dog"], "similarity": 0.3}
    path = write_tar(tmp_path / "0.tar", *sample("a", "alt text", **about))
    assert said(tars(path)) == ["alt text"]
    assert said(tars(path, caption_key="top_caption")) == ["a dog & a cat"]
    assert said(tars(path, caption_key="all_captions")) == ["a dog / a cat"]
    assert said(tars(path, caption_key="all_captions", captions_per_image=1)) == ["a dog"]
    assert said(tars(path, caption_key="similarity")) == [
        "wrong_form: 'similarity' of a.json is a float, expected text"
    ]
    assert said(tars(path, caption_key="caption_of")) == ["missing_caption: nothing is said about this image"]


def test_identity_and_licence_of_a_tar(tmp_path: Path) -> None:
    coco = "http://images.cocodataset.org/train2017/000000391895.jpg"
    path = write_tar(
        tmp_path / "0.tar",
        *sample("a", sha256="0" * 64, LICENSE="?"),
        *sample("b", sha256="0" * 64, license="CC BY 2.0"),
        *sample("c", url=coco),
    )
    a, b, c = units(tars(path))
    assert a.content == b.content  # the same image with the same words
    assert c.document == "coco/000000391895"
    assert [dict(one.payload["origin"]).get("licence") for one in (a, b, c)] == [None, "CC BY 2.0", None]


def test_images_of_two_tars_are_two_whatever_their_keys(tmp_path: Path) -> None:
    """Where no sha256 tells: of one key, one size in bytes and the same words, as uncompressed pictures may be."""
    for number, colour in enumerate(("red", "blue")):
        out = io.BytesIO()
        PIL.Image.new("RGB", (64, 64), colour).save(out, "BMP")
        write_tar(tmp_path / "in" / f"{number}.tar", ("0.bmp", out.getvalue()), ("0.txt", "a patch of colour"))
    run_job(tars(tmp_path / "in"), tmp_path / "out", JobSettings(), LocalRunner())
    assert [row["outcome"] for row in ShardSet(tmp_path / "out").ledger().to_pylist()] == ["written", "written"]
    write_tar(tmp_path / "in" / "0.tar", ("0.png", picture(seed=5)), ("0.txt", "a patch of colour"))
    run_job(tars(tmp_path / "in"), tmp_path / "out", JobSettings(update=True), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    made = [shards.read(row["shard"], row["offset"], row["size"]) for row in shards.table().to_pylist()]
    assert picture(seed=5) in [sample.images[0].data for sample in made]  # the tar has changed


def test_only_the_images_of_a_remote_tar_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = write_tar(tmp_path / "0.tar", *sample("a", exif="x" * 50_000), *sample("b", "Two.", seed=1))
    url = f"memory://{tmp_path.name}/0.tar"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{tmp_path.name}/0.tar", local.read_bytes())
    source = tars(tmp_path / "0.tar")
    remote = CaptionSource(paths=[f"memory://{tmp_path.name}"])
    assert list(remote.inputs()) == [url]
    made = remote.units(url, str(local))
    assert not isinstance(made, Failed)
    fetched = []
    cat_file = memory.cat_file

    def counting(path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        fetched.append(data := cat_file(path, start=start, end=end, **more))
        return bytes(data)

    monkeypatch.setattr(memory, "cat_file", counting)
    monkeypatch.setattr(memory, "get_file", lambda *_, **__: pytest.fail("the whole tar was fetched"))
    with Fetcher() as copies:
        found = [remote.make(unit, copies.local_paths(unit.files)) for unit in made if unit]
    assert fetched == [picture(), picture(seed=1)]
    assert found == outcomes(source)
    run_job(remote, tmp_path / "remote", JobSettings(), LocalRunner())  # the scan has a copy of its own


LLAVA_QUESTION = {"from": "human", "value": "Render a clear and concise summary of the photo.\n<image>"}


def test_llava_pretrain(tmp_path: Path) -> None:
    images = folder_of_images(tmp_path, "00453/004539375.jpg", "00001/000000018.jpg")
    good = {
        "id": "004539375",
        "image": "00453/004539375.jpg",
        "conversations": [LLAVA_QUESTION, {"from": "gpt", "value": "select luxury furniture </s> 3 - inch\n"}],
    }
    gone = {**good, "image": "00002/gone.jpg"}
    outside = {**good, "image": "../blip.json"}
    longer = {**good, "conversations": good["conversations"] * 2}
    records = [good, {**good, "image": "00001/000000018.jpg"}, gone, outside, longer, "prose", {**good, "id": None}]
    path = tmp_path / "blip.json"
    path.write_text(json.dumps(records))
    source = CaptionSource(form="llava", paths=[str(path)], images=images)
    found = said(source)
    assert found[:2] == ["select luxury furniture <\u2060/s> 3 - inch"] * 2
    assert found[2:4] == [
        "missing_image: no such file",
        "outside: the file name leads out of the folder of the images",
    ]
    assert all(one.startswith("wrong_form: expected an id, an image and one exchange") for one in found[4:])
    made = outcomes(source)[0]
    assert isinstance(made, Written)
    assert "Render" not in made.samples[0].turns[0].text
    assert made.samples[0].origin["image_id"] == "004539375"
    assert made.samples[0].origin["document"] == "00453/004539375.jpg"


@pytest.mark.parametrize(
    ("form", "text", "reason", "detail"),
    [
        ("llava", "{}", "wrong_form", "expected a list"),
        ("llava", "[1, 2", "wrong_form", "found the end"),
        ("llava", "", "wrong_form", "not JSON"),
        ("coco", '{"images": [{"id": 1, "file_name": "a.jpg"}]}', "wrong_form", "'annotations'"),
        ("coco", '{"annotations": [{"image_id": 1, "caption": "x"}]}', "wrong_form", "'images'"),
        ("coco", '{"images": [', "wrong_form", "not JSON"),
        ("table", '"a', "wrong_form", "no header"),
        ("table", "image,words\n", "wrong_form", "not one column 'caption'; there are 'image', 'words'"),
        ("table", "image,caption,image\n", "wrong_form", "not one column 'image'"),
    ],
)
def test_a_file_of_another_form_is_one_failed_unit(
    tmp_path: Path, form: Any, text: str, reason: str, detail: str
) -> None:
    images = folder_of_images(tmp_path, "a.jpg")
    path = tmp_path / ("captions.csv" if form == "table" else "captions.json")
    path.write_text(text)
    source = CaptionSource(form=form, paths=[str(path)], images=images)
    with pytest.raises(UserError, match=f"{reason}: .*{detail}"):
        run_job(source, tmp_path / "out", JobSettings(), LocalRunner())


def test_coco_captions(tmp_path: Path) -> None:
    names = ["000000391895.jpg", "000000522418.jpg"]
    images = folder_of_images(tmp_path, *names)
    root = {
        "info": {"year": 2017},
        "licenses": [
            {
                "url": "http://creativecommons.org/licenses/by-nc-nd/2.0/",
                "id": 3,
                "name": "Attribution-NonCommercial-NoDerivs License",
            }
        ],
        "images": [
            {"license": 3, "file_name": names[0], "height": 80, "width": 100, "flickr_url": "http://f/1", "id": 391895},
            {"license": [], "file_name": names[1], "height": 80, "width": 100, "id": 522418},
            {"file_name": names[1], "id": 522418},
            {"file_name": names[1]},
        ],
        "annotations": [
            {"image_id": 391895, "id": 770337, "caption": "A man with a red helmet on a small moped on a dirt road. "},
            {"image_id": 522418, "id": 1, "caption": 7},
            {"image_id": 391895, "id": 771687, "caption": "Man riding a motor bike on a dirt road."},
            {"image_id": 391895, "id": 9, "caption": "Man riding a motor bike on a  dirt road."},
            {"image_id": 1, "id": 10, "caption": "Of no image."},
            "prose",
        ],
    }
    path = tmp_path / "captions_train2017.json"
    path.write_text(json.dumps(root))
    source = CaptionSource(form="coco", paths=[str(path)], images=images)
    assert said(source) == [
        "A man with a red helmet on a small moped on a dirt road. / Man riding a motor bike on a dirt road.",
        "missing_caption: nothing is said about this image",
        "wrong_form: expected an object with an id and a file_name",
        "unlisted_image: 1 annotations, no entry in images",
        "unlisted_image: 1 annotations, no entry in images",
    ]
    made = outcomes(source)[0]
    assert isinstance(made, Written)
    assert made.notes == {"repeated_captions": 1}
    first, second = made.samples
    assert first.key != second.key
    assert first.origin["document"] == "coco/000000391895"
    assert first.origin["licence"] == "http://creativecommons.org/licenses/by-nc-nd/2.0/"
    assert first.origin["url"] == "http://f/1"


def test_coco_ids_and_files_that_are_listed_several_times(tmp_path: Path) -> None:
    images = folder_of_images(tmp_path, "a.jpg", "b.jpg")
    root = {
        "images": [
            {"id": 1.0, "file_name": "a.jpg"},
            {"id": 2, "file_name": "./a.jpg"},
            {"id": 3, "file_name": "b.jpg"},
            {"id": 3, "file_name": "c.jpg"},
        ],
        "annotations": [{"image_id": n, "caption": f"Caption {n}."} for n in (1, 2.0, 3)],
    }
    (tmp_path / "c.json").write_text(json.dumps(root))
    source = CaptionSource(form="coco", paths=[str(tmp_path / "c.json")], images=images)
    joined, *failed = units(source)
    assert (joined.id, joined.payload["captions"]) == ("c.json/1", ("Caption 1.", "Caption 2.0."))
    assert joined.payload["notes"] == {"repeated_entries": 1}
    details = [unit.verdict.detail for unit in failed if isinstance(unit.verdict, Failed)]
    assert details == ["image 3 is listed with 2 files"] * 2


def test_words_for_nothing_and_names_with_dots(tmp_path: Path) -> None:
    images = folder_of_images(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,nan\na.jpg,None\na.jpg,A nan bread\n")
    source = CaptionSource(form="table", paths=[str(tmp_path / "t.csv")], images=images)
    missing = "missing_caption: the caption is {!r}, a missing value"
    assert said(source) == [missing.format("nan"), missing.format("None"), "A nan bread"]
    entries = [("22.05.jpg", picture()), ("22.05.txt", "Five."), ("22.06.jpg", picture()), ("22.06.txt", "Six.")]
    (detail,) = said(tars(write_tar(tmp_path / "0.tar", *entries)))
    assert detail.startswith("missing_image: 22.05.jpg: a key ends at the first dot")


def test_tables(tmp_path: Path) -> None:
    images = folder_of_images(tmp_path, "a.jpg", "b/c.jpg")
    rows = [("a.jpg", 'A "quoted", long\nword.'), ("b/c.jpg", "Zwei."), ("", "No image."), ("a.jpg", "")]
    quoted = "\n".join(f'{name};"{text.replace(chr(34), chr(34) * 2)}";5' for name, text in rows)
    for ending, separator in (("csv", ","), ("tsv", "\t")):
        head = separator.join(("file", "text", "score"))
        text = quoted.replace(";", separator)
        (tmp_path / f"t.{ending}").write_text(f"\ufeff{head}\n{text}\n\na.jpg{separator}few\n", encoding="utf-8")
    lines = [json.dumps({"file": name, "text": text}) for name, text in rows]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, '{"file": "a.jpg"}', "{", "[]", '{"file": 3, "text": ""}']))
    columns = {"file": [name for name, _ in rows], "n": [1, 2, 3, 4], "text": [text for _, text in rows]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=3)
    settings = {"form": "table", "images": images, "image_column": "file", "caption_column": "text"}
    found = {}
    for ending in ("csv", "tsv", "jsonl", "parquet"):
        source = CaptionSource(paths=[str(tmp_path / f"t.{ending}")], **settings)
        found[ending] = said(source)
        assert found[ending][:4] == ['A "quoted", long word.', "Zwei.", "wrong_form: 'file' is empty", "min_chars"]
    assert found["csv"][4:] == found["tsv"][4:] == ["wrong_form: 2 fields, the header has 3"]
    assert found["parquet"][4:] == []
    assert found["jsonl"][4].startswith("wrong_form: not one column 'text'; there are 'file'")
    assert found["jsonl"][5].startswith("wrong_form: line 6: not JSON")
    assert found["jsonl"][6:] == [
        "wrong_form: expected an object, found a list",
        "wrong_form: file is a number, expected an image or its file name",
    ]
    ids = [unit.id for unit in units(source, tmp_path / "t.csv")]
    assert ids == [f"t.csv/{line:08d}" for line in (2, 4, 5, 6, 8)]
    whole = CaptionSource(paths=[str(tmp_path)], **settings)
    assert len(list(whole.inputs())) == 4


def test_broken_rows_of_tables(tmp_path: Path) -> None:
    images = folder_of_images(tmp_path, "a.jpg")
    text = b'image,caption\na.jpg,"a "b" c"\na.jpg,not \xff text\na.jpg,fine\na.jpg,"never closed\n'
    (tmp_path / "t.csv").write_bytes(text)
    source = CaptionSource(form="table", paths=[str(tmp_path / "t.csv")], images=images)
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    rows = sorted(ShardSet(tmp_path / "out").ledger().to_pylist(), key=lambda row: row["unit"])
    assert [row["reason"] for row in rows] == ["wrong_form", "wrong_form", "", "wrong_form"]
    assert [row["detail"].partition(":")[0] for row in rows][::3] == ["lines 2 to 2", "lines 5 to 5"]
    long = ["image,caption", 'a.jpg,"never closed', *["a.jpg," + "y" * 1000] * 200, "a.jpg,last"]
    (tmp_path / "long.csv").write_text("\n".join(long))
    first, *others = said(source, tmp_path / "long.csv")
    assert first.startswith("wrong_form: lines 2 to 1") and "larger than field limit" in first
    assert len(others) > 50 and others[-1] == "last"
    binary = pa.array([b"fine", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": ["a.jpg"] * 2, "caption": binary}), tmp_path / "t.parquet")
    assert said(source, tmp_path / "t.parquet") == [
        "fine",
        "wrong_form: column 'caption' is not UTF-8: invalid start byte; it looks like Windows-1252: save it as UTF-8",
    ]
    lists = pa.table({"image": ["a.jpg"], "caption": [["One dog.", "Two dogs."]]})
    pq.write_table(lists, tmp_path / "t.parquet")
    assert said(source, tmp_path / "t.parquet") == ["One dog. / Two dogs."]


@pytest.mark.parametrize(
    ("caption", "size", "gates", "expected"),
    [
        ("ok", (100, 100), {}, ("min_chars", 2, 3)),
        ("three words here", (100, 100), {"max_chars": 15}, ("max_chars", 16, 15)),
        ("fine", (100, 63), {}, ("min_side_px", 63, 64)),
        ("fine", (640, 70), {}, ("max_aspect", 640 / 70, 8)),
        ("fine", (70, 640), {}, ("max_aspect", 640 / 70, 8)),
        ("fine", (64, 512), {}, None),
    ],
)
def test_gates(
    tmp_path: Path,
    caption: str,
    size: tuple[int, int],
    gates: dict[str, Any],
    expected: tuple[str, float, float] | None,
) -> None:
    path = write_tar(tmp_path / "0.tar", ("a.jpg", picture(*size)), ("a.txt", caption))
    (made,) = outcomes(tars(path, gates=CaptionGates(**gates)))
    found = (made.gate, made.value, made.threshold) if isinstance(made, Rejected) else None
    assert found == expected
    assert isinstance(made, Rejected | Written)
    assert tars(path).measures == tuple(made.measures)  # also of what was refused: gates may be loosened


def test_a_changed_gate_makes_again_only_what_it_concerns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = ["A dog on a beach.", "A cat.", "A very small horse."]
    entries = [entry for n, text in enumerate(captions) for entry in sample(f"{n}", text, seed=n)]
    path = write_tar(tmp_path / "0.tar", *entries)
    update = JobSettings(update=True)
    run_job(tars(path), tmp_path / "out", update, LocalRunner())

    def refuse(*_: object) -> None:
        raise AssertionError("a shard was made again")

    with monkeypatch.context() as patch:
        patch.setattr("datagen.job.shard_task.ShardTask.__call__", refuse)
        summary = run_job(tars(path, gates=CaptionGates(max_chars=900)), tmp_path / "out", update, LocalRunner())
    assert summary.samples == 3
    summary = run_job(tars(path, gates=CaptionGates(min_chars=10)), tmp_path / "out", update, LocalRunner())
    assert (summary.samples, summary.by_cause) == (2, {("rejected", "min_chars"): 1})


def test_what_is_cleaned() -> None:
    captions = [
        "AT&T &amp;lt; &copy 5&#39;\x00",
        "\ufeffA\u00a0dog\r\n ",
        "A dog",
        " \u200b ",
        "👩\u200d🔬 می\u200cخواهم",
    ]
    kept, notes = clean(captions)
    assert kept == ["AT&T &lt; &copy 5'", "A dog", "👩\u200d🔬 می\u200cخواهم"]
    assert notes == {
        "captions_with_entities": 1,
        "captions_with_invisible_characters": 3,
        "empty_captions": 1,
        "repeated_captions": 1,
    }


def test_user_mistakes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", *sample("a"))
    with pytest.raises(UserError, match="leave out --images"):
        list(tars(path, images=str(tmp_path)).inputs())
    with pytest.raises(UserError, match="give --images FOLDER"):
        list(tars(path, form="coco").inputs())
    with pytest.raises(UserError, match=r"no \*\.parquet or \*\.csv or \*\.tsv or \*\.jsonl in this folder"):
        list(tars(tmp_path, form="table", images=str(tmp_path)).inputs())
    with pytest.raises(ValueError, match="form is 'tar'"):
        tars(path, form="tar")
    with pytest.raises(ValueError, match="min_chars"):
        CaptionGates(min_chars=0)
