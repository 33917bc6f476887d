"""A catalog's rows: where each sample lies and what it costs, tens of bytes a sample, in a file that is mapped.

The file: the rows, a JSON object (what they are, and what was counted on the way), its length, a mark at the end. So it
is written from front to back, and what is torn lacks the mark.
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

FORMAT = 1  # of the file and of how rows are worked out

ROW = np.dtype(
    [
        ("offset", "<i8"),  # bytes from the start of the tar
        ("size", "<i8"),  # bytes
        ("shard", "<i4"),  # number of the tar
        ("tokens", "<i4"),  # of all turns, estimated
        ("answer_tokens", "<i4"),  # of the assistant's turns, estimated
        ("images", "<i2"),
        ("task", "i1"),  # number in TASKS
    ]
)
"""31 bytes a sample."""

TEXTS = ("task", "prompt", "language")
NUMBERS = ("offset", "size", "tokens", "answer_chars", "images")
"""Columns of the index that rows are made of."""

_MARK = b"varyrows"
_LENGTH_BYTES = 8

# Tokens per character as `lengths.py` estimates them: answers of 999 English and 1,000 Chinese Alpaca chats; a box
# "raccoon: [[123, 456, 789, 999]]".
_RATE, _RATE_OF_LANGUAGE, _RATE_OF_BOXES = 0.21, dict.fromkeys(("zh", "ja", "ko"), 0.57), 0.8
_ASK_FOR_BOXES = ("referring", "referring_phrase")  # prompt lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Mapped rows, and what was counted when they were made."""

    rows: NDArray[Any]  # (samples,) of ROW
    kept: tuple[int, ...]  # samples: all, then after each condition
    tasks: Mapping[str, int]  # samples of each task
    tokens: int  # sums
    answer_tokens: int


def rows_of(table: pa.Table, shard: int, conditions: Sequence[Condition]) -> tuple[NDArray[Any], list[int]]:
    """The rows of an index table for which the conditions hold, and how many were left after each.

    Raises:
        ValueError: a task that there is not.
    """
    holds = np.ones(len(table), np.bool_)
    kept = [len(table)]
    for condition in conditions:
        holds &= condition.holds(table.column(condition.column))
        kept.append(int(np.count_nonzero(holds)))
    made = np.empty(len(table), ROW)
    made["shard"] = shard
    for name in ("offset", "size", "tokens", "images"):
        made[name] = np.minimum(table.column(name).to_numpy(), np.iinfo(ROW[name]).max)  # nobody has so many images
    made["answer_tokens"] = _answer_tokens(table)
    codes, tasks = coded(table.column("task"))
    if strange := set(tasks) - set(TASKS):
        raise ValueError(f"its index names the task {min(map(str, strange))!r}; there are {', '.join(TASKS)}")
    made["task"] = np.array([TASKS.index(task) for task in tasks], np.int8)[codes]
    return made[holds], kept


def _answer_tokens(table: pa.Table) -> NDArray[np.int64]:
    """Supervised tokens, estimated, from what the index knows of a sample.

    It knows the tokens of all turns, the characters of the answers, and which wording the prompt has. Where a wording
    is the whole of the question, the answer's tokens are all tokens less the wording's. Else the answer's characters
    are taken at so many tokens each, by language (or as boxes), up to all tokens less the wording's fixed part.
    """
    tokens, chars = table.column("tokens").to_numpy(), table.column("answer_chars").to_numpy()
    codes, prompts = coded(table.column("prompt"))
    language_codes, languages = coded(table.column("language"))
    known = [_question(prompt or "") for prompt in prompts]
    left = tokens - np.array([question.tokens for question in known], np.int64)[codes]
    rate = np.array([_RATE_OF_LANGUAGE.get((language or "").partition("-")[0], _RATE) for language in languages])
    rates = rate[language_codes] if len(rate) else np.full(len(tokens), _RATE)
    boxes = np.array([question.asks_for_boxes for question in known], np.bool_)[codes]
    guessed = np.minimum(np.round(chars * np.where(boxes, _RATE_OF_BOXES, rates)).astype(np.int64), left)
    whole = np.array([question.is_whole for question in known], np.bool_)[codes]
    found: NDArray[np.int64] = np.maximum(np.where(whole, left, guessed), 1)
    return found


@dataclass(frozen=True, slots=True)
class _Question:
    tokens: int = 0  # of the wording, without what is filled in
    is_whole: bool = False  # nothing is filled in
    asks_for_boxes: bool = False


@cache
def _question(prompt: str) -> _Question:
    """What is known of a question by the name of its wording, as in "ocr.en.3"."""
    name, _, rest = prompt.partition(".")
    language, _, place = rest.partition(".")
    if name not in prompted() or not place.isdecimal() or int(place) >= len(wordings(name, language)):
        return _Question()
    parts = list(Formatter().parse(wordings(name, language)[int(place)]))
    whole = all(field is None for _, field, _, _ in parts)
    text = IMAGE_MARKER + "".join(literal for literal, _, _, _ in parts)
    return _Question(estimate_tokens(text), whole, name in _ASK_FOR_BOXES)


def write_rows(path: Path, identity: str, parts: Iterable[tuple[NDArray[Any], Sequence[int]]]) -> None:
    """Writes what `rows_of` gave for each shard, whole or not at all.

    Args:
        path: the file.
        identity: what the rows are of; `open_rows` asks for the same.
        parts: rows, and how many were left after each condition.
    """
    kept = np.zeros(1, np.int64)
    tasks = np.zeros(len(TASKS), np.int64)
    sums: Counter[str] = Counter()
    with atomic_file(path) as file:
        for rows, counts in parts:
            file.write(rows.tobytes())
            kept = kept + np.array(counts)
            tasks += np.bincount(rows["task"], minlength=len(TASKS))
            sums.update({name: int(rows[name].sum(dtype=np.int64)) for name in ("tokens", "answer_tokens")})
        about = {
            "identity": identity,
            "kept": kept.tolist(),
            "tasks": dict(zip(TASKS, tasks.tolist(), strict=True)),
            "tokens": sums["tokens"],
            "answer_tokens": sums["answer_tokens"],
        }
        text = json.dumps(about).encode()
        file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little") + _MARK)


def open_rows(path: Path, identity: str) -> Rows | None:
    """Maps a file of rows; None where there is none, or it is torn, or not of `identity`."""
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
        kept=tuple(about["kept"]),
        tasks={task: count for task, count in about["tasks"].items() if count},
        tokens=about["tokens"],
        answer_tokens=about["answer_tokens"],
    )
