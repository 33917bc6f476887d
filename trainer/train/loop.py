"""The training loop and its step, in the order in which things happen."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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

_BUDGET_FLOOR = 1000  # samples: before so many are seen, a share of them says nothing


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
    """Runs from the newest checkpoint, or from the start, to `total_steps`.

    `steps(first, last)` gives this rank's part of the steps `first` to `last - 1`; `empty` stands in for a micro-batch
    where it has fewer than another rank.
    """
    out = Path(recipe.out)
    state = resume(engine, out, data_sha256)
    with Journal(recipe, first_step=state.step, total_steps=total_steps, writes=rank == 0) as journal:
        started = time.monotonic()
        for number, step in enumerate(steps(state.step, total_steps), start=state.step):
            waited_s = time.monotonic() - started
            journal.skipped(step, number + 1)
            rate = learning_rate(number, total_steps, recipe.optim)
            # Dropout is a function of the step, as the data is: a run that goes on draws what it would have drawn.
            torch.manual_seed(recipe.seed + 1_000_003 * number + rank)
            result = train_step(engine, step, rate, empty)
            if not math.isfinite(result.grad_norm) and recipe.engine.precision != "fp16":  # fp16 lowers its loss scale
                raise UserError(f"the gradient of step {number + 1} is not finite; it read {_names(step)}")
            state = advance(state, result)
            journal.step(state, result, step.progress, rate, seconds=time.monotonic() - started, waited_s=waited_s)
            check_budget(state, recipe.data.max_bad_share, step)
            if state.step % recipe.checkpoint.every_steps == 0 or state.step == total_steps:
                save_checkpoint(engine, out, state, rank=rank, keep=recipe.checkpoint.keep)
            started = time.monotonic()  # after the checkpoint: waiting for that is not waiting for data


def train_step(engine: Engine, step: Step, rate: float, empty: Batch) -> StepResult:
    """One optimiser step; every rank calls it with its part and runs as many micro-batches as the one that has most.

    The loss is the sum over supervised tokens ÷ the supervised tokens of the whole step, over all ranks and
    micro-batches: a token weighs the same however the step is cut up. A step whose samples are all of no use updates
    nothing: they are counted like any others.

    Raises:
        UserError: the loss is not finite. The weights are then as before the step.
    """
    counts = engine.gather(count(step))
    _, supervised, skipped, dropped, truncated, rows, tokens, places, *by_source = counts.sum(0).tolist()
    if supervised == 0:
        return nothing_trained(skipped, dropped, truncated, engine.skipped_updates)
    most = int(counts[:, 0].max())
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

    return StepResult(
        loss=loss,
        task_losses={task: total / n for task, (total, n, _) in zip(TASKS, by_task.tolist(), strict=True) if n},
        task_samples={task: int(n) for task, (_, _, n) in zip(TASKS, by_task.tolist(), strict=True) if n},
        grad_norm=grad_norm,
        supervised_tokens=supervised,
        source_tokens=dict(zip(step.progress, by_source, strict=True)),
        skipped=skipped,
        dropped=dropped,
        truncated=truncated,
        row_tokens=tokens / rows,
        padding=1 - tokens / places,
        skipped_updates=engine.skipped_updates,
    )


def nothing_trained(skipped: int, dropped: int, truncated: int, skipped_updates: int) -> StepResult:
    """The result of a step in which no token is supervised."""
    return StepResult(
        loss=None,
        task_losses={},
        task_samples={},
        grad_norm=0.0,
        supervised_tokens=0,
        source_tokens={},
        skipped=skipped,
        dropped=dropped,
        truncated=truncated,
        row_tokens=0.0,
        padding=0.0,
        skipped_updates=skipped_updates,
    )


def count(step: Step) -> Tensor:
    """What ranks have to know of each other's part of a step, (8 + sources,) int64.

    The first is the number of micro-batches, the last are the supervised tokens of each source in `step.progress`.
    """
    batches = step.batches
    by_source: Counter[str] = Counter()
    for batch in batches:
        for source, tokens in zip(batch.sources, batch.supervised_of, strict=True):
            by_source[source] += tokens
    return torch.tensor(
        [
            len(batches),
            sum(batch.num_supervised for batch in batches),
            len(step.skipped),
            len(step.dropped),
            step.truncated,
            sum(batch.num_rows for batch in batches),
            sum(batch.num_tokens for batch in batches),
            sum(batch.input_ids.numel() for batch in batches),
            *(by_source[source] for source in step.progress),
        ]
    )


def add_by_task(sums: Tensor, losses: Tensor, samples: Tensor, tasks: Sequence[str]) -> None:
    """Adds a micro-batch to `sums` (tasks, 3): sum of its token losses (M,), their number, its samples, per task.

    `samples` (M,) is the number of the sample of each loss, `tasks` the task of each sample.
    """
    if not tasks:
        return
    task_of = torch.tensor([TASKS.index(task) for task in tasks], device=samples.device)
    sums[:, 0].index_add_(0, task_of[samples], losses.double())
    sums[:, 1] += torch.bincount(task_of[samples], minlength=len(TASKS))
    sums[:, 2] += torch.bincount(task_of, minlength=len(TASKS))


def advance(state: TrainState, result: StepResult) -> TrainState:
    """The state after a step."""
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
    """Raises UserError when more samples could not be used than the recipe allows."""
    seen = state.samples + state.skipped
    if state.skipped > max_bad_share * max(seen, _BUDGET_FLOOR):
        raise UserError(
            f"{state.skipped} of {seen} samples could not be used, more than data.max_bad_share {max_bad_share}; "
            f"the last: {_skipped(step)}. The run's skipped.jsonl lists them"
        )


def _names(step: Step) -> str:
    return ", ".join(key for batch in step.batches for key in batch.keys) or "none on this rank"


def _skipped(step: Step) -> str:
    return "; ".join(f"{key} ({reason})" for key, reason in step.skipped[:3]) or "none skipped on this rank"
