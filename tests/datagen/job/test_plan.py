"""Runs of units become shards: a pure function that is local and bounded."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.job.plan import Runs, ShardPlan, join, plan_shards, position_of, shard_name, tree_leaves
from datagen.source import split_position


def runs_of(documents: dict[str, list[list[str]]], file: str = "plan/a.parquet") -> Runs:
    """Runs of documents, each a list of the contents of its units."""
    runs = [(name, number, run) for name, of in documents.items() for number, run in enumerate(of)]
    contents = [hashlib.sha256(content.encode()).digest()[:8] for _, _, run in runs for content in run]
    digests = [hashlib.sha256("|".join(run).encode()).digest()[:16] for _, _, run in runs]
    return Runs(
        files=(file,),
        file=np.zeros(len(runs), np.int32),
        row=np.arange(len(runs), dtype=np.int32),
        position=np.array([position_of(name, number) for name, number, _ in runs], np.uint64),
        side=np.array([split_position(name) for name, _, _ in runs], np.uint64),
        units=np.array([len(run) for _, _, run in runs], np.int32),
        digest=np.array(digests, dtype="V16"),
        contents=np.frombuffer(b"".join(contents), np.uint64),
    )


def plan(documents: dict[str, list[list[str]]], units_per_shard: int = 8) -> dict[str, ShardPlan]:
    return {shard.name: shard for shard in plan_shards("pdf", runs_of(documents), units_per_shard)}


def different(count: int) -> dict[str, list[list[str]]]:
    """Documents of one run of two units each, all contents different."""
    return {f"{n}.pdf": [[f"{n}a", f"{n}b"]] for n in range(count)}


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), max_size=60), capacity=st.integers(1, 20))
def test_leaves_hold_every_item_once_and_no_more_than_they_may(sizes: list[int], capacity: int) -> None:
    positions = np.sort(np.array([position_of(str(n), 0) for n in range(len(sizes))], np.uint64))
    leaves = list(tree_leaves(positions, np.array(sizes, np.int64), capacity))
    assert [n for _, start, stop in leaves for n in range(start, stop)] == list(range(len(sizes)))
    for bits, start, stop in leaves:
        assert start < stop
        assert sum(sizes[start:stop]) <= capacity or stop - start == 1
        assert all(f"{int(position):064b}".startswith(bits) for position in positions[start:stop])


def test_items_at_one_position_stay_together() -> None:
    same = np.full(5, position_of("twin", 0), np.uint64)
    ((bits, start, stop),) = tree_leaves(same, np.ones(5, np.int64), 2)
    assert (len(bits), start, stop) == (64, 0, 5)


def test_a_small_set_is_one_shard() -> None:
    (shard,) = plan(different(3)).values()
    assert (shard.name, shard.units, shard.duplicates) == ("pdf-all", 6, ())
    assert shard_name("pdf", "011") == "pdf-011"


def test_no_input_no_shard() -> None:
    assert plan({}) == {}


def test_the_order_of_the_inputs_does_not_matter() -> None:
    documents = different(40)
    backwards = dict(reversed(documents.items()))
    hashes = {name: shard.units_sha256 for name, shard in plan(documents).items()}
    assert {name: shard.units_sha256 for name, shard in plan(backwards).items()} == hashes
    assert len(hashes) > 8


def test_one_more_input_changes_only_the_shard_it_lands_in() -> None:
    before, after = plan(different(40)), plan(different(41))
    changed = [name for name, shard in after.items() if before.get(name) != shard]
    assert 1 <= len(changed) <= 2  # the leaf, or the halves that it was split into
    assert all(position_name(40).startswith(name) for name in set(before) - set(after))
    assert sum(shard.units for shard in after.values()) == 82


def position_name(number: int) -> str:
    return f"pdf-{position_of(f'{number}.pdf', 0):064b}"


def test_another_content_changes_the_hash_of_its_shard_alone() -> None:
    documents = different(40)
    before = plan(documents)
    documents["7.pdf"] = [["7a", "another"]]
    changed = [name for name, shard in plan(documents).items() if before[name].units_sha256 != shard.units_sha256]
    assert len(changed) == 1 and position_name(7).startswith(changed[0])


@pytest.mark.parametrize("units_per_shard", [4, 1000])
def test_of_equal_contents_the_one_surest_to_be_trained_on_stays(units_per_shard: int) -> None:
    documents = {f"{n}.pdf": [["the same", f"own {n}"]] for n in range(20)}
    shards = plan(documents, units_per_shard)
    duplicates = [pair for shard in shards.values() for pair in shard.duplicates]
    stays = max(range(20), key=lambda n: split_position(f"{n}.pdf"))
    assert {first for _, first in duplicates} == {("plan/a.parquet", stays, 0)}
    assert sorted(row for (_, row, _), _ in duplicates) == [n for n in range(20) if n != stays]
    assert all(number == 0 for (_, _, number), _ in duplicates)


def test_a_shard_changes_with_the_unit_that_its_duplicate_names() -> None:
    """Its ledger names that unit, which may be in another shard."""
    documents = {f"{n}.pdf": [["the same", f"own {n}"]] for n in range(20)}
    before = plan(documents, 4)
    stays = max(range(20), key=lambda n: split_position(f"{n}.pdf"))
    documents[f"{stays}.pdf"] = [["other", f"own {stays}"]]
    after = plan(documents, 4)
    assert all(after[name].units_sha256 != shard.units_sha256 for name, shard in before.items())


def test_plan_files_are_joined_with_their_rows() -> None:
    first, second = different(3), {f"x{n}.pdf": [["a", f"{n}"]] for n in range(2)}
    runs = join([runs_of(first), runs_of(second, "plan/b.parquet")])
    assert runs.files == ("plan/a.parquet", "plan/b.parquet")
    (shard,) = plan_shards("pdf", runs, 100)
    rows = [("plan/a.parquet", n) for n in range(3)] + [("plan/b.parquet", n) for n in range(2)]
    assert sorted(shard.runs) == rows
    assert [after[0] for after, _ in shard.duplicates] == ["plan/b.parquet"]  # "a" once more
