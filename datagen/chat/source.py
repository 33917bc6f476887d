"""Chats → text conversations: `python -m datagen.chat sharegpt.json baize.json alpaca.json --out shards/chat`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.inputs.json_records import SUFFIXES, Record, failed_record, records
from datagen.inputs.listing import list_files, name_of
from datagen.source import SourceSettings, Unit
from varyforge.conversations import RawTurn, digest, read_turns, tidy
from varyforge.errors import WrongFormat
from varyforge.outcome import Outcome, Rejected, Written
from varyforge.sample import Sample, make_key

_PART = re.compile(r"([A-Za-z0-9]{7})_\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSource(SourceSettings):
    """Pure text: conversations as ShareGPT, Baize, Alpaca and OpenAI publish them; the original words are the prompt.

    A unit is a record. `varyforge.conversations` tells its form by its keys, and says what becomes of its turns.
    """

    paths: list[str]  # JSON or JSON Lines files, or folders searched for them

    name = "chat"

    def inputs(self) -> Iterator[str]:
        """See `Source`."""
        return list_files(self.paths, *SUFFIXES)

    def document(self, path: str) -> str:
        """See `Source`."""
        return name_of(path, self.paths)

    def units(self, path: str, file: str) -> Iterator[Unit]:
        """One unit per record; a file that is no list of records, or breaks off, costs itself."""
        return (_unit(self.document(path), record) for record in records(Path(file)))

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """One conversation."""
        dialogue = tidy(unit.payload["turns"])
        if isinstance(dialogue, Rejected):
            return dialogue
        form = unit.payload["form"]
        sample = Sample(
            key=make_key(self.name, unit.content),
            task="text",
            turns=dialogue.turns,
            source=self.name,
            origin={"document": unit.document, "form": form, "language": dialogue.language},
        )
        notes = {f"{form}_records": 1, **dialogue.notes}
        return Written(samples=(sample,), notes=notes, language=dialogue.language)


def _unit(file: str, record: Record) -> Unit:
    name = f"{file}#{record.number:06d}"
    try:
        form, turns = read_turns(record.fields)
    except WrongFormat as error:
        return failed_record(name, error)
    return Unit(
        id=name,
        document=_document(file, form, record.fields) or name,
        content=digest(turns),
        payload={"form": form, "turns": turns},
        verdict=_about_images(record.fields, turns),
    )


def _document(file: str, form: str, record: Mapping[str, Any]) -> str:
    """What the parts of one conversation share; ShareGPT cuts long ones into the ids "QWJhYvA_0", "QWJhYvA_17" etc."""
    part = _PART.fullmatch(str(record.get("id"))) if form == "sharegpt" else None
    return f"{file}#{part[1]}" if part else ""


def _about_images(record: Mapping[str, Any], turns: Sequence[RawTurn]) -> Rejected | None:
    """The verdict on a conversation about images, which is none without them."""
    images = sum(len(pieces) - 1 for _, pieces in turns) or int(bool(record.get("image") or record.get("images")))
    detail = "the record is about images; datagen.vqa reads such"
    return Rejected(gate="images", value=images, threshold=0, detail=detail) if images else None
