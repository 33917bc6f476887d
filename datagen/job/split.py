"""The last step of a job: near duplicates, groups of documents and the split, which need all shards.

The rules, which docs/data.md states, are functions of the whole set and of nothing else, so that a set that grew equals
one made afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from datagen.job.duplicates import SIZE, cluster, stack
from datagen.job.held_out import Amount, Division, divide_samples
from datagen.job.workspace import Workspace
from datagen.source import split_position
from varyforge.console import say, warn
from varyforge.errors import UserError
from varyforge.shards import IndexRow, ShardRecord
from varyforge.storage import Folder, write
from varyforge.tables import parse_table, read_table, schema_of, table_bytes


@dataclass(slots=True)
class _Relations:
    """Near-duplicate clusters and document groups. Samples and documents without a duplicate have no entry."""

    held_out: np.ndarray  # (N,) bool, of each sample
    group_of: dict[str, str] = field(default_factory=dict)  # document → group, where several share one
    near_duplicate_of: dict[int, str] = field(default_factory=dict)  # sample (number in the set) → key of the first
    excluded: set[int] = field(default_factory=set)  # samples

    def split(self, number: int) -> str:
        """Return the split of a sample."""
        return "excluded" if number in self.excluded else "validation" if self.held_out[number] else "train"


def assign_splits(
    workspace: Workspace,
    records: Sequence[ShardRecord],
    measures: Sequence[str],
    amount: Amount,
    alive: Callable[[], None] = lambda: None,
) -> list[ShardRecord]:
    """Set group, near duplicate (column `twins`) and split in all index files. Rewrites only files that change.

    Returns the records, which are those of all shards in order, with the SHA-256 of each index file that was rewritten.
    `alive` is called once per shard.

    Raises:
        UserError: an index file is damaged.
    """
    folder = workspace.folder
    relations = _relations(folder, records, amount)
    schema, updated, number = schema_of(IndexRow, measures), [], 0
    for record in records:
        name = f"index/{record.name}.parquet"
        data = folder.read(name)
        rows, changed = parse_table(data, f"{folder}/{name}").to_pylist(), False
        alive()
        for row in rows:
            group = relations.group_of.get(row["document"], row["document"])
            twins = relations.near_duplicate_of.get(number, "")
            right = {"group": group, "twins": twins, "split": relations.split(number)}
            changed |= any(row[column] != value for column, value in right.items())
            row.update(right)
            number += 1
        new_data = table_bytes(rows, schema) if changed else data
        new = replace(record, index_sha256=hashlib.sha256(new_data).hexdigest())
        if changed:
            workspace.put(new)  # first: a record without its file is noticed, a file without its record is not
            write(folder, name, new_data)
        elif new != record:  # a run was killed between the two
            if table_bytes(rows, schema) != data:
                raise UserError(f"{folder}/{name} is damaged; delete it and run the same command again")
            workspace.put(new)
        updated.append(new)
    return updated


def _relations(out: Folder, records: Sequence[ShardRecord], amount: Amount) -> _Relations:
    """Return clusters of samples, groups of documents, and sides. Needs about 160 bytes of memory per sample."""
    total = sum(record.samples for record in records)
    prints = np.zeros((total, SIZE), np.uint8)  # filled in place: joining parts would take twice the memory
    number = 0
    for record in records:
        fingerprints = read_table(out, f"index/{record.name}.parquet", ["fingerprint"]).column("fingerprint")
        prints[number : number + len(fingerprints)] = stack(fingerprints.to_pylist())
        number += len(fingerprints)
    first = cluster(prints)
    del prints
    division = divide_samples(*_hashed(out, records, "document"), first, amount)
    held_out = division.held_out
    if total and amount and division.count == 1:
        held_out = divide_samples(*_hashed(out, records, "unit"), first, amount).held_out  # pages in place of documents
    _report(out, division, held_out, amount)
    return _named(out, records, first, division, held_out)


def _hashed(out: Folder, records: Sequence[ShardRecord], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes (N,) and positions (N,) of the names in a column of the index."""
    total = sum(record.samples for record in records)
    hashes, positions, number = np.zeros(total, np.uint64), np.zeros(total, np.uint64), 0
    for record in records:
        names = read_table(out, f"index/{record.name}.parquet", [column]).column(column).to_pylist()
        rows = slice(number, number + len(names))
        hashes[rows] = np.fromiter(map(_hash, names), np.uint64, len(names))
        positions[rows] = np.fromiter(map(split_position, names), np.uint64, len(names))
        number += len(names)
    return hashes, positions


def _report(out: Folder, division: Division, held_out: np.ndarray, amount: Amount) -> None:
    """Say what is held out where there are too few documents for the rule."""
    count = f"{int(held_out.sum())} of {len(held_out)} samples"
    if not amount or not len(held_out):
        return
    if not held_out.any():
        warn(f"{out}: nothing is held out for validation: all samples are of one page or image")
    elif division.count == 1:
        warn(
            f"{out}: all samples are of one document, so pages of it are held out for validation ({count}); "
            "scores on them say little about other documents"
        )
    elif division.is_forced:
        say(f"{out}: {division.count} documents are few: {count} are held out for validation")


def _named(
    out: Folder, records: Sequence[ShardRecord], first: np.ndarray, division: Division, held_out: np.ndarray
) -> _Relations:
    """Translate sample numbers and document hashes to keys and names, where a cluster or group has several members.

    `first` (N,) is the number of the first of each sample's near duplicates, −1 for a sample without fingerprint.
    """
    groups, relations = division.groups, _Relations(held_out)
    together = np.bincount(groups, minlength=len(groups))[groups] > 1
    group_by_hash = dict(zip(division.documents[together].tolist(), groups[together].tolist(), strict=True))
    several = (first >= 0) & (np.bincount(first[first >= 0], minlength=len(first))[first] > 1)
    cluster_by_sample = dict(zip(np.flatnonzero(several).tolist(), first[several].tolist(), strict=True))
    if not group_by_hash and not cluster_by_sample:
        return relations
    members: dict[int, set[str]] = {}
    clusters: dict[int, list[tuple[int, str]]] = {}  # (sample, key)
    for number, key, document in _names(out, records):
        group = group_by_hash.get(_hash(document)) if group_by_hash else None
        if group is not None:
            members.setdefault(group, set()).add(document)
        if number in cluster_by_sample:
            clusters.setdefault(cluster_by_sample[number], []).append((number, key))
    for names in members.values():
        relations.group_of |= dict.fromkeys(names, min(names))
    for cluster_members in clusters.values():
        numbers = [number for number, _ in cluster_members]
        relations.near_duplicate_of |= dict.fromkeys(numbers, cluster_members[0][1])
        if not held_out[numbers].all():
            relations.excluded |= {number for number in numbers if held_out[number]}
    return relations


def _names(out: Folder, records: Sequence[ShardRecord]) -> Iterator[tuple[int, str, str]]:
    number = 0
    for record in records:
        table = read_table(out, f"index/{record.name}.parquet", ["key", "document"])
        for row in zip(table.column("key").to_pylist(), table.column("document").to_pylist(), strict=True):
            yield number, *row
            number += 1


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
