"""Units, splits, and the settings that all sources of external data share."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import PIL.Image
import pytest

from datagen.image_source import BoxedImageSource, ImageSource, exchange
from datagen.source import SourceSettings, Unit, split_of, split_position
from varyforge.errors import UserError
from varyforge.images import Picture, encode_jpeg
from varyforge.outcome import Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures(BoxedImageSource):
    """Images that are only read."""

    paths: list[str]

    name = "pictures"
    locations = ("paths", "images", "guard")


def test_a_unit_holds_text_whatever_bytes_its_file_name_has() -> None:
    name = os.fsdecode(b"caf\xe9.pdf")
    unit = Unit(id=f"{name}#1", document=name, content=name, files=(name,))
    assert unit.document == "caf\\udce9.pdf" and unit.id == "caf\\udce9.pdf#1"
    assert unit.files == (name,)  # as the file system has it
    for text in (unit.id, unit.document, unit.content):
        text.encode()
    assert Unit(id="é", document="é", content="é").id == "é"


def test_a_unit_travels_as_json() -> None:
    unit = Unit(id="a#1", document="a", content="c", files=("a",), payload={"page": 1, "box": [1, 2]})
    assert json.loads(json.dumps(asdict(unit)))["payload"] == {"page": 1, "box": [1, 2]}


def test_the_share_of_documents_held_out() -> None:
    documents = [f"{n}.pdf" for n in range(4000)]
    for share in (0.05, 0.5):
        held_out = [name for name in documents if split_of(name, share) == "validation"]
        assert abs(len(held_out) / 4000 - share) < 0.03
    assert {split_of(name, 0) for name in documents} == {"train"}


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    documents = [f"{n}.pdf" for n in range(300)]
    few, many = ({name for name in documents if split_of(name, share) == "validation"} for share in (0.1, 0.4))
    assert few < many
    by_position = sorted(documents, key=split_position)
    assert few == set(by_position[: len(few)]) and many == set(by_position[: len(many)])
    assert all(0 <= split_position(name) < 2**64 for name in documents)


def test_locations_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Lines(SourceSettings):
        paths: list[str]
        folder: str = ""
        style: str = "plain"

        name = "lines"
        locations = ("paths", "folder")

    source = Lines(paths=["in", "/abs", "s3://bucket/in"], folder="here", style="in")
    assert source.paths == [str(tmp_path / "in"), "/abs", "s3://bucket/in"]
    assert (source.folder, source.style) == (str(tmp_path / "here"), "in")
    assert Lines(paths=[]).folder == ""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """60 × 40 pixels as stored, 40 × 60 as EXIF turns it."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    path = tmp_path / "photo.jpg"
    PIL.Image.new("RGB", (60, 40), (200, 10, 10)).save(path, exif=exif)
    return path


def unit_of(*files: Path) -> Unit:
    return Unit(id="a#0", document="a", content="a", files=tuple(map(str, files)))


def read(source: ImageSource, *files: Path) -> Picture | Failed:
    picture = source.read(unit_of(*files), [str(file) for file in files])
    assert isinstance(picture, Picture | Failed)
    return picture


def test_an_image_and_what_boxes_refer_to(photo: Path, tmp_path: Path) -> None:
    seen = Pictures(paths=[], images=str(tmp_path))
    stored = Pictures(paths=[], images=str(tmp_path), boxes_of="stored")
    picture = read(seen, photo)
    assert isinstance(picture, Picture)
    assert (picture.image.width, picture.image.height) == (40, 60)
    assert seen.drawn_on(picture, None) == seen.drawn_on(picture, (40, 60)) == ((40, 60), 1)
    assert stored.drawn_on(picture, None) == stored.drawn_on(picture, (60, 40)) == ((60, 40), 6)


def test_annotations_of_another_size_are_refused(photo: Path, tmp_path: Path) -> None:
    source = Pictures(paths=[], images=str(tmp_path))
    picture = read(source, photo)
    assert isinstance(picture, Picture)
    other = source.drawn_on(picture, (640, 480))
    assert other == Failed(reason="image_size", detail="the image is 40x60 px, the annotations say 640x480")
    turned = source.drawn_on(picture, (60, 40))
    assert isinstance(turned, Failed) and turned.detail.endswith(", which it is as stored: boxes_of=stored")


def test_images_that_cannot_be_used(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no image")
    source = Pictures(paths=[], images=str(tmp_path / "in"))
    reasons = {
        name: getattr(read(source, tmp_path / "in" / name), "reason", None)
        for name in ("gone.jpg", "gone/a.jpg", "broken.jpg", "broken.jpg/a.jpg", "../photo.jpg")
    }
    assert reasons == {
        "gone.jpg": "missing_image",
        "gone/a.jpg": "missing_image",
        "broken.jpg": "broken_image",
        "broken.jpg/a.jpg": "missing_image",
        "../photo.jpg": "outside",
    }
    assert source.view(unit_of(tmp_path / "in" / "gone.jpg"), [str(tmp_path / "in" / "gone.jpg")]).picture is None


def test_the_picture_of_a_unit_is_its_image(photo: Path, tmp_path: Path) -> None:
    image = Pictures(paths=[], images=str(tmp_path)).view(unit_of(photo), [str(photo)]).picture
    assert image is not None and (image.width, image.height) == (40, 60)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boxes_of is 'drawn', expected one of 'seen', 'stored'"):
        Pictures(paths=[], boxes_of="drawn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="language"):
        Pictures(paths=[], language="no language")
    with pytest.raises(UserError, match=r"gone: no such folder \(--images\)"):
        Pictures(paths=[], images=str(tmp_path / "gone")).check_folder()
    Pictures(paths=[], images="s3://bucket/in").check_folder()  # nothing is asked of a URL here


def test_locations_of_images_behind_urls_and_on_this_machine(tmp_path: Path) -> None:
    assert Pictures(paths=[], images="s3://bucket/in/").location_of("a/b.jpg") == "s3://bucket/in/a/b.jpg"
    assert Pictures(paths=[], images=str(tmp_path)).location_of("a/b.jpg") == str(tmp_path / "a" / "b.jpg")


def test_an_answer_holds_no_control_token() -> None:
    image = encode_jpeg(PIL.Image.new("RGB", (30, 30)), 90)
    sample = exchange(
        key="k",
        task="vqa",
        question="What is it?",
        answer="an <image> of </s>",
        image=image,
        source="pictures",
        origin={"document": "a"},
    )
    question, answer = sample.turns
    assert question.text == "<image>What is it?" and sample.images == (image,)
    assert "<image>" not in answer.text and "</s>" not in answer.text
