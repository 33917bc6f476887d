"""Shard sets made without a job: what a test wants in them, written as a job would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from datagen.job.ledger import LedgerRow, ledger_row
from datagen.job.shard_task import index_row
from datagen.source import Unit
from varyforge.boxes import Box, LabelledBox, format_boxes
from varyforge.images import encode_jpeg
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.sample import Image, Sample, Turn, make_key
from varyforge.shards import JOB, MANIFEST, IndexRow, ShardRecord, open_shard
from varyforge.storage import folder_at, write
from varyforge.tables import schema_of, write_table

HOSTILE = "<script>document.title = 'broken in'</script>\"'><img src=x onerror=alert(1)>"
CJK_FONT = Path("/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf")
ENGLISH = (
    "Optical character recognition turns pictures of text into text. A neural\nnetwork reads the page from the top "
    "left corner to the bottom right one, line by line,\nand what it has learnt to say is what stood on its pages."
)
CHINESE = (
    "光学字符识别把文字的图像变成文字。\n神经网络从左上角到右下角，"
    "一行一行地读这一页，\n它学会说的，就是它见过的页面上写的。"
)


@dataclass
class Entry:
    """A unit, how it ended, and what its samples' index rows hold beside what follows from them."""

    unit: Unit
    outcome: Outcome
    split: str = "train"
    twins: str = ""
    group: str = ""
    cells: Mapping[str, Any] = field(default_factory=dict)


def write_set(place: str | Path, source: str, shards: Sequence[Sequence[Entry]], measures: Sequence[str] = ()) -> None:
    """Write a finished shard set with the given entries of each shard."""
    folder = folder_at(place)
    records = [_write_shard(folder, f"{source}-{n:04b}", entries, measures) for n, entries in enumerate(shards)]
    write(folder, JOB, json.dumps({"source": source, "config": {}, "inputs": []}).encode())
    write(folder, MANIFEST, "".join(json.dumps(asdict(record)) + "\n" for record in records).encode())


def _write_shard(folder: Any, name: str, entries: Sequence[Entry], measures: Sequence[str]) -> ShardRecord:
    index, ledger = [], []
    with open_shard(folder, f"{name}.tar") as shard:
        for entry in entries:
            ledger.append(ledger_row(entry.unit, entry.outcome, f"{name}.tar"))
            for sample in getattr(entry.outcome, "samples", ()):
                offset, size = shard.add(sample)
                index.append(_index_row(entry, sample) | {"shard": f"{name}.tar", "offset": offset, "size": size})
        tar_bytes, tar_sha256 = shard.close()
    outcomes = [row["outcome"] for row in ledger]
    return ShardRecord(
        name=name,
        units=len(ledger),
        samples=len(index),
        written=outcomes.count("written"),
        rejected=outcomes.count("rejected"),
        failed=outcomes.count("failed"),
        tar_bytes=tar_bytes,
        tar_sha256=tar_sha256,
        index_sha256=write_table(folder, f"index/{name}.parquet", index, schema_of(IndexRow, measures)),
        ledger_sha256=write_table(folder, f"ledger/{name}.parquet", ledger, schema_of(LedgerRow, measures)),
        config_sha256="",
        units_sha256="",
    )


def _index_row(entry: Entry, sample: Sample) -> dict[str, Any]:
    assert isinstance(entry.outcome, Written)
    said = sum(len(turn.text) for turn in sample.turns if turn.role == "assistant")
    row = index_row(sample) | {"unit": entry.unit.id, "document": entry.unit.document}
    row |= {"group": entry.group or entry.unit.document, "twins": entry.twins, "split": entry.split}
    row |= {"language": entry.outcome.language, "answer_chars": said, "tokens": said // 3}
    return row | {"fingerprint": b"\x01\xff", **entry.outcome.measures, **entry.cells}


def page_picture(text: str, size: int = 14, width: int = 700, height: int = 400) -> Image:
    """A white page with a text on it."""
    picture = PIL.Image.new("RGB", (width, height), "white")
    cjk = CJK_FONT.exists() and not text.isascii()
    font = PIL.ImageFont.truetype(CJK_FONT, size) if cjk else PIL.ImageFont.load_default(size)
    PIL.ImageDraw.Draw(picture).multiline_text((40, 40), text, fill="black", font=font, spacing=10)
    return encode_jpeg(picture, 90)


def page(number: int, *, text: str = ENGLISH, language: str = "en", document: str = "report.pdf", **more: Any) -> Entry:
    """A written page of OCR. `more`: other fields of the entry."""
    picture = page_picture(text) if more.pop("large", False) else page_picture("x", 8, 12, 16)
    sample = Sample(
        key=make_key("pdf", document, number),
        task="ocr",
        turns=(Turn(role="user", text="<image>\nRead the page."), Turn(role="assistant", text=text)),
        images=(picture,),
        source="pdf",
        origin={"document": document, "page": number, "language": language},
    )
    measures = {"glyphs_on_ink": round(0.5 + (number % 50) / 100, 4), "chars": float(len(text))}
    written = Written(samples=(sample,), language=language, measures=measures)
    return Entry(page_unit(document, number), written, **more)


def page_unit(document: str, number: int) -> Unit:
    """The unit of a page."""
    return Unit(id=f"{document}#{number:04d}", document=document, content=make_key("c", document, number))


def rejected(number: int, gate: str = "glyphs_on_ink", document: str = "report.pdf", detail: str = "") -> Entry:
    """A page that a gate refused."""
    measures = {"glyphs_on_ink": 0.31, "chars": 12.0}
    outcome = Rejected(gate=gate, value=0.31, threshold=0.9, detail=detail, language="en", measures=measures)
    return Entry(page_unit(document, number), outcome)


def failed(number: int, reason: str = "crashed", document: str = "broken.pdf", detail: str = "") -> Entry:
    """A page that could not be read."""
    return Entry(page_unit(document, number), Failed(reason=reason, detail=detail))


def photo(number: int, labels: Sequence[str] = ("cat", "浣熊"), width: int = 640, height: int = 420) -> Entry:
    """A picture with coloured rectangles where its boxes are."""
    picture = PIL.Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = PIL.ImageDraw.Draw(picture)
    boxes = []
    for place, label in enumerate([*labels, labels[0]]):
        x = 0.05 + 0.3 * place
        box = Box(x1=x, y1=0.1 + 0.05 * (number % 3), x2=x + 0.25, y2=0.8)
        draw.rectangle(box.to_xyxy_px(width=width, height=height), fill=("#e8d8a0", "#a0c8e8", "#b0e0b0")[place % 3])
        boxes.append(LabelledBox(label=label, box=box))
    turns = (Turn(role="user", text="<image>\nDetect all objects."), Turn(role="assistant", text=format_boxes(boxes)))
    key = make_key("detection", number)
    image = encode_jpeg(picture, 90)
    sample = Sample(
        key=key,
        task="detection",
        turns=turns,
        images=(image,),
        source="detection",
        origin={"image": number} | ({"licence": "CC BY 2.0"} if number % 2 else {}),
    )
    unit = Unit(id=f"{number:06d}.jpg", document=f"{number:06d}.jpg", content=key)
    return Entry(unit, Written(samples=(sample,)))


def talk(number: int, question: str, answer: str) -> Entry:
    """A conversation without a picture."""
    turns = (Turn(role="user", text=question), Turn(role="assistant", text=answer))
    key = make_key("chat", number)
    unit = Unit(id=f"chat.json#{number}", document="chat.json", content=key)
    return Entry(unit, Written(samples=(Sample(key=key, task="instruct", turns=turns, source="chat"),), language="en"))


def pdf_shards(*, large: bool = False) -> Iterator[list[Entry]]:
    """Six shards: English and Chinese pages, twins, rejected and failed units, an empty shard, a hostile page."""
    for shard in range(4):
        first = shard * 10
        twins = make_key("pdf", "report.pdf", 0)
        yield [
            page(first, twins=twins if shard < 2 else "", group="report.pdf" if shard < 2 else "", large=large),
            rejected(first + 1, detail=f"page {first + 1}: the text layer does not stand where the ink is"),
            page(first + 2, text=CHINESE, language="zh", document="中文.pdf", split="validation", large=large),
            page(first + 3, text=f"{ENGLISH}\n\npage {first + 3}", document=f"thesis-{shard}.pdf", large=large),
            failed(first + 4, detail=HOSTILE),
            rejected(first + 5, gate="min_chars", document="中文.pdf"),
            page(first + 6, language="", split="excluded", large=large),
        ]
    yield []
    yield [page(99, text=HOSTILE, document=HOSTILE, large=large), failed(98, "timeout")]


def write_world(root: Path, *, large: bool = False) -> list[str]:
    """Write three shard sets below `root` and return their paths."""
    write_set(root / "pdf", "pdf", list(pdf_shards(large=large)), ["glyphs_on_ink", "chars"])
    write_set(root / "detection", "detection", [[photo(n) for n in range(3)], [photo(n) for n in range(3, 7)]])
    talks = [talk(n, f"question {n}", f"answer {n}") for n in range(5)] + [talk(9, HOSTILE, HOSTILE)]
    write_set(root / "chat", "chat", [talks])
    return [str(root / name) for name in ("pdf", "detection", "chat")]
