"""Data sets of a recipe: builds those whose files are there, and says of the others what is missing and where it is."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from glob import has_magic, iglob
from pathlib import Path

from varyforge.console import say, show_table, warn
from varyforge.errors import UserError
from varyforge.shards import MANIFEST, ShardSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A file or folder of a published data set, where its makers' archives unpack to."""

    path: str  # may hold * and ?: at least one file must match
    what: str
    page: str  # where it is obtained
    optional: bool = False  # the command does without, and less


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A row of the paper's tables: one command that makes one shard set (or what others need, such as a guard)."""

    row: str  # in the paper
    command: list[str]  # program and arguments; does only what is not done yet
    needs: list[Need] = field(default_factory=list)  # none: it reads nothing
    writes: str
    samples: int | None = None  # that the paper takes of it; null: all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """How a data set ended."""

    name: str
    of: DataSet
    state: str  # "built", "built in part", "to build", "missing" or "failed"
    missing: list[Need] = field(default_factory=list)


def build(sets: Mapping[str, DataSet], run: Callable[[str, list[str]], None] | None) -> bool:
    """Runs the commands of all sets whose files are there, one after the other; one that fails stops no other.

    Args:
        sets: by name.
        run: runs a set's command; raises UserError where it fails. None: only say what would be built.

    Returns:
        Whether all were built.
    """
    rows = []
    for number, (name, of) in enumerate(sets.items(), start=1):
        missing = [need for need in of.needs if not _is_there(need.path)]
        blocked = any(not need.optional for need in missing)
        built = "built in part" if missing else "built"
        state = "missing" if blocked else built if run else "to build"
        if not blocked:
            say(f"[{number}/{len(sets)}] {name}: {shlex.join(of.command)}")
            if run:
                try:
                    run(name, of.command)
                except UserError as error:
                    warn(str(error))
                    state = "failed"
        rows.append(_Row(name=name, of=of, state=state, missing=missing))
    _show(rows)
    return all(row.state == "built" for row in rows)


def _show(rows: list[_Row]) -> None:
    table = [(row.name, row.of.row, _asked(row.of), _written(row), row.state) for row in rows]
    show_table("data sets", ("set", "row of the paper", "samples asked", "written", "state"), table)
    for row in rows:
        if row.of.samples and row.state == "built" and (got := _samples(row.of)) is not None and got < row.of.samples:
            warn(f"{row.name}: {got:,} of the {row.of.samples:,} samples that the paper takes")
        for need in row.missing:
            say(f"{row.name}: missing {need.path}: {need.what}; {need.page}")


def _is_there(path: str) -> bool:
    return any(iglob(path, recursive=True)) if has_magic(path) else Path(path).exists()


def _samples(of: DataSet) -> int | None:
    if not (Path(of.writes) / MANIFEST).is_file():
        return None
    return sum(record.samples for record in ShardSet(of.writes).records)


def _asked(of: DataSet) -> str:
    return "all" if of.samples is None else f"{of.samples:,}"


def _written(row: _Row) -> str:
    count = _samples(row.of)
    return "" if count is None else f"{count:,}"
