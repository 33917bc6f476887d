"""The data card of a shard set: its contents, the units left out with reasons, and a few samples.

A job writes card.json for programs and card.html for people beside the shards. Both are computed from index, ledger and
shards alone, so that equal sets have equal cards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datagen.card.contents import Contents, contents_of
from datagen.card.html import render_page
from datagen.card.pictures import LegendEntry, draw_answer, thumbnail
from datagen.card.spread import spread
from datagen.job.ledger import LedgerSummary, summarise
from datagen.source import OCR_LABELS
from varyforge.errors import UserError
from varyforge.sample import Sample, Turn
from varyforge.shards import ShardSet
from varyforge.storage import folder_at, write

CARD_JSON, CARD_HTML = "card.json", "card.html"
_TEMPLATE = Path(__file__).with_name("card.html.jinja")
TEXT_CHARS = 600  # of a text on a page
_SAMPLES = 8
_UNITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """A sample as a page of HTML shows it."""

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
    """The data card: a shard set in numbers and samples."""

    folder: str  # path or URL
    source: str  # name of the source that made it
    settings: dict[str, Any]  # of the source
    versions: dict[str, str]  # of the rules and libraries that the bytes depend on
    tar_bytes: int
    ledger: LedgerSummary
    contents: Contents
    unwritten: list[dict[str, Any]]  # the first ledger rows without a sample
    samples: list[SampleCard]  # spread evenly over the index


def read_data_card(folder: str | Path) -> DataCard:
    """Read ledger, index and a few samples of a shard set.

    Raises:
        UserError: the folder is missing, is not a finished shard set, or has a broken file.
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
    """Write card.json and card.html into a finished shard set.

    Raises:
        UserError: as `read_data_card` does.
    """
    card, out = read_data_card(folder), folder_at(folder)
    write(out, CARD_JSON, (json.dumps(card_to_json(card), indent=2, ensure_ascii=False) + "\n").encode())
    write(out, CARD_HTML, render_page(_TEMPLATE, card=card, ocr=OCR_LABELS, shown=TEXT_CHARS).encode())
    return card


def card_to_json(card: DataCard) -> dict[str, Any]:
    """Return the card without pictures and without the set's location, so that equal sets have equal cards."""
    plain = asdict(card)
    del plain["folder"]
    plain["ledger"]["by_cause"] = {": ".join(cause): count for cause, count in card.ledger.by_cause.items()}
    for sample in plain["samples"]:
        del sample["pictures"]
    lengths = card.contents.lengths
    plain["contents"]["lengths"] = {"rows": [row._asdict() for row in lengths.rows], "beyond": lengths.beyond}
    return plain


def sample_card(sample: Sample) -> SampleCard:
    """Return the card of a sample. The boxes of its answer, read from the text, are drawn in its picture."""
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


def read_sample(shards: ShardSet, row: dict[str, Any]) -> Sample:
    """Return the sample of an index row.

    Raises:
        UserError: the shard is damaged.
    """
    try:
        return shards.read(row["shard"], row["offset"], row["size"])
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; the shard set is damaged: delete {shards.folder} and make it again") from error


def _some(shards: ShardSet) -> list[Sample]:
    """Return samples spread evenly over the set. Reads rows of one index table at a time."""
    numbers: Sequence[int] = spread(sum(record.samples for record in shards.records), _SAMPLES)
    samples: list[Sample] = []
    before = 0
    for table in shards.tables(["shard", "offset", "size"]):
        here = [number - before for number in numbers if before <= number < before + table.num_rows]
        samples += [read_sample(shards, table.slice(number, 1).to_pylist()[0]) for number in here]
        before += table.num_rows
    return samples


def _unwritten(ledgers: Iterable[pa.Table]) -> list[dict[str, Any]]:
    columns = ["unit", "outcome", "gate", "value", "threshold", "reason", "detail"]
    tables = (ledger.filter(pc.not_equal(ledger.column("outcome"), "written")) for ledger in ledgers)
    rows = (row for table in tables for row in table.select(columns).slice(0, _UNITS).to_pylist())
    return list(islice(rows, _UNITS))
