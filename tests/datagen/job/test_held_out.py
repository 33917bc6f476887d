"""How much is held out: shares, numbers of samples, and sets of few documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.job.held_out import Amount, divide_samples
from datagen.source import split_of, split_position
from tests.datagen.job.test_incremental import bytes_of, run
from tests.datagen.job.test_split import edited, page, rows, write
from varyforge.errors import UserError
from varyforge.shards import ShardSet

SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=12)
AMOUNTS = st.one_of(
    st.builds(Amount, share=st.floats(0.001, 0.999)), st.builds(Amount, share=st.just(0.05), samples=st.integers(1, 99))
)


def held_out(sizes: list[int], amount: Amount) -> set[int]:
    """The documents that are held out, of documents with these numbers of samples and no duplicates."""
    document = np.repeat(np.arange(len(sizes)), sizes)
    positions = np.array([split_position(f"{number}.pdf") for number in document], np.uint64)
    division = divide_samples(document.astype(np.uint64), positions, np.full(len(document), -1), amount)
    sides = {number: set(division.held_out[document == number].tolist()) for number in range(len(sizes))}
    assert all(len(side) == 1 for side in sides.values())
    return {number for number, side in sides.items() if side == {True}}


@given(SIZES, AMOUNTS)
def test_both_sides_have_a_document_where_there_are_two(sizes: list[int], amount: Amount) -> None:
    count = len(held_out(sizes, amount))
    assert count == 0 if len(sizes) == 1 else 1 <= count < len(sizes)
    assert held_out(sizes, Amount(share=0.0)) == set()


@given(SIZES, st.floats(0.001, 0.999))
def test_the_share_alone_decides_where_it_holds_out_some(sizes: list[int], share: float) -> None:
    by_share = {number for number in range(len(sizes)) if split_of(f"{number}.pdf", share) == "validation"}
    if 0 < len(by_share) < len(sizes):
        assert held_out(sizes, Amount(share=share)) == by_share


@given(SIZES, st.integers(1, 150))
def test_a_number_is_met_in_whole_documents_from_below(sizes: list[int], number: int) -> None:
    chosen = held_out(sizes, Amount(share=0.05, samples=number))
    total = sum(sizes[one] for one in chosen)
    assert total <= number or len(chosen) <= 1
    order = sorted(range(len(sizes)), key=lambda one: split_position(f"{one}.pdf"))
    assert chosen == set(order[: len(chosen)])
    if 0 < len(chosen) < len(sizes) - 1:
        assert total + sizes[order[len(chosen)]] > number


@given(SIZES, SIZES, AMOUNTS)
def test_growth_holds_out_nothing_that_was_trained_on(sizes: list[int], more: list[int], amount: Amount) -> None:
    before, after = held_out(sizes, amount), held_out([*sizes, *more], amount)
    low = {number for number in range(len(sizes)) if split_of(f"{number}.pdf", amount.share) == "validation"}
    all_low = not amount.samples and len(low) == len(sizes)
    if len(sizes) > 1 and not all_low and len(held_out(sizes, amount)) < len(sizes) - 1:
        assert after & set(range(len(sizes))) <= before


def test_pages_of_the_only_document_are_held_out_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pages = [page(number) for number in range(20)]
    source = write(tmp_path / "in", {"only.txt": [*pages, edited(pages[3])]})
    run(tmp_path / "out", source, validation=5, limit=None)
    found = rows(tmp_path / "out")
    assert [row["split"] for row in found.values()].count("validation") in (4, 5)
    assert "excluded" not in {row["split"] for row in found.values()}
    assert found["only.txt#3"]["split"] == found["only.txt#20"]["split"]  # near duplicates
    said = " ".join(capfd.readouterr().err.split())
    assert "all samples are of one document, so pages of it are held out for validation" in said
    before = bytes_of(tmp_path / "out")
    assert ShardSet(tmp_path / "out").job["job"]["validation"] == 5
    with pytest.raises(UserError, match=r"validation 5 → 7.* 0 of .* --update"):
        run(tmp_path / "out", source, validation=7)
    run(tmp_path / "out", source, validation=7, update=True)
    run(tmp_path / "out", source, validation=5, update=True)
    assert bytes_of(tmp_path / "out") == before


def test_one_page_alone_is_for_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "out", write(tmp_path / "in", {"only.txt": [page(1)]}))
    assert [row["split"] for row in rows(tmp_path / "out").values()] == ["train"]
    assert "nothing is held out for validation: all samples are of one page" in " ".join(capfd.readouterr().err.split())
