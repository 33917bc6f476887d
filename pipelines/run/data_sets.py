"""Building of a recipe's data sets, and a list of missing files with the pages that offer them."""

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
    """A file or folder of a published data set, at the path to which the published archives unpack."""

    path: str  # may contain * and ?; at least one file must match
    what: str
    page: str  # page that offers it
    optional: bool = False  # the command works without it, and builds less


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A row of the paper's tables: one command that makes one shard set, or an input of others such as a guard."""

    row: str  # name in the paper
    command: list[str]  # program and arguments; skips finished work
    needs: list[Need] = field(default_factory=list)  # empty: it reads nothing
    writes: str
    samples: int | None = None  # samples that the paper uses; null: all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The result for one data set."""

    name: str
    of: DataSet
    state: str  # "built", "built in part", "to build", "missing" or "failed"
    missing: list[Need]


def build(sets: Mapping[str, DataSet], run: Callable[[str, list[str]], None] | None) -> bool:
    """Run the commands of all sets whose files are there, one after the other. A failed set does not stop the others.

    `run` takes a set's name and command, and raises UserError if the command fails. None: only list what would be
    built. Returns whether all sets were built.
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
    samples = {row.name: _samples(row.of) for row in rows}
    table = [
        (row.name, row.of.row, _number(row.of.samples, "all"), _number(samples[row.name], ""), row.state)
        for row in rows
    ]
    show_table("data sets", ("set", "row of the paper", "samples asked", "written", "state"), table)
    for row in rows:
        if row.of.samples and row.state == "built" and (got := samples[row.name]) is not None and got < row.of.samples:
            warn(f"{row.name}: {got:,} of the {row.of.samples:,} samples that the paper uses")
        for need in row.missing:
            say(f"{row.name}: missing {need.path}: {need.what}; {need.page}")


def _is_there(path: str) -> bool:
    return any(iglob(path, recursive=True)) if has_magic(path) else Path(path).exists()


def _samples(of: DataSet) -> int | None:
    if not (Path(of.writes) / MANIFEST).is_file():
        return None
    return sum(record.samples for record in ShardSet(of.writes).records)


def _number(count: int | None, otherwise: str) -> str:
    return otherwise if count is None else f"{count:,}"
