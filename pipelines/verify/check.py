"""The check of a shard set against its manifest, and of its ledger against the units of its inputs."""

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
from pipelines.mix.plan import SOURCE, OrderedShard, shards_of, unit_id
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.shards import JOB, MANIFEST, ShardRecord, decode_sample, read_job, read_manifest
from varyforge.storage import Folder, folder_at
from varyforge.tables import parse_table

_CHUNK = 8 << 20  # bytes
_CHANGED = "changed since it was written (SHA-256 differs); delete it and run the datagen command again"
_NAMED = 5  # problems of one kind in one shard


@dataclass(slots=True)
class Findings:
    """The result of a check. A set is sound if `problems` is empty."""

    shards: int = 0
    units: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)  # one line each with the file and the unit or key


def check(location: str | Path) -> Findings:
    """Read every byte of the shard set at `location` (path or URL) once and compare hashes, sums and units.

    Raises:
        UserError: there is no shard set, or its job has not finished.
    """
    folder = folder_at(location)
    job, records = read_job(folder), read_manifest(folder)
    if not records:
        raise UserError(f"{location}: no {MANIFEST}, so its job has not finished; run the datagen command again")
    findings, keys = Findings(shards=len(records)), []
    config_sha256 = digest_of(job["config"])
    planned = {plan.name: plan for plan in _plans(folder, job, findings)}
    if missing := sorted(planned.keys() - {record.name for record in records}):
        findings.problems.append(f"{MANIFEST}: shards are missing that are planned: {', '.join(missing[:_NAMED])}")
    with Progress(f"checking {location}", total=len(records), unit="shard") as progress:
        for record in records:
            plan = planned.get(record.name)
            if record.config_sha256 != config_sha256:
                findings.problems.append(f"{record.name}: made with other settings than {JOB} says")
            if planned and (plan is None or plan.units_sha256 != record.units_sha256):
                findings.problems.append(f"{record.name}: made of other units than planned")
            keys.append(_check_shard(folder, record, plan, findings))
            progress.advance(1, f"{len(findings.problems)} problems")
    every_key = np.concatenate(keys)
    if again := len(every_key) - len(np.unique(every_key)):
        findings.problems.append(f"index: {again} keys occur again")
    known = {f"{record.name}.tar" for record in records}
    findings.problems += [f"{name}: not in the manifest" for name in folder.names(".tar") if name not in known]
    if findings.units != sum(findings.outcomes[kind] for kind in ("written", "rejected", "failed")):
        findings.problems.append(f"ledger: {findings.units} units, but outcomes {dict(findings.outcomes)}")
    return findings


def _plans(folder: Folder, job: Mapping[str, Any], findings: Findings) -> Sequence[ShardPlan] | Sequence[OrderedShard]:
    """Return the shards that job.json and the plan files plan, or none and add a problem if a file is broken."""
    plans: Sequence[ShardPlan] | Sequence[OrderedShard]
    try:
        plans = shards_of(job) if job["source"] == SOURCE else _tree_plans(folder, job, findings)
    except (UserError, OSError, KeyError, TypeError, ValueError) as error:
        findings.problems.append(f"{PLAN}/: the inputs cannot be compared: {type(error).__name__}: {error}")
        return []
    if plan_digest((plan.name, plan.units_sha256) for plan in plans) != job["plan"].get("sha256"):
        findings.problems.append(f"{PLAN}/: changed since it was written; run the datagen command again")
        return []
    return plans


def _tree_plans(folder: Folder, job: Mapping[str, Any], findings: Findings) -> list[ShardPlan]:
    """Return the shards of a data job from its plan files."""
    plans = {name: read_runs(folder, name) for name in job["plan"]["files"]}
    changed = [name for name, (_, _, digest) in plans.items() if digest != job["plan"]["files"][name]]
    findings.problems += [f"{name}: {_CHANGED}" for name in changed]
    runs = join([runs for runs, _, _ in plans.values()])
    return list(plan_shards(str(job["source"]), runs, int(job["job"]["units_per_shard"])))


def _check_shard(
    folder: Folder, record: ShardRecord, plan: ShardPlan | OrderedShard | None, findings: Findings
) -> np.ndarray:
    """Add the problems of one shard and return uint64 hashes (samples,) of its keys."""
    tar = f"{record.name}.tar"
    index, ledger = (
        _table(folder, f"{kind}/{record.name}.parquet", digest, findings)
        for kind, digest in (("index", record.index_sha256), ("ledger", record.ledger_sha256))
    )
    tar_is_right = _check_tar(folder, record, findings)
    if ledger is not None:
        outcomes = Counter(ledger.column("outcome").to_pylist())
        findings.units += record.units
        findings.outcomes += outcomes
        expected = {kind: getattr(record, kind) for kind in ("written", "rejected", "failed")}
        if {kind: outcomes[kind] for kind in expected} != expected or record.units != ledger.num_rows:
            findings.problems.append(f"ledger/{record.name}.parquet: {dict(outcomes)}, the manifest says {expected}")
        _check_rows(folder, record, ledger, plan, findings)
    if index is None:
        return np.zeros(0, np.uint64)
    findings.samples += index.num_rows
    if ledger is not None:
        _check_samples(record, index, ledger, findings)
    if not tar_is_right:
        _name_broken_samples(folder, tar, index, findings)
    keys = index.column("key").to_pylist()
    return np.fromiter((int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) for key in keys), np.uint64)


def _table(folder: Folder, name: str, digest: str, findings: Findings) -> pa.Table | None:
    """Return the table, or None if it is missing or unreadable, and add a problem if its bytes have changed."""
    try:
        data = folder.read(name)
    except OSError:
        findings.problems.append(f"{name}: missing")
        return None
    if hashlib.sha256(data).hexdigest() == digest:
        return parse_table(data, name)
    findings.problems.append(f"{name}: {_CHANGED}")
    try:  # a readable table tells which rows are missing
        table = parse_table(data, name)
        table.to_pylist()
    except (UserError, ValueError, pa.ArrowException):
        return None
    return table if {"unit", "outcome", "samples"} <= set(table.column_names) or "key" in table.column_names else None


def _check_tar(folder: Folder, record: ShardRecord, findings: Findings) -> bool:
    name = f"{record.name}.tar"
    size = folder.size(name)
    if size is None:
        findings.problems.append(f"{name}: missing")
        return False
    digest = hashlib.sha256()
    with folder.open(name) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    findings.bytes += size
    if size != record.tar_bytes:
        findings.problems.append(f"{name}: cut: {size} of {record.tar_bytes} bytes")
    elif digest.hexdigest() != record.tar_sha256:
        findings.problems.append(f"{name}: {_CHANGED}")
    return digest.hexdigest() == record.tar_sha256


def _check_rows(
    folder: Folder, record: ShardRecord, ledger: pa.Table, plan: ShardPlan | OrderedShard | None, findings: Findings
) -> None:
    """Check that the ledger has one row for each unit of the plan."""
    if plan is None:
        return
    rows = Counter(ledger.column("unit").to_pylist())
    if isinstance(plan, OrderedShard):
        units = [unit_id(position) for position in range(plan.first, plan.first + plan.units)]
    else:
        units = [unit.id for run in read_units(folder, plan.runs) for unit in run]
    name = f"ledger/{record.name}.parquet"
    _several(findings, name, "no row for unit", [unit for unit in units if rows[unit] == 0])
    _several(findings, name, "several rows for unit", [unit for unit, count in rows.items() if count > 1])
    _several(findings, name, "a row for a unit that is not planned:", list(rows.keys() - set(units)))


def _check_samples(record: ShardRecord, index: pa.Table, ledger: pa.Table, findings: Findings) -> None:
    """Check that the index has as many rows for each unit as its ledger row says."""
    rows = Counter(index.column("unit").to_pylist())
    units, samples = (ledger.column(name).to_pylist() for name in ("unit", "samples"))
    wrong = [unit for unit, count in zip(units, samples, strict=True) if rows[unit] != count]
    name = f"index/{record.name}.parquet"
    _several(findings, name, "not as many samples as the ledger says for unit", wrong)
    _several(findings, name, "samples of a unit without ledger row:", list(rows.keys() - set(units)))


def _name_broken_samples(folder: Folder, tar: str, index: pa.Table, findings: Findings) -> None:
    broken = []
    for row in index.select(["key", "offset", "size"]).to_pylist():
        try:
            if decode_sample(folder.read(tar, row["offset"], row["size"]), tar).key != row["key"]:
                broken.append(row["key"])
        except (OSError, ValueError):
            broken.append(row["key"])
    _several(findings, tar, "cannot be read: sample", broken)


def _several(findings: Findings, name: str, problem: str, items: list[str]) -> None:
    findings.problems += [f"{name}: {problem} {item}" for item in items[:_NAMED]]
    if len(items) > _NAMED:
        findings.problems.append(f"{name}: … and {len(items) - _NAMED} more")
