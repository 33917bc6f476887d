"""Inputs → their units, kept as plan files, so that an input that did not change is not opened again.

A plan file (`plan/*.parquet`) has a row per run of units (see `datagen.plan`). Its name says for which inputs, in which
state, it was made; the driver reads only its small columns, a task only the rows it makes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import UserError
from datagen.isolate import Limits, child_of
from datagen.plan import RUNS_PER_SHARD, Runs, leaves, place_of
from datagen.runner import Tick
from datagen.shards import parse_table, read_table
from datagen.storage import Copies, Folder, signature
from datagen.unit import Failed, Rejected, Source, Unit, split_position

PLAN = "plan"
_INPUTS_PER_BATCH = 64
_ROWS_PER_GROUP = 64  # of parquet: what is read at least to get at one run
_SCHEMA = pa.schema(
    [
        ("place", pa.uint64()),
        ("side", pa.uint64()),
        ("units", pa.int32()),
        ("failed", pa.int32()),  # inputs that could not be cut into units
        ("digest", pa.binary(16)),
        ("contents", pa.binary()),  # 8 bytes a unit
        ("data", pa.string()),  # JSON list of the units
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Inputs that are scanned together: one task."""

    name: str  # of the plan file; changes when an input does
    inputs: tuple[str, ...]
    run_units: int  # units per run at most
    limit: int | None  # stop after so many units


def batches(source: Source, config: str, units_per_shard: int, limit: int | None) -> list[Batch]:
    """The inputs in batches; which batch an input is in depends on its name alone, as with shards.

    Raises:
        UserError: there is no input, or two are called the same.
    """
    paths = list(dict.fromkeys(source.inputs()))  # named twice, it is one
    names = [source.document(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name, group in groupby(sorted(names)) if len(list(group)) > 1)
        first, second, *_ = (path for path, name in zip(paths, names, strict=True) if name == twice)
        raise UserError(f"{first} and {second} have the same name; rename one, or give a folder that holds both")
    run_units = -(-units_per_shard // RUNS_PER_SHARD)
    if limit is not None:  # the first so many units, in order of the inputs
        return [_batch("limit", paths, config, run_units, limit)]
    places = np.fromiter((place_of(name, 0) for name in names), np.uint64, len(names))
    order = np.argsort(places)
    found = leaves(places[order], np.ones(len(order), np.int64), _INPUTS_PER_BATCH)
    return [_batch(bits or "all", [paths[n] for n in order[a:b]], config, run_units, None) for bits, a, b in found]


def _batch(label: str, paths: Sequence[str], config: str, run_units: int, limit: int | None) -> Batch:
    state = [(path, _signature(path)) for path in paths]
    digest = hashlib.sha256(json.dumps([config, run_units, limit, state]).encode(errors="backslashreplace"))
    name = f"{PLAN}/{label}-{digest.hexdigest()[:16]}.parquet"
    return Batch(name=name, inputs=tuple(paths), run_units=run_units, limit=limit)


def _signature(path: str) -> str:
    try:
        return signature(path)
    except OSError:
        return "unreadable"  # the scan will say why


@dataclass(frozen=True, slots=True)
class Scan:
    """What all tasks of a scan share. Calling it is a task."""

    source: Source
    folder: Folder
    limits: Limits

    def __call__(self, batch: Batch, tick: Tick) -> str:
        """Cuts the batch's inputs into units and writes the plan file. Returns its name."""
        units = _units(self.source, self.limits, batch, tick)
        table = pa.Table.from_pylist(list(_rows(units, batch.run_units)), schema=_SCHEMA)
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        with self.folder.writer(batch.name) as file:
            file.write(out.getbuffer())
        return batch.name


def _units(source: Source, limits: Limits, batch: Batch, tick: Tick) -> Iterator[Unit]:
    """Units of all inputs, up to the limit. An input that cannot be cut into units is itself one unit, failed."""
    child, copies, left = child_of(source, limits), Copies(), batch.limit
    for path in batch.inputs:
        if left == 0:
            return
        name = source.document(path)
        try:
            with copies:
                found = list(islice(child.units(path, *copies.of([path])), left))
        except OSError as error:
            found = [Failed(reason="unreadable", detail=str(error))]
        tick({"scanned": 1})
        left = None if left is None else left - len(found)
        if found and isinstance(found[-1], Failed):
            yield Unit(id=name, document=name, content=name, verdict=found[-1])
        else:
            yield from found  # type: ignore[misc]  # a Failed comes last


def _rows(units: Iterable[Unit], run_units: int) -> Iterator[dict[str, Any]]:
    for document, members in groupby(units, key=lambda unit: unit.document):
        number = 0
        while run := list(islice(members, run_units)):
            what = json.dumps([[u.id, u.document, u.content, _verdict(u)] for u in run])
            yield {
                "place": place_of(document, number),
                "side": split_position(document),
                "units": len(run),
                "failed": sum(isinstance(unit.verdict, Failed) for unit in run),
                "digest": hashlib.sha256(what.encode()).digest()[:16],
                "contents": b"".join(hashlib.sha256(unit.content.encode()).digest()[:8] for unit in run),
                "data": json.dumps([_to_json(unit) for unit in run]),  # ASCII: a file name may be no text
            }
            number += 1


def read_runs(folder: Folder, name: str) -> tuple[Runs, int, str]:
    """The small columns of a plan file, how many of its inputs failed, and its SHA-256."""
    data = folder.read(name)
    columns = ["place", "side", "units", "failed", "digest", "contents"]
    table = parse_table(data, f"{folder}/{name}", columns)
    contents = b"".join(table.column("contents").to_pylist())
    runs = Runs(
        files=(name,),
        file=np.zeros(table.num_rows, np.int32),
        row=np.arange(table.num_rows, dtype=np.int32),
        place=table.column("place").to_numpy(),
        side=table.column("side").to_numpy(),
        units=table.column("units").to_numpy(),
        digest=np.array(table.column("digest").to_pylist(), dtype="V16"),
        contents=np.frombuffer(contents, np.uint64),
    )
    return runs, int(table.column("failed").to_numpy().sum()), hashlib.sha256(data).hexdigest()


def is_plan_file(name: str) -> bool:
    """Whether a file is called as plan files are."""
    return re.fullmatch(rf"{PLAN}/(all|limit|[01]+)-[0-9a-f]{{16}}\.parquet", name) is not None


def fails_as(folder: Folder, name: str, retry: str) -> bool:
    """Whether a plan file holds an input that failed as `retry` ("failed", "failed:timeout") says."""
    rows = np.flatnonzero(read_table(folder, name, ["failed"]).column("failed").to_numpy())
    runs = read_units(folder, [(name, int(row)) for row in rows])
    reason = retry.partition(":")[2]
    verdicts = (unit.verdict for run in runs for unit in run if isinstance(unit.verdict, Failed))
    return any(not reason or verdict.reason == reason for verdict in verdicts)


def read_units(folder: Folder, runs: Iterable[tuple[str, int]]) -> list[list[Unit]]:
    """The units of runs, given as (plan file, row). Decodes little more than those rows."""
    wanted = list(runs)
    found: dict[tuple[str, int], list[Unit]] = {}
    for name in dict.fromkeys(name for name, _ in wanted):
        rows = sorted({row for of, row in wanted if of == name})
        with folder.open(name) as opened, pq.ParquetFile(opened) as file:
            for group, members in groupby(rows, key=lambda row: row // _ROWS_PER_GROUP):
                column = file.read_row_group(group, columns=["data"]).column("data")
                for row in members:
                    data = json.loads(column[row % _ROWS_PER_GROUP].as_py())
                    found[name, row] = [_from_json(one) for one in data]
    return [found[run] for run in wanted]


def find_unit(folder: Folder, unit_id: str) -> Unit | None:
    """The unit called `unit_id`; looks through the plan files, first where a unit called DOCUMENT#NUMBER should be."""
    needle = json.dumps(unit_id)
    bits = f"{place_of(unit_id.rpartition('#')[0] or unit_id, 0):064b}"
    names = folder.names(".parquet", PLAN)
    for name in sorted(names, key=lambda name: not bits.startswith(name.removeprefix(f"{PLAN}/").split("-")[0])):
        for text in read_table(folder, name, ["data"]).column("data").to_pylist():
            if needle in text:
                for one in json.loads(text):
                    if one["id"] == unit_id:
                        return _from_json(one)
    return None


def failed_input(folder: Folder, name: str) -> Unit:
    """The first unit of a plan file whose input failed."""
    rows = np.flatnonzero(read_table(folder, name, ["failed"]).column("failed").to_numpy())
    (units,) = read_units(folder, [(name, int(rows[0]))])
    return next(unit for unit in units if isinstance(unit.verdict, Failed))


def mark_duplicate(unit: Unit, first: Unit) -> Unit:
    """`unit` rejected for having the content of `first`, unless something is wrong with it anyway."""
    verdict = Rejected(gate="duplicate", value=2, threshold=1, detail=f"same content as {first.id}")
    return unit if unit.verdict else replace(unit, verdict=verdict)


def _verdict(unit: Unit) -> dict[str, Any] | None:
    return {"kind": type(unit.verdict).__name__, **asdict(unit.verdict)} if unit.verdict else None


def _to_json(unit: Unit) -> dict[str, Any]:
    return {
        "id": unit.id,
        "document": unit.document,
        "content": unit.content,
        "files": list(unit.files),
        "payload": dict(unit.payload),
        "verdict": _verdict(unit),
    }


def _from_json(data: dict[str, Any]) -> Unit:
    verdict = data["verdict"]
    if verdict:
        kind = {"Failed": Failed, "Rejected": Rejected}[verdict.pop("kind")]
        verdict = kind(**verdict)
    return Unit(**{**data, "files": tuple(data["files"]), "verdict": verdict})
