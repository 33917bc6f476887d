"""Compares an exported folder, as plain transformers loads it in a process of its own, with the trained model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from datagen.errors import UserError
from datagen.escape import escape
from datagen.sample import IMAGE_MARKER, Sample, Turn
from datagen.sample import Image as SampleImage
from trainer.batch import Encoded
from trainer.hf import probe
from trainer.hf.trained import Form, Trained
from trainer.layout import Size
from trainer.packing import Loaded, collate

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit; computed in fp32 on both sides."""

_LOGITS, _NEW_TOKENS = 32, 8  # last tokens of a prompt to compare, and tokens to generate
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
        return [part for row in self.rows for _, parts in row for part in parts if not isinstance(part, str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One case of the comparison."""

    case: str
    tokens: int  # of the longest prompt
    logits: float  # largest difference ÷ largest logit
    levels: int  # largest difference of a pixel, of 255


def compare(folder: Path, form: Form, trained: Trained) -> list[Compared]:
    """Ids of prompts, pixels, logits and greedy tokens of the folder against those of the trained model.

    Raises:
        UserError: something differs by more than the form allows, or the folder cannot be loaded.
    """
    cases = [case for case in _cases(trained) if form.levels == 0 or not case.exact]
    with tempfile.TemporaryDirectory() as work:
        plan = [_written(case, Path(work), native=form.levels > 0) for case in cases]
        asked = {"cases": plan, "logits": _LOGITS, "new_tokens": _NEW_TOKENS}
        (Path(work) / "cases.json").write_text(json.dumps(asked))
        _run(folder, Path(work))
        return [_compared(case, load_file(Path(work) / f"{case.name}.safetensors"), form, trained) for case in cases]


def _run(folder: Path, work: Path) -> None:
    """The folder's own answers, from a process in which varyforge cannot be imported."""
    command = [sys.executable, str(Path(probe.__file__).resolve()), str(folder.resolve()), str(work)]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=threads)
    if ran.returncode:
        last = ([line for line in ran.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        raise UserError(f"export: plain transformers cannot use the folder: {last.strip()}")


def _compared(case: Case, found: dict[str, Tensor], form: Form, trained: Trained) -> Compared:
    """One case; see `compare`."""
    encoder, model = trained.encoder, trained.model
    prompts = [encoder.prompt(_sample(row)) for row in case.rows]
    mask = found["attention_mask"]
    for row, (prompt, ids) in enumerate(zip(prompts, found["input_ids"], strict=True)):
        theirs = ids[mask[row] == 1].tolist()
        if theirs != prompt:
            first = next((i for i, (a, b) in enumerate(zip(theirs, prompt, strict=False)) if a != b), len(prompt))
            _refuse(case, f"the prompt's ids differ from token {first} on: {len(theirs)} for {len(prompt)}")
    pixels, levels = _pixels(case, found, form, trained)
    said = model.generate(
        found["input_ids"], mask, pixels, case.sizes, max_new_tokens=_NEW_TOKENS, eos_id=encoder.end_id
    )
    difference = 0.0
    for prompt, ours, theirs in zip(prompts, _logits(case, prompts, pixels, trained), found["logits"], strict=True):
        theirs = theirs[-len(prompt) :]
        difference = max(difference, float((ours - theirs).abs().max() / ours.abs().max()))
    if not difference <= TOLERANCE:  # also when it is no number
        _refuse(case, f"the logits differ by {difference:.1e} of the largest, more than {TOLERANCE:.0e}")
    for mine, their in zip(said, found["said"].tolist(), strict=True):
        if their[: len(mine)] != mine:
            _refuse(case, f"greedy tokens differ: {their[: len(mine)]} for {mine}")
    return Compared(case=case.name, tokens=max(map(len, prompts)), logits=difference, levels=levels)


def _pixels(
    case: Case, found: dict[str, Tensor], form: Form, trained: Trained
) -> tuple[dict[str, Tensor], int]:
    """The processor's pixels as bytes, per encoder, and their largest difference from ours."""
    layout, sizes = trained.model.layout, case.sizes
    if not sizes:
        return {n: torch.zeros(0, how.size, how.size, 3, dtype=torch.uint8) for n, how in layout.preprocess.items()}, 0
    theirs = form.pixels(found["pixel_values"], sizes, trained)
    ours = [layout.views(picture) for picture in map(_picture, sizes)]
    levels = 0
    for name in layout.preprocess:
        mine = np.concatenate([views[name] for views in ours])
        if theirs[name].shape != mine.shape:
            _refuse(case, f"pixels of {name} are {theirs[name].shape} for {mine.shape}")
        levels = max(levels, int(np.abs(theirs[name].astype(int) - mine).max()))
    if levels > form.levels:
        _refuse(case, f"pixels differ by {levels} of 255 levels, more than {form.levels}")
    return {name: torch.from_numpy(views) for name, views in theirs.items()}, levels


def _refuse(case: Case, what: str) -> None:
    raise UserError(f"export: the folder does not compute what the trained model does: {case.name}: {what}")


@torch.no_grad()
def _logits(
    case: Case, prompts: Sequence[Sequence[int]], pixels: dict[str, Tensor], trained: Trained
) -> Iterator[Tensor]:
    """The trained model's logits at the last tokens of each row, as it computes them in training."""
    model, ids = trained.model, [np.array(prompt, np.int32) for prompt in prompts]
    rows: list[list[Loaded]] = [[(Encoded(key="case", task="ocr", input_ids=row, labels=row), ())] for row in ids]
    batch = replace(collate(rows, trained.encoder.pad_id, model.layout), pixels=pixels, image_sizes=tuple(case.sizes))
    states: list[Tensor] = []
    language: Any = model.language.model.base_model
    hook = language.register_forward_hook(lambda _module, _inputs, output: states.append(output.last_hidden_state))
    try:
        model(batch)
    finally:
        hook.remove()
    for prompt, hidden in zip(prompts, states[0], strict=True):
        yield hidden[: len(prompt)][-_LOGITS:] @ model.language.head.T


def _cases(trained: Trained) -> list[Case]:
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


def _sample(row: Sequence[Message]) -> Sample:
    """A conversation as the trainer knows it, with an answer that is not seen."""
    turns = [
        Turn(role=role, text="".join(escape(part) if isinstance(part, str) else IMAGE_MARKER for part in parts))
        for role, parts in row
    ]
    sizes = [part for _, parts in row for part in parts if not isinstance(part, str)]
    images = [SampleImage(data=b"-", format="png", height=high, width=wide) for high, wide in sizes]
    answered = (*turns, Turn(role="assistant", text="-"))
    return Sample(key="case", task="ocr", turns=answered, images=tuple(images), source="export")


def _written(case: Case, work: Path, *, native: bool) -> dict[str, Any]:
    """A case as `probe` reads it; its images are written to `work`."""

    def part_of(part: str | Size) -> dict[str, str]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        name = f"{part[0]}x{part[1]}.png"
        Image.fromarray(_picture(part)).save(work / name)
        return {"type": "image", "path": name}

    rows = [[{"role": role, "content": [part_of(part) for part in parts]} for role, parts in row] for row in case.rows]
    return {"name": case.name, "native": native, "conversations": rows}


def _picture(size: Size) -> NDArray[np.uint8]:
    """An RGB picture of black lines on a coloured ground, always the same for a size."""
    random = np.random.default_rng(size)
    ground = random.integers(128, 256, (4, 4, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(ground).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    for top in range(4, size[0] - 4, 9):
        picture[top : top + 4, 4 : int(random.integers(8, max(size[1] - 4, 9)))] //= 4
    return picture
