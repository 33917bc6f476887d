"""The source of VQA and instruction samples from questions and conversations about images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from datagen.image_source import ImageSource, exchange
from datagen.inputs.embedded import block_of, images_in
from datagen.inputs.listing import list_files, name_of, within
from datagen.inputs.record import ImageRef, Record, document_of, failed_record, image_key, image_name
from datagen.inputs.record_files import check_splits, list_record_files, records
from datagen.source import Unit
from datagen.vqa.folders import FOLDERS, AnnotationFolder, image_of, is_test_image, parse
from datagen.vqa.key_information import payload_of, read_ground_truth
from datagen.vqa.questions import (
    FIELDS,
    IMAGE_KEYS,
    QUESTION_FILES,
    QuestionFile,
    image_question,
    images_of,
    question_of,
    usable,
)
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

    form: Literal["records", "docvqa", "chartqa", "ai2d", "funsd", "sroie"] = (
        "records"  # others: `images` is its folder
    )
    records: list[str] = field(default_factory=list)  # files of JSON, JSON Lines or Parquet, or folders of them
    splits: list[str] = field(default_factory=lambda: ["train"])  # of published sets, and of Parquet files
    turns: Literal["one", "all"] = "one"  # one: a sample per question; all: one conversation per image
    leave_out: list[str] = field(default_factory=list)  # beginnings of image names: such records are left out

    name = "vqa"
    locations = ("records", "images", "guard")
    prompt_lists = ("vqa", "ocr")

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
        if self.form in FOLDERS:
            return self._annotation_files()
        names = [name for name in self._question_files() if folder.size(name) is not None]
        if not names:
            raise UserError(
                f"{self.images}: nothing of {self.form} here; looked for {', '.join(self._question_files())}"
            )
        return iter([within(self.images, name) for name in names])

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.records if self.form == "records" else [self.images])

    def _annotation_files(self) -> Iterator[str]:
        """Yield the annotation files of a data set that has one per image."""
        folders = [within(self.images, path) for path, _ in self._annotation_folders()]
        present = [path for path in folders if folder_at(path).exists()]
        if not present:
            raise UserError(f"{self.images}: nothing of {self.form} here; looked for {', '.join(folders)}")
        for path in present:
            yield from list_files([path], next(one.suffix for one in FOLDERS[self.form]))

    def _annotation_folders(self) -> Iterator[tuple[str, tuple[str, AnnotationFolder]]]:
        """Yield the folders of annotations in `images`, each with the name of its split in paths and its format."""
        for one in FOLDERS[self.form]:
            for name in dict.fromkeys(one.splits[split] for split in self.splits if split in one.splits):
                yield one.annotations.format(split=name), (name, one)

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        names = [one.test_ids for one in FOLDERS.get(self.form, ()) if one.test_ids]
        return [within(self.images, name) for name in names if folder_at(self.images).size(name) is not None]

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
        if self.form in FOLDERS:
            return iter([self._annotated_image(path, name, file)])
        return self._image_units(name, Path(file))

    def _annotated_image(self, path: str, name: str, file: str) -> Unit:
        """Return the unit of an image with an annotation file of its own."""
        split, folder = next(one for place, one in self._annotation_folders() if name.startswith(f"{place}/"))
        image = image_of(folder, path)
        try:
            payload = folder.read(parse(file))
        except WrongFormat as error:
            return failed_record(name, error)
        texts = payload["turns"] if "turns" in payload else _texts(payload["questions"])
        return Unit(
            id=name,
            document=f"{self.form}/{image}",
            content=digest(self.form, image, texts),
            files=(self.location_of(f"{folder.images.format(split=split)}/{image}"),),
            payload={**payload, "image": image},
            verdict=self._reject_other_split(image, folder),
        )

    def _reject_other_split(self, image: str, folder: AnnotationFolder) -> Rejected | None:
        """Reject an image whose split, which a file of the data set states, is not to be read."""
        location = folder_at(self.images)
        if not folder.test_ids or location.size(folder.test_ids) is None:
            return None
        is_test = is_test_image(location.read(folder.test_ids).decode(errors="replace"), image)
        if ("test" if is_test else "train") in self.splits:
            return None
        detail = f"{'listed' if is_test else 'not listed'} in {folder.test_ids}"
        return Rejected(gate="splits", value=1, threshold=0, detail=detail)

    def _record_unit(self, path: str, name: str, record: Record) -> Unit:
        try:
            images = images_of(record)
            payload, verdict = _content(record.fields, images)
            verdict = verdict or _reject_null_image(record, images) or self._reject_left_out(images)
            located = self.locate(path, images)
        except WrongFormat as error:
            return failed_record(name, error, record.nulls)
        texts = _texts(payload["questions"]) if "questions" in payload else payload.get("turns", payload.get("page"))
        return Unit(
            id=name,
            document=document_of(images[0]) if images else name,
            content=digest([image_key(image) for image in images], texts),
            files=located.files,
            payload={**payload, "image": image_name(images[0]) if images else "", **located.payload},
            verdict=verdict,
            block=block_of(self.document(path), images),
        )

    def _reject_left_out(self, images: Sequence[ImageRef]) -> Rejected | None:
        names = [name for name in map(image_name, images) if name.startswith(tuple(self.leave_out))]
        detail = f"the image {names[0]!r:.80} (setting leave_out)" if names else ""
        return Rejected(gate="left_out", value=len(names), threshold=0, detail=detail) if names else None

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
        if "page" in unit.payload:
            return self._page(unit, files)
        return self._questions(unit, files) if "questions" in unit.payload else self._conversation(unit, files)

    def _page(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Return the sample of a page with its text."""
        picture = self.read(unit, files)
        if not isinstance(picture, Picture):
            return picture
        text = unit.payload["page"]
        key, language = make_key(self.name, unit.content), language_of(text)
        prompt = choose("ocr", language or self.language, key)
        origin = _origin(unit, language, prompt=prompt.name)
        sample = exchange(
            key=key,
            task="ocr",
            question=prompt.text,
            answer=text,
            image=picture.image,
            source=self.name,
            origin=origin,
        )
        return Written(samples=(sample,), notes=picture.changes, language=language)

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
        notes.update(unit.payload.get("left_out", {}))
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
        notes.update(unit.payload.get("left_out", {}))
        return Written(samples=samples, notes=+notes + _changes(pictures), language=language)

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
    if "ground_truth" in record:
        return _of_ground_truth(record, images)
    has_question = "question" in record or "query" in record
    if has_question and (key := next((key for key in ("answer", "answers", "label") if key in record), "")):
        question = question_of(record, FIELDS[key])
        return {"questions": [question]}, _reject_question(record, question["question"], images)
    format, turns = read_turns(record, marked=True, others="questions (question, answer)")
    turns = _led_by_images(turns, len(images)) if format == "texts" else turns
    questions = [piece for role, pieces in turns if role == "user" for piece in pieces]
    media = unread_media(record, questions, remedy=_REMEDY)
    return {"form": format, "turns": turns}, media or _reject_markers(turns, len(images))


def _of_ground_truth(record: Mapping[str, Any], images: Sequence[ImageRef]) -> tuple[dict[str, Any], Rejected | None]:
    """Return the payload of a record in Donut's form: the text of its image, or questions about it."""
    page, questions = read_ground_truth(record["ground_truth"])
    verdict = None if len(images) == 1 else Rejected(gate="images", value=len(images), threshold=1)
    if not page:
        return payload_of(questions), verdict
    return {"page": page}, verdict


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


def _reject_null_image(record: Record, images: Sequence[ImageRef]) -> Rejected | None:
    """Reject a record whose image is null. A record without the key is one of text alone."""
    empty = {*record.nulls, *(key for key, value in record.fields.items() if value is None)}
    key = next((key for key in IMAGE_KEYS if key in empty), "")
    if images or not key:
        return None
    return Rejected(gate="images", value=0, threshold=1, detail=f"{key!r} is null")


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
