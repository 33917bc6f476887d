"""Key information as questions: receipts and forms whose data sets list fields and values.

Formats: SROIE (ICDAR 2019, task 3), FUNSD (https://guillaumejaume.github.io/FUNSD), and Donut's `ground_truth`, in
which CORD v2 and SynthDoG are published (https://huggingface.co/naver-clova-ix).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from varyforge.errors import WrongFormat, kind_of

Question = tuple[str, str]
"""A question and its answer."""

_CORD = {  # fields whose names are abbreviations
    "nm": "name",
    "num": "number",
    "cnt": "count",
    "unitprice": "unit price",
    "etc": "note",
    "vatyn": "VAT mark",
    "discountprice": "discount",
    "itemsubtotal": "subtotal",
    "subtotal_price": "subtotal",
    "othersvc_price": "price of other services",
    "menutype_cnt": "number of kinds of items",
    "menuqty_cnt": "number of items",
    "total_etc": "note on the total",
    "cashprice": "cash payment",
    "changeprice": "change",
    "creditcardprice": "credit card payment",
    "emoneyprice": "electronic money payment",
}


def questions_of_fields(fields: Any, noun: str) -> list[Question]:
    """Return a question per field of a flat object, such as SROIE's company, date, address and total.

    Raises:
        WrongFormat: it is no object.
    """
    if not isinstance(fields, dict):
        raise WrongFormat(f"expected an object with fields, found {kind_of(fields)}")
    return [
        (f"What is the {_words(key)} on this {noun}?", text) for key, value in fields.items() for text in _texts(value)
    ]


def questions_of_form(annotation: Any) -> list[Question]:
    """Return a question per question of a form in FUNSD: its answers are the entities that it is linked to.

    Raises:
        WrongFormat: there is no list `form`, or an entity has no id and text.
    """
    entities = annotation.get("form") if isinstance(annotation, dict) else None
    if not isinstance(entities, list):
        raise WrongFormat("key 'form' is no list of entities")
    by_id: dict[int, Mapping[str, Any]] = {}
    answers: defaultdict[int, list[int]] = defaultdict(list)
    for number, entity in enumerate(entities):
        if not isinstance(entity, dict) or type(entity.get("id")) is not int or not isinstance(entity.get("text"), str):
            raise WrongFormat(f"form[{number}] is no entity with id and text")
        by_id[entity["id"]] = entity
    links = {tuple(link) for entity in entities for link in entity.get("linking") or [] if isinstance(link, list)}
    for first, *rest in sorted(links, key=repr):
        ends = [by_id.get(end) for end in (first, *rest)]
        labels = [entity.get("label") if entity else None for entity in ends]
        if labels == ["question", "answer"]:
            answers[first].append(rest[0])
        elif labels == ["answer", "question"]:
            answers[rest[0]].append(first)
    questions = []
    for number in by_id:  # in the order of the file, which is that of reading
        label = by_id[number]["text"].strip().rstrip(":").strip()
        parts = [by_id[other]["text"].strip() for other in by_id if other in answers.get(number, ())]
        if label and any(parts):
            questions.append((f"What is the value of “{label}” in this form?", " ".join(filter(None, parts))))
    return questions


def read_ground_truth(text: Any) -> tuple[str, list[Question]]:
    """Read Donut's `ground_truth`: the text of a page (SynthDoG), or questions about its fields (CORD, DocVQA).

    Raises:
        WrongFormat: it is not JSON with `gt_parse` or `gt_parses`.
    """
    try:
        truth = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise WrongFormat(f"key 'ground_truth' is not JSON: {error}") from error
    if not isinstance(truth, dict) or not ("gt_parse" in truth or "gt_parses" in truth):
        raise WrongFormat("key 'ground_truth' has no gt_parse or gt_parses")
    parses = truth.get("gt_parses")
    if isinstance(parses, list):
        return "", [(str(one["question"]), str(one["answer"])) for one in parses if _is_exchange(one)]
    parse = truth.get("gt_parse")
    page = parse.get("text_sequence") if isinstance(parse, dict) else None
    return (page, []) if isinstance(page, str) else ("", list(_of_parse(parse)))


def payload_of(questions: Sequence[Question]) -> dict[str, Any]:
    """Return the payload of a unit. A question with several answers (two items of one name) is left out and counted."""
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for question, answer in questions:
        answers[question].add(answer)
    clear = dict.fromkeys(one for one in questions if len(answers[one[0]]) == 1)
    ambiguous = sum(len(answers[question]) > 1 for question, _ in questions)
    return {
        "questions": [{"question": question, "answers": [answer], "id": ""} for question, answer in clear],
        "left_out": {"ambiguous_questions": ambiguous},
    }


def _is_exchange(item: Any) -> bool:
    return isinstance(item, dict) and "question" in item and "answer" in item


def _of_parse(value: Any) -> Iterator[Question]:
    """Yield the questions about a parsed receipt. An item of a list is asked for by its name."""
    if isinstance(value, list):
        for item in value:
            yield from _of_parse(item)
        return
    if not isinstance(value, dict):
        return
    names = _texts(value.get("nm"))
    of = f"of “{' '.join(names)}”" if names else "on this document"
    for key, field in value.items():
        if isinstance(field, dict) or (isinstance(field, list) and any(isinstance(one, dict | list) for one in field)):
            yield from _of_parse(field)
        elif not (names and key == "nm"):
            yield from ((f"What is the {_words(key)} {of}?", text) for text in _texts(field))


def _texts(value: Any) -> list[str]:
    """Return the text of a field, of which several lines are one text; nothing for an empty field."""
    parts = value if isinstance(value, list) else [value]
    lines = [str(part).strip() for part in parts if isinstance(part, str | int | float) and str(part).strip()]
    return [" ".join(lines)] if lines else []


def _words(key: str) -> str:
    return _CORD.get(key, " ".join(key.replace("_", " ").split()))
