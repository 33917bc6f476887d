"""Comparison of an exported folder, loaded by plain transformers in another process, with the trained model."""

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
from trainer.export.cases import Case, cases, picture, sample_of, write_case
from trainer.export.trained import ExportFormat, TrainedModel
from trainer.loader.packing import Loaded, collate
from varyforge.errors import UserError

TOLERANCE = 1e-4
"""Largest allowed difference of a logit as a share of the largest logit. Both sides compute in fp32."""

_LOGITS, _NEW_TOKENS = 32, 8  # prompt tokens from the end to compare; tokens to generate


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of one case."""

    case: str
    tokens: int  # of the longest prompt
    logits: float  # largest difference ÷ largest logit
    levels: int  # largest difference of a pixel, of 255


def compare(folder: Path, target: ExportFormat, trained: TrainedModel) -> list[Comparison]:
    """Compare the prompt ids, pixels, logits and greedy tokens of the folder with those of the trained model.

    Raises:
        UserError: a difference is larger than the format allows, or transformers cannot load the folder.
    """
    selected = [case for case in cases(trained.encoder) if target.pixel_tolerance == 0 or not case.exact]
    with tempfile.TemporaryDirectory() as work:
        plan = [write_case(case, Path(work), native=target.pixel_tolerance > 0) for case in selected]
        tasks = {"cases": plan, "logits": _LOGITS, "new_tokens": _NEW_TOKENS}
        (Path(work) / "cases.json").write_text(json.dumps(tasks))
        _run(folder, Path(work))
        return [
            _compared(case, load_file(Path(work) / f"{case.name}.safetensors"), target, trained) for case in selected
        ]


def _run(folder: Path, work: Path) -> None:
    """Compute the folder's results in a process that cannot import varyforge."""
    command = [sys.executable, str(Path(probe.__file__).resolve()), str(folder.resolve())]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=threads, cwd=work)
    if ran.returncode:
        last = ([line for line in ran.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        raise UserError(f"export: plain transformers cannot use the folder: {last.strip()}")


def _compared(case: Case, outputs: dict[str, Tensor], target: ExportFormat, trained: TrainedModel) -> Comparison:
    """Compare one case. `outputs` is the file that `probe` wrote for it."""
    encoder, model = trained.encoder, trained.model
    prompts = [encoder.prompt(sample_of(row)) for row in case.rows]
    mask = outputs["attention_mask"]
    for row, (prompt, ids) in enumerate(zip(prompts, outputs["input_ids"], strict=True)):
        if not mask[row].eq(mask[row].sort().values).all():
            _refuse(case, "rows are not padded on the left")
        theirs = ids[mask[row] == 1].tolist()
        if theirs != prompt:
            first = next((i for i, (a, b) in enumerate(zip(theirs, prompt, strict=False)) if a != b), len(prompt))
            _refuse(case, f"the prompt's ids differ from token {first} on: {len(theirs)} for {len(prompt)}")
    pixels, levels = _pixels(case, outputs, target, trained)
    answers = model.generate(
        outputs["input_ids"], mask, pixels, case.sizes, max_new_tokens=_NEW_TOKENS, eos_id=encoder.end_id
    )
    difference = 0.0
    for ours, theirs in zip(_logits(case, prompts, pixels, trained), outputs["logits"], strict=True):
        difference = max(difference, float((ours - theirs[-len(ours) :]).abs().max() / ours.abs().max()))
    if not difference <= TOLERANCE:  # true for NaN, too
        _refuse(case, f"the logits differ by {difference:.1e} of the largest, more than {TOLERANCE:.0e}")
    for mine, their in zip(answers, outputs["answers"].tolist(), strict=True):
        if their[: len(mine)] != mine:
            _refuse(case, f"greedy tokens differ: {their[: len(mine)]} for {mine}")
    return Comparison(case=case.name, tokens=max(map(len, prompts)), logits=difference, levels=levels)


def _pixels(
    case: Case, outputs: dict[str, Tensor], target: ExportFormat, trained: TrainedModel
) -> tuple[dict[str, Tensor], int]:
    """Return the processor's pixels per encoder as uint8, and their largest difference from the trainer's."""
    layout, sizes = trained.model.layout, case.sizes
    if not sizes:
        return {n: torch.zeros(0, how.size, how.size, 3, dtype=torch.uint8) for n, how in layout.preprocess.items()}, 0
    theirs = target.pixels(outputs["pixel_values"], sizes, trained)
    ours = [layout.views(one) for one in map(picture, sizes)]
    levels = 0
    for name in layout.preprocess:
        mine = np.concatenate([views[name] for views in ours])
        if theirs[name].shape != mine.shape:
            _refuse(case, f"pixels of {name} are {theirs[name].shape} for {mine.shape}")
        levels = max(levels, int(np.abs(theirs[name].astype(int) - mine).max()))
    if levels > target.pixel_tolerance:
        _refuse(case, f"pixels differ by {levels} of 255 levels, more than {target.pixel_tolerance}")
    return {name: torch.from_numpy(views) for name, views in theirs.items()}, levels


def _refuse(case: Case, difference: str) -> None:
    raise UserError(f"export: the folder does not compute what the trained model does: {case.name}: {difference}")


@torch.no_grad()
def _logits(
    case: Case, prompts: Sequence[Sequence[int]], pixels: dict[str, Tensor], trained: TrainedModel
) -> Iterator[Tensor]:
    """Yield the trained model's logits at the last prompt tokens of each row, computed as in training."""
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
