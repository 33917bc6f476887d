"""The report's data about training runs: initial weights, samples and loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from pipelines.report.figures import ALL_TASKS, Curve, loss_curves, points_per_mean
from trainer.data.mixture import MixtureSource
from trainer.model.weights import PartReport
from trainer.train.journal import ABOUT, LOG, read_log
from varyforge.errors import UserError

_MEAN_OVER = 5  # steps at each end of a curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a model and the origin of its weights."""

    report: PartReport
    random_in: Path | None  # the run in which the part started from random weights, this one or an earlier one

    @property
    def starts_from(self) -> str:
        """The source of the weights in words."""
        part = self.report
        if part.tensors_random:
            return (
                f"{part.source}, but {part.tensors_random} tensors random" if part.tensors_loaded else "random weights"
            )
        return part.source + (f", which goes back to random weights in {self.random_in}" if self.random_in else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The loss at both ends of a curve."""

    name: str
    steps: int  # steps in which the task occurred
    window: int  # steps of each mean
    first: float
    last: float

    @classmethod
    def of(cls, name: str, curve: Curve) -> Trend:
        """Average the first and the last five steps, or half of the curve if it is shorter than ten steps."""
        losses = [loss for _, loss in curve]
        window = max(1, min(_MEAN_OVER, len(losses) // 2))
        return cls(
            name=name, steps=len(losses), window=window, first=fmean(losses[:window]), last=fmean(losses[-window:])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The entries of a run's about.json that the report uses."""

    parts: list[PartReport]
    mixture: list[MixtureSource]
    asked_by_task: dict[str, int]  # samples the recipe asks for
    epochs: int
    total_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """A training run in numbers. If the log has no step, the counters are 0 and there is no figure."""

    folder: Path
    about: About
    parts: list[Part]
    steps_done: int
    samples: int
    skipped: int
    truncated: int
    dropped: int  # too long samples
    seconds: float  # sum over steps, without start and checkpoints
    task_samples: dict[str, int]  # samples trained on
    trends: list[Trend]  # all tasks first
    figure: Markup | None
    steps_per_point: int  # of the figure

    @property
    def parts_by_start(self) -> dict[str, list[str]]:
        """The names of parts by the source of their weights."""
        groups: dict[str, list[str]] = {}
        for part in self.parts:
            groups.setdefault(part.starts_from, []).append(part.report.part)
        return groups

    @property
    def random_parts(self) -> list[Part]:
        """The encoders and language models that were trained from random weights in this run or an earlier one."""
        # for connectors, random initial weights are normal
        return [part for part in self.parts if part.random_in and not part.report.part.startswith("connectors.")]


def read_run(folder: Path) -> RunCard:
    """Read about.json and the log of a run.

    Raises:
        UserError: the folder is missing, is no run, or has a broken file.
    """
    about = _read_about(folder)
    try:
        return _run_card(folder, about, read_log(folder))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / LOG}: a line has another version's format ({error!r}); leave out the run, or train it again"
        ) from error


def _run_card(folder: Path, about: About, log: Sequence[dict[str, Any]]) -> RunCard:
    curves = _curves(log)
    last = log[-1] if log else {"step": 0, "samples": 0, "skipped": 0, "truncated": 0}
    task_samples: Counter[str] = Counter()
    for line in log:
        task_samples.update(line["task_samples"])
    return RunCard(
        folder=folder,
        about=about,
        parts=[Part(report=part, random_in=_random_in(part, folder)) for part in about.parts],
        steps_done=last["step"],
        samples=last["samples"],
        skipped=last["skipped"],
        truncated=last["truncated"],
        dropped=last.get("dropped", 0),  # absent in logs of older versions
        seconds=sum(line["seconds"] for line in log),
        task_samples=dict(task_samples.most_common()),
        trends=[Trend.of(name, curve) for name, curve in curves.items()],
        figure=loss_curves(curves) if log else None,
        steps_per_point=points_per_mean(len(log)),
    )


def _curves(log: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return (step, loss) of all tasks, then of each task in alphabetical order at the steps with this task."""
    tasks = sorted({task for line in log for task in line["task_losses"]})
    curves = {ALL_TASKS: [(line["step"], line["loss"]) for line in log if line["loss"] is not None]} if log else {}
    for task in tasks:
        curves[task] = [(line["step"], line["task_losses"][task]) for line in log if task in line["task_losses"]]
    return curves


def _read_about(folder: Path) -> About:
    path = folder / ABOUT
    if not path.is_file():
        problem = f"not a run: it has no {ABOUT}" if folder.is_dir() else "no such run"
        raise UserError(f"{folder}: {problem}; `deepspeed trainer/run.py RECIPE out={folder}` makes one")
    try:
        about = json.loads(path.read_bytes())
        return About(
            parts=[PartReport(**part) for part in about["parts"]],
            mixture=[MixtureSource(**source) for source in about["mixture"]],
            asked_by_task=dict(about["asked_by_task"]),
            epochs=int(about["epochs"]),
            total_steps=int(about["total_steps"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); run the recipe again to write the file anew") from error


def _random_in(part: PartReport, run: Path) -> Path | None:
    """Return the run in which `part` started from random weights, or None if its first weights are from elsewhere.

    The search follows the weights from run to run. An exported model is RUN/model, beside RUN/about.json. An encoder
    may have another name in an earlier run.
    """
    seen: set[Path] = set()
    while not part.tensors_random:
        source = Path(part.source)
        run = (source.parent if source.suffix else source).parent
        if run in seen or not (run / ABOUT).is_file():
            return None  # weights that no run wrote
        seen.add(run)
        parts = _read_about(run).parts
        kind = part.part.split(".")[0]
        namesakes = [p for p in parts if p.part == part.part] or [p for p in parts if p.part.split(".")[0] == kind]
        if not namesakes:
            return None
        part = max(namesakes, key=lambda p: p.tensors_random)
    return run
