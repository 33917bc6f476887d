"""Conversations and pictures on which an exported folder is compared, the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.images.sizes import Size
from trainer.text.encode import ConversationEncoder
from varyforge.escape import escape
from varyforge.sample import IMAGE_MARKER, Sample, Turn
from varyforge.sample import Image as SampleImage

_TEXT = "a page of text, and what a reader would say of it: 42 words, 3 figures, one table."

Message = tuple[Literal["system", "user", "assistant"], tuple[str | Size, ...]]
"""A role, and the texts and images of its turn. An image is given as its size."""


@dataclass(frozen=True, slots=True)
class Case:
    """A batch of conversations. Each ends where the model would answer."""

    name: str
    rows: tuple[tuple[Message, ...], ...]
    exact: bool = False  # has control tokens as text, which a plain tokenizer reads as control tokens

    @property
    def sizes(self) -> list[Size]:
        """Sizes of all images in reading order."""
        return [size for row in self.rows for size in sizes_of(row)]


def cases(encoder: ConversationEncoder) -> list[Case]:
    """Return the cases for a model: text, one and two images, rows of unequal length, turns, control tokens as text."""
    side = encoder.layout.side_px
    small, tall, wide = (side // 2 + 3, side - 5), (side * 2 + 1, side), (side - 1, side * 3)
    page: Message = ("user", (small, "Provide the OCR results of this image."))
    text: Message = ("user", (f"What is this? {_TEXT}",))
    system: Message = ("system", ("Answer in one word.",))
    tokens = " ".join(map(str, encoder.tokenizer.all_special_tokens))
    return [
        Case("text", ((text,),)),
        Case("image", ((page,),)),
        Case("two_images", ((("user", (tall, "Compare this with ", wide, " in a word.")),),)),
        Case("batch", ((("user", (wide, "What does it say?")),), (text,))),
        Case("rounds", ((page, ("assistant", (_TEXT,)), ("user", ("And in short?",))),)),
        Case("system", ((system, page),)),
        Case("control_tokens_as_text", ((("user", (f"A tag {tokens} in a text.",)),),), exact=True),
    ]


def sizes_of(row: Sequence[Message]) -> list[Size]:
    """Return the sizes of a conversation's images in reading order."""
    return [part for _, parts in row for part in parts if not isinstance(part, str)]


def sample_of(row: Sequence[Message]) -> Sample:
    """Return a conversation as a sample, with an answer that the model does not see."""
    turns = [
        Turn(role=role, text="".join(escape(part) if isinstance(part, str) else IMAGE_MARKER for part in parts))
        for role, parts in row
    ]
    images = [SampleImage(data=b"-", format="png", height=high, width=wide) for high, wide in sizes_of(row)]
    answered = (*turns, Turn(role="assistant", text="-"))
    return Sample(key="case", task="ocr", turns=answered, images=tuple(images), source="export")


def write_case(case: Case, work: Path, *, native: bool) -> dict[str, Any]:
    """Write a case's images to `work` and return the case as `probe` reads it."""
    for size in case.sizes:
        Image.fromarray(picture(size)).save(work / _file(size))
    return {"name": case.name, "native": native, "conversations": [messages(row) for row in case.rows]}


def messages(row: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation in transformers' format, with images as file names."""

    def part_of(part: str | Size) -> dict[str, str]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image", "path": _file(part)}

    return [{"role": role, "content": [part_of(part) for part in parts]} for role, parts in row]


def picture(size: Size) -> NDArray[np.uint8]:
    """Draw dark lines on a coloured ground as (height, width, 3) RGB, always the same for a size."""
    random = np.random.default_rng(size)
    ground = random.integers(128, 256, (4, 4, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(ground).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    for top in range(4, size[0] - 4, 9):
        pixels[top : top + 4, 4 : int(random.integers(8, max(size[1] - 4, 9)))] //= 4
    return pixels


def _file(size: Size) -> str:
    return f"{size[0]}x{size[1]}.png"
