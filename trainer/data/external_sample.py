"""One sample of an external tar: plain WebDataset, or img2dataset's output.

KEY.jpg (or another image, or KEY.0.jpg, KEY.1.jpg …) comes with KEY.txt or KEY.json. KEY.txt is a caption or the page's
text. KEY.json has a conversation (`conversations`, `messages` and the other formats of
`varyforge.external.conversations`, or `turns` of role and text), or `caption` or `text`. A conversation has precedence
over a caption, and KEY.txt over a caption in KEY.json.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple, cast

from varyforge.escape import escape
from varyforge.external.captions import clean
from varyforge.external.conversations import read_turns, tidy
from varyforge.external.text_encoding import not_utf8
from varyforge.external.unread_media import unread_media
from varyforge.images import look_at
from varyforge.outcome import Rejected
from varyforge.prompts import choose, prompted, wordings
from varyforge.sample import IMAGE_MARKER, Sample, Scalar, Task, Turn, from_json, make_key
from varyforge.tar import IMAGES, Member, TarError, key_and_ending, members

SOURCE = "foreign"
MAX_TEXT = 1 << 20  # bytes of a text or a JSON file; with a camera's EXIF a JSON file may have 100 kB
IMAGELESS_TASKS = ("text", "instruct")  # samples of all other tasks have an image

_END = bytes(1024)  # the end marker of a tar
_PLAIN = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_LONGEST_KEY = 64
_OWN = {"key", "task", "turns", "images", "source", "origin"}
_CAPTION = ("caption", "text")


class Entry(NamedTuple):
    """A member that belongs to a sample."""

    name: str  # shared by all members of the sample
    ending: str  # lower case, without the first dot
    member: Member


class SampleMembers(NamedTuple):
    """The members of one sample by their kind."""

    text: Member | None
    record: Member | None  # JSON
    images: list[Member]  # in the order of their numbers


def external_key(tar: str, name: str) -> str:
    """Return a sample's key, made of the tar's file name and the sample's name, which other tars may have too.

    "00012.tar" and "000120045" give "00012--000120045". A digest replaces a key that is too long or has other
    characters.
    """
    stem = PurePosixPath(tar).stem
    key = f"{stem}--{name}"
    plain = _PLAIN.fullmatch(stem) and _PLAIN.fullmatch(name) and len(key) <= _LONGEST_KEY
    return key if plain else make_key(SOURCE, tar, name)


def entry_of(member: Member) -> Entry | None:
    """Split a member's name as WebDataset does; None where the member belongs to no sample.

    Bytes that are not UTF-8 are written as escapes.
    """
    split = None if member.kind == "a folder" else key_and_ending(member.name)
    if split is None:
        return None
    return Entry(split[0].encode(errors="surrogateescape").decode(errors="backslashreplace"), split[1], member)


def has_question(task: str) -> bool:
    """Whether `varyforge.prompts` has a question for the task that needs nothing but the image."""
    return task in prompted() and "{" not in wordings(task)[0]


def sort_members(entries: Iterable[Entry]) -> SampleMembers | str:
    """Sort the members of one sample by kind, or return the reason why that is impossible.

    Members with other endings, such as KEY.cls or KEY.depth.png, are ignored.
    """
    entries = list(entries)
    by_kind: dict[str | int, Member] = {}  # images by number, -1 for the image without one; texts by ending
    for _, ending, member in entries:
        number, _, last = ending.rpartition(".")
        is_image = last in IMAGES and (not number or number.isdecimal())
        kind = int(number or -1) if is_image else ending
        if not is_image and ending not in ("txt", "json"):
            continue
        if member.kind != "a file":
            return f"a member that is {member.kind}"
        if kind == "txt" and not member.size:  # img2dataset writes an empty one where there is no caption
            continue
        if kind in by_kind:
            return f"several .{ending}"
        if not is_image and member.size > MAX_TEXT:
            return f"a .{ending} of more than {MAX_TEXT >> 20} MiB"
        by_kind[kind] = member
    numbers = sorted(number for number in by_kind if isinstance(number, int))
    if -1 in numbers and len(numbers) > 1:
        return "images with and without a number"
    lost = {ending.rpartition(".")[2] for _, ending, _ in entries if "." in ending}
    if (not numbers and lost & set(IMAGES)) or (not {"txt", "json"} & by_kind.keys() and lost & {"txt", "json"}):
        return "names with dots: a key ends at the first, so several samples may be one"
    return SampleMembers(by_kind.get("txt"), by_kind.get("json"), [by_kind[number] for number in numbers])


def may_have_text(record: Mapping[str, Any]) -> bool:
    """Whether a JSON object has a field for text that is not empty. The field's value is not checked."""
    return any(record.get(name) for name in ("turns", "conversations", "messages", *_CAPTION))


def missing_part(parts: SampleMembers, task: str) -> str:
    """Return the part that the members lack for a sample of `task`, as far as their names tell; "" if none."""
    if not parts.images and task not in IMAGELESS_TASKS:
        return "no image"
    if parts.record is None and parts.text is None:
        return "no text"
    if parts.record is None and not has_question(task):
        return f"a text without a question, which {task} needs"
    return ""


def decode_external(data: bytes, where: str, tar: str, task: str) -> Sample:
    """Decode the sample in a range of an external tar. Its texts are escaped, as in shards that a data job wrote.

    Args:
        data: whole members, headers included.
        where: the range, for error messages.
        tar: file name.
        task: of the sample.

    Raises:
        ValueError: the range is not a sample; the message names the range, the sample and the rule.
    """
    name = ""
    try:
        entries = [entry for member in members(io.BytesIO(data + _END)) if (entry := entry_of(member))]
        name = entries[0].name if entries else ""
        parts = sort_members(entries)
        reason = parts if isinstance(parts, str) else missing_part(parts, task)
        if reason or isinstance(parts, str):
            raise ValueError(reason)
        return _sample(data, parts, (tar, name), task)
    except TarError as error:
        raise ValueError(f"{where}: no member: broken tar: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {name or 'no member'}: {error}") from error


def _sample(data: bytes, parts: SampleMembers, location: tuple[str, str], task: str) -> Sample:
    key = external_key(*location)
    record = {} if parts.record is None else record_of(_content(data, parts.record))
    pictures = [_content(data, image) for image in parts.images]
    if record.keys() == _OWN:  # a data job wrote it: checked and escaped already
        return replace(from_json(record, pictures), key=key, task=cast(Task, task))
    if str(record.get("status")).startswith("failed_to_") and "url" in record:  # others may have an HTTP status there
        raise ValueError(f"img2dataset's status is {record['status']!r}")
    links = {"url": record.get("url"), "licence": record.get("license") or record.get("LICENSE")}
    origin: dict[str, Scalar] = {"tar": location[0], "name": location[1]}
    origin |= {what: link for what, link in links.items() if isinstance(link, str) and link}
    turns = _conversation(record, len(pictures))
    if turns is None:
        text = _caption(data, parts.text, record, task)
        if not has_question(task):
            raise ValueError(f"a text without a question, which {task} needs")
        prompt = choose(task, "en", key)
        origin["prompt"] = prompt.name
        question = Turn(role="user", text=IMAGE_MARKER * len(pictures) + prompt.text)
        turns = (question, Turn(role="assistant", text=escape(text)))
    used = sum(turn.text.count(IMAGE_MARKER) for turn in turns if turn.role == "user")
    images = tuple(map(look_at, pictures[:used]))  # without the images of turns that `tidy` dropped
    return Sample(key=key, task=cast(Task, task), turns=turns, images=images, source=SOURCE, origin=origin)


def _content(data: bytes, member: Member) -> bytes:
    return data[member.offset : member.offset + member.size]


def _text(data: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark. ValueError for anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(error, f" at byte {error.start}")) from error


def record_of(data: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: the data is anything else.
    """
    try:
        record = json.loads(_text(data))
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"its JSON is a {type(record).__name__}, expected an object")
    return record


def _caption(data: bytes, member: Member | None, record: Mapping[str, Any], task: str) -> str:
    """Return the text beside an image. A caption is cleaned as `datagen.caption` does; the text of a page is not."""
    if member is not None:
        text: object = _text(_content(data, member))
    else:
        text = next((record[name] for name in _CAPTION if record.get(name) is not None), "")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no text" if not text or isinstance(text, str) else "its caption is no text")
    if task != "caption":
        return text.strip()
    captions, _ = clean([text])
    if not captions:
        raise ValueError("no text")
    return captions[0]


def _conversation(record: Mapping[str, Any], images: int) -> tuple[Turn, ...] | None:
    """Return the turns of a record's conversation; None where it has none."""
    own_turns = record.get("turns")
    if isinstance(own_turns, list):
        record = {"messages": [_as_message(turn) for turn in own_turns]}
    if not ("conversations" in record or "messages" in record):
        return None
    _, turns = read_turns(record, marked=True)
    questions = [piece for role, pieces in turns if role == "user" for piece in pieces]
    media = unread_media(record, questions, remedy=f"images are members of the tar, at {IMAGE_MARKER}")
    if not media:
        _check_markers(turns, images)
    dialogue = media or tidy(turns)
    if isinstance(dialogue, Rejected):
        raise ValueError(
            f"no conversation to learn from: {dialogue.gate} {dialogue.value:g} {dialogue.detail}".rstrip()
        )
    return dialogue.turns


def _as_message(turn: object) -> object:
    if not isinstance(turn, dict):
        return turn
    return {"role": turn.get("role"), "content": turn.get("text"), "train": turn.get("supervised")}


def _check_markers(turns: Sequence[tuple[str, Sequence[str]]], images: int) -> None:
    """Raise ValueError unless each image has one marker, in a question."""
    in_questions = sum(len(pieces) - 1 for role, pieces in turns if role == "user")
    if sum(len(pieces) - 1 for _, pieces in turns) != in_questions:
        raise ValueError(f"{IMAGE_MARKER} in a turn that is no question")
    if in_questions != images:
        raise ValueError(f"{in_questions} {IMAGE_MARKER} in questions for {images} images")
