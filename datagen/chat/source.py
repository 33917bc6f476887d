"""The source of text conversations from published chats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from datagen.inputs.listing import name_of
from datagen.inputs.record import Record, failed_record
from datagen.inputs.record_files import check_splits, list_record_files, records
from datagen.source import SourceSettings, Unit
from varyforge.errors import WrongFormat
from varyforge.external.conversations import RawTurn, digest, read_turns, tidy
from varyforge.external.unread_media import unread_media
from varyforge.outcome import Outcome, Rejected, Written
from varyforge.sample import Sample, make_key

_PART = re.compile(r"([A-Za-z0-9]{7})_\d+")  # ids of the parts into which ShareGPT cuts a conversation: "QWJhYvA_17"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSource(SourceSettings):
    """Conversations without images in the formats of ShareGPT, Baize, Alpaca and OpenAI, with their original prompts.

    A unit is a record. `varyforge.external.conversations` recognises its format by its keys and cleans its turns.
    """

    paths: list[str]  # files of JSON, JSON Lines or Parquet, or folders of them
    splits: list[str] = field(default_factory=lambda: ["train"])  # of Parquet files that name one

    name = "chat"

    def __post_init__(self) -> None:
        SourceSettings.__post_init__(self)
        check_splits(self.splits)

    @override
    def inputs(self) -> Iterator[str]:
        return list_record_files(self.paths, self.splits)

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    @override
    def units(self, path: str, file: str) -> Iterator[Unit]:
        """Return one unit per record. A file that is no list of records, or breaks off, fails as a whole."""
        return (_unit(self.document(path), record) for record in records(Path(file)))

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        dialogue = tidy(unit.payload["turns"])
        if isinstance(dialogue, Rejected):
            return dialogue
        format = unit.payload["form"]
        sample = Sample(
            key=make_key(self.name, unit.content),
            task="text",
            turns=dialogue.turns,
            source=self.name,
            origin={"document": unit.document, "form": format, "language": dialogue.language},
        )
        notes = {f"{format}_records": 1, **dialogue.notes}
        return Written(samples=(sample,), notes=notes, language=dialogue.language)


def _unit(file: str, record: Record) -> Unit:
    name = f"{file}#{record.number:06d}"
    try:
        format, turns = read_turns(record.fields)
    except WrongFormat as error:
        return failed_record(name, error, record.nulls)
    part = _PART.fullmatch(str(record.fields.get("id"))) if format == "sharegpt" else None
    return Unit(
        id=name,
        document=f"{file}#{part[1]}" if part else name,
        content=digest(turns),
        payload={"form": format, "turns": turns},
        verdict=_reject_images(record.fields, turns) or _reject_media(record.fields, turns),
    )


def _reject_images(record: Mapping[str, Any], turns: Sequence[RawTurn]) -> Rejected | None:
    """Reject a conversation about images."""
    images = sum(len(pieces) - 1 for _, pieces in turns) or int(bool(record.get("image") or record.get("images")))
    detail = "the record is about images; datagen.vqa reads such"
    return Rejected(gate="images", value=images, threshold=0, detail=detail) if images else None


def _reject_media(record: Mapping[str, Any], turns: Sequence[RawTurn]) -> Rejected | None:
    """Reject a conversation about video, sound, or an image in another notation."""
    questions = (piece for role, pieces in turns if role == "user" for piece in pieces)
    return unread_media(record, questions, remedy="datagen.vqa reads images named by 'image' or 'images', at <image>")
