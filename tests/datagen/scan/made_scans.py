"""Drawn pages, and a program in place of tesseract that reads them as it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

LINES = (
    "The old harbour lies below the town and is",
    "still used by a few of the fishing boats in",
    "summer. A narrow road leads up to the market,",
    "where people from the hills sell their fruit.",
)
SIZE = 30
STEP = 44
LEFT, TOP = 60, 80
WIDTH, HEIGHT = 800, 600
HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"

PROGRAM = """#!/bin/sh
case "$1" in
    --version) echo "tesseract 9.8.7"; exit ;;
    --list-langs) echo 'List of available languages in "{folder}" (2):'; echo eng; echo deu; exit ;;
esac
env > {folder}/environment
cat > {folder}/picture
{command}
"""


@dataclass(frozen=True)
class Word:
    """A word as tesseract reports it, with the height of its ink."""

    text: str
    box: tuple[int, int, int, int]
    line: int


def font(size: int = SIZE) -> PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


def drawn(lines: tuple[str, ...] = LINES) -> tuple[PIL.Image.Image, list[Word]]:
    """A page of text, and its words."""
    page = PIL.Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, words = PIL.ImageDraw.Draw(page), []
    for number, line in enumerate(lines):
        x, y = float(LEFT), TOP + STEP * number
        for word in line.split():
            draw.text((x, y), word, fill="black", font=font())
            words.append(Word(word, tuple(map(round, draw.textbbox((x, y), word, font=font()))), number))  # type: ignore[arg-type]
            x += draw.textlength(word + " ", font=font())
    return page, words


def table(words: list[Word], confidence: float = 96.5, **doubtful: float) -> str:
    """Tesseract's TSV of words. `doubtful` names words of another confidence."""
    rows = [HEADER, f"1\t1\t0\t0\t0\t0\t0\t0\t{WIDTH}\t{HEIGHT}\t-1\t"]
    for number, word in enumerate(words):
        x0, y0, x1, y1 = word.box
        sure = doubtful.get(word.text, confidence)
        rows.append(f"5\t1\t1\t1\t{word.line}\t{number}\t{x0}\t{y0}\t{x1 - x0}\t{y1 - y0}\t{sure}\t{word.text}")
    return "\n".join(rows) + "\n"


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, output: str = "", command: str = "") -> Path:
    """Put a program called tesseract on the PATH, which prints `output` for every picture, or runs a command."""
    bin = folder / "bin"
    bin.mkdir()
    for language in ("eng", "deu"):
        (bin / f"{language}.traineddata").write_bytes(language.encode())
    (bin / "output").write_text(output)
    program = bin / "tesseract"
    program.write_text(PROGRAM.format(folder=bin, command=command or f"cat {bin}/output"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:/usr/bin:/bin")
    return bin


def save(page: PIL.Image.Image, path: Path, **options: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, **options)  # type: ignore[arg-type]
    return str(path)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
