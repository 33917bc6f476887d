"""The source of VQA and instruction samples from questions and conversations about images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from datagen.image_source import ImageSource
from datagen.inputs.embedded import block_of, images_in
from datagen.inputs.listing import name_of, within
from datagen.inputs.record import ImageRef, Record, document_of, failed_record, image_key, image_name
from datagen.inputs.record_files import check_splits, list_record_files, records
from datagen.source import Unit
from datagen.vqa.questions import FIELDS, QUESTION_FILES, QuestionFile, image_question, images_of, question_of, usable
from varyforge.errors import UserError, WrongFormat
from varyforge.escape import escape
from varyforge.external.conversations import RawTurn, digest, is_excluded, read_turns, tidy
from varyforge.external.unread_media import unread_media
from varyforge.images import Picture
from varyforge.language import language_of
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import IMAGE_MARKER, Image, Sample, Scalar, Turn, make_key
from varyforge.storage import folder_at

_REMEDY = "write <image> and name the file under 'image' or 'images'"


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaSource(ImageSource):
    """Questions and conversations about images.

    Questions with a short answer become samples of the task "vqa", worded by the prompt list of that name.
    Conversations become samples of the task "instruct" unchanged, with an image at each `<image>` in a question.
    """

    form: Literal["records", "docvqa", "chartqa"] = "records"  # docvqa, chartqa: `images` is the data set's folder
    records: list[str] = field(default_factory=list)  # files of JSON, JSON Lines or Parquet, or folders of them
    splits: list[str] = field(default_factory=lambda: ["train"])  # of DocVQA and ChartQA, and of Parquet files
    turns: Literal["one", "all"] = "one"  # one: a sample per question; all: one conversation per image

    name = "vqa"
    locations = ("records", "images", "guard")
    prompt_lists = ("vqa",)

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        check_splits(self.splits)

    @property
    @override
    def collection(self) -> str:
        return "" if self.form == "records" else self.form

    @override
    def inputs(self) -> Iterator[str]:
        if self.form == "records":
            if self.images:
                self.check_folder()
            return list_record_files(self.records, self.splits)
        folder = folder_at(self.images)
        names = [name for name in self._question_files() if folder.size(name) is not None]
        if not names:
            raise UserError(
                f"{self.images}: nothing of {self.form} here; looked for {', '.join(self._question_files())}"
            )
        return iter([within(self.images, name) for name in names])

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.records if self.form == "records" else [self.images])

    def _question_files(self) -> dict[str, tuple[str, QuestionFile]]:
        """Return split and `QuestionFile` by file name in `images`."""
        files = QUESTION_FILES[self.form]
        return {one.questions.format(split=split): (split, one) for split in self.splits for one in files}

    @override
    def units(self, path: str, file: str) -> Iterator[Unit]:
        """Return one unit per record or, for DocVQA and ChartQA, per image with all its questions."""
        name = self.document(path)
        if self.form == "records":
            return (self._record_unit(path, f"{name}#{record.number:06d}", record) for record in records(Path(file)))
        return self._image_units(name, Path(file))

    def _record_unit(self, path: str, name: str, record: Record) -> Unit:
        try:
            images = images_of(record)
            payload, verdict = _content(record.fields, images)
            located = self.locate(path, images)
        except WrongFormat as error:
            return failed_record(name, error, record.nulls)
        texts = payload["turns"] if "turns" in payload else _texts(payload["questions"])
        return Unit(
            id=name,
            document=document_of(images[0]) if images else name,
            content=digest([image_key(image) for image in images], texts),
            files=located.files,
            payload={**payload, "image": image_name(images[0]) if images else "", **located.payload},
            verdict=verdict,
            block=block_of(self.document(path), images),
        )

    def _image_units(self, name: str, file: Path) -> Iterator[Unit]:
        """Yield one unit per image. The questions, some ten thousand in any order, are held in memory."""
        split, entry = self._question_files()[name]
        by_image: dict[str, list[dict[str, Any]]] = {}
        for record in records(file, entry.key):
            try:
                image, question = image_question(record.fields, FIELDS[self.form])
                by_image.setdefault(image, []).append(question)
            except WrongFormat as error:
                yield failed_record(f"{name}#{record.number:06d}", error)
        folder = entry.images.format(split=split)
        for image, questions in by_image.items():
            yield Unit(
                id=f"{name}#{image}",
                document=f"{self.form}/{questions[0]['document'] or image}",
                content=digest(self.form, image, _texts(questions)),
                files=(self.location_of(f"{folder}/{image.removeprefix('documents/')}"),),
                payload={"questions": questions, "image": image, "subset": entry.subset},
                verdict=_reject_other_splits(questions, split),
            )

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        return self._questions(unit, files) if "questions" in unit.payload else self._conversation(unit, files)

    def _conversation(self, unit: Unit, files: Sequence[str]) -> Outcome:
        dialogue = tidy(unit.payload["turns"])
        if isinstance(dialogue, Rejected):
            return dialogue
        pictures = self._pictures(unit, files, dialogue.images)
        if not isinstance(pictures, list):
            return pictures
        sample = Sample(
            key=make_key(self.name, unit.content),
            task="instruct",
            turns=dialogue.turns,
            images=tuple(picture.image for picture in pictures),
            source=self.name,
            origin=_origin(unit, dialogue.language, form=unit.payload["form"]),
        )
        notes = dialogue.notes + _changes(pictures)
        notes["images_of_dropped_turns"] = images_in(unit) - dialogue.images
        notes[f"{unit.payload['form']}_records"] = 1
        return Written(samples=(sample,), notes=+notes, language=dialogue.language)

    def _questions(self, unit: Unit, files: Sequence[str]) -> Outcome:
        questions, notes = usable(unit.payload["questions"])
        if not questions:
            return Rejected(gate="questions", value=0, threshold=1)
        pictures = self._pictures(unit, files, images_in(unit))
        if not isinstance(pictures, list):
            return pictures
        images = tuple(picture.image for picture in pictures)
        groups = [[one] for one in questions] if self.turns == "one" else [questions]
        samples = tuple(self._sample(unit, number, group, images) for number, group in enumerate(groups))
        language = str(samples[0].origin["language"])
        return Written(samples=samples, notes=notes + _changes(pictures), language=language)

    def _sample(
        self, unit: Unit, number: int, questions: Sequence[Mapping[str, Any]], images: tuple[Image, ...]
    ) -> Sample:
        key = make_key(self.name, unit.content, number)
        language = language_of(" ".join(one["question"] for one in questions)) or self.language
        turns: list[Turn] = []
        for one in questions:
            prompt = choose("vqa", language, key, question=one["question"])
            turns += (Turn(role="user", text=prompt.text), Turn(role="assistant", text=escape(one["answers"][0])))
        turns[0] = Turn(role="user", text=IMAGE_MARKER * len(images) + turns[0].text)
        origin = _origin(unit, language, prompt=prompt.name)
        if len(questions) == 1:
            origin["answers"] = json.dumps(questions[0]["answers"], ensure_ascii=False)
            if questions[0]["id"] != "":
                origin["question"] = questions[0]["id"]
        return Sample(key=key, task="vqa", turns=tuple(turns), images=images, source=self.name, origin=origin)

    def _pictures(self, unit: Unit, files: Sequence[str], count: int) -> list[Picture] | Rejected | Failed:
        """Return the first `count` images, each decoded once, or the outcome of the first unusable image."""
        embedded = unit.payload.get("embedded", [None] * count)
        keys = [address["sha256"] if address else files[number] for number, address in enumerate(embedded[:count])]
        pictures: dict[str, Picture] = {}
        for number, key in enumerate(keys):
            if key not in pictures:
                picture = self.read(unit, files, number)
                if not isinstance(picture, Picture):
                    return picture
                pictures[key] = picture
        return [pictures[key] for key in keys]


def _content(record: Mapping[str, Any], images: Sequence[ImageRef]) -> tuple[dict[str, Any], Rejected | None]:
    """Return the payload of a record, and a rejection if its images do not match its text."""
    has_question = "question" in record or "query" in record
    if has_question and (key := next((key for key in ("answer", "answers", "label") if key in record), "")):
        question = question_of(record, FIELDS[key])
        return {"questions": [question]}, _reject_question(record, question["question"], images)
    format, turns = read_turns(record, marked=True)
    turns = _led_by_images(turns, len(images)) if format == "texts" else turns
    questions = [piece for role, pieces in turns if role == "user" for piece in pieces]
    media = unread_media(record, questions, remedy=_REMEDY)
    return {"form": format, "turns": turns}, media or _reject_markers(turns, len(images))


def _led_by_images(turns: list[RawTurn], images: int) -> list[RawTurn]:
    """Return turns with the images before the first question, unless a question marks where they stand."""
    if not turns or any(len(pieces) > 1 for role, pieces in turns if role == "user"):
        return turns
    (role, pieces), *rest = turns
    return [(role, [""] * images + pieces), *rest]


def _reject_question(record: Mapping[str, Any], question: str, images: Sequence[ImageRef]) -> Rejected | None:
    if media := unread_media(record, [question], remedy=_REMEDY):
        return media
    if not images:
        return Rejected(gate="images", value=0, threshold=1, detail="a question without an image")
    detail = "the record is marked as one not to learn"
    return Rejected(gate="learned_answers", value=0, threshold=1, detail=detail) if is_excluded(record) else None


def _texts(questions: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    return [[one["question"], one["answers"]] for one in questions]


def _reject_other_splits(questions: Sequence[Mapping[str, Any]], split: str) -> Rejected | None:
    """Reject questions that name another split than their file."""
    others = [one["split"] for one in questions if one["split"] not in ("", split)]
    detail = f"in a file of the split {split!r}, of {others[0]!r}" if others else ""
    return Rejected(gate="splits", value=len(others), threshold=0, detail=detail) if others else None


def _reject_markers(turns: Sequence[RawTurn], images: int) -> Rejected | None:
    """Reject turns with image markers outside questions, or with another number of markers than images."""
    markers = sum(len(pieces) - 1 for role, pieces in turns if role == "user")
    elsewhere = sum(len(pieces) - 1 for _, pieces in turns) - markers
    if elsewhere:
        detail = f"{IMAGE_MARKER} in a turn that is no question"
        return Rejected(gate="image_markers", value=elsewhere, threshold=0, detail=detail)
    if markers != images:
        detail = f"{markers} {IMAGE_MARKER} in questions for {images} images"
        return Rejected(gate="image_markers", value=markers, threshold=images, detail=detail)
    return None


def _origin(unit: Unit, language: str, **more: Scalar) -> dict[str, Scalar]:
    named = {name: unit.payload[name] for name in ("image", "subset") if unit.payload.get(name)}
    return {"document": unit.document, "language": language, **named, **more}


def _changes(pictures: Sequence[Picture]) -> Counter[str]:
    """Add up the changes of the distinct images."""
    return sum((picture.changes for picture in {id(one): one for one in pictures}.values()), Counter[str]())
