"""The training loop and its optimiser step, from top to bottom in the order of execution."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.batch import Batch, Step
from trainer.settings import Recipe
from trainer.train.checkpoint import resume, save_checkpoint
from trainer.train.engine import Engine
from trainer.train.journal import Journal
from trainer.train.optim import learning_rate
from trainer.train.state import StepResult, TrainState
from varyforge.errors import UserError
from varyforge.sample import TASKS

_BUDGET_FLOOR = 1000  # samples; the share of bad ones among fewer says nothing


class Counts(NamedTuple):
    """Counts of samples and tokens in one rank's part of a step, or in all parts."""

    micro_batches: int
    supervised_tokens: int
    skipped: int
    dropped: int
    truncated: int
    rows: int  # that hold a sample
    tokens: int  # of samples
    positions: int  # of tokens and of padding
    source_tokens: tuple[int, ...]  # supervised tokens of each source, in the order of `Step.progress`

    @classmethod
    def from_tensor(cls, row: Tensor) -> Counts:
        """Return the counts of a row (8 + sources,), in the order of the fields."""
        single, values = len(cls._fields) - 1, row.tolist()
        return cls._make([*values[:single], tuple(values[single:])])

    def to_tensor(self) -> Tensor:
        """Return (8 + sources,) int64, in the order of the fields."""
        return torch.tensor([*self[:-1], *self.source_tokens])


def train(
    engine: Engine,
    steps: Callable[[int, int], Iterator[Step]],
    recipe: Recipe,
    *,
    total_steps: int,
    data_sha256: str,
    rank: int,
    empty: Batch,
) -> None:
    """Train from the newest checkpoint, or from the start, to `total_steps`.

    `steps(first, last)` yields this rank's part of the steps `first` to `last - 1`. `empty` is a batch of padding, run
    by a rank that has fewer micro-batches in a step than another rank.
    """
    out = Path(recipe.out)
    state = resume(engine, out, data_sha256)
    with Journal(recipe, first_step=state.step, total_steps=total_steps, writes=rank == 0) as journal:
        started = time.monotonic()
        for number, step in enumerate(steps(state.step, total_steps), start=state.step):
            waited_s = time.monotonic() - started
            journal.skipped(step, number + 1)
            rate = learning_rate(number, total_steps, recipe.optim)
            # Dropout depends on the step alone, as the data does, so a resumed run draws the same numbers.
            torch.manual_seed(recipe.seed + 1_000_003 * number + rank)
            result = train_step(engine, step, rate, empty)
            if not math.isfinite(result.grad_norm) and recipe.engine.precision != "fp16":  # fp16 lowers its loss scale
                raise UserError(
                    f"the gradient of step {number + 1} is not finite; samples on this rank: {_names(step)}"
                )
            state = advance(state, result)
            journal.step(state, result, step.progress, rate, seconds=time.monotonic() - started, waited_s=waited_s)
            check_budget(state, recipe.data.max_bad_share, step)
            if state.step % recipe.checkpoint.every_steps == 0 or state.step == total_steps:
                save_checkpoint(engine, out, state, rank=rank, keep=recipe.checkpoint.keep)
            started = time.monotonic()  # after the checkpoint, whose time is not waiting for data


def train_step(engine: Engine, step: Step, rate: float, empty: Batch) -> StepResult:
    """Run one optimiser step. Every rank calls this function with its part of the step.

    All ranks run the same number of micro-batches, that of the rank with the most. The loss is the sum over supervised
    tokens ÷ the number of supervised tokens of the whole step, over all ranks and micro-batches, so a token weighs the
    same however the step is split. A step without a usable sample updates nothing; its samples are counted as usual.

    Raises:
        UserError: the loss is not finite. The weights are then as before the step.
    """
    by_rank = engine.gather(count(step).to_tensor())
    counts = Counts.from_tensor(by_rank.sum(0))
    supervised = counts.supervised_tokens
    result = StepResult(skipped=counts.skipped, dropped=counts.dropped, truncated=counts.truncated)
    if supervised == 0:
        return replace(result, skipped_updates=engine.skipped_updates)
    most = Counts.from_tensor(by_rank.amax(0)).micro_batches
    batches = step.batches + [empty] * (most - len(step.batches))

    by_task = torch.zeros(len(TASKS), 3, dtype=torch.float64, device=engine.device)  # sum of losses, tokens, samples
    for number, batch in enumerate(batches, start=1):
        total, losses, samples = engine(batch.to(engine.device))
        engine.backward(total / supervised, last=number == most)
        add_by_task(by_task, losses, samples, batch.tasks)

    by_task = engine.total(by_task)
    loss = float(by_task[:, 0].sum()) / supervised
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss}; stopped before the update. Samples on this rank: {_names(step)}")
    grad_norm = engine.step(rate)

    return replace(
        result,
        loss=loss,
        task_losses={task: total / n for task, (total, n, _) in zip(TASKS, by_task.tolist(), strict=True) if n},
        task_samples={task: int(n) for task, (_, _, n) in zip(TASKS, by_task.tolist(), strict=True) if n},
        grad_norm=grad_norm,
        supervised_tokens=supervised,
        source_tokens=dict(zip(step.progress, counts.source_tokens, strict=True)),
        row_tokens=counts.tokens / counts.rows,
        padding=1 - counts.tokens / counts.positions,
        skipped_updates=engine.skipped_updates,
    )


def count(step: Step) -> Counts:
    """Count this rank's part of a step."""
    batches = step.batches
    by_source: Counter[str] = Counter()
    for batch in batches:
        for source, tokens in zip(batch.sources, batch.supervised_of, strict=True):
            by_source[source] += tokens
    return Counts(
        micro_batches=len(batches),
        supervised_tokens=sum(batch.num_supervised for batch in batches),
        skipped=len(step.skipped),
        dropped=len(step.dropped),
        truncated=step.truncated,
        rows=sum(batch.num_rows for batch in batches),
        tokens=sum(batch.num_tokens for batch in batches),
        positions=sum(batch.input_ids.numel() for batch in batches),
        source_tokens=tuple(by_source[source] for source in step.progress),
    )


def add_by_task(sums: Tensor, losses: Tensor, samples: Tensor, tasks: Sequence[str]) -> None:
    """Add a micro-batch to `sums` (tasks, 3): per task the sum of token losses, their number, and the samples.

    `losses` (M,) are the losses of M supervised tokens, `samples` (M,) the number of each token's sample, `tasks` the
    task of each sample.
    """
    if not tasks:
        return
    task_of = torch.tensor([TASKS.index(task) for task in tasks], device=samples.device)
    sums[:, 0].index_add_(0, task_of[samples], losses.double())
    sums[:, 1] += torch.bincount(task_of[samples], minlength=len(TASKS))
    sums[:, 2] += torch.bincount(task_of, minlength=len(TASKS))


def advance(state: TrainState, result: StepResult) -> TrainState:
    """Return the state after a step."""
    return TrainState(
        step=state.step + 1,
        samples=state.samples + sum(result.task_samples.values()),
        supervised_tokens=state.supervised_tokens + result.supervised_tokens,
        source_tokens=dict(Counter(state.source_tokens) + Counter(result.source_tokens)),
        skipped=state.skipped + result.skipped,
        dropped=state.dropped + result.dropped,
        truncated=state.truncated + result.truncated,
        data_sha256=state.data_sha256,
    )


def check_budget(state: TrainState, max_bad_share: float, step: Step) -> None:
    """Raise UserError when more samples could not be used than the recipe allows."""
    seen = state.samples + state.skipped
    if state.skipped > max_bad_share * max(seen, _BUDGET_FLOOR):
        last = "; ".join(f"{key} ({reason})" for key, reason in step.skipped[:3]) or "none skipped on this rank"
        raise UserError(
            f"{state.skipped} of {seen} samples could not be used, more than data.max_bad_share {max_bad_share}; "
            f"the last: {last}. skipped.jsonl in the run's folder lists all of them"
        )


def _names(step: Step) -> str:
    return ", ".join(key for batch in step.batches for key in batch.keys) or "none on this rank"
