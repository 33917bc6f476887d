"""Tesseract as an external program: a picture on stdin, words with boxes and confidences (TSV) on stdout.

It runs in the process group of the child that makes the unit. So the unit's deadline ends both, and the memory cap
holds for both.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

import PIL.Image
from typing_extensions import override

from datagen.scan.engine import Engine, OcrError, OcrLine, OcrWord
from varyforge.errors import UserError
from varyforge.files import sha256_file
from varyforge.processes import one_line

PROGRAM = "tesseract"
_INSTALL = "apt install tesseract-ocr (Debian, Ubuntu) or brew install tesseract, or choose engine=rapidocr"
_DPI = "300"  # said to the program, which otherwise guesses from the letters and warns
_VERSION_S = 60.0  # for a call that reads no picture
_COLUMNS = 12
_WORD = "5"  # the level of a word in TSV
_SIDEWAYS = 1.5  # height / width; a higher line is written upwards or downwards
_FOLDER = re.compile(r'"([^"]+)"')
_LOW, _TALL, _CAPITAL, _FULL = 0.5, 0.72, 0.7, 0.8  # tops above the baseline, in font sizes
_TOPS = dict.fromkeys("acegmnopqrsuvwxyz", _LOW) | dict.fromkeys("bdfhijklt()[]{}|/", _TALL)
_TOPS |= dict.fromkeys(".,_", 0.1) | dict.fromkeys("-–—~:;", 0.45)
_BOTTOMS = dict.fromkeys("gjpqy()[]{}|_", 0.21) | dict.fromkeys(",;", 0.12) | dict.fromkeys("-–—~", -0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tesseract(Engine):
    """The program `tesseract` on the PATH, with the data of some languages."""

    languages: tuple[str, ...]  # names of language data: "eng", "chi_sim"

    @property
    @override
    def name(self) -> str:
        return " ".join(_call(["--version"]).split()[:2])

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        folder, installed = _installed()
        missing = [name for name in self.languages if name not in installed]
        if missing:
            name = missing[0].replace("_", "-")
            raise UserError(
                f"languages: tesseract has no data for {missing[0]!r}; type: apt install tesseract-ocr-{name}, "
                f"or choose from {', '.join(installed)}"
            )
        data = {f"tesseract {name}": sha256_file(folder / f"{name}.traineddata")[:12] for name in self.languages}
        return {PROGRAM: self.name.split()[1], **data}

    @override
    def read(self, picture: PIL.Image.Image) -> Sequence[OcrLine]:
        data = io.BytesIO()
        picture.convert("RGB").save(data, "PPM")
        words = ["stdin", "stdout", "-l", "+".join(self.languages), "--dpi", _DPI, "--psm", "3", "tsv"]
        return lines_of(_call(words, data.getvalue(), timeout=None))


def lines_of(table: str) -> list[OcrLine]:
    """Return the lines of tesseract's TSV. A word without a visible character is a drawing and no text."""
    rows = (row.split("\t", _COLUMNS - 1) for row in table.splitlines()[1:])
    words = (row for row in rows if len(row) == _COLUMNS and row[0] == _WORD and row[-1].strip())
    return [_line(_words(group)) for _, group in groupby(words, key=lambda row: tuple(row[1:5]))]


def _words(rows: Iterable[list[str]]) -> Iterator[OcrWord]:
    for row in rows:
        x, y, width, height = map(float, row[6:10])
        yield OcrWord(row[-1].strip(), (x, y, x + width, y + height), float(row[10]) / 100)


def _line(words: Iterable[OcrWord]) -> OcrLine:
    """Return a line with the baseline and font size that fit most of its words."""
    line = tuple(words)
    x0, y0, x1, y1 = (f(word.box[edge] for word in line) for edge, f in enumerate((min, min, max, max)))
    if y1 - y0 > _SIDEWAYS * (x1 - x0) and sum(len(word.text) for word in line) > 1:
        return OcrLine(line, y1, max(x1 - x0, 1.0), level=False)
    fits = [_fit(word) for word in line if any(map(str.isalnum, word.text))] or [_fit(word) for word in line]
    return OcrLine(line, median(baseline for baseline, _ in fits), median(size for _, size in fits))


def _fit(word: OcrWord) -> tuple[float, float]:
    """Return the baseline and font size by which a word's letters fill its box. Accents and Chinese are full height."""
    top = max(_TOPS.get(char, _CAPITAL if char.isascii() else _FULL) for char in word.text)
    bottom = max(_BOTTOMS.get(char, 0.0 if char.isascii() else 0.1) for char in word.text)
    _, y0, _, y1 = word.box
    size = max((y1 - y0) / (top + bottom), 1.0)
    return y1 - bottom * size, size


def _installed() -> tuple[Path, list[str]]:
    """Return the folder of the language data and the names of the languages."""
    first, *names = _call(["--list-langs"]).splitlines()
    folder = _FOLDER.search(first)
    return Path(folder[1] if folder else "."), [name for name in names if name]


def _call(words: Sequence[str], data: bytes = b"", timeout: float | None = _VERSION_S) -> str:
    """Run the program with one thread and return its output.

    Raises:
        UserError: the program is not installed.
        OcrError: it failed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(f"tesseract is not installed; type: {_INSTALL}")
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C"}
    done = subprocess.run(
        [program, *words], input=data, capture_output=True, env=environment, timeout=timeout, check=False
    )
    if done.returncode:
        raise OcrError(one_line(done.stderr.decode(errors="replace")) or f"exit status {done.returncode}")
    return done.stdout.decode(errors="replace")
