"""Sample chats in Alpaca format: short instructions with answers that are looked up or computed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from datagen.examples.texts import LANGUAGES, text_bank
from varyforge.files import write_text


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)


def _arithmetic(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    a, b, x, y = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 12), rng.randint(2, 12)
    return {"a": a, "b": b, "c": a + b, "x": x, "y": y, "z": x * y}


def _numbers(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    numbers = rng.sample(range(1, 200), rng.randint(3, 6))
    return {"input": _listed(numbers), "largest": max(numbers), "ordered": _listed(sorted(numbers))}


def _sequence(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    first, step = rng.randint(1, 20), rng.randint(2, 12)
    return {"sequence": _listed(first + step * i for i in range(4)), "next": first + step * 4}


def _word(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    word = rng.choice(texts["chat"]["words"])
    return {"word": word, "length": len(word)}


def _repeated_letter(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    word = rng.choice(texts["chat"]["words"])
    letter = rng.choice(word)
    return {"word": word, "letter": letter, "times": texts["chat"]["times"][word.count(letter) - 1]}


def _words(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, object]:
    words = rng.sample(texts["chat"]["words"], rng.randint(3, 5))
    return {"input": _listed(words), "ordered_words": _listed(sorted(words))}


_FIELDS: Mapping[str, Callable[[random.Random, Mapping[str, Any]], dict[str, object]]] = {
    "sum": _arithmetic,
    "difference": _arithmetic,
    "product": _arithmetic,
    "largest": _numbers,
    "in_order": _numbers,
    "next_number": _sequence,
    "length": _word,
    "repeats": _repeated_letter,
    "alphabetical": _words,
}
"""Name of a question in `texts.toml` → the function that makes its fields."""


def write_chats(folder: Path | str, *, chats: int = 120, seed: int = 0) -> Path:
    """Write `alpaca.json`: short questions with correct answers, alternately English and Chinese, none twice.

    Returns the file, a list of `{"instruction", "input", "output"}`. An existing file is replaced.
    """
    records: list[dict[str, str]] = []
    questions: set[tuple[str, str]] = set()
    rng = random.Random(f"chats {seed}")
    while len(records) < chats:
        record = _exchange(rng, text_bank()[LANGUAGES[len(records) % len(LANGUAGES)]])
        question = (record["instruction"], record["input"])
        if question not in questions:
            questions.add(question)
            records.append(record)
    path = Path(folder) / "alpaca.json"
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")
    return path


def _exchange(rng: random.Random, texts: Mapping[str, Any]) -> dict[str, str]:
    """Return one record: a fact in two of five cases, else a task to compute."""
    if rng.random() < 0.4:
        fact = rng.choice(texts["facts"])
        pair = rng.choice(fact["pairs"])
        question, answer = rng.choice(fact["asks"]).format(*pair), rng.choice(fact["answers"]).format(*pair)
        return {"instruction": question, "input": "", "output": answer}
    name = rng.choice([name for name in _FIELDS if name in texts["chat"]])
    pattern, fields = texts["chat"][name], _FIELDS[name](rng, texts)
    return {
        "instruction": rng.choice(pattern["asks"]).format(**fields),
        "input": str(fields.get("input", "")),
        "output": pattern["answer"].format(**fields),
    }
