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
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from trainer.batch import Encoded
from trainer.export import probe
from trainer.export.cases import Case, cases, picture, sample_of, written
from trainer.export.trained import Form, Trained
from trainer.loader.packing import Loaded, collate
from varyforge.errors import UserError

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit; computed in fp32 on both sides."""

_LOGITS, _NEW_TOKENS = 32, 8  # last tokens of a prompt to compare, and tokens to generate


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
    compared = [case for case in cases(trained) if form.levels == 0 or not case.exact]
    with tempfile.TemporaryDirectory() as work:
        plan = [written(case, Path(work), native=form.levels > 0) for case in compared]
        asked = {"cases": plan, "logits": _LOGITS, "new_tokens": _NEW_TOKENS}
        (Path(work) / "cases.json").write_text(json.dumps(asked))
        _run(folder, Path(work))
        return [_compared(case, load_file(Path(work) / f"{case.name}.safetensors"), form, trained) for case in compared]


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
    prompts = [encoder.prompt(sample_of(row)) for row in case.rows]
    mask = found["attention_mask"]
    for row, (prompt, ids) in enumerate(zip(prompts, found["input_ids"], strict=True)):
        if not mask[row].eq(mask[row].sort().values).all():
            _refuse(case, "rows are not padded on the left")
        theirs = ids[mask[row] == 1].tolist()
        if theirs != prompt:
            first = next((i for i, (a, b) in enumerate(zip(theirs, prompt, strict=False)) if a != b), len(prompt))
            _refuse(case, f"the prompt's ids differ from token {first} on: {len(theirs)} for {len(prompt)}")
    pixels, levels = _pixels(case, found, form, trained)
    said = model.generate(
        found["input_ids"], mask, pixels, case.sizes, max_new_tokens=_NEW_TOKENS, eos_id=encoder.end_id
    )
    difference = 0.0
    for ours, theirs in zip(_logits(case, prompts, pixels, trained), found["logits"], strict=True):
        difference = max(difference, float((ours - theirs[-len(ours) :]).abs().max() / ours.abs().max()))
    if not difference <= TOLERANCE:  # also when it is no number
        _refuse(case, f"the logits differ by {difference:.1e} of the largest, more than {TOLERANCE:.0e}")
    for mine, their in zip(said, found["said"].tolist(), strict=True):
        if their[: len(mine)] != mine:
            _refuse(case, f"greedy tokens differ: {their[: len(mine)]} for {mine}")
    return Compared(case=case.name, tokens=max(map(len, prompts)), logits=difference, levels=levels)


def _pixels(case: Case, found: dict[str, Tensor], form: Form, trained: Trained) -> tuple[dict[str, Tensor], int]:
    """The processor's pixels as bytes, per encoder, and their largest difference from ours."""
    layout, sizes = trained.model.layout, case.sizes
    if not sizes:
        return {n: torch.zeros(0, how.size, how.size, 3, dtype=torch.uint8) for n, how in layout.preprocess.items()}, 0
    theirs = form.pixels(found["pixel_values"], sizes, trained)
    ours = [layout.views(one) for one in map(picture, sizes)]
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
