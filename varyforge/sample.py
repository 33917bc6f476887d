"""The sample, which is all the data that passes from sources to shards and from shards to the trainer.

A `Sample` checks itself on construction, so nothing downstream checks it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

IMAGE_MARKER = "<image>"
"""Mark of an image's position in a user turn. A sample has as many marks as images."""

Task = Literal["caption", "ocr", "markdown", "chart", "detection", "referring", "text", "vqa", "instruct"]
Role = Literal["system", "user", "assistant"]
ImageFormat = Literal["jpg", "png"]
Scalar = str | int | float

TASKS: tuple[str, ...] = get_args(Task)
_KEY = re.compile(r"[a-z0-9_-]{1,64}")  # WebDataset cuts a key at the first dot and is confused by upper case
_HALF = re.compile("[\ud800-\udfff]")  # half a character of UTF-16


def make_key(prefix: str, *parts: Scalar) -> str:
    """Make a stable key: a source's name (at most 39 of `[a-z0-9_-]`) and 24 hex digits of the SHA-256 over `parts`.

    The parts identify the sample: document hash, page number and so on. Their order matters.
    """
    text = "\x1f".join(str(part) for part in parts)
    return f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str
    supervised: bool = True  # False: an answer that the model reads and does not learn


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An encoded RGB image. Bytes from outside pass `varyforge.images` first, which decodes them once."""

    data: bytes
    format: ImageFormat
    width: int  # pixels
    height: int  # pixels

    def __post_init__(self) -> None:
        if not self.data or self.width < 1 or self.height < 1:
            raise ValueError(f"empty image: {len(self.data)} bytes, {self.width}x{self.height} px")
        if self.format not in get_args(ImageFormat):
            raise ValueError(f"image format {self.format!r}, expected one of {get_args(ImageFormat)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A conversation, the images that it is about, and its origin.

    Raises:
        ValueError: a rule is broken. The message names the key and the rule.
    """

    key: str  # [a-z0-9_-]{1,64}, stable: derived from source and content
    task: Task
    turns: tuple[Turn, ...]  # an optional system turn, then user and assistant in alternation
    images: tuple[Image, ...] = ()
    source: str  # name of the source that made it ("pdf", "detection" …)
    origin: Mapping[str, Scalar] = field(default_factory=dict)  # document, page, annotation id, licence …

    def __post_init__(self) -> None:
        def broken(rule: str) -> ValueError:
            return ValueError(f"sample {self.key!r}: {rule}")

        if not _KEY.fullmatch(self.key):
            raise broken("a key is 1 to 64 of the characters a-z, 0-9, _ and -")
        if self.task not in TASKS:
            raise broken(f"task {self.task!r}, expected one of {TASKS}")
        if rule := _broken_by(self.turns, len(self.images)):
            raise broken(rule)
        for name, value in self.origin.items():
            wrong = _wrong_with(value)
            if wrong:
                raise broken(f"origin[{name!r}] {wrong}")

    @property
    def answer(self) -> str:
        """Return the text of the last assistant turn."""
        return self.turns[-1].text


def _broken_by(turns: tuple[Turn, ...], images: int) -> str:
    """Return the rule that turns about so many images break; "" for none."""
    dialogue = turns[1:] if turns and turns[0].role == "system" else turns
    expected = ("user", "assistant") * (len(dialogue) // 2)
    if not dialogue or tuple(turn.role for turn in dialogue) != expected:
        roles = [turn.role for turn in turns]
        return f"turns must alternate user, assistant, …; found {roles} (a system turn may stand first)"
    if any(turn.role == "assistant" and not turn.text.strip() for turn in dialogue):
        return "an assistant turn is empty: nothing to learn from"
    if dialogue[-1].supervised is not True or not all(isinstance(turn.supervised, bool) for turn in turns):
        return "supervised is true or false, and true for the last turn"
    markers = sum(turn.text.count(IMAGE_MARKER) for turn in dialogue if turn.role == "user")
    if markers != images:
        return f"{markers} {IMAGE_MARKER} markers in user turns for {images} images"
    if any(_HALF.search(turn.text) for turn in turns):
        return "a turn holds half a character (a lone surrogate), which no file can"
    return ""


def _wrong_with(value: object) -> str:
    """Say why a value cannot be in `Sample.origin`; "" if it can."""
    if not isinstance(value, str | int | float):
        return f"is a {type(value).__name__}, expected text or a number"
    return "holds half a character, which no file can" if isinstance(value, str) and _HALF.search(value) else ""


def to_json(sample: Sample) -> dict[str, object]:
    """Return the content of a shard's `.json` member: everything but the image bytes."""
    return {
        "key": sample.key,
        "task": sample.task,
        "turns": [
            {"role": turn.role, "text": turn.text} | ({} if turn.supervised else {"supervised": False})
            for turn in sample.turns
        ],
        "images": [{"format": i.format, "width": i.width, "height": i.height} for i in sample.images],
        "source": sample.source,
        "origin": dict(sample.origin),
    }


def from_json(record: Mapping[str, object], images: list[bytes]) -> Sample:
    """Invert `to_json`. `images` holds encoded bytes, one item per entry of `record["images"]`.

    Raises:
        ValueError: a field is missing, has the wrong type, or breaks a rule of `Sample`.
    """
    key = record.get("key") if isinstance(record, Mapping) else None
    try:
        described = cast(list[dict[str, object]], record["images"])
        if len(described) != len(images):
            raise ValueError(f"{len(described)} images described, {len(images)} present")
        return Sample(
            key=str(key),
            task=cast(Task, record["task"]),
            turns=tuple(Turn(**turn) for turn in cast(list[dict[str, str]], record["turns"])),  # type: ignore[arg-type]  # checked by Sample
            images=tuple(Image(data=data, **about) for data, about in zip(images, described, strict=True)),  # type: ignore[arg-type]  # checked by Image
            source=str(record["source"]),
            origin=cast(Mapping[str, Scalar], record["origin"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"sample {key!r}: field missing or of the wrong type: {error}") from error
