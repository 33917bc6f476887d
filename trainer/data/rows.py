"""A catalog's rows: the location and cost of each sample, tens of bytes per sample, in a memory-mapped file.

The file holds the rows, a JSON object (identity and counts), the object's length, and an end mark. It is written from
front to back, so a torn file lacks the mark.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.filters import Condition, coded
from varyforge.files import atomic_file
from varyforge.lengths import estimate_tokens
from varyforge.prompts import prompted, wordings
from varyforge.sample import IMAGE_MARKER, TASKS

FORMAT = 1  # of the file and of the rules by which rows are computed

ROW = np.dtype(
    [
        ("offset", "<i8"),  # bytes from the start of the tar
        ("size", "<i8"),  # bytes
        ("shard", "<i4"),  # position of the tar in the set
        ("tokens", "<i4"),  # of all turns, estimated
        ("answer_tokens", "<i4"),  # of the assistant's turns, estimated
        ("images", "<i2"),
        ("task", "i1"),  # position in TASKS
    ]
)
"""31 bytes per sample."""

TEXTS = ("task", "prompt", "language")
NUMBERS = ("offset", "size", "tokens", "answer_chars", "images")
"""Columns of the index that rows are made of."""

_MARK = b"varyrows"
_LENGTH_BYTES = 8

# Tokens per character, as estimated by `varyforge.lengths` on the answers of 999 English and 1,000 Chinese Alpaca chats
# and on a box, "raccoon: [[123, 456, 789, 999]]".
_RATE, _RATE_OF_LANGUAGE, _RATE_OF_BOXES = 0.21, dict.fromkeys(("zh", "ja", "ko"), 0.57), 0.8
_ASK_FOR_BOXES = ("referring", "referring_phrase")  # prompt lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Mapped rows, and the counts made when they were written."""

    rows: NDArray[Any]  # (samples,) of ROW
    passed: tuple[int, ...]  # samples: all, then after each condition
    tasks: Mapping[str, int]  # samples of each task
    tokens: int  # sum over all samples
    answer_tokens: int  # sum over all samples


def rows_of(table: pa.Table, shard: int, conditions: Sequence[Condition]) -> tuple[NDArray[Any], list[int]]:
    """Return the rows of an index table that meet the conditions, and the number of rows left after each condition.

    Raises:
        ValueError: the table names an unknown task.
    """
    holds = np.ones(len(table), np.bool_)
    passed = [len(table)]
    for condition in conditions:
        holds &= condition.holds(table.column(condition.column))
        passed.append(int(np.count_nonzero(holds)))
    rows = np.empty(len(table), ROW)
    rows["shard"] = shard
    for name in ("offset", "size", "tokens", "images"):
        rows[name] = np.minimum(table.column(name).to_numpy(), np.iinfo(ROW[name]).max)  # only images could exceed it
    rows["answer_tokens"] = _answer_tokens(table)
    codes, tasks = coded(table.column("task"))
    if unknown := set(tasks) - set(TASKS):
        raise ValueError(f"its index names the task {min(map(str, unknown))!r}; there are {', '.join(TASKS)}")
    rows["task"] = np.array([TASKS.index(task) for task in tasks], np.int8)[codes]
    return rows[holds], passed


def _answer_tokens(table: pa.Table) -> NDArray[np.int64]:
    """Estimate the supervised tokens of each sample, (rows,), from the index.

    The index has the tokens of all turns, the characters of the answers and the name of the prompt's wording. If the
    wording is the whole question, the answer has all tokens but the wording's. Otherwise the answer's characters are
    multiplied by a rate per language (or for boxes), up to all tokens but the wording's fixed part.
    """
    tokens, chars = table.column("tokens").to_numpy(), table.column("answer_chars").to_numpy()
    codes, prompts = coded(table.column("prompt"))
    language_codes, languages = coded(table.column("language"))
    questions = [_question(prompt or "") for prompt in prompts]
    left = tokens - np.array([question.tokens for question in questions], np.int64)[codes]
    rate = np.array([_RATE_OF_LANGUAGE.get((language or "").partition("-")[0], _RATE) for language in languages])
    rates = rate[language_codes] if len(rate) else np.full(len(tokens), _RATE)
    boxes = np.array([question.asks_for_boxes for question in questions], np.bool_)[codes]
    estimate = np.minimum(np.round(chars * np.where(boxes, _RATE_OF_BOXES, rates)).astype(np.int64), left)
    whole = np.array([question.is_whole for question in questions], np.bool_)[codes]
    answers: NDArray[np.int64] = np.maximum(np.where(whole, left, estimate), 1)
    return answers


@dataclass(frozen=True, slots=True)
class _Question:
    tokens: int = 0  # of the wording, without its fields
    is_whole: bool = False  # the wording has no fields
    asks_for_boxes: bool = False


@cache
def _question(prompt: str) -> _Question:
    """Describe a question by the name of its wording, for example "ocr.en.3"."""
    name, _, rest = prompt.partition(".")
    language, _, position = rest.partition(".")
    if name not in prompted() or not position.isdecimal() or int(position) >= len(wordings(name, language)):
        return _Question()
    parts = list(Formatter().parse(wordings(name, language)[int(position)]))
    whole = all(field is None for _, field, _, _ in parts)
    text = IMAGE_MARKER + "".join(literal for literal, _, _, _ in parts)
    return _Question(estimate_tokens(text), whole, name in _ASK_FOR_BOXES)


def write_rows(path: Path, identity: str, parts: Iterable[tuple[NDArray[Any], Sequence[int]]]) -> None:
    """Write the rows of all shards to a file, whole or not at all.

    Args:
        path: the file.
        identity: of the samples; `open_rows` compares it.
        parts: the results of `rows_of`, shard by shard.
    """
    passed = np.zeros(1, np.int64)
    tasks = np.zeros(len(TASKS), np.int64)
    sums: Counter[str] = Counter()
    with atomic_file(path) as file:
        for rows, counts in parts:
            file.write(rows.tobytes())
            passed = passed + np.array(counts)
            tasks += np.bincount(rows["task"], minlength=len(TASKS))
            sums.update({name: int(rows[name].sum(dtype=np.int64)) for name in ("tokens", "answer_tokens")})
        about = {
            "identity": identity,
            "kept": passed.tolist(),
            "tasks": dict(zip(TASKS, tasks.tolist(), strict=True)),
            "tokens": sums["tokens"],
            "answer_tokens": sums["answer_tokens"],
        }
        text = json.dumps(about).encode()
        file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little") + _MARK)


def open_rows(path: Path, identity: str) -> Rows | None:
    """Map a file of rows; None where the file is missing, torn, or of another identity."""
    tail = _LENGTH_BYTES + len(_MARK)
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2) - tail
            file.seek(max(end, 0))
            length, mark = int.from_bytes(file.read(_LENGTH_BYTES), "little"), file.read()
            if mark != _MARK or length > end:
                return None
            file.seek(end - length)
            about = json.loads(file.read(length))
            count = int(about["kept"][-1])
            if about["identity"] != identity or count * ROW.itemsize != end - length:
                return None
            rows = np.memmap(file, ROW, "r", shape=(count,)) if count else np.empty(0, ROW)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Rows(
        rows=rows,
        passed=tuple(about["kept"]),
        tasks={task: count for task, count in about["tasks"].items() if count},
        tokens=about["tokens"],
        answer_tokens=about["answer_tokens"],
    )
