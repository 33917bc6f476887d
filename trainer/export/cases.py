"""What an exported folder is compared on: conversations and pictures that are the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.export.trained import Trained
from trainer.images.sizes import Size
from varyforge.escape import escape
from varyforge.sample import IMAGE_MARKER, Sample, Turn
from varyforge.sample import Image as SampleImage

_TEXT = "a page of text, and what a reader would say of it: 42 words, 3 figures, one table."

Message = tuple[Literal["system", "user", "assistant"], tuple[str | Size, ...]]
"""Who speaks, and texts and images, the latter as their size."""


@dataclass(frozen=True, slots=True)
class Case:
    """A batch of conversations, each up to where an answer is asked for."""

    name: str
    rows: tuple[tuple[Message, ...], ...]
    exact: bool = False  # holds control tokens written out as text, which a plain tokenizer takes for such

    @property
    def sizes(self) -> list[Size]:
        """Of all images, in reading order."""
        return [size for row in self.rows for size in sizes_of(row)]


def cases(trained: Trained) -> list[Case]:
    """Text alone, an image, two images, a batch of unequal rows, several turns, and control tokens as text."""
    side = trained.model.layout.side_px
    small, tall, wide = (side // 2 + 3, side - 5), (side * 2 + 1, side), (side - 1, side * 3)
    page: Message = ("user", (small, "Provide the OCR results of this image."))
    text: Message = ("user", (f"What is this? {_TEXT}",))
    system: Message = ("system", ("Answer in one word.",))
    tokens = " ".join(map(str, trained.encoder.tokenizer.all_special_tokens))
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
    """Of a conversation's images, in reading order."""
    return [part for _, parts in row for part in parts if not isinstance(part, str)]


def sample_of(row: Sequence[Message]) -> Sample:
    """A conversation as the trainer knows it, with an answer that is not seen."""
    turns = [
        Turn(role=role, text="".join(escape(part) if isinstance(part, str) else IMAGE_MARKER for part in parts))
        for role, parts in row
    ]
    images = [SampleImage(data=b"-", format="png", height=high, width=wide) for high, wide in sizes_of(row)]
    answered = (*turns, Turn(role="assistant", text="-"))
    return Sample(key="case", task="ocr", turns=answered, images=tuple(images), source="export")


def written(case: Case, work: Path, *, native: bool) -> dict[str, Any]:
    """A case as `probe` reads it; its images are written to `work`."""
    for size in case.sizes:
        Image.fromarray(picture(size)).save(work / _file(size))
    return {"name": case.name, "native": native, "conversations": [messages(row) for row in case.rows]}


def messages(row: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation as transformers knows it; an image is the name of its file."""

    def part_of(part: str | Size) -> dict[str, str]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image", "path": _file(part)}

    return [{"role": role, "content": [part_of(part) for part in parts]} for role, parts in row]


def picture(size: Size) -> NDArray[np.uint8]:
    """An RGB picture of black lines on a coloured ground, always the same for a size."""
    random = np.random.default_rng(size)
    ground = random.integers(128, 256, (4, 4, 3), dtype=np.uint8)
    drawn = np.array(Image.fromarray(ground).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    for top in range(4, size[0] - 4, 9):
        drawn[top : top + 4, 4 : int(random.integers(8, max(size[1] - 4, 9)))] //= 4
    return drawn


def _file(size: Size) -> str:
    return f"{size[0]}x{size[1]}.png"
