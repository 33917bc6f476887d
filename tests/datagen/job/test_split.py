"""Near duplicates, groups and splits over a whole set."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from datagen.source import split_of
from tests.datagen.job.test_incremental import bytes_of, run
from tests.datagen.sources import LinesSource
from varyforge.shards import ShardSet

SHARE = 0.2


def page(seed: int) -> str:
    dice = random.Random(seed)
    return " ".join("".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(80))


def edited(text: str) -> str:
    words = text.split()
    words[7] = words[50] = "edited"
    return " ".join(words)


def names_on(side: str, count: int) -> list[str]:
    """Names of documents that are on a side by themselves."""
    found = (f"{number:04d}.txt" for number in range(10_000))
    return [name for name in found if split_of(name, SHARE) == side][:count]


def write(folder: Path, pages: dict[str, list[str]]) -> LinesSource:
    folder.mkdir(exist_ok=True)
    for name, lines in pages.items():
        (folder / name).write_text("\n".join(lines))
    return LinesSource(paths=[str(folder)])


def rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["unit"]: row for row in ShardSet(out).table().to_pylist()}


def test_versions_of_a_document_share_group_and_split(tmp_path: Path) -> None:
    (held, other), (train,) = names_on("validation", 2), names_on("train", 1)
    pages = [page(number) for number in range(5)]
    source = write(tmp_path / "in", {held: pages, train: [edited(one) for one in pages], other: [page(99)]})
    run(tmp_path / "out", source, validation_share=SHARE)
    found = rows(tmp_path / "out")
    group = min(held, train)
    assert {row["group"] for row in found.values()} == {group, other}
    assert {row["split"] for row in found.values() if row["group"] == group} == {"train"}
    assert found[f"{other}#0"]["split"] == "validation"
    for number in range(5):
        twins = {found[f"{name}#{number}"]["twins"] for name in (held, train)}
        assert len(twins) == 1 and twins < {row["key"] for row in found.values()}
    assert found[f"{other}#0"]["twins"] == ""


def test_a_group_is_held_out_only_as_a_whole(tmp_path: Path) -> None:
    one, two = names_on("validation", 2)
    source = write(tmp_path / "in", {one: [page(1)], two: [edited(page(1))], names_on("train", 1)[0]: [page(2)]})
    run(tmp_path / "out", source, validation_share=SHARE)
    assert {row["split"] for row in rows(tmp_path / "out").values() if row["document"] in (one, two)} == {"validation"}


def test_a_held_out_page_with_a_twin_in_training_is_on_neither_side(tmp_path: Path) -> None:
    (held,), (train,) = names_on("validation", 1), names_on("train", 1)
    licence = page(0)
    source = write(
        tmp_path / "in",
        {
            held: [licence, *(page(number) for number in range(1, 9))],
            train: [licence + " .", *(page(number) for number in range(11, 19))],
        },
    )
    run(tmp_path / "out", source, validation_share=SHARE)
    found = rows(tmp_path / "out")
    assert {row["document"]: row["group"] for row in found.values()} == {held: held, train: train}  # one page in nine
    assert found[f"{held}#0"]["split"] == "excluded"
    assert {found[f"{held}#{number}"]["split"] for number in range(1, 9)} == {"validation"}
    assert {found[f"{train}#{number}"]["split"] for number in range(9)} == {"train"}


@pytest.mark.parametrize("seed", range(3))
def test_more_data_moves_nothing_to_validation_that_was_trained_on(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    every = {f"{number:04d}.txt": [page(dice.randrange(30)) for _ in range(3)] for number in range(24)}
    first = dict(list(every.items())[:14])
    source = write(tmp_path / "in", first)
    run(tmp_path / "out", source, validation_share=SHARE)
    before = {row["key"]: row["split"] for row in rows(tmp_path / "out").values()}
    write(tmp_path / "in", every)
    run(tmp_path / "out", source, validation_share=SHARE, update=True)
    after = {row["key"]: row["split"] for row in rows(tmp_path / "out").values()}
    assert not [
        key for key, split in before.items() if split == "train" and after.get(key) in ("validation", "excluded")
    ]
    run(tmp_path / "fresh", source, validation_share=SHARE)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_both_sides_never_share_a_near_duplicate(tmp_path: Path) -> None:
    dice = random.Random(5)
    pages = {
        f"{number:04d}.txt": [f"{number} {page(dice.randrange(40))}" for _ in range(4)]  # no two quite the same
        for number in range(30)
    }
    run(tmp_path / "out", write(tmp_path / "in", pages), validation_share=SHARE)
    sides: dict[str, set[str]] = {}
    for row in rows(tmp_path / "out").values():
        if row["twins"] and row["split"] != "excluded":
            sides.setdefault(row["twins"], set()).add(row["split"])
    assert sides and all(len(found) == 1 for found in sides.values())
