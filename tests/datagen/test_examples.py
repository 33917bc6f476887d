import json
import re
import sys
from collections import Counter

import numpy
import PIL.Image
import pymupdf
import pytest

from datagen.examples.__main__ import main
from datagen.examples.chats import write_chats
from datagen.examples.documents import write_documents
from datagen.examples.shapes import write_detection
from datagen.examples.texts import text_bank

LETTERS_NOT_LIGATURES = pymupdf.TEXTFLAGS_TEXT & ~pymupdf.TEXT_PRESERVE_LIGATURES


def squeezed(text):
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Every layout in both languages."""
    return write_documents(tmp_path_factory.mktemp("pdf"), documents=18)


@pytest.fixture(scope="module")
def pages(documents):
    """Text of each page without white space, by file name."""
    read = {}
    for path in documents:
        with pymupdf.open(path) as document:
            read[path.name] = [squeezed(page.get_text(flags=LETTERS_NOT_LIGATURES)) for page in document]
    return read


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    path = write_detection(tmp_path_factory.mktemp("detection"), images=20)
    return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    return json.loads(write_chats(tmp_path_factory.mktemp("chat")).read_text(encoding="utf-8"))


def test_documents_have_the_same_bytes_every_time(documents, tmp_path):
    for first, again in zip(documents, write_documents(tmp_path, documents=10), strict=False):
        assert first.name == again.name
        assert first.read_bytes() == again.read_bytes()


def test_another_seed_gives_other_documents(documents, tmp_path):
    (other,) = write_documents(tmp_path, documents=1, seed=1)
    assert other.name == documents[0].name
    assert other.read_bytes() != documents[0].read_bytes()


def test_pages_are_few_filled_and_all_different(documents, pages):
    assert all(path.stat().st_size < 100_000 for path in documents)
    assert {len(of_document) for of_document in pages.values()} <= {1, 2, 3, 4}
    assert sum(len(of_document) > 1 for of_document in pages.values()) >= 3
    texts = [text for of_document in pages.values() for text in of_document]
    assert min(map(len, texts)) >= 20
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("layout", ["article", "report", "bullets", "table", "letter"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_text_extracts_exactly_and_whole(pages, layout, language):
    (name,) = (name for name in pages if name.endswith(f"{layout}-{language}.pdf"))
    left = "".join(pages[name])
    bank = text_bank()[language]
    known = [sentence for topic in bank["topics"] for sentence in topic["sentences"]]
    known += [item["lead"] for item in (*bank["lists"], *bank["tables"])]
    known += [*bank["letter"]["openings"], *bank["letter"]["closings"]]
    found = [squeezed(sentence) for sentence in known if squeezed(sentence) in left]
    for sentence in found:
        left = left.replace(sentence, "", 1)
    assert found
    assert not re.search(r"[a-z][.]|。", left)  # no other sentence, whole or cut


def test_languages(pages):
    chinese = [name for name in pages if re.search("[\u4e00-\u9fff]", "".join(pages[name]))]
    assert chinese == [name for name in pages if name.endswith("-zh.pdf")]
    assert len(chinese) == len(pages) / 2


def test_nothing_stands_outside_the_page(documents):
    for path in documents:
        with pymupdf.open(path) as document:
            for page in document:
                assert all(pymupdf.Rect(word[:4]) in page.rect for word in page.get_text("words"))


def test_the_text_layer_ends_with_the_page_number(pages):
    (of_book,) = (pages[name] for name in pages if name.endswith("book-en.pdf"))
    assert all(re.search(r"Page\d+$", text) for text in of_book)


def test_coco_form(coco):
    folder, root = coco
    for kind in ("images", "annotations", "categories"):
        assert len({item["id"] for item in root[kind]}) == len(root[kind]) > 0
    images = {image["id"]: image for image in root["images"]}
    names = {category["id"]: category["name"] for category in root["categories"]}
    assert "red circle" in names.values()
    for image in images.values():
        with PIL.Image.open(folder / "images" / image["file_name"]) as picture:
            assert (picture.size, picture.format) == ((image["width"], image["height"]), "JPEG")
    for one in root["annotations"]:
        image, (x, y, width, height) = images[one["image_id"]], one["bbox"]
        assert 0 <= x < x + width <= image["width"] and 0 <= y < y + height <= image["height"]
        assert 0 < one["area"] <= width * height * 1.01
        assert one["iscrowd"] == 0 and one["category_id"] in names
    assert len({(image["width"], image["height"]) for image in images.values()}) > 3


def test_one_image_in_ten_has_more_than_thirty_boxes(coco):
    counts = Counter(one["image_id"] for one in coco[1]["annotations"])
    assert len(counts) == 20
    assert {image for image, count in counts.items() if count > 30} == {10, 20}
    assert all(1 <= count <= 8 or 31 <= count <= 45 for count in counts.values())


def test_a_box_holds_its_object_and_no_more(coco):
    """The colour inside a box reaches all four sides and is absent just outside."""
    folder, root = coco
    rgb = {colour["en"]: bytes.fromhex(colour["rgb"][1:]) for colour in text_bank()["colours"]}
    colours = {category["id"]: rgb[category["name"].split()[0]] for category in root["categories"]}
    image = root["images"][0]
    with PIL.Image.open(folder / "images" / image["file_name"]) as picture:
        for one in (one for one in root["annotations"] if one["image_id"] == image["id"]):
            x, y, width, height = one["bbox"]
            left, top = max(0, round(x) - 3), max(0, round(y) - 3)
            crop = picture.crop((left, top, round(x + width) + 3, round(y + height) + 3))
            wanted = colours[one["category_id"]]
            inked = (abs(numpy.asarray(crop, int) - list(wanted)) < 60).all(axis=2)
            rows, columns = numpy.flatnonzero(inked.any(axis=1)), numpy.flatnonzero(inked.any(axis=0))
            found = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
            assert found == pytest.approx((x, y, x + width, y + height), abs=2.5)


def test_detection_has_the_same_bytes_every_time(coco, tmp_path):
    folder, root = coco
    path = write_detection(tmp_path, images=5)
    for image in json.loads(path.read_text())["images"]:
        assert (tmp_path / "images" / image["file_name"]).read_bytes() == (
            folder / "images" / image["file_name"]
        ).read_bytes()
    again = json.loads(path.read_text())["annotations"]
    assert again == root["annotations"][: len(again)]


def test_chats_are_alpaca_records_and_none_comes_twice(chats, tmp_path):
    assert len(chats) == 120
    assert all(record.keys() == {"instruction", "input", "output"} for record in chats)
    assert all(record["instruction"] and record["output"] for record in chats)
    assert len({(record["instruction"], record["input"]) for record in chats}) == 120
    assert not any("{" in text for record in chats for text in record.values())
    assert all(re.search("[\u4e00-\u9fff]", record["instruction"]) for record in chats[1::2])
    assert json.loads(write_chats(tmp_path, chats=7).read_text(encoding="utf-8")) == chats[:7]


def test_answers_are_right(tmp_path):
    records = json.loads(write_chats(tmp_path, chats=600, seed=3).read_text(encoding="utf-8"))
    checked = 0
    for record in records:
        question, answer = record["instruction"], record["output"]
        if sum_of := re.search(r"(\d+) ?([+×-]|times) ?(\d+) ?(?:=|is) ?(\d+)", answer):
            a, sign, b, c = sum_of.groups()
            right = {"+": int(a) + int(b), "-": int(a) - int(b)}.get(sign, int(a) * int(b))
            assert right == int(c)
            assert set(re.findall(r"\d+", question)) == {a, b}
        elif word := re.search(r'"(\w+)" has (\d+) letters|“(\w+)”有(\d+)个汉字', answer):
            name, count = filter(None, word.groups())
            assert len(name) == int(count) and name in question
        elif record["input"]:
            items = record["input"].split(", ")
            items.sort(key=(lambda item: (int(item), "")) if items[0].isdigit() else (lambda item: (0, item)))
            assert answer == ", ".join(items) or re.findall(r"\d+", answer) == items[-1:]
        else:
            continue
        checked += 1
    assert checked > 150


def test_command_line_writes_all_three(tmp_path, monkeypatch, capsys):
    sizes = ["--documents", "2", "--images", "2", "--chats", "3"]
    monkeypatch.setattr(sys, "argv", ["examples", "--out", str(tmp_path), *sizes])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert made == [
        "chat/alpaca.json",
        "detection/images/000001.jpg",
        "detection/images/000002.jpg",
        "detection/instances.json",
        "pdf/000-article-en.pdf",
        "pdf/001-columns-zh.pdf",
    ]
