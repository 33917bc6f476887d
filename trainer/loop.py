"""The training loop and its step, in the order in which things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datagen.errors import UserError
from datagen.sample import TASKS
from trainer.batch import Batch
from trainer.checkpoint import TrainState, resume, save_checkpoint
from trainer.engine import Engine
from trainer.journal import Journal
from trainer.loader import MicroBatches, Share, steps
from trainer.optim import learning_rate
from trainer.settings import Recipe

_BUDGET_FLOOR = 1000  # samples: before so many are seen, a share of them says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimiser step did, over all ranks."""

    loss: float  # nats per supervised token of the whole step
    task_losses: dict[str, float]  # the same for each task that occurred
    task_samples: dict[str, int]  # samples trained on, for each task that occurred
    grad_norm: float  # before clipping
    supervised_tokens: int
    skipped: int
    truncated: int
    skipped_updates: int  # since the run was started: fp16 gradients that overflowed


def train(engine: Engine, data: MicroBatches, share: Share, recipe: Recipe, total_steps: int, data_sha256: str) -> None:
    """Runs from the newest checkpoint, or from the start, to `total_steps`."""
    out = Path(recipe.out)
    state = resume(engine, out, data_sha256)
    with Journal(recipe, first_step=state.step, total_steps=total_steps, writes=share.rank == 0) as journal:
        batches = steps(data, share, first=state.step, last=total_steps, workers=recipe.data.workers)
        started = time.monotonic()
        for step, micro_batches in enumerate(batches, start=state.step):
            waited_s = time.monotonic() - started
            journal.skipped(micro_batches)
            rate = learning_rate(step, total_steps, recipe.optim)
            # Dropout is a function of the step, as the data is: a run that goes on draws what it would have drawn.
            torch.manual_seed(recipe.seed + 1_000_003 * step + share.rank)
            result = train_step(engine, micro_batches, rate)
            if not math.isfinite(result.grad_norm) and recipe.engine.precision != "fp16":  # fp16 lowers its loss scale
                raise UserError(f"the gradient of step {step + 1} is not finite; it read {_names(micro_batches)}")
            state = advance(state, result)
            journal.step(state, result, rate, seconds=time.monotonic() - started, waited_s=waited_s)
            started = time.monotonic()
            check_budget(state, recipe.data.max_bad_share, micro_batches)
            if state.step % recipe.checkpoint.every_steps == 0 or state.step == total_steps:
                save_checkpoint(engine, out, state, rank=share.rank, keep=recipe.checkpoint.keep)


def train_step(engine: Engine, micro_batches: Sequence[Batch], rate: float) -> StepResult:
    """One optimiser step over this rank's micro-batches.

    The loss is the sum over supervised tokens ÷ the supervised tokens of the whole step, over all ranks and
    micro-batches: a token weighs the same however the step is cut up.

    Raises:
        UserError: nothing is supervised, or the loss is not finite. The weights are then as before the step.
    """
    supervised, skipped, truncated = count(engine, micro_batches)
    if supervised == 0:
        raise UserError(f"no sample of a step supervises a token: {_names(micro_batches)}; {_skipped(micro_batches)}")

    by_task = torch.zeros(len(TASKS), 3, dtype=torch.float64, device=engine.device)  # sum of losses, tokens, samples
    for number, batch in enumerate(micro_batches):
        losses, rows = engine(batch.to(engine.device))
        engine.backward(losses.sum() / supervised, last=number == len(micro_batches) - 1)
        add_by_task(by_task, losses.detach(), rows, batch.tasks)

    by_task = engine.total(by_task)
    loss = float(by_task[:, 0].sum()) / supervised
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss}; stopped before the update. Samples on this rank: {_names(micro_batches)}")
    grad_norm = engine.step(rate)

    return StepResult(
        loss=loss,
        task_losses={task: total / n for task, (total, n, _) in zip(TASKS, by_task.tolist(), strict=True) if n},
        task_samples={task: int(n) for task, (_, _, n) in zip(TASKS, by_task.tolist(), strict=True) if n},
        grad_norm=grad_norm,
        supervised_tokens=supervised,
        skipped=skipped,
        truncated=truncated,
        skipped_updates=engine.skipped_updates,
    )


def count(engine: Engine, micro_batches: Sequence[Batch]) -> list[int]:
    """Supervised tokens, skipped and truncated samples of the step, over all ranks."""
    own = [(b.num_supervised, len(b.skipped), b.truncated) for b in micro_batches]
    return [int(total) for total in engine.total(torch.tensor(own).sum(0))]


def add_by_task(sums: Tensor, losses: Tensor, rows: Tensor, tasks: Sequence[str]) -> None:
    """Adds a micro-batch to `sums` (tasks, 3): sum of its token losses (M,), their number, its samples, per task."""
    if not tasks:
        return
    task_of_row = torch.tensor([TASKS.index(task) for task in tasks], device=rows.device)
    sums[:, 0].index_add_(0, task_of_row[rows], losses.double())
    sums[:, 1] += torch.bincount(task_of_row[rows], minlength=len(TASKS))
    sums[:, 2] += torch.bincount(task_of_row, minlength=len(TASKS))


def advance(state: TrainState, result: StepResult) -> TrainState:
    """The state after a step."""
    return TrainState(
        step=state.step + 1,
        samples=state.samples + sum(result.task_samples.values()),
        supervised_tokens=state.supervised_tokens + result.supervised_tokens,
        skipped=state.skipped + result.skipped,
        truncated=state.truncated + result.truncated,
        data_sha256=state.data_sha256,
    )


def check_budget(state: TrainState, max_bad_share: float, micro_batches: Sequence[Batch]) -> None:
    """Raises UserError when more samples could not be used than the recipe allows."""
    seen = state.samples + state.skipped
    if state.skipped > max_bad_share * max(seen, _BUDGET_FLOOR):
        raise UserError(
            f"{state.skipped} of {seen} samples could not be used, more than data.max_bad_share {max_bad_share}; "
            f"the last: {_skipped(micro_batches)}. The run's skipped.jsonl lists them"
        )


def _names(micro_batches: Sequence[Batch]) -> str:
    return ", ".join(key for batch in micro_batches for key in batch.keys) or "none on this rank"


def _skipped(micro_batches: Sequence[Batch]) -> str:
    named = [f"{key} ({reason})" for batch in micro_batches for key, reason in batch.skipped]
    return "; ".join(named[:3]) or "none skipped on this rank"
