"""Questions of DocVQA, ChartQA and own files, read one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.inputs.record import Home, Record
from datagen.vqa.questions import FIELDS, QUESTION_FILES, image_question, images_of, question_of, usable
from varyforge.errors import WrongFormat

WORDS = st.sampled_from(["What is it?", " what  is it? ", "", " \u200b", "Who?", "How many\nare there?"])


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("yes", ["yes"]),
        (["a", "b"], ["a", "b"]),
        (7, ["7"]),
        (2.5, ["2.5"]),
        ([1, "one"], ["1", "one"]),
        ([], []),
        (None, []),
    ],
)
def test_answers_are_text_numbers_or_lists(value: Any, answers: list[str]) -> None:
    question = question_of({"question": "q", "answers": value, "id": 3}, FIELDS["answers"])
    assert question == {"question": "q", "answers": answers, "id": 3}


@pytest.mark.parametrize("value", [True, {"a": 1}, [None], [["a"]], math.nan, math.inf])
def test_other_answers_are_no_answers(value: Any) -> None:
    with pytest.raises(WrongFormat, match=r"'answers' holds .*, expected text or a number"):
        question_of({"question": "q", "answers": value}, FIELDS["answers"])


@pytest.mark.parametrize(("record", "detail"), [({}, "'question' is missing"), ({"question": 5}, "expected text")])
def test_a_question_is_text(record: dict[str, Any], detail: str) -> None:
    with pytest.raises(WrongFormat, match=detail):
        question_of(record, FIELDS["answer"])


def test_an_id_that_is_neither_number_nor_text_is_none() -> None:
    assert question_of({"question": "q", "id": ["x"]}, FIELDS["answer"])["id"] == ""


def test_a_question_of_each_data_set() -> None:
    docvqa = {"image": "documents/a_1.png", "question": "q", "answers": ["x"], "questionId": 9}
    docvqa |= {"ucsf_document_id": "a", "data_split": "val"}
    assert image_question(docvqa, FIELDS["docvqa"]) == (
        "documents/a_1.png",
        {"question": "q", "answers": ["x"], "id": 9, "document": "a", "split": "val"},
    )
    chartqa = {"imgname": "b.png", "query": "q", "label": "4"}
    assert image_question(chartqa, FIELDS["chartqa"]) == (
        "b.png",
        {"question": "q", "answers": ["4"], "id": "", "document": "", "split": ""},
    )


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({}, []),
        ({"image": "a.jpg"}, ["a.jpg"]),
        ({"images": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"image": None, "images": []}, []),
        ({"image": "", "images": ["a.jpg"]}, ["a.jpg"]),
    ],
)
def test_images_of_a_record(record: dict[str, Any], names: list[str]) -> None:
    assert images_of(Record(number=0, value=record, home=Home(spans={}))) == names


@pytest.mark.parametrize(
    "record", [{"image": "a", "images": ["b"]}, {"image": 4}, {"images": ["a", ""]}, {"images": [{}]}]
)
def test_names_of_images_are_text(record: dict[str, Any]) -> None:
    with pytest.raises(WrongFormat, match="image"):
        images_of(Record(number=0, value=record, home=Home(spans={})))


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), max_size=8))
def test_every_question_is_usable_or_counted(questions: list[tuple[str, list[str]]]) -> None:
    clean, notes = usable([{"question": question, "answers": answers} for question, answers in questions])
    dropped = sum(notes[f"{kind}_questions"] for kind in ("empty", "unanswered", "repeated"))
    assert len(clean) + dropped == len(questions)
    pairs = [(one["question"], one["answers"][0]) for one in clean]
    assert len(set(pairs)) == len(pairs)
    for one in clean:
        assert one["question"] == " ".join(one["question"].split()) != ""
        assert len(set(one["answers"])) == len(one["answers"]) >= 1
    assert notes["other_answers"] == sum(len(one["answers"]) - 1 for one in clean)


def test_the_first_answer_is_the_target_and_the_rest_stay_in_order() -> None:
    (one,), notes = usable([{"question": "Total?", "answers": ["24 ", "24", "", "24.0", "24"], "id": 1}])
    assert (one["answers"], one["id"]) == (["24", "24.0"], 1)
    assert notes == {"other_answers": 1}


def test_one_question_with_two_first_answers_is_two() -> None:
    clean, notes = usable([{"question": "Who?", "answers": [name]} for name in ("Ann", "Bob", "Ann")])
    assert [one["answers"] for one in clean] == [["Ann"], ["Bob"]] and notes == {"repeated_questions": 1}


def test_files_of_a_data_set_name_their_split() -> None:
    for entries in QUESTION_FILES.values():
        names = [one.questions.format(split="val") for one in entries]
        assert len(set(names)) == len(names) and all("val" in name for name in names)
