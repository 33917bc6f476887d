"""Questions about images: how DocVQA, ChartQA and own files write them down, and where the two data sets keep them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from varyforge.conversations import is_seen
from varyforge.errors import WrongForm, kind_of


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """Files below a data set's folder, as it is published; `{split}` is train, val or test."""

    questions: str
    images: str  # folder of the images
    key: str = ""  # of the list of questions, where the file holds an object
    subset: str = ""


QUESTION_FILES: Mapping[str, Sequence[QuestionFile]] = {
    "docvqa": (
        QuestionFile("spdocvqa_qas/{split}_v1.0_withQT.json", "spdocvqa_images", key="data"),
        QuestionFile(
            "spdocvqa_qas/{split}_v1.0.json", "spdocvqa_images", key="data"
        ),  # of the test split, without answers
        QuestionFile("{split}/{split}_v1.0.json", "{split}/documents", key="data"),  # as it was first published
    ),
    "chartqa": tuple(
        QuestionFile(f"{above}{{split}}/{{split}}_{subset}.json", f"{above}{{split}}/png", subset=subset)
        for above in ("", "ChartQA Dataset/")  # the folder that the archive holds
        for subset in ("human", "augmented")
    ),
}
"""By data set. All files that are there are read."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a data set calls the parts of a question."""

    image: str
    question: str
    answers: str  # text, a number, or a list of these
    id: str = ""
    document: str = ""  # of which the image is a page


FIELDS = {
    "docvqa": Fields("image", "question", "answers", "questionId", "ucsf_document_id"),
    "chartqa": Fields("imgname", "query", "label"),
    "answer": Fields("image", "question", "answer", "id"),
    "answers": Fields("image", "question", "answers", "id"),
}
"""By data set; records of one's own have `answer` or `answers`."""


def question_of(record: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """A question as a unit's payload holds it: question, answers (none where nobody answers), id.

    Raises:
        WrongForm: the question is no text, or an answer neither text nor a number.
    """
    given = record.get(fields.answers)
    answers = given if isinstance(given, list) else [] if given is None else [given]
    name = record.get(fields.id)
    return {
        "question": _text(record, fields.question),
        "answers": [_answer(answer, fields.answers) for answer in answers],
        "id": name if isinstance(name, str | int) else "",
    }


def image_question(record: Mapping[str, Any], fields: Fields) -> tuple[str, dict[str, Any]]:
    """The name of the image that a data set's question is about, and the question with its document and split.

    Raises:
        WrongForm: the image's name is no text, or as for `question_of`.
    """
    more = {"document": str(record.get(fields.document) or ""), "split": str(record.get("data_split") or "")}
    return _text(record, fields.image), {**question_of(record, fields), **more}


def images_of(record: Mapping[str, Any]) -> list[str]:
    """File names of the images that a record is about, under `image` or `images`; none where it is pure text.

    Raises:
        WrongForm: both keys are used, or a name is no text.
    """
    one, several = record.get("image"), record.get("images")
    if one and several:
        raise WrongForm("has both 'image' and 'images'")
    found = one or several or []
    names = found if isinstance(found, list) else [found]
    for name in names:
        if not isinstance(name, str) or not name:
            raise WrongForm(f"an image is {kind_of(name)}, expected a file name")
    return names


def usable(questions: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The questions to ask, spaces cleaned, and counts of those left out: empty, unanswered, or asked before.

    Of several answers the first is the one to learn; all are kept, each once, in the order of the data set.
    """
    kept: list[dict[str, Any]] = []
    notes: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for one in questions:
        question = " ".join(one["question"].split())
        answers = list(dict.fromkeys(" ".join(answer.split()) for answer in one["answers"] if is_seen(answer)))
        if not is_seen(question):
            notes["empty_questions"] += 1
        elif not answers:
            notes["unanswered_questions"] += 1
        elif (question, answers[0]) in seen:
            notes["repeated_questions"] += 1
        else:
            seen.add((question, answers[0]))
            notes["other_answers"] += len(answers) - 1
            kept.append({**one, "question": question, "answers": answers})
    return kept, +notes


def _text(record: Mapping[str, Any], key: str) -> str:
    if key not in record:
        raise WrongForm(f"key {key!r} is missing")
    if not isinstance(record[key], str):
        raise WrongForm(f"key {key!r} is {kind_of(record[key])}, expected text")
    return str(record[key])


def _answer(found: Any, key: str) -> str:
    if isinstance(found, str) or type(found) is int or (isinstance(found, float) and math.isfinite(found)):
        return str(found)
    shown = found if isinstance(found, float) else kind_of(found)
    raise WrongForm(f"key {key!r} holds {shown}, expected text or a number")
