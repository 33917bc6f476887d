"""Questions about images in the formats of DocVQA, ChartQA and own files, and the folders of the two data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.inputs.json_records import json_id
from datagen.inputs.record import ImageRef, Record, place
from varyforge.errors import WrongFormat, kind_of
from varyforge.external.conversations import inline_images, is_seen


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of questions in the folder of a published data set. `{split}` stands for train, val or test."""

    questions: str  # path of the file
    images: str  # folder of the images
    key: str = ""  # key of the list of questions, if the file holds an object
    subset: str = ""


QUESTION_FILES: Mapping[str, Sequence[QuestionFile]] = {  # by data set; all that exist are read
    "docvqa": (
        QuestionFile("spdocvqa_qas/{split}_v1.0_withQT.json", "spdocvqa_images", key="data"),
        QuestionFile("spdocvqa_qas/{split}_v1.0.json", "spdocvqa_images", key="data"),  # test split, without answers
        QuestionFile("{split}/{split}_v1.0.json", "{split}/documents", key="data"),  # first release
    ),
    "chartqa": tuple(
        QuestionFile(f"{above}{{split}}/{{split}}_{subset}.json", f"{above}{{split}}/png", subset=subset)
        for above in ("", "ChartQA Dataset/")  # folder in the archive
        for subset in ("human", "augmented")
    ),
}


@dataclass(frozen=True, slots=True)
class Fields:
    """A data set's keys for the parts of a question."""

    image: str
    question: str
    answers: str  # text, a number, or a list of these
    id: str = ""
    document: str = ""  # document of which the image is a page


FIELDS = {  # keys by data set; own records have `answer`, `answers` or `label`
    "docvqa": Fields("image", "question", "answers", "questionId", "ucsf_document_id"),
    "chartqa": Fields("imgname", "query", "label"),
    "answer": Fields("image", "question", "answer", "id"),
    "answers": Fields("image", "question", "answers", "id"),
    "label": Fields("image", "query", "label", "id"),  # ChartQA on the hub
}


IMAGE_KEYS = ("image", "images")
"""Keys of a record's images."""


def question_of(record: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return a question as in a unit's payload: `question`, `answers` (possibly empty) and `id`.

    Raises:
        WrongFormat: the question is not text, or an answer is neither text nor a number.
    """
    value = record.get(fields.answers)
    answers = value if isinstance(value, list) else [] if value is None else [value]
    name = json_id(record.get(fields.id))
    return {
        "question": _text(record, fields.question),
        "answers": [_answer(answer, fields.answers) for answer in answers],
        "id": "" if name is None else name,
    }


def image_question(record: Mapping[str, Any], fields: Fields) -> tuple[str, dict[str, Any]]:
    """Return the image name of a data set's question, and the question with its document and split.

    Raises:
        WrongFormat: the image name is not text, or as for `question_of`.
    """
    more = {"document": str(record.get(fields.document) or ""), "split": str(record.get("data_split") or "")}
    return _text(record, fields.image), {**question_of(record, fields), **more}


def images_of(record: Record) -> list[ImageRef]:
    """Return the images of a record: those under `image` or `images`, or those in its turns. A text record has none.

    Raises:
        WrongFormat: the record has images in two places, or in a column that is not read, or a value is no image.
    """
    images = _read_images(record)
    if unread := [image for image in record.embedded() if image.is_image and image not in images]:
        column = str(unread[0].path[0])
        raise WrongFormat(f"an image in column {column!r} that is not read; call the column image or images")
    return images


def _read_images(record: Record) -> list[ImageRef]:
    fields = record.fields
    keys = [key for key in IMAGE_KEYS if fields.get(key)]
    inline = [(path, value) for path, value in inline_images(fields) if value is not None]
    if len(keys) > 1:
        raise WrongFormat("has both 'image' and 'images'")
    if keys and inline:
        raise WrongFormat(f"has images under {keys[0]!r} and at {place(inline[0][0])}")
    if inline:
        return [record.image(value, path) for path, value in inline]
    if not keys:
        return []
    value = fields[keys[0]]
    if isinstance(value, list):
        return [record.image(one, (keys[0], number)) for number, one in enumerate(value)]
    return [record.image(value, (keys[0],))]


def usable(questions: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return usable questions with clean spaces, and counts of empty, unanswered and repeated questions.

    The first of several answers is the training target. Distinct answers stay in the order of the data set.
    """
    clean: list[dict[str, Any]] = []
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
            clean.append({**one, "question": question, "answers": answers})
    return clean, +notes


def _text(record: Mapping[str, Any], key: str) -> str:
    if key not in record:
        raise WrongFormat(f"key {key!r} is missing")
    if not isinstance(record[key], str):
        raise WrongFormat(f"key {key!r} is {kind_of(record[key])}, expected text")
    return str(record[key])


def _answer(value: Any, key: str) -> str:
    if isinstance(value, str) or type(value) is int or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    content = value if isinstance(value, float) else kind_of(value)
    raise WrongFormat(f"key {key!r} holds {content}, expected text or a number")
