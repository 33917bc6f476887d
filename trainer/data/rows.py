"""A catalog's rows: the location and cost of each sample, tens of bytes per sample, in a memory-mapped file.

The file holds the rows, a JSON object (identity and counts) and the object's length. It is written from front to back,
so a torn file ends without the object.
"""

from __future__ import annotations

import json
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

INDEX_COLUMNS = ("task", "prompt", "language", "offset", "size", "tokens", "answer_chars", "images")
"""Columns of the index that rows are made of."""

_LENGTH_BYTES = 8

# Tokens per character, as estimated by `varyforge.lengths` on the answers of 999 English and 1,000 Chinese Alpaca chats
# and on a box, "raccoon: [[123, 456, 789, 999]]".
_RATE, _RATE_OF_LANGUAGE, _RATE_OF_BOXES = 0.21, dict.fromkeys(("zh", "ja", "ko"), 0.57), 0.8
_ASK_FOR_BOXES = ("referring", "referring_phrase")  # prompt lists
_QUESTION = np.dtype([("tokens", "i8"), ("is_whole", "?"), ("asks_for_boxes", "?")])  # of a wording, without its fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Mapped rows, and the counts made when they were written."""

    rows: NDArray[Any]  # (samples,) of ROW
    passed: Sequence[int]  # samples: all, then after each condition
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
    questions = np.array([_question(prompt or "") for prompt in prompts], _QUESTION)[codes]
    left = tokens - questions["tokens"]
    rate = np.array([_RATE_OF_LANGUAGE.get((language or "").partition("-")[0], _RATE) for language in languages])
    rates = np.where(questions["asks_for_boxes"], _RATE_OF_BOXES, rate[language_codes])
    estimate = np.minimum(np.round(chars * rates).astype(np.int64), left)
    answers: NDArray[np.int64] = np.maximum(np.where(questions["is_whole"], left, estimate), 1)
    return answers


@cache
def _question(prompt: str) -> tuple[int, bool, bool]:
    """Return a row of _QUESTION for the name of a wording, for example "ocr.en.3". A whole question has no fields."""
    name, _, rest = prompt.partition(".")
    language, _, position = rest.partition(".")
    if name not in prompted() or not position.isdecimal() or int(position) >= len(wordings(name, language)):
        return 0, False, False
    parts = list(Formatter().parse(wordings(name, language)[int(position)]))
    whole = all(field is None for _, field, _, _ in parts)
    text = IMAGE_MARKER + "".join(literal for literal, _, _, _ in parts)
    return estimate_tokens(text), whole, name in _ASK_FOR_BOXES


def write_rows(path: Path, identity: str, parts: Iterable[tuple[NDArray[Any], Sequence[int]]]) -> None:
    """Write `parts`, the results of `rows_of` shard by shard, to a file, whole or not at all."""
    passed = np.zeros(1, np.int64)
    tasks = np.zeros(len(TASKS), np.int64)
    sums = {"tokens": 0, "answer_tokens": 0}
    with atomic_file(path) as file:
        for rows, counts in parts:
            file.write(rows.tobytes())
            passed = passed + np.array(counts)
            tasks += np.bincount(rows["task"], minlength=len(TASKS))
            for name in sums:
                sums[name] += int(rows[name].sum(dtype=np.int64))
        by_task = {task: count for task, count in zip(TASKS, tasks.tolist(), strict=True) if count}
        about = {"passed": passed.tolist(), "tasks": by_task, **sums}
        text = json.dumps({"identity": identity, "about": about}).encode()
        file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little"))


def open_rows(path: Path, identity: str) -> Rows | None:
    """Map a file of rows; None where the file is missing, torn, or of another identity."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2) - _LENGTH_BYTES
            file.seek(end)
            start = end - int.from_bytes(file.read(), "little")
            file.seek(start)
            stored = json.loads(file.read(end - start))
            count = stored["about"]["passed"][-1]
            if stored["identity"] != identity or count * ROW.itemsize != start:
                return None
            rows = np.memmap(file, ROW, "r", shape=(count,)) if count else np.empty(0, ROW)
            return Rows(rows=rows, **stored["about"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
