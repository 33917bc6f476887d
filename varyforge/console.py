"""Output for a person: messages, tables, and progress as a bar on a terminal or as lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S = 5.0

console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
"""Console on stderr, so that stdout holds results alone."""


def say(message: str) -> None:
    """Print a line for a person."""
    console.print(message, markup=False)


def warn(message: str) -> None:
    """Print a line that must not be overlooked."""
    console.print(f"warning: {message}", style="bold yellow", markup=False)


def result(line: str) -> None:
    """Write a line to stdout, for a program that reads it."""
    sys.stdout.write(f"{line}\n")


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table whose columns are right-aligned but for the first."""
    table = Table(title=Text(title), title_justify="left")  # Text: brackets in a path are no markup
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


class Progress:
    """Counts `unit`s up to `total`; shows speed, time left and a note. A context manager."""

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar = (
            RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, speed="", note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more as done and replace the note."""
        if count == 0:
            return
        self._done += count
        now = time.monotonic()
        speed = self._done / max(now - self._started, 1e-9)
        if self._bar:
            self._bar.update(self._task, advance=count, speed=f"{speed:.1f} {self._unit}/s", note=note)
        elif now - self._last_line >= _LINE_EVERY_S or self._done >= self._total:
            self._last_line = now
            left = (self._total - self._done) / max(speed, 1e-9)
            done = f"{self._title}: {self._done}/{self._total} {self._unit}s, {speed:.1f}/s, {left:.0f} s left"
            say(f"{done}  {note}".rstrip())
