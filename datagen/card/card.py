"""The data card of a shard set: what is in it, what was left out and why, and a few of its samples.

A job leaves it beside the shards, as card.json for programs and card.html for people. Everything on it is read from
index, ledger and shards; equal sets have equal cards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datagen.card.contents import Contents, contents_of
from datagen.card.html import render_page
from datagen.card.pictures import LegendEntry, draw_answer, thumbnail
from datagen.job.ledger import LedgerSummary, summarise
from varyforge.errors import UserError
from varyforge.sample import Sample, Turn
from varyforge.shards import ShardSet
from varyforge.storage import folder_at, write

CARD_JSON, CARD_HTML = "card.json", "card.html"
_TEMPLATE = Path(__file__).with_name("card.html.jinja")
SHOWN_CHARS = 600  # of a text
_SAMPLES_SHOWN = 8
_UNITS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """A sample as the page shows it."""

    key: str
    task: str
    language: str  # "" where unknown
    origin: dict[str, Any]
    turns: tuple[Turn, ...]
    pictures: list[str]  # `data:` URLs
    legend: list[LegendEntry]
    not_boxes: list[str]  # pieces of a detection answer that cannot be read as boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCard:
    """A shard set in numbers and samples."""

    folder: str  # path or URL
    source: str  # name of the source that made it
    settings: dict[str, Any]  # of the source
    versions: dict[str, str]  # that the bytes depend on
    tar_bytes: int
    ledger: LedgerSummary
    contents: Contents
    unwritten: list[dict[str, Any]]  # the first ledger rows that gave no sample
    samples: list[SampleCard]  # spread evenly over the index


def read_data_card(folder: str | Path) -> DataCard:
    """Reads the ledger, the index and a few samples of a shard set.

    Raises:
        UserError: the folder is missing, is no finished shard set, or a file of it is broken.
    """
    shards = ShardSet(folder)
    try:
        return DataCard(
            folder=str(folder),
            source=str(shards.job["source"]),
            settings=shards.job["config"].get("settings", {}),
            versions=shards.job["config"].get("versions", {}),
            tar_bytes=sum(record.tar_bytes for record in shards.records),
            ledger=summarise(shards.ledgers()),
            contents=contents_of(shards),
            unwritten=_unwritten(shards.ledgers()),
            samples=[sample_card(sample) for sample in _some(shards)],
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{error}; the shard set is damaged: delete {folder} and make it again") from error


def write_card(folder: str | Path) -> DataCard:
    """Writes card.json and card.html into a finished shard set.

    Raises:
        UserError: as for `read_data_card`.
    """
    card, out = read_data_card(folder), folder_at(folder)
    write(out, CARD_JSON, (json.dumps(card_to_json(card), indent=2, ensure_ascii=False) + "\n").encode())
    write(out, CARD_HTML, render_page(_TEMPLATE, card=card, shown=SHOWN_CHARS).encode())
    return card


def card_to_json(card: DataCard) -> dict[str, Any]:
    """The card without its pictures, and without where it lies: equal sets have equal cards."""
    plain = asdict(card)
    del plain["folder"]
    plain["ledger"]["by_cause"] = {": ".join(cause): count for cause, count in card.ledger.by_cause.items()}
    for sample in plain["samples"]:
        del sample["pictures"]
    for name in ("answers", "sides", "boxes"):
        spread_of = getattr(card.contents, name)
        plain["contents"][name] = spread_of._asdict() | {"bars": [bar._asdict() for bar in spread_of.bars]}
    lengths = card.contents.lengths
    plain["contents"]["lengths"] = {"rows": [row._asdict() for row in lengths.rows], "beyond": lengths.beyond}
    return plain


def spread(total: int, most: int) -> list[int]:
    """At most `most` of the numbers below `total`, in the middle of equal stretches.

    >>> spread(100, 4)
    [12, 37, 62, 87]
    """
    shown = min(total, most)
    return [(2 * number + 1) * total // (2 * shown) for number in range(shown)]


def sample_card(sample: Sample) -> SampleCard:
    """A sample with the boxes of its answer, read back from the text, drawn in its picture."""
    drawing = draw_answer(sample.task, sample.answer, sample.turns[-2].text)
    return SampleCard(
        key=sample.key,
        task=sample.task,
        language=str(sample.origin.get("language", "")),
        origin=dict(sample.origin),
        turns=sample.turns,
        pictures=[thumbnail(image.data, drawing.outlines) for image in sample.images],
        legend=drawing.legend,
        not_boxes=drawing.not_boxes,
    )


def read_sample(shards: ShardSet, place: dict[str, Any]) -> Sample:
    """The sample of an index row.

    Raises:
        UserError: the shard is damaged.
    """
    try:
        return shards.read(place["shard"], place["offset"], place["size"])
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; the shard set is damaged: delete {shards.folder} and make it again") from error


def _some(shards: ShardSet) -> list[Sample]:
    """Samples spread evenly over the set; opens only the tables that they stand in."""
    wanted: Sequence[int] = spread(sum(record.samples for record in shards.records), _SAMPLES_SHOWN)
    found: list[Sample] = []
    before = 0
    for table in shards.tables(["shard", "offset", "size"]):
        here = [number - before for number in wanted if before <= number < before + table.num_rows]
        found += [read_sample(shards, table.slice(number, 1).to_pylist()[0]) for number in here]
        before += table.num_rows
    return found


def _unwritten(ledgers: Iterable[pa.Table]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for ledger in ledgers:
        rows = ledger.filter(pc.not_equal(ledger.column("outcome"), "written"))
        columns = ["unit", "outcome", "gate", "value", "threshold", "reason", "detail"]
        found += rows.select(columns).slice(0, _UNITS_SHOWN - len(found)).to_pylist()
        if len(found) == _UNITS_SHOWN:
            break
    return found
