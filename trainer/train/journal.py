"""The log of a run: a line per step in log.jsonl, skipped samples in skipped.jsonl, the console, Weights & Biases."""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainer.batch import Progress, Step
from trainer.settings import Recipe
from trainer.train.state import StepResult, TrainState
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.files import write_text

ABOUT, LOG, SKIPPED = "about.json", "log.jsonl", "skipped.jsonl"
_LINE_EVERY_S = 3.0


class Journal:
    """A run's log, a context manager. On ranks other than 0 it only records skipped samples."""

    def __init__(self, recipe: Recipe, *, first_step: int, total_steps: int, writes: bool) -> None:
        self._recipe, self._first, self._total, self._writes = recipe, first_step, total_steps, writes
        self._out = Path(recipe.out)
        self._wandb: Any = None

    def __enter__(self) -> Journal:
        self._started = self._last_line = time.monotonic()
        self._out.mkdir(parents=True, exist_ok=True)
        if self._writes:
            _delete_steps_after(self._out / LOG, self._first)
            self._log = open(self._out / LOG, "a")
            self._wandb = self._start_wandb()
            if self._first:
                say(f"{self._out}: resumes after step {self._first} of {self._total}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writes:
            self._log.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def step(
        self,
        state: TrainState,
        result: StepResult,
        progress: Mapping[str, Progress],
        rate: float,
        *,
        seconds: float,
        waited_s: float,
    ) -> None:
        """Log a finished step. It took `seconds`, of which `waited_s` were spent waiting for data."""
        if not self._writes:
            return
        line = {
            "step": state.step,
            "loss": result.loss,
            "task_losses": result.task_losses,
            "task_samples": result.task_samples,
            "learning_rate": rate,
            "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
            "samples": state.samples,
            "supervised_tokens": state.supervised_tokens,
            "sources": {
                source: {
                    "samples": done.drawn,
                    "epochs": round(done.drawn / done.available, 4),
                    "supervised_tokens": state.source_tokens.get(source, 0),
                }
                for source, done in progress.items()
            },
            "skipped": state.skipped,
            "dropped": state.dropped,
            "truncated": state.truncated,
            "skipped_updates": result.skipped_updates,
            "utilisation": round(result.row_tokens / self._recipe.data.max_length, 4),  # of rows of max_length
            "padding": round(result.padding, 4),  # share of the tokens that were computed
            "seconds": round(seconds, 4),
            "data_wait_s": round(waited_s, 4),
            "samples_per_s": round(sum(result.task_samples.values()) / seconds, 3),
            "peak_memory_gib": round(_peak_memory_gib(), 3),
        }
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        if self._wandb is not None:
            self._wandb.log(_flat(line), step=state.step)
        self._say(state, result, line)

    def skipped(self, step: Step, number: int) -> None:
        """Log this rank's samples of a step that were left out. A step that is repeated is logged again."""
        lines = [{"step": number, "key": key, "reason": reason} for key, reason in (*step.skipped, *step.dropped)]
        if lines:
            with open(self._out / SKIPPED, "a") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _say(self, state: TrainState, result: StepResult, line: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last_line < _LINE_EVERY_S and state.step != self._total:
            return
        self._last_line = now
        left_s = (now - self._started) / (state.step - self._first) * (self._total - state.step)
        tasks = "  ".join(f"{task} {loss:.3f}" for task, loss in result.task_losses.items())
        loss = "none" if result.loss is None else f"{result.loss:.4f}"
        say(
            f"step {state.step}/{self._total}  loss {loss}  ({tasks})  lr {line['learning_rate']:.2e}  "
            f"{line['samples_per_s']:.1f} samples/s  {left_s:.0f} s left"
        )

    def _start_wandb(self) -> Any:
        settings = self._recipe.wandb
        if settings.mode == "disabled":
            return None
        import wandb  # noqa: PLC0415  # takes a second, so it is not imported when disabled

        try:
            return wandb.init(
                project=settings.project,
                name=self._out.name,
                group=str(self._out),  # a resumed run is another page of the same group
                dir=str(self._out),
                mode=settings.mode,
                config=asdict(self._recipe),
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise UserError(f"wandb.mode {settings.mode}: {error}; use `wandb login`, or wandb.mode=offline") from error


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the steps in a run's log, oldest first. A torn last line is ignored."""
    path = out / LOG
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = []
    for line in lines:
        try:
            steps.append(json.loads(line))
        except ValueError:
            break
    return steps


def _delete_steps_after(path: Path, step: int) -> None:
    """Delete the lines of steps after the checkpoint that a run resumes from, which will be logged again."""
    lines = [line for line in read_log(path.parent) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    tasks = {f"loss/{task}": loss for task, loss in line["task_losses"].items()}
    sources = {
        f"{name}/{source}": value for source, values in line["sources"].items() for name, value in values.items()
    }
    return {name: value for name, value in line.items() if not isinstance(value, dict)} | tasks | sources


def _peak_memory_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
