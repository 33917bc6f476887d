"""Pages with labels of the user's own, in files of the same name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import PIL.Image
import pymupdf
import pytest

from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.labelled.__main__ import main
from datagen.labelled.label_file import MAX_BYTES, canonical, fields_of
from datagen.labelled.source import LabelledSource
from tests.datagen.command_lines import answers, run_command
from varyforge.errors import WrongFormat
from varyforge.prompts import wordings
from varyforge.sample import Sample
from varyforge.shards import ShardSet

INVOICE = (
    '{"number": "R-017",\n  "total": 1.10, "items": [{"name": "B\\u00fcro", "count": 2}], "paid": false, "due": null}'
)


def picture(path: Path, shade: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (80, 60), (shade, 90, 40)).save(path)


def pdf(path: Path, pages: int) -> None:
    with pymupdf.open() as document:
        for number in range(pages):
            document.new_page(width=200, height=300).insert_text((20, 40), f"Page {number}")
        document.save(path)


def rows(folder: Path, **settings: Any) -> dict[str, str]:
    """How each unit of a folder ended."""
    out = folder.parent / "out"
    run_job(LabelledSource(paths=[str(folder)], **settings), out, JobSettings(), LocalRunner())
    return {
        row["unit"]: row["gate"] or (f"{row['reason']}: {row['detail']}" if row["reason"] else row["outcome"])
        for row in ShardSet(out).ledger().to_pylist()
    }


def samples(folder: Path) -> list[Sample]:
    return sorted(ShardSet(folder.parent / "out").samples(), key=lambda sample: (sample.task, sample.answer))


def test_text_markdown_and_json_become_answers(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(("a.png", "b.jpg", "c.tif", "d/e.PNG")):
        picture(folder / name, shade=50 * number)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfOne line,\r\nand </s> \xc3\xa9.\r\n\r\n")
    (folder / "b.md").write_text("# Title\n\nText.\n")
    (folder / "c.json").write_text(INVOICE)
    (folder / "d" / "e.TXT").write_text("发票号码：一二三四五六七八九十")
    assert rows(folder) == {"a.png": "written", "b.jpg": "written", "c.tif": "written", "d/e.PNG": "written"}
    invoice, markdown, text, chinese = samples(folder)
    expected = '{"number": "R-017", "total": 1.10, "items": [{"name": "Büro", "count": 2}], "paid": false, "due": null}'
    assert (invoice.task, invoice.answer) == ("instruct", expected)
    assert (markdown.task, markdown.answer) == ("markdown", "# Title\n\nText.")
    assert text.task == "ocr" and text.answer.startswith("One line,\nand ") and "</s>" not in text.answer
    assert chinese.origin["language"] == "zh" and chinese.origin["document"] == "d/e.PNG"
    for sample, prompts in ((invoice, "fields"), (markdown, "markdown"), (text, "ocr")):
        assert sample.turns[0].text.removeprefix("<image>") in wordings(prompts)
    assert chinese.turns[0].text.removeprefix("<image>") in wordings("ocr", "zh")
    assert markdown.images[0].data == (folder / "b.jpg").read_bytes()


def test_a_question_per_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.json").write_text(INVOICE)
    out = tmp_path / "out"
    assert run_command(monkeypatch, main, str(tmp_path / "in"), "--out", str(out), "ask=keys") == 0
    assert answers(out) == {"R-017", "1.10", '[{"name": "Büro", "count": 2}]', "false"}
    by_key = {sample.origin["question"]: sample for sample in ShardSet(out).samples()}
    total = by_key["total"]
    assert total.task == "vqa" and json.loads(str(total.origin["answers"])) == ["1.10"]
    assert total.turns[0].text.removeprefix("<image>") in {each.format(field="total") for each in wordings("field")}
    (row,) = ShardSet(out).ledger().to_pylist()
    assert json.loads(row["notes"]) == {"unanswered_questions": 1}


def test_pages_of_a_document_take_the_text_between_form_feeds(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, pages, text in (
        ("even", 3, "one\f\ntwo\fthree\f\n"),
        ("short", 3, "one\ftwo"),
        ("gap", 2, "one\f \f"),
        ("single", 1, "above\fbelow"),
        ("unparted", 2, "one and two"),
    ):
        pdf(folder / f"{name}.pdf", pages)
        (folder / f"{name}.txt").write_text(text)
    pdf(folder / "data.pdf", 2)
    (folder / "data.json").write_text("{}")
    assert rows(folder) == {
        **{f"even.pdf#{number:04d}": "written" for number in range(3)},
        "short.pdf": "pages",
        "gap.pdf#0000": "written",
        "gap.pdf#0001": "min_chars",
        "single.pdf#0000": "written",
        "unparted.pdf": "pages",
        "data.pdf": "pages",
    }
    pages = {(sample.origin["document"], sample.origin["page"]): sample.answer for sample in samples(folder)}
    assert [pages["even.pdf", number] for number in range(3)] == ["one", "two", "three"]
    assert pages["single.pdf", 0] == "above\nbelow"
    details = {row["unit"]: row["detail"] for row in ShardSet(tmp_path / "out").ledger().to_pylist()}
    assert details["short.pdf"] == "a label of 2 pages for 3 pages; write a form feed between the pages of the text"
    assert details["data.pdf"] == "a label of 1 pages for 2 pages"


def test_files_without_a_partner_and_broken_labels_have_a_row(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(("alone", "twice", "latin", "broken", "doubled", "list", "large", "null", "cut")):
        picture(folder / f"{name}.png", shade=20 * number)
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    (folder / "label.txt").write_text("no page")
    for name, data in (
        ("twice.txt", b"a"),
        ("twice.json", b"{}"),
        ("latin.txt", "caf\xe9".encode("latin-1")),
        ("broken.json", b'{"a": NaN}'),
        ("doubled.json", b'{"a": 1, "a": 2}'),
        ("list.json", b"[1]"),
        ("large.txt", b"x" * (MAX_BYTES + 1)),
        ("null.json", b'{"a": null, "b": ""}'),
        ("cut.txt", b"text"),
    ):
        (folder / name).write_bytes(data)
    endings = rows(folder, ask="keys")
    assert endings.pop("null.png") == "questions"
    assert endings.pop("cut.png").startswith("broken_image")
    assert endings == {
        "label.txt": "missing_image: no page (.pdf, .png, .jpg, .jpeg, .tif, .tiff) of this name beside the label",
        "alone.png": "missing_label: no label (.txt, .md, .json) of this name beside it",
        "twice.png": "wrong_form: more than one label: twice.txt, twice.json; keep one",
        "latin.png": "wrong_form: not UTF-8: unexpected end of data; it looks like Windows-1252: save it as UTF-8",
        "broken.png": "wrong_form: not JSON: NaN is no number of JSON",
        "doubled.png": "wrong_form: the key 'a' stands there twice",
        "list.png": "wrong_form: expected an object with a question per key, found a list",
        "large.png": "wrong_form: a label of more than 1 MiB",
    }


def test_a_name_that_is_not_utf8_finds_its_label(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.png").rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/a\xba.png"))
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/a\xba.txt")).write_text("with a label")
    assert rows(tmp_path / "in") == {"a\\xba.png": "written"}
    assert answers(tmp_path / "out") == {"with a label"}


def test_a_changed_label_makes_its_page_again(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").write_text("before")
    rows(tmp_path / "in")
    (tmp_path / "in" / "a.txt").write_text("after it")
    source = LabelledSource(paths=[str(tmp_path / "in")])
    run_job(source, tmp_path / "out", JobSettings(update=True), LocalRunner())
    assert answers(tmp_path / "out") == {"after it"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"b":1,"a":{"c":[ ]}}', '{"b": 1, "a": {"c": []}}'),
        ("[1.50, 1e3, -0, 12345678901234567890, 1E-2]", "[1.50, 1e3, -0, 12345678901234567890, 1E-2]"),
        ('"\\u4e2d \\/ \\n \\u0007 \\ud83d\\ude00"', '"中 / \\n \\u0007 😀"'),
        (' { "k" :\ttrue } ', '{"k": true}'),
    ],
)
def test_json_is_one_line_with_the_digits_of_the_file(text: str, line: str) -> None:
    assert canonical(text) == line
    assert canonical(line) == line


def test_json_that_is_refused() -> None:
    for text in ("", "{", '{"a": Infinity}', "[" * 100_000, '{"a": {"b": 1, "b": 1}}', '{"a": 1} x'):
        with pytest.raises(WrongFormat):
            canonical(text)
    assert fields_of('{"b": " x ", "a": 0.0}') == [("b", "x"), ("a", "0.0")]
