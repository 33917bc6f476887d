"""The last step of a job: near duplicates, groups of documents and the split, which need all shards.

The rules, which docs/data.md states, are functions of the whole set and of nothing else, so that a set that grew equals
one made afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from datagen.job.duplicates import SIZE, cluster, group_documents, stack
from datagen.job.workspace import Workspace
from datagen.source import split_of
from varyforge.console import warn
from varyforge.errors import UserError
from varyforge.shards import IndexRow, ShardRecord
from varyforge.storage import Folder, write
from varyforge.tables import parse_table, read_table, schema_of, table_bytes


@dataclass(slots=True)
class _Relations:
    """Near-duplicate clusters and document groups. Samples and documents without a duplicate have no entry."""

    group_of: dict[str, str] = field(default_factory=dict)  # document → group, where several share one
    split_of: dict[str, str] = field(default_factory=dict)  # group → split, where several documents share it
    near_duplicate_of: dict[int, str] = field(default_factory=dict)  # sample (number in the set) → key of the first
    excluded: set[int] = field(default_factory=set)  # samples


def assign_splits(
    workspace: Workspace,
    records: Sequence[ShardRecord],
    measures: Sequence[str],
    validation_share: float,
    alive: Callable[[], None] = lambda: None,
) -> list[ShardRecord]:
    """Set group, near duplicate (column `twins`) and split in all index files. Rewrites only files that change.

    Returns the records, which are those of all shards in order, with the SHA-256 of each index file that was rewritten.
    `alive` is called once per shard.

    Raises:
        UserError: an index file is damaged.
    """
    folder = workspace.folder
    if _all_held_out(folder, records, validation_share):
        validation_share = 0.0
    relations = _relations(folder, records, validation_share)
    schema, updated, number = schema_of(IndexRow, measures), [], 0
    for record in records:
        name = f"index/{record.name}.parquet"
        data = folder.read(name)
        rows, changed = parse_table(data, f"{folder}/{name}").to_pylist(), False
        alive()
        for row in rows:
            group = relations.group_of.get(row["document"], row["document"])
            split = relations.split_of.get(group) or split_of(group, validation_share)
            split = "excluded" if number in relations.excluded else split
            right = {"group": group, "twins": relations.near_duplicate_of.get(number, ""), "split": split}
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


def _all_held_out(out: Folder, records: Sequence[ShardRecord], share: float) -> bool:
    """Whether nothing would be left for training. Warns if so."""
    documents = set()
    for _, _, document in _names(out, records):
        if split_of(document, share) == "train":
            return False
        documents.add(document)
    if documents:
        warn(f"{len(documents)} documents are too few to hold one out: all are for training")
    return bool(documents)


def _relations(out: Folder, records: Sequence[ShardRecord], share: float) -> _Relations:
    """Return clusters of samples and groups of documents. Needs about 150 bytes of memory per sample."""
    total = sum(record.samples for record in records)
    prints = np.zeros((total, SIZE), np.uint8)  # filled in place: joining parts would take twice the memory
    hashes = np.zeros(total, np.uint64)
    number = 0
    for record in records:
        table = read_table(out, f"index/{record.name}.parquet", ["fingerprint", "document"])
        rows = slice(number, number + table.num_rows)
        prints[rows] = stack(table.column("fingerprint").to_pylist())
        hashes[rows] = np.fromiter(map(_hash, table.column("document").to_pylist()), np.uint64, table.num_rows)
        number += table.num_rows
    first = cluster(prints)
    del prints
    documents, document = np.unique(hashes, return_inverse=True)
    del hashes
    return _named(out, records, share, first, documents, group_documents(first, document))


def _named(
    out: Folder,
    records: Sequence[ShardRecord],
    share: float,
    first: np.ndarray,
    documents: np.ndarray,
    groups: np.ndarray,
) -> _Relations:
    """Translate sample numbers and document hashes to keys and names, where a cluster or group has several members.

    `first` (N,) is the number of the first of each sample's near duplicates, −1 for a sample without fingerprint.
    `documents` (D,) are hashes of the documents' names, `groups` (D,) numbers of the first documents of their groups.
    """
    together = np.bincount(groups, minlength=len(groups))[groups] > 1
    group_by_hash = dict(zip(documents[together].tolist(), groups[together].tolist(), strict=True))
    several = (first >= 0) & (np.bincount(first[first >= 0], minlength=len(first))[first] > 1)
    cluster_by_sample = dict(zip(np.flatnonzero(several).tolist(), first[several].tolist(), strict=True))
    if not group_by_hash and not cluster_by_sample:
        return _Relations()
    members: dict[int, set[str]] = {}
    clusters: dict[int, list[tuple[int, str, str]]] = {}  # (sample, key, document)
    for number, key, document in _names(out, records):
        group = group_by_hash.get(_hash(document)) if group_by_hash else None
        if group is not None:
            members.setdefault(group, set()).add(document)
        if number in cluster_by_sample:
            clusters.setdefault(cluster_by_sample[number], []).append((number, key, document))
    relations = _Relations()
    for names in members.values():
        group = min(names)
        relations.group_of |= dict.fromkeys(names, group)
        held_out = all(split_of(name, share) == "validation" for name in names)
        relations.split_of[group] = "validation" if held_out else "train"
    for cluster_members in clusters.values():
        sides = {}
        for number, _, document in cluster_members:
            group = relations.group_of.get(document, document)
            sides[number] = relations.split_of.get(group) or split_of(group, share)
            relations.near_duplicate_of[number] = cluster_members[0][1]
        if len(set(sides.values())) > 1:
            relations.excluded |= {number for number, side in sides.items() if side == "validation"}
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
