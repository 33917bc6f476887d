"""The interface of an OCR engine, and the lines that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import PIL.Image

from datagen.pdf.page import Rect


class OcrWord(NamedTuple):
    """A word, or the whole text of a line where the engine does not divide it."""

    text: str
    box: Rect  # pixels of the picture that was read
    confidence: float  # the engine's own, 0 to 1


class OcrLine(NamedTuple):
    """A line as the engine reads it: words from left to right, on one baseline."""

    words: tuple[OcrWord, ...]
    baseline: float  # pixels from the top; of a line that is not level, the lower end of its box
    size: float  # of the font, pixels; estimated from the heights of the letters
    level: bool = True  # False: written upwards or downwards

    @property
    def letters(self) -> int:
        """The number of letters and digits."""
        return sum(char.isalnum() for word in self.words for char in word.text)

    @property
    def confidence(self) -> float:
        """The mean confidence of the characters."""
        total = sum(word.confidence * len(word.text) for word in self.words)
        return total / sum(len(word.text) for word in self.words)


class OcrError(Exception):
    """A picture that the engine could not read."""


class Engine(Protocol):
    """An OCR engine."""

    @property
    def name(self) -> str:
        """The name with its version: "tesseract 5.3.0"."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of program and models.

        Raises:
            UserError: the data of a language is not installed. The message says what to install.
        """
        ...

    def read(self, picture: PIL.Image.Image) -> Sequence[OcrLine]:
        """Return the lines of an RGB picture, in the engine's order. No line is left out for its confidence.

        Raises:
            OcrError: the engine failed.
        """
        ...
