"""Scanning: inputs → units, stored in plan files so that an input that did not change is not opened again.

A plan file (`plan/*.parquet`) has a row per run of units (`plan.py`). Its name is a hash of its inputs and their state.
The driver reads only its small columns, a task only the rows of its shard.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from itertools import accumulate, groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.job.isolate import Limits, child_of
from datagen.job.plan import PLAN, RUNS_PER_SHARD, Runs, position_of, tree_leaves
from datagen.job.runner import Tick
from datagen.source import Source, Unit, split_position
from varyforge.errors import UserError
from varyforge.outcome import Failed, Rejected
from varyforge.processes import detail_line
from varyforge.storage import Fetcher, Folder, folder_at, signature
from varyforge.tables import parse_table, read_table

_INPUTS_PER_BATCH = 64
_UNITS_PER_GROUP = 1024  # at least, per row group of parquet: the least that is read for one run
_SCHEMA = pa.schema(
    [
        ("place", pa.uint64()),
        ("side", pa.uint64()),
        ("units", pa.int32()),
        ("failed", pa.int32()),  # number of inputs that could not be cut into units
        ("digest", pa.binary(16)),
        ("contents", pa.binary()),  # 8 bytes per unit
        ("data", pa.string()),  # the units, a JSON list
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A group of inputs that one task scans."""

    name: str  # of the plan file; changes when an input changes
    inputs: tuple[str, ...]
    run_units: int  # at most, per run
    limit: int | None  # stop after so many units


def batches(source: Source, config: str, units_per_shard: int, limit: int | None) -> list[Batch]:
    """Group the inputs into batches. As with shards, the batch of an input depends on the input's name alone.

    Raises:
        UserError: there is no input, or two inputs have the same name.
    """
    paths = list(dict.fromkeys(source.inputs()))  # a path given twice counts once
    names = [source.document(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name, group in groupby(sorted(names)) if len(list(group)) > 1)
        first, second, *_ = (path for path, name in zip(paths, names, strict=True) if name == twice)
        raise UserError(f"{first} and {second} have the same name; rename one, or give a folder that holds both")
    run_units = -(-units_per_shard // RUNS_PER_SHARD)
    if limit is not None:  # the first units, in order of the inputs
        return [_batch("limit", source, paths, config, run_units, limit)]
    positions = np.fromiter((position_of(name, 0) for name in names), np.uint64, len(names))
    order = np.argsort(positions)
    groups = tree_leaves(positions[order], np.ones(len(order), np.int64), _INPUTS_PER_BATCH)
    return [
        _batch(bits or "all", source, [paths[n] for n in order[a:b]], config, run_units, None) for bits, a, b in groups
    ]


def _batch(label: str, source: Source, paths: Sequence[str], config: str, run_units: int, limit: int | None) -> Batch:
    state = [(path, *map(_signature, (path, *source.companion_files(path)))) for path in paths]
    digest = hashlib.sha256(json.dumps([config, run_units, limit, state]).encode(errors="backslashreplace"))
    name = f"{PLAN}/{label}-{digest.hexdigest()[:16]}.parquet"
    return Batch(name=name, inputs=tuple(paths), run_units=run_units, limit=limit)


def _signature(path: str) -> str:
    try:
        return signature(path)
    except OSError:
        return "unreadable"  # the scan records the reason


@dataclass(frozen=True, slots=True)
class Scan:
    """The settings that all tasks of a scan share. Called with a batch, it scans that batch."""

    source: Source
    folder: Folder
    limits: Limits

    def __call__(self, batch: Batch, tick: Tick) -> str:
        """Cut the batch's inputs into units and write the plan file, in order of position. Return its name."""
        with _Spool() as spool:
            for path in batch.inputs:
                if batch.limit is not None and spool.units >= batch.limit:
                    break
                self._spool(spool, path, batch, tick)
                tick({"scanned": 1})
            with self.folder.writer(batch.name) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
                for group in _groups(spool.in_order()):
                    writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
        _footer.cache_clear()  # after a retry a file may have the same name and size
        return batch.name

    def _spool(self, spool: _Spool, path: str, batch: Batch, tick: Tick) -> None:
        """Add an input's units. An input that cannot be cut into units becomes one failed unit."""
        failure, name, before = None, self.source.document(path), spool.mark()
        left = None if batch.limit is None else batch.limit - spool.units

        def units() -> Iterator[Unit]:
            nonlocal failure
            for unit in child_of(self.source, self.limits).units(path, *copies.local_paths([path])):
                if isinstance(unit, Failed):
                    failure = unit
                elif unit is None:
                    tick({})
                else:
                    yield unit

        with Fetcher() as copies:
            try:
                for row in _rows(islice(units(), left), batch.run_units):
                    spool.add(row)
            except OSError as error:
                failure = Failed(reason="unreadable", detail=detail_line(error, [path]))
        if failure:
            spool.back_to(before)
            for row in _rows([Unit(id=name, document=name, content=name, verdict=failure)], batch.run_units):
                spool.add(row)


class _Spool:
    """The rows of a plan file before they are sorted: on disk, since an annotation file may hold millions of units."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="varyforge-")
        self._positions, self._offsets = array("Q"), array("Q")  # one per row
        self.units = 0

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        self._positions.append(row["place"])
        self._offsets.append(self._file.tell())
        self.units += row["units"]
        pickle.dump(row, self._file)

    def mark(self) -> tuple[int, int]:
        return len(self._positions), self.units

    def back_to(self, mark: tuple[int, int]) -> None:
        """Drop the rows added after `mark`."""
        rows, self.units = mark
        del self._positions[rows:], self._offsets[rows:]

    def in_order(self) -> Iterator[dict[str, Any]]:
        """Yield all rows by position, so that those of a shard are adjacent."""
        for number in np.argsort(np.asarray(self._positions), kind="stable"):
            self._file.seek(self._offsets[number])
            yield pickle.load(self._file)


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Group rows for parquet: few rows where each holds many units, many where each holds few."""
    group: list[dict[str, Any]] = []
    units = 0
    for row in rows:
        group.append(row)
        units += row["units"]
        if units >= _UNITS_PER_GROUP:
            yield group
            group, units = [], 0
    if group:
        yield group


def _rows(units: Iterable[Unit], run_units: int) -> Iterator[dict[str, Any]]:
    runs: Counter[str] = Counter()  # of each block, since other units may stand between those of a block
    for name, members in groupby(units, key=lambda unit: unit.block or unit.document):
        number = runs[name]
        while run := list(islice(members, run_units)):
            identity = json.dumps([[u.id, u.document, u.content, _verdict(u)] for u in run])
            yield {
                "place": position_of(name, number),
                "side": split_position(run[0].document),
                "units": len(run),
                "failed": sum(isinstance(unit.verdict, Failed) for unit in run),
                "digest": hashlib.sha256(identity.encode()).digest()[:16],
                "contents": b"".join(hashlib.sha256(unit.content.encode()).digest()[:8] for unit in run),
                "data": json.dumps([_to_json(unit) for unit in run]),  # ASCII: a file name may be invalid Unicode
            }
            number += 1
            if run[0].block:
                runs[name] = number


def read_runs(folder: Folder, name: str) -> tuple[Runs, int, str]:
    """Return the small columns of a plan file, the number of its inputs that failed, and its SHA-256."""
    columns = ["place", "side", "units", "failed", "digest", "contents"]
    with folder.open(name) as file:  # column `data` may have gigabytes
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a binary file
        table = parse_table(file, f"{folder}/{name}", columns)
    contents = b"".join(table.column("contents").to_pylist())
    runs = Runs(
        files=(name,),
        file=np.zeros(table.num_rows, np.int32),
        row=np.arange(table.num_rows, dtype=np.int32),
        position=table.column("place").to_numpy(),
        side=table.column("side").to_numpy(),
        units=table.column("units").to_numpy(),
        digest=np.array(table.column("digest").to_pylist(), dtype="V16"),
        contents=np.frombuffer(contents, np.uint64),
    )
    return runs, int(table.column("failed").to_numpy().sum()), sha256


def failed_inputs(folder: Folder, name: str, reason: str = "") -> Iterator[tuple[str, Failed]]:
    """Yield the inputs of a plan file that could not be cut into units, for `reason` if that is not empty."""
    rows = np.flatnonzero(read_table(folder, name, ["failed"]).column("failed").to_numpy())
    for run in read_units(folder, [(name, int(row)) for row in rows]):
        for unit in run:
            if isinstance(unit.verdict, Failed) and reason in ("", unit.verdict.reason):
                yield unit.id, unit.verdict


def read_units(folder: Folder, runs: Iterable[tuple[str, int]]) -> list[list[Unit]]:
    """Return the units of each run (plan file, row). Decodes little more than those rows."""
    runs = list(runs)
    units: dict[tuple[str, int], list[Unit]] = {}
    for name in dict.fromkeys(name for name, _ in runs):
        rows = sorted({row for file, row in runs if file == name})
        footer, starts = _footer(str(folder), name, folder.size(name))
        with folder.open(name) as opened, pq.ParquetFile(opened, metadata=footer, pre_buffer=False) as file:
            for group, members in groupby(rows, key=lambda row: bisect_right(starts, row) - 1):
                column = file.read_row_group(group, columns=["data"], use_threads=False).column("data")
                for row in members:
                    data = json.loads(column[row - starts[group]].as_py())
                    units[name, row] = [_from_json(each) for each in data]
    return [units[run] for run in runs]


@lru_cache(maxsize=8)  # 10 MB for a plan with a million rows, and needed for each shard
def _footer(location: str, name: str, size: int | None) -> tuple[pq.FileMetaData, list[int]]:
    """Return the parquet footer of a plan file, and the first row of each of its row groups."""
    with folder_at(location).open(name) as opened:
        footer = pq.read_metadata(opened)
    return footer, [0, *accumulate(footer.row_group(number).num_rows for number in range(footer.num_row_groups))]


def find_unit(folder: Folder, unit_id: str) -> Unit | None:
    """Search the plan files for the unit `unit_id`, first the file that a unit called DOCUMENT#NUMBER should be in."""
    needle = json.dumps(unit_id)
    bits = f"{position_of(unit_id.rpartition('#')[0] or unit_id, 0):064b}"
    names = folder.names(".parquet", PLAN)
    for name in sorted(names, key=lambda name: not bits.startswith(name.removeprefix(f"{PLAN}/").split("-")[0])):
        with folder.open(name) as file:
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(columns=["data"], use_threads=False):
                for text in batch.column("data").to_pylist():
                    if needle in text:
                        for data in json.loads(text):
                            if data["id"] == unit_id:
                                return _from_json(data)
    return None


def mark_duplicate(unit: Unit, first: Unit) -> Unit:
    """Return `unit` rejected as a duplicate of `first`. A unit that has a verdict already keeps that one."""
    verdict = Rejected(gate="duplicate", value=2, threshold=1, detail=f"same content as {first.id}")
    return unit if unit.verdict else replace(unit, verdict=verdict)


def _verdict(unit: Unit) -> dict[str, Any] | None:
    return {"kind": type(unit.verdict).__name__, **asdict(unit.verdict)} if unit.verdict else None


def _to_json(unit: Unit) -> dict[str, Any]:
    plain = {item.name: getattr(unit, item.name) for item in fields(unit)}
    return plain | {"payload": dict(unit.payload), "verdict": _verdict(unit)}


def _from_json(data: dict[str, Any]) -> Unit:
    verdict = data["verdict"]
    if verdict:
        kind = {"Failed": Failed, "Rejected": Rejected}[verdict.pop("kind")]
        verdict = kind(**verdict)
    return Unit(**{**data, "files": tuple(data["files"]), "verdict": verdict})
