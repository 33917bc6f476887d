"""Conversations: the formats in which they are published, and the rules by which they become turns.

The keys of a record tell its format. In every format a turn becomes (role, pieces), where pieces are the texts between
the turn's images: one piece if the turn has no image.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any

from varyforge.errors import WrongFormat, kind_of
from varyforge.escape import escape
from varyforge.external.columns import rows_of
from varyforge.language import language_of
from varyforge.outcome import Rejected
from varyforge.sample import IMAGE_MARKER, Role, Turn

RawTurn = tuple[str, list[str]]
"""Role ("system", "user", "assistant", `UNLEARNED`, or another word of the record) and pieces of the text."""

UNLEARNED = "assistant, not learned"
"""Role of an answer that its record excludes from learning."""

ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
"""Roles by their names in the data sets. ShareGPT names the assistants."""

_SWITCHES = ("weight", "loss", "loss_mask", "loss_scale", "train", "training", "trainable")
"""Keys of a turn, or of a record, that say whether it is learned (OpenAI, ms-swift, XTuner, Axolotl …)."""
_ON, _OFF = (1, "1", "true", "True"), (0, "0", "false", "False")
_UNREAD_PARTS = {
    **dict.fromkeys(("video", "video_url"), "<|video|>"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "<|audio|>"),
}
_IMAGE_PARTS = ("image", "image_url")
_IMAGE_KEYS = ("image", "image_url", "url", "path")
_TURN_KEYS = (("from", "value"), ("role", "content"))

_BAIZE_TURN = re.compile(r"\[\|(Human|AI)\|\]")
_BAIZE_OPENING = "The conversation between human and AI assistant."


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """Turns that fit a `Sample`, and counts of what was changed in them."""

    turns: tuple[Turn, ...]  # escaped, IMAGE_MARKER where an image stands
    images: int  # markers in user turns: of the record's images the first so many
    language: str
    notes: Counter[str]


def read_turns(record: Mapping[str, Any], *, marked: bool = False, others: str = "") -> tuple[str, list[RawTurn]]:
    """Return the name of a JSON record's format, and the record's turns, unchanged.

    `marked`: whether `<image>` in a turn's text stands for an image; else it is text. `others` names, for the message,
    further forms that the caller reads.

    Raises:
        WrongFormat: the record has no known format or several, or breaks the rules of its format.
    """
    names = [name for name, format in _FORMATS.items() if format.fits(record)]
    if len(names) != 1:
        forms = "; ".join(f"{name} ({', '.join(_FORMATS[name].keys)})" for name in names or _FORMATS)
        if names:
            raise WrongFormat(f"has the keys of several forms: {forms}")
        keys = ", ".join(f"{key!r:.40}" for key in islice(record, 9)) or "none"
        raise WrongFormat(f"has the keys of no form: {forms}{others and '; '}{others}; its keys: {keys}")
    format = _FORMATS[names[0]]
    missing = [key for key in format.keys if key not in record]
    if missing:
        raise WrongFormat(f"key {missing[0]!r} is missing; {names[0]} form has {', '.join(format.keys)}")
    system = _optional_text(record, "system")
    turns = [("system", system)] if system else []
    turns += format.read(record)
    if is_excluded(record):
        turns = [(UNLEARNED if role == "assistant" else role, content) for role, content in turns]
    return names[0], [(role, _pieces(role, content, marked)) for role, content in turns]


def tidy(turns: Sequence[RawTurn]) -> Dialogue | Rejected:
    """Make turns alternate between user and assistant, or return the gate that refuses the conversation.

    Space at the ends of a turn is removed. Answers before the first question are dropped, and so is a last question
    without an answer. Turns of the same role in a row are joined by an empty line. The conversation ends at an empty
    turn or at a system turn in the middle, because later turns refer to the missing one. Answers joined with an answer
    that is not learned are not learned either. Exchanges at the end whose answer is not learned are dropped.
    """
    strange = [role for role, _ in turns if role not in ROLES.values() and role != UNLEARNED]
    if strange:
        detail = f"a turn of the role {strange[0][:40]!r}"
        return Rejected(gate="roles", value=len(strange), threshold=0, detail=detail)
    texts = [(role, IMAGE_MARKER.join(map(escape, pieces)).strip()) for role, pieces in turns]
    opening = _first(texts, lambda role, _: role != "system")
    system = [text for _, text in texts[:opening] if is_seen(text)]
    question = opening + _first(texts[opening:], lambda role, _: role == "user")
    dialogue = texts[question:]
    end = _first(dialogue, lambda role, text: role == "system" or not is_seen(text))
    notes = Counter({"leading_answers": question - opening, "turns_after_a_gap": len(dialogue) - end})
    merged = [list(group) for _, group in groupby(dialogue[:end], key=lambda turn: turn[0] == "user")]
    notes["merged_turns"] = end - len(merged)
    if merged and merged[-1][0][0] == "user":
        notes["unanswered_questions"] = len(merged.pop())
    if not merged:
        return _nothing_left(dialogue, end)
    alternating = [_turn(group) for group in merged]
    notes["turns_not_learned"] = sum(not turn.supervised for turn in alternating)
    while alternating and not alternating[-1].supervised:
        del alternating[-2:]
    if not alternating:
        detail = f"each answer is marked as one not to learn ({', '.join(_SWITCHES)})"
        return Rejected(gate="learned_answers", value=0, threshold=1, detail=detail)
    if system:
        alternating.insert(0, Turn(role="system", text="\n\n".join(system)))
    return Dialogue(
        turns=tuple(alternating),
        images=sum(turn.text.count(IMAGE_MARKER) for turn in alternating if turn.role == "user"),
        language=language_of("\n".join(piece for _, pieces in turns for piece in pieces)),
        notes=+notes,
    )


def digest(*parts: object) -> str:
    """Hash the parts of a conversation (turns, images … of JSON types): the same in every format."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _turn(group: Sequence[tuple[str, str]]) -> Turn:
    """Join turns of one side of the conversation by empty lines."""
    role: Role = "user" if group[0][0] == "user" else "assistant"
    text = "\n\n".join(text for _, text in group)
    return Turn(role=role, text=text, supervised=all(role != UNLEARNED for role, _ in group))


def _first(turns: Sequence[tuple[str, str]], fits: Callable[[str, str], bool]) -> int:
    """Return the index of the first turn that fits, or the number of turns."""
    return next((index for index, turn in enumerate(turns) if fits(*turn)), len(turns))


def _nothing_left(dialogue: Sequence[tuple[str, str]], end: int) -> Rejected:
    """Name the gate that refuses a conversation whose first `end` turns hold no answered question."""
    empty = dialogue[end][0] if end < len(dialogue) else ""
    gates = {"user": "question_chars", "assistant": "answer_chars", UNLEARNED: "answer_chars"}
    gate = gates.get(empty, "answered_questions")
    return Rejected(gate=gate, value=0, threshold=1)


def is_seen(text: str) -> bool:
    """Return whether a text has a character with a shape; spaces and zero-width characters have none."""
    return any(char.isprintable() and not char.isspace() for char in text)


def _pieces(role: str, content: Any, marked: bool) -> list[str]:
    """Cut the text of a turn at its images. `content` is text, or a list of parts of "type" "text" and an image's.

    Video or sound in a question becomes a placeholder, which `varyforge.external.unread_media` recognises.
    """
    if isinstance(content, str):
        return content.split(IMAGE_MARKER) if marked else [content]
    if not isinstance(content, list):
        raise WrongFormat(f"the content of a turn is {kind_of(content)}, expected text")
    pieces = [""]
    for part in content:
        kind = _kind_of_part(part)
        if kind in _IMAGE_PARTS:
            pieces.append("")
        elif kind == "text" and isinstance(part.get("text"), str):
            pieces[-1] += part["text"]
        elif role == "user" and kind in _UNREAD_PARTS:
            pieces[-1] += _UNREAD_PARTS[kind]
        else:
            raise WrongFormat(f"a part of a turn's content is {kind_of(part)} of type {kind!r}, expected text or image")
    return pieces


def inline_images(record: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the images among the parts of the turns, in order: the keys that lead to an image, and its value.

    An image is under the key of its part's type (OpenAI's `image_url`), or under "image", "url" or "path". The value is
    None for a part that names no image: it stands for one of the record's own.
    """
    for key in ("messages", "conversations"):
        turns = record.get(key)
        for number, turn in enumerate(turns if isinstance(turns, list) else []):
            fields = [name for _, name in _TURN_KEYS if isinstance(turn, dict) and isinstance(turn.get(name), list)]
            for name in fields:
                for index, part in enumerate(turn[name]):
                    if (kind := _kind_of_part(part)) in _IMAGE_PARTS:
                        under = next((one for one in (kind, *_IMAGE_KEYS) if part.get(one)), None)
                        yield (key, number, name, index, under or ""), part[under] if under else None


def _kind_of_part(part: Any) -> str | None:
    """Return the type of a part of a turn. A part without "type" is named by its key, as DashScope has it."""
    if not isinstance(part, dict):
        return None
    kind = part.get("type") or next((key for key in ("text", *_IMAGE_PARTS, *_UNREAD_PARTS) if key in part), None)
    return kind if isinstance(kind, str) else None


def _optional_text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise WrongFormat(f"key {key!r} is {kind_of(value)}, expected text")
    return value or ""


def _alpaca(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the exchanges of `history`, then the instruction with its `input`, then the output."""
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
    """Yield the turns of one text with a mark before each. A last mark without text belongs to the format."""
    opening, *rest = _BAIZE_TURN.split(_optional_text(record, "input"))
    if not rest or opening.strip() not in ("", _BAIZE_OPENING):
        raise WrongFormat(f"key 'input' begins with {opening.strip()[:40]!r} and not with [|Human|] or [|AI|]")
    if rest[-2] == "Human" and not rest[-1].strip():
        del rest[-2:]
    for mark, text in zip(rest[::2], rest[1::2], strict=True):
        yield "user" if mark == "Human" else "assistant", text


def _exchanges(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the turns of a list of exchanges, as in The Cauldron and FineVision."""
    for number, exchange in enumerate(_list(rows_of(record["texts"]), "texts")):
        for role in ("user", "assistant"):
            if not isinstance(exchange, dict) or not isinstance(exchange.get(role), str):
                raise WrongFormat(f"texts[{number}] has no text under {role!r}")
            yield role, exchange[role]


def _turns(record: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield the turns of a list. Each has its role and content under one of the two pairs of keys that are in use."""
    for number, turn in enumerate(_list(rows_of(record[key]), key)):
        place = f"{key}[{number}]"
        role, content = next((pair for pair in _TURN_KEYS if isinstance(turn, dict) and pair[0] in turn), _TURN_KEYS[0])
        if not isinstance(turn, dict) or not isinstance(turn.get(role), str):
            raise WrongFormat(f"{place} has no text under 'from' or 'role'")
        written: str = turn[role]
        name = ROLES.get(written, written)
        if turn.get("tool_calls") or turn.get("function_call"):  # whose content is null
            yield "tool_calls", ""
        elif content not in turn:
            raise WrongFormat(f"{place} has no key {content!r}")
        else:
            _check_switches(turn, place)
            yield UNLEARNED if name == "assistant" and is_excluded(turn) else name, turn[content]


def is_excluded(marked: Mapping[str, Any]) -> bool:
    """Return whether a record, or a turn of it, is marked as one not to learn (`weight: 0`, `loss: false` …)."""
    return any(marked.get(key) in _OFF for key in _SWITCHES)  # 0.0 and False are 0


def _check_switches(turn: Mapping[str, Any], place: str) -> None:
    """Raise WrongFormat for a turn that is to be learned in part, such as one with a weight of 0.5."""
    for key in (*_SWITCHES, "train_detail"):
        if (value := turn.get(key)) not in (None, *_ON, *_OFF):
            raise WrongFormat(f"{place} has {key!r} {value!r:.40}; a turn is learned (1, true) or not (0, false)")


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise WrongFormat(f"key {key!r} is {kind_of(value)}, expected a list")
    return value


@dataclass(frozen=True, slots=True)
class _Format:
    keys: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Iterator[tuple[str, Any]]]
    alone: bool = False  # a record fits that has exactly these keys, else one that has the first

    def fits(self, record: Mapping[str, Any]) -> bool:
        return record.keys() == set(self.keys) if self.alone else self.keys[0] in record


_FORMATS: Mapping[str, _Format] = {
    "sharegpt": _Format(("conversations",), partial(_turns, key="conversations")),
    "messages": _Format(("messages",), partial(_turns, key="messages")),
    "texts": _Format(("texts",), _exchanges),
    "alpaca": _Format(("instruction", "output"), _alpaca),
    "baize": _Format(("topic", "input"), _baize, alone=True),  # others have a topic too
}
