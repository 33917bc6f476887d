"""Whether a shard set is what its manifest says, and its ledger accounts for every unit of the inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.job.change import digest_of, plan_digest
from datagen.job.plan import PLAN, ShardPlan, join, plan_shards
from datagen.job.scan import read_runs, read_units
from pipelines.mix.plan import SOURCE, OrderedShard, shards_of
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.shards import JOB, MANIFEST, ShardRecord, decode_sample, read_job, read_manifest
from varyforge.storage import Folder, folder_at
from varyforge.tables import parse_table

_CHUNK = 8 << 20
_CHANGED = "changed since it was written (SHA-256 differs); delete it and run the datagen command again to mend it"
_NAMED = 5  # of the same kind in one shard


@dataclass(slots=True)
class Findings:
    """What a check found. Sound where `problems` is empty."""

    shards: int = 0
    units: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)  # a line each, with the file and the unit or key


def check(place: str | Path) -> Findings:
    """Reads every byte of a shard set once.

    Raises:
        UserError: there is no shard set, or its job has not finished.
    """
    folder = folder_at(place)
    job, records = read_job(folder), read_manifest(folder)
    if not records:
        raise UserError(f"{place}: no {MANIFEST}: its job has not finished; run the datagen command once more")
    found, keys = Findings(shards=len(records)), []
    config_sha256 = digest_of(job["config"])
    planned = {plan.name: plan for plan in _plans(folder, job, found)}
    if planned.keys() - {record.name for record in records}:
        odd = sorted(planned.keys() - {record.name for record in records})
        found.problems.append(f"{MANIFEST}: shards are missing that are planned: {', '.join(odd[:_NAMED])}")
    with Progress(f"checking {place}", total=len(records), unit="shard") as progress:
        for record in records:
            plan = planned.get(record.name)
            if record.config_sha256 != config_sha256:
                found.problems.append(f"{record.name}: made with other settings than {JOB} says")
            if planned and (plan is None or plan.units_sha256 != record.units_sha256):
                found.problems.append(f"{record.name}: made of other units than planned")
            keys.append(_check_shard(folder, record, plan, found))
            progress.advance(1, f"{len(found.problems)} problems")
    every_key = np.concatenate(keys)
    if len(np.unique(every_key)) < len(every_key):
        found.problems.append(f"index: {len(every_key) - len(np.unique(every_key))} keys occur again")
    known = {f"{record.name}.tar" for record in records}
    found.problems += [f"{name}: not in the manifest" for name in folder.names(".tar") if name not in known]
    if found.units != sum(found.outcomes[kind] for kind in ("written", "rejected", "failed")):
        found.problems.append(f"ledger: {found.units} units, but outcomes {dict(found.outcomes)}")
    return found


def _plans(folder: Folder, job: Mapping[str, Any], found: Findings) -> Sequence[ShardPlan] | Sequence[OrderedShard]:
    """The shards that job.json and the plan files say there are; none (and a problem) where these are not whole."""
    plans: Sequence[ShardPlan] | Sequence[OrderedShard]
    try:
        plans = shards_of(job) if job["source"] == SOURCE else _tree_plans(folder, job, found)
    except (UserError, OSError, KeyError, TypeError, ValueError) as error:
        found.problems.append(f"{PLAN}/: the inputs cannot be compared: {type(error).__name__}: {error}")
        return []
    if plan_digest(plans) != job["plan"].get("sha256"):
        found.problems.append(f"{PLAN}/: changed since it was written; run the datagen command again")
        return []
    return plans


def _tree_plans(folder: Folder, job: Mapping[str, Any], found: Findings) -> list[ShardPlan]:
    """The shards of a data job, from its plan files."""
    read = {name: read_runs(folder, name) for name in job["plan"]["files"]}
    changed = [name for name, (_, _, digest) in read.items() if digest != job["plan"]["files"][name]]
    found.problems += [f"{name}: {_CHANGED}" for name in changed]
    runs = join([runs for runs, _, _ in read.values()])
    return list(plan_shards(str(job["source"]), runs, int(job["job"]["units_per_shard"])))


def _check_shard(
    folder: Folder, record: ShardRecord, plan: ShardPlan | OrderedShard | None, found: Findings
) -> np.ndarray:
    """Adds what is wrong with one shard. Returns hashes (N,) of its keys."""
    tar = f"{record.name}.tar"
    index, ledger = (
        _table(folder, f"{kind}/{record.name}.parquet", digest, found)
        for kind, digest in (("index", record.index_sha256), ("ledger", record.ledger_sha256))
    )
    tar_is_right = _check_tar(folder, record, found)
    if ledger is not None:
        outcomes = Counter(ledger.column("outcome").to_pylist())
        found.units += record.units
        found.outcomes += outcomes
        said = {kind: getattr(record, kind) for kind in ("written", "rejected", "failed")}
        if {kind: outcomes[kind] for kind in said} != said or record.units != ledger.num_rows:
            found.problems.append(f"ledger/{record.name}.parquet: {dict(outcomes)}, the manifest says {said}")
        _check_rows(folder, record, ledger, plan, found)
    if index is None:
        return np.zeros(0, np.uint64)
    found.samples += index.num_rows
    if ledger is not None:
        _check_samples(record, index, ledger, found)
    if not tar_is_right:
        _name_broken_samples(folder, tar, index, found)
    keys = index.column("key").to_pylist()
    return np.fromiter((int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) for key in keys), np.uint64)


def _table(folder: Folder, name: str, digest: str, found: Findings) -> pa.Table | None:
    """The table, or None (and a problem) where its bytes are not the ones that were written."""
    try:
        data = folder.read(name)
    except OSError:
        found.problems.append(f"{name}: missing")
        return None
    if hashlib.sha256(data).hexdigest() == digest:
        return parse_table(data, name)
    found.problems.append(f"{name}: {_CHANGED}")
    try:  # to say which rows are missing
        table = parse_table(data, name)
        table.to_pylist()
    except (UserError, ValueError, pa.ArrowException):
        return None
    return table if {"unit", "outcome", "samples"} <= set(table.column_names) or "key" in table.column_names else None


def _check_tar(folder: Folder, record: ShardRecord, found: Findings) -> bool:
    name = f"{record.name}.tar"
    size = folder.size(name)
    if size is None:
        found.problems.append(f"{name}: missing")
        return False
    digest = hashlib.sha256()
    with folder.open(name) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found.bytes += size
    if size != record.tar_bytes:
        found.problems.append(f"{name}: cut: {size} of {record.tar_bytes} bytes")
    elif digest.hexdigest() != record.tar_sha256:
        found.problems.append(f"{name}: {_CHANGED}")
    return digest.hexdigest() == record.tar_sha256


def _check_rows(
    folder: Folder, record: ShardRecord, ledger: pa.Table, plan: ShardPlan | OrderedShard | None, found: Findings
) -> None:
    """One ledger row for each unit of the plan."""
    if plan is None:
        return
    rows = Counter(ledger.column("unit").to_pylist())
    if isinstance(plan, OrderedShard):
        units = plan.unit_ids()
    else:
        units = [unit.id for run in read_units(folder, plan.runs) for unit in run]
    name = f"ledger/{record.name}.parquet"
    _several(found, name, "no row for unit", [unit for unit in units if rows[unit] == 0])
    _several(found, name, "several rows for unit", [unit for unit, count in rows.items() if count > 1])
    _several(found, name, "a row for a unit that is not planned:", list(rows.keys() - set(units)))


def _check_samples(record: ShardRecord, index: pa.Table, ledger: pa.Table, found: Findings) -> None:
    """As many index rows for each unit as its ledger row says."""
    there = Counter(index.column("unit").to_pylist())
    units, samples = (ledger.column(name).to_pylist() for name in ("unit", "samples"))
    wrong = [unit for unit, count in zip(units, samples, strict=True) if there[unit] != count]
    name = f"index/{record.name}.parquet"
    _several(found, name, "not as many samples as the ledger says for unit", wrong)
    _several(found, name, "samples of a unit without ledger row:", list(there.keys() - set(units)))


def _name_broken_samples(folder: Folder, tar: str, index: pa.Table, found: Findings) -> None:
    broken = []
    for row in index.select(["key", "offset", "size"]).to_pylist():
        try:
            if decode_sample(folder.read(tar, row["offset"], row["size"]), tar).key != row["key"]:
                broken.append(row["key"])
        except (OSError, ValueError):
            broken.append(row["key"])
    _several(found, tar, "cannot be read: sample", broken)


def _several(found: Findings, name: str, what: str, items: list[str]) -> None:
    found.problems += [f"{name}: {what} {item}" for item in items[:_NAMED]]
    if len(items) > _NAMED:
        found.problems.append(f"{name}: … and {len(items) - _NAMED} more")
