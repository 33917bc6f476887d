"""Alpaca-style instructions → text conversations: `python -m datagen.chat alpaca.json --out shards/chat`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import command
from datagen.language import language_of
from datagen.listing import list_files, name_of
from datagen.sample import IMAGE_MARKER, Sample, Turn, make_key
from datagen.unit import Failed, Outcome, Rejected, SourceSettings, Unit, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSource(SourceSettings):
    """Pure text: JSON lists of {"instruction", "input", "output"}; the original words are the prompt."""

    paths: list[str]  # JSON files, or folders searched for *.json

    name = "chat"

    def inputs(self) -> Iterator[str]:
        """See `Source`."""
        return list_files(self.paths, ".json")

    def document(self, path: str) -> str:
        """See `Source`."""
        return name_of(path, self.paths)

    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        """One unit per record."""
        try:
            records = json.loads(Path(file).read_bytes())
        except ValueError as error:
            return Failed(reason="wrong_form", detail=f"not JSON: {error}")
        if not isinstance(records, list):
            return Failed(reason="wrong_form", detail=f"expected a list of records, found {type(records).__name__}")
        return [_unit(self.document(path), number, record) for number, record in enumerate(records)]

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """One conversation of one exchange."""
        record = unit.payload
        question = record["instruction"] + (f"\n{record['input']}" if record.get("input") else "")
        answer = record["output"]
        for gate, value in (("question_chars", len(question.strip())), ("answer_chars", len(answer.strip()))):
            if value == 0:
                return Rejected(gate=gate, value=0, threshold=1)
        if IMAGE_MARKER in question + answer:
            detail = f"the text holds the marker {IMAGE_MARKER}, but there is no image"
            return Rejected(
                gate="image_markers", value=(question + answer).count(IMAGE_MARKER), threshold=0, detail=detail
            )
        sample = Sample(
            key=make_key(self.name, unit.content),
            task="text",
            turns=(Turn(role="user", text=question), Turn(role="assistant", text=answer)),
            source=self.name,
            origin={"document": unit.document, "language": language_of(question + answer)},
        )
        return Written(samples=(sample,), language=language_of(question + answer))


def _unit(document: str, number: int, record: object) -> Unit:
    name = f"{document}#{number:06d}"
    content = hashlib.sha256(
        json.dumps(record, sort_keys=True, ensure_ascii=False).encode(errors="backslashreplace")
    ).hexdigest()
    wrong = _what_is_wrong(record)
    if wrong:
        return Unit(id=name, document=name, content=content, verdict=Failed(reason="wrong_form", detail=wrong))
    return Unit(id=name, document=name, content=content, payload=record)  # type: ignore[arg-type]  # a dict, checked above


def _what_is_wrong(record: object) -> str:
    if not isinstance(record, dict):
        return f"expected an object, found {type(record).__name__}"
    for key, needed in (("instruction", True), ("output", True), ("input", False)):
        if needed and key not in record:
            return f"key {key!r} is missing; Alpaca form has instruction, input, output"
        if not isinstance(record.get(key, ""), str):
            return f"key {key!r} is a {type(record[key]).__name__}, expected text"
    return ""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from datagen.cli import job_parser  # noqa: PLC0415  # not for the children that import this module

    made = job_parser(
        "datagen.chat",
        "Turns Alpaca-style instructions into text conversations.",
        ChatSource,
        examples="""
  python -m datagen.chat alpaca_en.json alpaca_zh.json --out shards/chat
  python -m datagen.chat chats/ --out shards/chat --limit 1000""",
    )
    made.add_argument("paths", nargs="+", help="JSON files or folders")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    from datagen.cli import run_source  # noqa: PLC0415  # not for the children that import this module

    arguments = parser().parse_args()
    return run_source(ChatSource, {"paths": arguments.paths}, (), arguments)


if __name__ == "__main__":  # by its real name, so that what travels to workers is datagen.chat.ChatSource
    from datagen.chat import main as _main

    _main()
