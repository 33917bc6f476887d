"""Rows of ledger and index, and the counts over a ledger."""

from __future__ import annotations

import json
from dataclasses import fields

import pyarrow as pa
import pytest

from datagen.job.index import index_row
from datagen.job.ledger import LedgerRow, cause_of, ledger_row, matches, summarise
from datagen.source import Unit
from varyforge.images import encode_jpeg
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.sample import Sample, Turn
from varyforge.shards import IndexRow
from varyforge.tables import schema_of

UNIT = Unit(id="a.pdf#0", document="a.pdf", content="sha")
TEXT = "Quarterly accounts of the society, with all its members and their dues. " * 4


def sample(task: str = "ocr", images: int = 0, **origin: str | int) -> Sample:
    import PIL.Image

    pictures = tuple(encode_jpeg(PIL.Image.new("RGB", (60, 40 + n)), 90) for n in range(images))
    turns = (Turn(role="user", text="<image>" * images + "Read."), Turn(role="assistant", text=TEXT))
    return Sample(key="k", task=task, turns=turns, images=pictures, source="pdf", origin=origin)  # type: ignore[arg-type]


WRITTEN = Written(samples=(sample(),), notes={"tables": 2, "figures": 1}, language="en", measures={"chars": 9.0})
REJECTED = Rejected(gate="min_chars", value=3, threshold=10, detail="too few", language="de", measures={"chars": 3.0})
FAILED = Failed(reason="timeout", detail="no result after 60 s")


@pytest.mark.parametrize("outcome", [WRITTEN, REJECTED, FAILED])
def test_a_row_has_all_columns_and_names_its_unit(outcome: Outcome) -> None:
    row = ledger_row(UNIT, outcome, "pdf-0.tar")
    assert {item.name for item in fields(LedgerRow)} == row.keys() - {"chars"}
    assert (row["unit"], row["document"], row["content"], row["shard"]) == ("a.pdf#0", "a.pdf", "sha", "pdf-0.tar")
    table = pa.Table.from_pylist([row], schema=schema_of(LedgerRow, ("chars",)))
    assert table.to_pylist()[0]["chars"] == {"written": 9.0, "rejected": 3.0, "failed": None}[row["outcome"]]


def test_what_each_outcome_says() -> None:
    written, rejected, failed = (ledger_row(UNIT, outcome, "t") for outcome in (WRITTEN, REJECTED, FAILED))
    assert (written["outcome"], written["samples"], written["language"]) == ("written", 1, "en")
    assert json.loads(written["notes"]) == {"figures": 1, "tables": 2} and written["gate"] == written["reason"] == ""
    assert (rejected["gate"], rejected["value"], rejected["threshold"]) == ("min_chars", 3.0, 10.0)
    assert (rejected["detail"], rejected["language"], rejected["samples"]) == ("too few", "de", 0)
    assert (failed["reason"], failed["detail"], failed["language"]) == ("timeout", "no result after 60 s", "")


def test_causes_and_what_a_retry_selects() -> None:
    rows = [ledger_row(UNIT, outcome, "t") for outcome in (WRITTEN, REJECTED, FAILED)]
    assert [cause_of(row) for row in rows] == ["written", "rejected: min_chars", "failed: timeout"]
    assert [matches(row, "failed") for row in rows] == [False, False, True]
    assert [matches(row, "failed:timeout") for row in rows] == [False, False, True]
    assert not any(matches(row, retry) for row in rows for retry in ("failed:crash", "failed:time", None))


def ledger(*outcomes: Outcome) -> pa.Table:
    rows = [ledger_row(Unit(id=f"u{n}", document="d", content="c"), one, "t") for n, one in enumerate(outcomes)]
    return pa.Table.from_pylist(rows, schema=schema_of(LedgerRow))


def test_the_sums_over_several_shards() -> None:
    other = Failed(reason="crash", detail="killed by SIGSEGV")
    summary = summarise(iter([ledger(WRITTEN, FAILED, other), ledger(), ledger(REJECTED, FAILED, WRITTEN)]))
    assert (summary.units, summary.samples) == (6, 2)
    assert summary.by_outcome == {"written": 2, "rejected": 1, "failed": 3}
    assert list(summary.by_cause.items()) == [  # the most frequent first, then in order of name
        (("failed", "timeout"), 2),
        (("failed", "crash"), 1),
        (("rejected", "min_chars"), 1),
    ]
    assert list(summary.notes.items()) == [("tables", 4), ("figures", 2)]
    assert summary.failures == (
        "u1: timeout: no result after 60 s",
        "u2: crash: killed by SIGSEGV",
        "u1: timeout: no result after 60 s",
    )


def test_only_the_first_failures_are_named() -> None:
    assert len(summarise([ledger(*[FAILED] * 4), ledger(*[FAILED] * 4)]).failures) == 5
    assert summarise([]).by_outcome == {"written": 0, "rejected": 0, "failed": 0}


def test_an_index_row_says_what_follows_from_the_sample() -> None:
    row = index_row(sample(images=2, language="fr", licence="CC0", prompt="ocr.fr.1", boxes=3), language="en")
    assert {item.name for item in fields(IndexRow)} == row.keys()
    assert (row["language"], row["licence"], row["prompt"], row["boxes"]) == ("fr", "CC0", "ocr.fr.1", 3)
    assert (row["images"], row["width"], row["height"]) == (2, 60, 40)
    assert row["answer_chars"] == len(TEXT) and row["tokens"] > 40
    assert not any(row[name] for name in ("shard", "offset", "size", "unit", "document", "group", "twins", "split"))


def test_an_index_row_of_a_sample_that_says_little() -> None:
    row = index_row(sample(task="caption"), language="en")
    assert (row["language"], row["licence"], row["prompt"]) == ("en", "", "")
    assert (row["images"], row["width"], row["height"], row["boxes"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(("task", "size"), [("ocr", 64), ("markdown", 64), ("text", 64), ("caption", 0), ("vqa", 0)])
def test_equal_answers_are_near_duplicates_only_where_text_is_the_content(task: str, size: int) -> None:
    assert len(index_row(sample(task=task))["fingerprint"]) == size
