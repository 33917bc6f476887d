"""A sample out of a tar that others wrote: plain WebDataset, and what img2dataset writes.

KEY.jpg (or another image, or KEY.0.jpg, KEY.1.jpg …) with KEY.txt, a caption or the page's text, or KEY.json:
a conversation (`conversations`, `messages` and the other forms of `varyforge.conversations`, or `turns` of role and
text), or `caption` or `text`. A conversation goes before a caption, and KEY.txt before a caption in KEY.json.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple, cast

from varyforge.conversations import read_turns, tidy
from varyforge.escape import escape
from varyforge.images import look_at
from varyforge.outcome import Rejected
from varyforge.prompts import choose, prompted, wordings
from varyforge.sample import IMAGE_MARKER, Sample, Scalar, Task, Turn, from_json, make_key
from varyforge.tar import IMAGES, Member, TarError, key_and_ending, members

SOURCE = "foreign"
MAX_TEXT = 1 << 20  # bytes of a text or a JSON; with a camera's EXIF a JSON may be 100 kB
IMAGELESS_TASKS = ("text", "instruct")  # samples of other tasks have an image

_END = bytes(1024)  # mark at the end of a tar
_PLAIN = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_LONGEST_KEY = 64
_OWN = {"key", "task", "turns", "images", "source", "origin"}
_CAPTION = ("caption", "text")


class Parts(NamedTuple):
    """Members of one sample, by what they are."""

    text: Member | None
    record: Member | None  # JSON
    images: list[Member]  # in the order of their numbers


def key_of(tar: str, name: str) -> str:
    """A sample's key from the tar's file name and the name that its members share: names may stand in several tars.

    "00012.tar" and "000120045" give "00012--000120045"; what has other characters, or is too long, gives a digest.
    """
    stem = PurePosixPath(tar).stem
    key = f"{stem}--{name}"
    plain = _PLAIN.fullmatch(stem) and _PLAIN.fullmatch(name) and len(key) <= _LONGEST_KEY
    return key if plain else make_key(SOURCE, tar, name)


def name_and_ending(member: Member) -> tuple[str, str] | None:
    """What WebDataset makes of a member's name, as `varyforge.tar.key_and_ending`; bytes that are no UTF-8 spelt out.

    None where the member is of no sample.
    """
    named = None if member.kind == "a folder" else key_and_ending(member.name)
    return named and (named[0].encode(errors="surrogateescape").decode(errors="backslashreplace"), named[1])


def is_asked(task: str) -> bool:
    """Whether a text alone makes a sample of a task: `varyforge.prompts` has the question, with nothing to fill in."""
    return task in prompted() and "{" not in wordings(task)[0]


def sort_out(found: Iterable[tuple[str, Member]]) -> Parts | str:
    """Members of one sample with their endings, by what they are; or why that cannot be told.

    Others, such as KEY.cls or KEY.depth.png, are passed over.
    """
    kept: dict[str | int, Member] = {}  # images by number, -1 for the one without; texts by ending
    for ending, member in found:
        number, _, last = ending.rpartition(".")
        is_image = last in IMAGES and (not number or number.isdecimal())
        what = int(number or -1) if is_image else ending
        if not is_image and ending not in ("txt", "json"):
            continue
        if member.kind != "a file":
            return f"a member that is {member.kind}"
        if what == "txt" and not member.size:  # as img2dataset writes where there is no caption
            continue
        if what in kept:
            return f"several .{ending}"
        if not is_image and member.size > MAX_TEXT:
            return f"a .{ending} of more than {MAX_TEXT >> 20} MiB"
        kept[what] = member
    numbers = sorted(number for number in kept if isinstance(number, int))
    if -1 in numbers and len(numbers) > 1:
        return "images with and without a number"
    return Parts(kept.get("txt"), kept.get("json"), [kept[number] for number in numbers])


def says_something(record: Mapping[str, Any]) -> bool:
    """Whether a JSON has anything that could be words: not whether it is of their form."""
    return any(record.get(name) for name in ("turns", "conversations", "messages", *_CAPTION))


def what_is_missing(parts: Parts, task: str) -> str:
    """What keeps members from being a sample of `task`, as far as their names tell; "" where nothing does."""
    if not parts.images and task not in IMAGELESS_TASKS:
        return "no image"
    if parts.record is None and parts.text is None:
        return "no text"
    if parts.record is None and not is_asked(task):
        return f"a text without a question, which {task} needs"
    return ""


def decode_foreign(data: bytes, where: str, tar: str, task: str) -> Sample:
    """The sample in a stretch of a foreign tar. Its texts are escaped, as in shards of our own.

    Args:
        data: whole members, headers and all.
        where: names the place in an error message.
        tar: file name of the tar.
        task: what the sample is taken for.

    Raises:
        ValueError: it is none; the message names the place, the sample's name in the tar, and the rule.
    """
    name = ""
    try:
        found = [(*named, member) for member in _members(data) if (named := name_and_ending(member))]
        name = found[0][0] if found else ""
        parts = sort_out((ending, member) for _, ending, member in found)
        reason = parts if isinstance(parts, str) else what_is_missing(parts, task)
        if reason or isinstance(parts, str):
            raise ValueError(reason)
        return _sample(data, parts, (tar, name), task)
    except ValueError as error:
        raise ValueError(f"{where}: {name or 'no member'}: {error}") from error


def _members(data: bytes) -> list[Member]:
    try:
        return list(members(io.BytesIO(data + _END)))
    except TarError as error:
        raise ValueError(f"broken tar: {error}") from error


def _sample(data: bytes, parts: Parts, place: tuple[str, str], task: str) -> Sample:
    key = key_of(*place)
    record = _record(data, parts.record)
    pictures = [data[image.offset : image.offset + image.size] for image in parts.images]
    if record.keys() == _OWN:  # written by a data job: checked and escaped
        return replace(from_json(record, pictures), key=key, task=cast(Task, task))
    if str(record.get("status")).startswith("failed_to_") and "url" in record:  # others may have an HTTP status there
        raise ValueError(f"img2dataset's status is {record['status']!r}")
    links = {"url": record.get("url"), "licence": record.get("license") or record.get("LICENSE")}
    origin: dict[str, Scalar] = {"tar": place[0], "name": place[1]}
    origin |= {what: link for what, link in links.items() if isinstance(link, str) and link}
    turns = _conversation(record, len(pictures))
    if turns is None:
        text = _caption(data, parts.text, record)
        if not is_asked(task):
            raise ValueError(f"a text without a question, which {task} needs")
        prompt = choose(task, "en", key)
        origin["prompt"] = prompt.name
        question = Turn(role="user", text=IMAGE_MARKER * len(pictures) + prompt.text)
        turns = (question, Turn(role="assistant", text=escape(text)))
    shown = sum(turn.text.count(IMAGE_MARKER) for turn in turns if turn.role == "user")
    images = tuple(map(look_at, pictures[:shown]))  # those of turns that `tidy` dropped are not
    return Sample(key=key, task=cast(Task, task), turns=turns, images=images, source=SOURCE, origin=origin)


def text_of(data: bytes) -> str:
    """UTF-8, perhaps with a mark in front.

    Raises:
        ValueError: it is not.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error


def record_of(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text_of(data))
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"its JSON is a {type(found).__name__}, expected an object")
    return found


def _record(data: bytes, member: Member | None) -> dict[str, Any]:
    return {} if member is None else record_of(data[member.offset : member.offset + member.size])


def _caption(data: bytes, member: Member | None, record: Mapping[str, Any]) -> str:
    if member is not None:
        found: object = text_of(data[member.offset : member.offset + member.size])
    else:
        found = next((record[name] for name in _CAPTION if record.get(name) is not None), "")
    if not isinstance(found, str) or not found.strip():
        raise ValueError("no text" if not found or isinstance(found, str) else "its caption is no text")
    return found.strip()


def _conversation(record: Mapping[str, Any], images: int) -> tuple[Turn, ...] | None:
    """The turns of a record that is a conversation; None where it is none."""
    said = record.get("turns")
    if isinstance(said, list):
        record = {"messages": [_as_message(turn) for turn in said]}
    if not ("conversations" in record or "messages" in record):
        return None
    _, turns = read_turns(record, marked=True)
    _check_markers(turns, images)
    dialogue = tidy(turns)
    if isinstance(dialogue, Rejected):
        raise ValueError(
            f"no conversation to learn from: {dialogue.gate} {dialogue.value:g} {dialogue.detail}".rstrip()
        )
    return dialogue.turns


def _as_message(turn: object) -> object:
    return {"role": turn.get("role"), "content": turn.get("text")} if isinstance(turn, dict) else turn


def _check_markers(turns: Sequence[tuple[str, Sequence[str]]], images: int) -> None:
    """Raises ValueError where the places for images are not as many as the images, or not in questions."""
    asked = sum(len(pieces) - 1 for role, pieces in turns if role == "user")
    if sum(len(pieces) - 1 for _, pieces in turns) != asked:
        raise ValueError(f"{IMAGE_MARKER} in a turn that is no question")
    if asked != images:
        raise ValueError(f"{asked} {IMAGE_MARKER} in questions for {images} images")
