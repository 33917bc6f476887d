"""Conversations: the forms in which they are published, and the rules by which they become turns.

A record's form is told by its keys. Whatever it is, its turns become (role, pieces): the text between the images that
stand in a turn, so one piece where there is none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from varyforge.errors import WrongFormat, kind_of
from varyforge.escape import escape
from varyforge.language import language_of
from varyforge.outcome import Rejected
from varyforge.sample import IMAGE_MARKER, Role, Turn

RawTurn = tuple[str, list[str]]
"""Role ("system", "user", "assistant", or what the record says where it is none of these) and pieces of the text."""

ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
"""What the data sets call the roles (ShareGPT names the assistants)."""

_BAIZE_TURN = re.compile(r"\[\|(Human|AI)\|\]")
_BAIZE_OPENING = "The conversation between human and AI assistant."


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """Turns that a `Sample` takes, and what was done to make them so."""

    turns: tuple[Turn, ...]  # escaped, IMAGE_MARKER where an image stands
    images: int  # markers in user turns: of the record's images the first so many
    language: str
    notes: Counter[str]


def read_turns(record: Mapping[str, Any], *, marked: bool = False) -> tuple[str, list[RawTurn]]:
    """The form of a record, and its turns as they are.

    Args:
        record: a JSON object.
        marked: whether `<image>` in a turn's text stands for an image; else it is text.

    Raises:
        WrongFormat: it is of no known form, of several, or breaks the rules of its form.
    """
    told = [name for name, form in _FORMS.items() if form.told_by(record)]
    if len(told) != 1:
        forms = "; ".join(f"{name} ({', '.join(_FORMS[name].keys)})" for name in told or _FORMS)
        raise WrongFormat(f"has the keys of several forms: {forms}" if told else f"has the keys of no form: {forms}")
    form = _FORMS[told[0]]
    missing = [key for key in form.keys if key not in record]
    if missing:
        raise WrongFormat(f"key {missing[0]!r} is missing; {told[0]} form has {', '.join(form.keys)}")
    system = _optional_text(record, "system")
    turns = [("system", system)] if system else []
    turns += form.read(record)
    return told[0], [(role, _pieces(content, marked)) for role, content in turns]


def tidy(turns: Sequence[RawTurn]) -> Dialogue | Rejected:
    """Turns that alternate, or which gate refuses them.

    Space at the ends of a turn goes. Answers before the first question are dropped, turns of the same role in a row
    become one with an empty line between, and a question at the end that nobody answers is dropped. Where a turn is
    empty, or a system turn stands in the middle, the conversation ends: what follows refers to what is missing.
    """
    for role, _ in turns:
        if role not in ROLES.values():
            strange = sum(role not in ROLES.values() for role, _ in turns)
            return Rejected(gate="roles", value=strange, threshold=0, detail=f"a turn of the role {role[:40]!r}")
    said = [(role, _text(pieces)) for role, pieces in turns]
    opening = _first(said, lambda role, _: role != "system")
    system = [text for _, text in said[:opening] if is_seen(text)]
    asked = opening + _first(said[opening:], lambda role, _: role == "user")
    dialogue = said[asked:]
    end = _first(dialogue, lambda role, text: role == "system" or not is_seen(text))
    notes = Counter({"leading_answers": asked - opening, "turns_after_a_gap": len(dialogue) - end})
    merged = [(role, [text for _, text in group]) for role, group in groupby(dialogue[:end], key=lambda turn: turn[0])]
    notes["merged_turns"] = end - len(merged)
    if merged and merged[-1][0] == "user":
        notes["unanswered_questions"] = len(merged.pop()[1])
    if not merged:
        return _nothing_left(dialogue, end)
    if system:
        merged.insert(0, ("system", system))
    found = tuple(Turn(role=cast(Role, role), text="\n\n".join(parts)) for role, parts in merged)
    return Dialogue(
        turns=found,
        images=sum(turn.text.count(IMAGE_MARKER) for turn in found if turn.role == "user"),
        language=language_of("\n".join(piece for _, pieces in turns for piece in pieces)),
        notes=+notes,
    )


def digest(*parts: object) -> str:
    """What identifies a conversation, whatever its form: a hash of turns, images … (JSON types)."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _first(said: Sequence[tuple[str, str]], is_it: Callable[[str, str], bool]) -> int:
    """The place of the first turn that it is; behind the last where it is none."""
    return next((place for place, turn in enumerate(said) if is_it(*turn)), len(said))


def _nothing_left(dialogue: Sequence[tuple[str, str]], end: int) -> Rejected:
    """Which gate refuses a conversation without an answered question, which `end` turns of the dialogue hold."""
    empty = dialogue[end][0] if end < len(dialogue) else ""
    gate = {"user": "question_chars", "assistant": "answer_chars"}.get(empty, "answered_questions")
    return Rejected(gate=gate, value=0, threshold=1)


def _text(pieces: Sequence[str]) -> str:
    return IMAGE_MARKER.join(map(escape, pieces)).strip()


def is_seen(text: str) -> bool:
    """Whether anything of a text has a shape: spaces have none, nor have zero-width characters."""
    return any(char.isprintable() and not char.isspace() for char in text)


def _pieces(content: Any, marked: bool) -> list[str]:
    """The text of a turn, cut where images stand. Content is text, or parts of "type" "text" and "image"."""
    if isinstance(content, str):
        return content.split(IMAGE_MARKER) if marked else [content]
    if not isinstance(content, list):
        raise WrongFormat(f"the content of a turn is {kind_of(content)}, expected text")
    pieces = [""]
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image":
            pieces.append("")
        elif kind == "text" and isinstance(part.get("text"), str):
            pieces[-1] += part["text"]
        else:
            raise WrongFormat(f"a part of a turn's content is {kind_of(part)} of type {kind!r}, expected text or image")
    return pieces


def _optional_text(record: Mapping[str, Any], key: str) -> str:
    found = record.get(key)
    if found is not None and not isinstance(found, str):
        raise WrongFormat(f"key {key!r} is {kind_of(found)}, expected text")
    return found or ""


def _alpaca(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`history` holds exchanges that went before. `input` is what the instruction is about."""
    for pair in _list(record.get("history") or [], "history"):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise WrongFormat("key 'history' holds what is no pair of question and answer")
        yield "user", pair[0]
        yield "assistant", pair[1]
    for key in ("instruction", "output"):
        if not isinstance(record[key], str):
            raise WrongFormat(f"key {key!r} is {kind_of(record[key])}, expected text")
    about = _optional_text(record, "input")
    yield "user", f"{record['instruction']}\n{about}" if about.strip() else record["instruction"]
    yield "assistant", record["output"]


def _baize(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """One text, a mark before each turn; the last mark, with nothing behind it, is part of the form."""
    opening, *rest = _BAIZE_TURN.split(_optional_text(record, "input"))
    if not rest or opening.strip() not in ("", _BAIZE_OPENING):
        raise WrongFormat(f"key 'input' begins with {opening.strip()[:40]!r} and not with [|Human|] or [|AI|]")
    if rest[-2] == "Human" and not rest[-1].strip():
        del rest[-2:]
    for mark, text in zip(rest[::2], rest[1::2], strict=True):
        yield "user" if mark == "Human" else "assistant", text


def _sharegpt(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return _turns(record["conversations"], "conversations", "from", "value")


def _messages(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return _turns(record["messages"], "messages", "role", "content")


def _turns(turns: Any, key: str, role: str, content: str) -> Iterator[tuple[str, Any]]:
    for number, turn in enumerate(_list(turns, key)):
        if not isinstance(turn, dict) or not isinstance(turn.get(role), str):
            raise WrongFormat(f"{key}[{number}] has no text under {role!r}")
        name: str = turn[role]
        if turn.get("tool_calls") or turn.get("function_call"):  # whose content is null
            yield "tool_calls", ""
        elif content not in turn:
            raise WrongFormat(f"{key}[{number}] has no key {content!r}")
        else:
            yield ROLES.get(name, name), turn[content]


def _list(found: Any, key: str) -> list[Any]:
    if not isinstance(found, list):
        raise WrongFormat(f"key {key!r} is {kind_of(found)}, expected a list")
    return found


@dataclass(frozen=True, slots=True)
class _Form:
    keys: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Iterator[tuple[str, Any]]]
    alone: bool = False  # told by having exactly these keys, else by the first one

    def told_by(self, record: Mapping[str, Any]) -> bool:
        return record.keys() == set(self.keys) if self.alone else self.keys[0] in record


_FORMS: Mapping[str, _Form] = {
    "sharegpt": _Form(("conversations",), _sharegpt),
    "messages": _Form(("messages",), _messages),
    "alpaca": _Form(("instruction", "output"), _alpaca),
    "baize": _Form(("topic", "input"), _baize, alone=True),  # others have a topic too
}
