"""Inputs of the benchmarks: the user's files, or with --tiny a few that are drawn here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from datagen.examples.documents import write_documents
from varyforge.errors import UserError

PHOTOGRAPHS = (".jpg", ".jpeg")


def add_inputs(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the positional argument that names the inputs."""
    parser.add_argument("inputs", nargs="*", type=Path, help=f"{kind}, or folders of them; --tiny draws a few itself")


def inputs_of(arguments: argparse.Namespace, folder: Path, draw: Callable[[Path], object]) -> list[Path]:
    """Return the inputs that the command line names, or with --tiny the folder that `draw` fills.

    Raises:
        UserError: neither.
    """
    inputs: list[Path] = arguments.inputs
    if inputs:
        return inputs
    if not arguments.tiny:
        raise UserError("no inputs are named: add files or folders to the command (--help says of which kind)")
    draw(folder)
    return [folder]


def files_in(inputs: Sequence[Path], *suffixes: str) -> list[Path]:
    """List files, and those below folders that have one of the suffixes (in lower case), by name.

    Raises:
        UserError: there are none.
    """
    below = [path for one in inputs for path in (one.rglob("*") if one.is_dir() else [one])]
    paths = sorted(path for path in below if path.suffix.lower() in suffixes)
    if not paths:
        raise UserError(f"{', '.join(map(str, inputs))}: no *{', *'.join(suffixes)} there")
    return paths


def draw_documents(folder: Path) -> None:
    """Write two sample documents as PDF files."""
    write_documents(folder, documents=2)


def draw_photographs(folder: Path) -> None:
    """Write four JPEG files of soft coloured spots, 320 x 240 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(4):
        spots = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        spots.resize((320, 240), PIL.Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
