"""Random histories of a set: inputs, gates, prompts and settings change, and the driver dies at any write or removal.

Whatever happened, the set ends as one made afresh, byte for byte, and `check` finds it sound. Units are made in this
process, so that hundreds of runs take seconds; `test_job.py` and `test_ray.py` kill real processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from datagen.job import scan
from datagen.job import shard_task as make
from datagen.job.job import run_job
from datagen.job.runner import Item, Result, Runner, Task, Tick
from datagen.job.settings import JobSettings
from datagen.source import Source, Unit
from pipelines.verify.check import check
from tests.datagen.job.test_incremental import bytes_of
from tests.datagen.job.test_split import edited, page
from tests.datagen.sources import LengthGates, LinesSource
from varyforge import prompts, storage
from varyforge.errors import UserError
from varyforge.outcome import Failed, Outcome


class Killed(BaseException):
    """The driver is gone."""


class InProcess:
    """A child that is none."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def units(self, path: str, file: str) -> Iterator[Unit | Failed]:
        try:
            yield from list(self._source.units(path, file))  # type: ignore[arg-type]  # LinesSource gives units alone
        except ValueError as error:
            yield Failed(reason="unreadable", detail=str(error))

    def run_units(self, work: Sequence[tuple[Unit, Sequence[str]]]) -> Iterator[Outcome]:
        for unit, files in work:
            yield self._source.make(unit, files)


class OneByOne(Runner):
    @override
    def run(self, task: Task[Item, Result], items: Sequence[Item], tick: Tick) -> Iterator[Result]:
        return (task(item, tick) for item in items)

    @override
    def state(self) -> str:
        return "in this process"


class Death:
    """Strikes before or after the n-th write or removal in a folder."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        writer, remove = storage.LocalFolder.writer, storage.LocalFolder.remove

        @contextmanager
        def writing(folder: storage.LocalFolder, name: str) -> Iterator[Any]:
            self.step()
            with writer(folder, name) as file:
                yield file
            self.step()

        def removing(folder: storage.LocalFolder, name: str) -> None:
            self.step()
            remove(folder, name)
            self.step()

        patch.setattr(storage.LocalFolder, "writer", writing)
        patch.setattr(storage.LocalFolder, "remove", removing)

    def step(self) -> None:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                self.after = None
                raise Killed


class History:
    """A set and how it is changed, from a seed."""

    def __init__(self, root: Path, seed: int, lists: dict[str, Any]) -> None:
        self.dice = random.Random(seed)
        self.root, self.lists, self.wordings = root, lists, {k: list(v) for k, v in lists["ocr"].items()}
        self.gates, self.made = LengthGates(), 0
        self.settings: dict[str, Any] = {"units_per_shard": self.dice.choice([3, 8, 20]), "validation_share": 0.2}
        (root / "in").mkdir(parents=True)
        for _ in range(self.dice.randint(1, 14)):
            self.add()

    def add(self) -> None:
        self.write(f"{self.made:04d}.txt")
        self.made += 1

    def write(self, name: str) -> None:
        data = "\n".join(self.line() for _ in range(self.dice.randint(1, 9))).encode()
        (self.root / "in" / name).write_bytes(b"\xff" if self.dice.random() < 0.05 else data)

    def line(self) -> str:
        one = page(self.dice.randrange(12))
        kinds = ["ab", "same text", "中文的一行", one, edited(one), f"line {self.dice.randrange(10**6)}"]
        return self.dice.choice(kinds)

    def change(self) -> None:
        files = sorted((self.root / "in").iterdir())
        match self.dice.choice(["add", "add", "remove", "rewrite", "gates", "prompts", "share", "size", "limit"]):
            case "add":
                self.add()
            case "remove" if len(files) > 1:
                self.dice.choice(files).unlink()
            case "rewrite":
                self.write(self.dice.choice(files).name)
            case "gates":
                self.gates = LengthGates(
                    min_length=self.dice.choice([1, 3, 9]), max_length=self.dice.choice([30, 9999])
                )
            case "prompts":
                language = self.dice.choice(["en", "zh"])
                self.lists["ocr"] |= {language: tuple(self.dice.sample(self.wordings[language], 5))}
            case "share":
                self.settings["validation_share"] = self.dice.choice([0.0, 0.2, 0.5])
            case "size":
                self.settings["units_per_shard"] = self.dice.choice([3, 8, 20])
            case "limit":
                self.settings["limit"] = self.dice.choice([None, None, 5, 12])

    def run(self, name: str, **more: Any) -> bool:
        """Whether there is anything to make a set of."""
        source = LinesSource(paths=[str(self.root / "in")], gates=self.gates)
        try:
            run_job(source, self.root / name, JobSettings(update=True, **self.settings, **more), OneByOne())
        except UserError as error:
            assert any(end in str(error) for end in ("inputs can be used", "it cannot be used", "nothing to do"))
            return False
        return True


def live(root: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = {name: dict(languages) for name, languages in prompts._lists().items()}
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "_lists", lambda: lists)
        for module in (make, scan):
            patch.setattr(module, "child_of", lambda source, _: InProcess(source))
        patch.setattr("os.fsync", lambda _: None)
        death = Death(patch)
        history = History(root, seed, lists)
        for number in range(4):
            history.change()
            for _ in range(history.dice.choice([0, 1, 1, 2, 3])):
                death.after = history.dice.randrange(history.dice.choice([6, 30, 120]))
                try:
                    history.run("set", retry=history.dice.choice([None, None, "failed"]))
                except Killed:
                    pass
                death.after = None
                if history.dice.random() < 0.3:
                    history.change()
            if history.run("set") and history.run(f"fresh{number}"):
                assert bytes_of(root / "set") == bytes_of(root / f"fresh{number}"), (seed, number)
                assert check(root / "set").problems == [], (seed, number)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_with_deaths_ends_as_made_afresh(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(tmp_path, seed, monkeypatch)


@pytest.mark.slow
def test_many_random_histories_with_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100, 220):
        live(tmp_path / str(seed), seed, monkeypatch)
