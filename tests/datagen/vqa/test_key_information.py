"""Receipts and forms as questions, and AI2D's diagrams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.vqa.key_information import payload_of, questions_of_fields, questions_of_form, read_ground_truth
from datagen.vqa.source import VqaSource
from tests.datagen.made_talk import write_image, write_json
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed, Outcome, Rejected, Written


def outcomes(source: VqaSource) -> dict[str, Outcome]:
    units = [unit for path in source.inputs() for unit in source.units(path, path)]
    return {unit.id: unit.verdict or source.make(unit, unit.files) for unit in units}


def entity(number: int, label: str, text: str, *links: tuple[int, int]) -> dict[str, Any]:
    return {"id": number, "label": label, "text": text, "linking": [list(link) for link in links], "box": [0, 0, 1, 1]}


def test_a_form_asks_for_what_its_questions_are_linked_to() -> None:
    form = [
        entity(3, "answer", "New York", (1, 3)),
        entity(0, "header", "FAX", (0, 1)),
        entity(1, "question", "To :", (0, 1), (1, 3), (1, 4)),
        entity(4, "answer", "Room 7", (1, 4)),
        entity(5, "question", "From:", (6, 5)),  # the link runs the other way
        entity(6, "answer", "Ann", (6, 5), (6, 99)),
        entity(7, "question", "Date:"),
        entity(8, "question", ":", (8, 3)),
    ]
    assert questions_of_form({"form": form}) == [
        ("What is the value of “To” in this form?", "New York Room 7"),
        ("What is the value of “From” in this form?", "Ann"),
    ]
    for broken in ([], {}, {"form": [{"text": "x"}]}, {"form": ["x"]}):
        with pytest.raises(WrongFormat):
            questions_of_form(broken)


def test_a_parsed_receipt_asks_for_items_by_name_and_for_its_totals() -> None:
    parse = {
        "menu": [
            {"nm": "TEA", "cnt": "2", "price": "8", "sub": {"nm": "MILK", "price": "1"}},
            {"nm": ["RICE", "BOWL"]},
        ],
        "sub_total": {"subtotal_price": "9", "etc": ["a", "b"], "tax_price": ""},
        "total": {"menuqty_cnt": 3},
    }
    assert read_ground_truth(json.dumps({"gt_parse": parse})) == (
        "",
        [
            ("What is the count of “TEA”?", "2"),
            ("What is the price of “TEA”?", "8"),
            ("What is the price of “MILK”?", "1"),
            ("What is the subtotal on this document?", "9"),
            ("What is the note on this document?", "a b"),
            ("What is the number of items on this document?", "3"),
        ],
    )
    assert read_ground_truth('{"gt_parse": {"text_sequence": "a page"}}') == ("a page", [])
    asked = {"gt_parses": [{"question": "Who?", "answer": "Ann"}, 3]}
    assert read_ground_truth(json.dumps(asked)) == ("", [("Who?", "Ann")])
    for broken in ("{", "[]", "{}", None, 3):
        with pytest.raises(WrongFormat, match="ground_truth"):
            read_ground_truth(broken)


def test_a_question_with_two_answers_is_not_asked() -> None:
    payload = payload_of([("price of TEA?", "8"), ("price of TEA?", "9"), ("total?", "17"), ("total?", "17")])
    assert [one["question"] for one in payload["questions"]] == ["total?"]
    assert payload["left_out"] == {"ambiguous_questions": 2}
    assert questions_of_fields({"total": 9.5, "date": None}, "receipt") == [
        ("What is the total on this receipt?", "9.5")
    ]


def test_folders_with_a_file_per_image(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
        right = {"answerTexts": ["egg", "pupa"], "correctAnswer": 1, "abcLabel": False}
        questions = {"What is first?": right, "What is A?": right | {"abcLabel": True}, "And then?": right}
        write_json(tmp_path / "questions" / f"{name}.json", {"questions": questions})
    write_json(tmp_path / "questions" / "c.png.json", {"questions": {"x": {"answerTexts": ["a"], "correctAnswer": 1}}})
    (tmp_path / "ai2d_test_ids.csv").write_text("b\n")
    found = outcomes(VqaSource(form="ai2d", images=str(tmp_path)))
    first, second, third = found.values()
    assert isinstance(first, Written) and first.notes["questions_about_letters"] == 1
    assert [turn.text for turn in first.samples[0].turns][1::2] == ["B", "B"]
    assert first.samples[0].turns[0].text.startswith("<image>\nWhat is first?\nA. egg\nB. pupa\nAnswer with")
    assert isinstance(second, Rejected) and second.gate == "splits"
    assert isinstance(third, Failed) and "the question 'x' has no answerTexts" in third.detail
    with_test = outcomes(VqaSource(form="ai2d", images=str(tmp_path), splits=["test"]))
    assert [isinstance(outcome, Written) for outcome in with_test.values()] == [False, True, False]
    with pytest.raises(UserError, match="nothing of sroie here; looked for"):
        outcomes(VqaSource(form="sroie", images=str(tmp_path)))


def test_records_about_some_images_are_left_out(tmp_path: Path) -> None:
    for name in ("textvqa/a.jpg", "b.jpg"):
        write_image(tmp_path / name)
    records = [{"question": "Who?", "answer": "Ann", "image": name} for name in ("textvqa/a.jpg", "b.jpg")]
    file = write_json(tmp_path / "a.json", records)
    source = VqaSource(records=[str(file)], images=str(tmp_path), leave_out=["textvqa/"])
    first, second = outcomes(source).values()
    assert isinstance(first, Rejected) and (first.gate, first.detail[:25]) == ("left_out", "the image 'textvqa/a.jpg'")
    assert isinstance(second, Written)
