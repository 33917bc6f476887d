"""Prompts per task: one registry for data, training, evaluation and demo.

The wordings are in `data/prompts.toml`. Vary-toy gives each task at least ten (arXiv 2401.12503, section 3.2.2). The
first wording of a list is the paper's own, with which models are evaluated. Three lists serve the task "referring":
"referring" names classes, "referring_phrase" describes one object, "referring_box" has a box and asks for words. The
tasks "text" and "instruct" have their own user turns,
except those of datagen.labelled: "fields" asks for a document's data as JSON, "field" for the value of one key.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import NamedTuple

from varyforge.escape import escape

FALLBACK_LANGUAGE = "en"


class Prompt(NamedTuple):
    """A prompt of a sample."""

    text: str
    name: str  # of the wording: list, language and index in the list, as in "ocr.en.3"


_LANGUAGE_TAG = re.compile(r"([a-z]{2,8})(-[A-Za-z0-9]{1,8})*|")  # BCP 47 or nothing; the group leaves out the region
_NAME_SEPARATORS = {"en": ", ", "zh": "、"}


@cache
def _lists() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Load the file: prompt list → language → wordings."""
    text = (files("varyforge") / "data" / "prompts.toml").read_text(encoding="utf-8")
    return {
        task: {language: tuple(wordings) for language, wordings in languages.items()}
        for task, languages in tomllib.loads(text).items()
    }


def prompted() -> tuple[str, ...]:
    """Return the names of the prompt lists."""
    return tuple(_lists())


def wordings(task: str, language: str = FALLBACK_LANGUAGE) -> tuple[str, ...]:
    """Return all wordings of a task's prompt, the paper's own first, `{placeholders}` unfilled.

    `language` is a tag such as "en" or "zh-Hant". A language without prompts, and "" for an unknown one, falls back to
    "en".

    Raises:
        ValueError: no such list, or `language` is not a language tag.
    """
    if task not in _lists():
        raise ValueError(f"no prompts for task {task!r}, expected one of {', '.join(prompted())}")
    return _lists()[task][_known(language)]


def choose(task: str, language: str, key: str, **fields: str) -> Prompt:
    """Choose the prompt of the sample `key`. The wording depends on task, language (as for `wordings`) and key alone.

    `fields` fill the task's placeholders: `classes` (see `join_names`) for "referring", `phrase` for
    "referring_phrase", `box` for "referring_box", `question` for "vqa", `field` for "field", none for other
    lists. The text is escaped.

    Raises:
        ValueError: no such list, not a language tag, or `fields` are not exactly the task's placeholders.
    """
    candidates = wordings(task, language)
    digest = hashlib.sha256(f"{task}\x1f{key}".encode()).digest()  # hash() would change with every process
    index = int.from_bytes(digest[:8]) % len(candidates)
    wording = candidates[index]
    expected = {name for _, name, _, _ in Formatter().parse(wording) if name is not None}
    if set(fields) != expected:
        raise ValueError(f"prompts for task {task!r} take the fields {sorted(expected)}, found {sorted(fields)}")
    text = wording.format(**{name: escape(value) for name, value in fields.items()})
    return Prompt(text, f"{task}.{_known(language)}.{index}")


def digests(lists: Sequence[str]) -> dict[str, str]:
    """Hash the wordings of lists, by "list.language". A changed hash tells which samples a change concerns."""
    return {
        f"{name}.{language}": hashlib.sha256("\x1f".join(wordings).encode()).hexdigest()[:12]
        for name in lists
        for language, wordings in _lists()[name].items()
    }


def join_names(names: Sequence[str], language: str = FALLBACK_LANGUAGE) -> str:
    """Join class names to the text of `{classes}`: "cat, dog", in Chinese "cat、dog".

    The paper's comma after the last name ("Detect class1, class2, ..., in this image.") is part of the wording.
    """
    return _NAME_SEPARATORS[_known(language)].join(names)


def _known(language: str) -> str:
    """Return the language whose prompts serve content in `language`."""
    known = tuple(next(iter(_lists().values())))
    tag = _LANGUAGE_TAG.fullmatch(language)
    if tag is None:
        raise ValueError(
            f"language {language!r} is not a tag such as {', '.join(map(repr, known))} "
            f"(other tags fall back to {FALLBACK_LANGUAGE!r})"
        )
    return tag[1] if tag[1] in known else FALLBACK_LANGUAGE
