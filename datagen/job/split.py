"""What can only be said when all shards are there: near duplicates, groups of documents, and the split.

Rules, each a function of the whole set and of nothing else, so that a set that grew equals one made afresh:

- Documents that share near-duplicate pages (see `duplicates.py`) form a group, called by the first of their names.
- A group is held out for validation if every document in it is chosen for that by the hash of its own name. So a
  held-out document moves to training when a near duplicate of it that belongs there is added; the other way it goes
  only when its group falls apart. Where all would be held out, none is.
- A page that is held out but has a near duplicate in training is "excluded": on neither side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from datagen.job.duplicates import SIZE, cluster, group_documents, stack
from datagen.job.workspace import put_record
from datagen.source import split_of
from varyforge.console import warn
from varyforge.errors import UserError
from varyforge.shards import IndexRow, ShardRecord
from varyforge.storage import Folder, write
from varyforge.tables import parse_table, read_table, schema_of, table_bytes


@dataclass(slots=True)
class _Relations:
    """Who belongs with whom. Whoever is alone is in none of these."""

    group_of: dict[str, str] = field(default_factory=dict)  # by document, where several share a group
    split_of: dict[str, str] = field(default_factory=dict)  # by group, where several documents share it
    twins_of: dict[int, str] = field(default_factory=dict)  # by sample (number in the set), key of its first twin
    excluded: set[int] = field(default_factory=set)  # samples


def settle(
    out: Folder,
    records: Sequence[ShardRecord],
    measures: Sequence[str],
    validation_share: float,
    alive: Callable[[], None] = lambda: None,
) -> list[ShardRecord]:
    """Brings group, twins and split of all index files up to date; rewrites only those that change.

    Args:
        out: the shard set.
        records: of all its shards, in order.
        measures: of its source.
        validation_share: of the documents, to be held out.
        alive: called now and then.

    Returns:
        The records, with the index's new SHA-256 where it was rewritten.
    """
    if _all_held_out(out, records, validation_share):
        validation_share = 0.0
    relations = _relations(out, records, validation_share)
    schema, settled, number = schema_of(IndexRow, measures), [], 0
    for record in records:
        name = f"index/{record.name}.parquet"
        found = out.read(name)
        rows, changed = parse_table(found, f"{out}/{name}").to_pylist(), False
        alive()
        for row in rows:
            group = relations.group_of.get(row["document"], row["document"])
            split = relations.split_of.get(group) or split_of(group, validation_share)
            split = "excluded" if number in relations.excluded else split
            right = {"group": group, "twins": relations.twins_of.get(number, ""), "split": split}
            changed |= any(row[column] != value for column, value in right.items())
            row.update(right)
            number += 1
        data = table_bytes(rows, schema) if changed else found
        if changed:
            record = replace(record, index_sha256=hashlib.sha256(data).hexdigest())  # noqa: PLW2901  # its new self
            put_record(out, record)  # first: a record without its file is noticed, a file without its record is not
            write(out, name, data)
        elif hashlib.sha256(found).hexdigest() != record.index_sha256:
            if table_bytes(rows, schema) != found:
                raise UserError(f"{out}/{name} is damaged; delete it and run the same command again")
            record = replace(record, index_sha256=hashlib.sha256(found).hexdigest())  # noqa: PLW2901  # killed in between
            put_record(out, record)
        settled.append(record)
    return settled


def _all_held_out(out: Folder, records: Sequence[ShardRecord], share: float) -> bool:
    """Whether there would be nothing to train on; says so."""
    documents = set()
    for record in records:
        documents |= set(_column(out, record, "document").to_pylist())
        if any(split_of(document, share) == "train" for document in documents):
            return False
    if documents:
        warn(f"{len(documents)} documents are too few to hold one out: all are for training")
    return bool(documents)


def _relations(out: Folder, records: Sequence[ShardRecord], share: float) -> _Relations:
    """Clusters of samples and groups of documents. Holds about 150 bytes a sample."""
    total = sum(record.samples for record in records)
    prints = np.zeros((total, SIZE), np.uint8)  # in place: two halves joined would be twice as much for a moment
    hashes = np.zeros(total, np.uint64)
    number = 0
    for record in records:
        table = read_table(out, f"index/{record.name}.parquet", ["fingerprint", "document"])
        rows = slice(number, number + table.num_rows)
        prints[rows] = stack(table.column("fingerprint").to_pylist())
        hashes[rows] = np.fromiter(map(_hash, table.column("document").to_pylist()), np.uint64, table.num_rows)
        number += table.num_rows
    twins = cluster(prints)
    del prints
    documents, document = np.unique(hashes, return_inverse=True)
    del hashes
    return _named(out, records, share, twins, documents, group_documents(twins, document))


def _named(
    out: Folder,
    records: Sequence[ShardRecord],
    share: float,
    twins: np.ndarray,
    documents: np.ndarray,
    groups: np.ndarray,
) -> _Relations:
    """Numbers and hashes become keys and names, for those that are not alone.

    Args:
        out: the shard set.
        records: of its shards.
        share: of the documents to be held out.
        twins: (N,) number of the first of each sample's near duplicates, −1 for one without fingerprint.
        documents: (D,) hash of each document's name.
        groups: (D,) first document of its group.
    """
    together = np.bincount(groups, minlength=len(groups))[groups] > 1
    group_by_hash = dict(zip(documents[together].tolist(), groups[together].tolist(), strict=True))
    several = (twins >= 0) & (np.bincount(twins[twins >= 0], minlength=len(twins))[twins] > 1)
    twins_by_sample = dict(zip(np.flatnonzero(several).tolist(), twins[several].tolist(), strict=True))
    if not group_by_hash and not twins_by_sample:
        return _Relations()
    members: dict[int, set[str]] = {}
    clusters: dict[int, list[tuple[int, str, str]]] = {}  # (sample, key, document)
    for number, key, document in _names(out, records):
        group = group_by_hash.get(_hash(document)) if group_by_hash else None
        if group is not None:
            members.setdefault(group, set()).add(document)
        if number in twins_by_sample:
            clusters.setdefault(twins_by_sample[number], []).append((number, key, document))
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
            relations.twins_of[number] = cluster_members[0][1]
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


def _column(out: Folder, record: ShardRecord, column: str) -> pa.ChunkedArray:
    return read_table(out, f"index/{record.name}.parquet", [column]).column(column)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
