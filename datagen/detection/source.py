"""The source of detection and REC samples from box annotations in common formats."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from typing_extensions import override

from datagen.detection.annotations.coco import CocoReader
from datagen.detection.annotations.objects import ObjectsReader
from datagen.detection.annotations.openimages import OpenImagesReader
from datagen.detection.annotations.raw_boxes import RawBox, to_boxes
from datagen.detection.annotations.reader import FLAGS, AnnotatedImage, Reader
from datagen.detection.annotations.voc import VocReader
from datagen.detection.annotations.yolo import YoloReader
from datagen.image_source import BoxedImageSource, exchange
from datagen.inputs.embedded import Located, block_of
from datagen.inputs.listing import name_of
from datagen.inputs.record import document_of, image_key
from datagen.inputs.record_files import check_splits
from datagen.source import Unit
from varyforge.boxes import Convention, LabelledBox, clean_label, format_boxes
from varyforge.errors import UserError, WrongFormat
from varyforge.external.conversations import digest
from varyforge.images import Picture
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose, join_names
from varyforge.sample import Image, Sample, Task, make_key

READERS: Mapping[str, type[Reader]] = {
    "coco": CocoReader,
    "objects": ObjectsReader,
    "openimages": OpenImagesReader,
    "voc": VocReader,
    "yolo": YoloReader,
}
_PIXELS = ("", "xywh_px", "xyxy_px", "xyxy_voc")
_CONVENTIONS = {"coco": _PIXELS, "voc": _PIXELS, "objects": (*_PIXELS, "xyxy", "cxcywh", "xyxy_1000")}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionGates:
    """The filter on images."""

    max_objects: int = 0  # usable boxes per image, 0: any number. At or below `max_boxes` there is no REC

    def __post_init__(self) -> None:
        if self.max_objects < 0:
            raise ValueError("needs max_objects of 0 (any number) or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSource(BoxedImageSource):
    """Images with boxes.

    An image with at most `max_boxes` boxes gives one sample that asks for all objects. An image with more gives several
    samples that ask for random classes (REC), with at most `max_boxes` boxes each (Vary-toy, arXiv 2401.12503,
    section 3.2). So does an image with an object whose box cannot be used; the class of that object is not asked for.

    Boxes are in the order of `to_boxes` (REC: classes in the order of the question), clipped to the image, and have
    seven significant digits. Dropped boxes are counted.
    """

    format: str  # one of `READERS`
    annotations: str  # file, or folder of files
    class_names: str = ""  # file of class names: OpenImages' descriptions, YOLO's data.yaml or list
    image_ids: str = ""  # OpenImages' CSV of image ids, with licences
    image_set: str = ""  # VOC: only images listed in ImageSets/Main/NAME.txt
    splits: list[str] = field(default_factory=lambda: ["train"])  # of Parquet files that name one
    convention: Literal[Convention, ""] = ""  # of boxes that deviate from their format
    strip_folders: int = 0  # leading folders of image names to remove
    leave_out: list[str] = field(
        default_factory=lambda: ["crowd", "group", "difficult"]
    )  # drop boxes with these `FLAGS`
    map_classes: dict[str, str | None] = field(default_factory=dict)  # new names of classes; None drops a class
    max_boxes: int = 30
    seed: int = 0  # of the choice of classes
    gates: DetectionGates = field(default_factory=DetectionGates)

    name = "detection"
    locations = ("annotations", "images", "class_names", "image_ids", "guard")
    prompt_lists = ("detection", "referring")
    measures = ("objects",)

    def __post_init__(self) -> None:
        BoxedImageSource.__post_init__(self)
        for setting, value, known in (
            ("format", self.format, tuple(READERS)),
            ("convention", self.convention, _CONVENTIONS.get(self.format, ("",))),
            *(("leave_out", flag, FLAGS) for flag in self.leave_out),
        ):
            if value not in known:
                raise ValueError(f"{setting} is {value!r}, expected one of {', '.join(map(repr, known))}")
        check_splits(self.splits)
        if self.max_boxes < 1 or self.strip_folders < 0:
            raise ValueError("needs max_boxes of 1 or more and strip_folders of 0 or more")
        if not self.images and self.format != "objects":  # VOC and YOLO have both in one folder
            object.__setattr__(self, "images", self.annotations)
        names = {clean_label(old): new and clean_label(new) for old, new in self.map_classes.items()}
        object.__setattr__(self, "map_classes", names)

    @property
    def reader(self) -> Reader:
        """The reader of the annotations."""
        return READERS[self.format](
            annotations=self.annotations,
            images=self.images,
            class_names=self.class_names,
            image_ids=self.image_ids,
            image_set=self.image_set,
            splits=self.splits,
            leave_out=frozenset(self.leave_out),
            stated=self.convention,
        )

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        objects, most = measures["objects"], self.gates.max_objects
        return Rejected(gate="max_objects", value=objects, threshold=most) if 0 < most < objects else None

    @override
    def inputs(self) -> Iterator[str]:
        if self.format in ("coco", "openimages") and (not self.images or self.reader.in_one_folder):
            raise UserError(
                f"--{self.format} needs the folder of the images; give --images FOLDER, not that of the annotations"
            )
        if self.images:
            self.check_folder()
        return self.reader.inputs()

    @override
    def document(self, path: str) -> str:
        return name_of(path, [self.annotations, self.images])

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        return self.reader.companion_files(path)

    @override
    def units(self, path: str, file: str) -> Iterator[Unit | None]:
        """Yield one unit per image, with its boxes as in the annotations."""
        for record in self.reader.records(path, file):
            yield None if record is None else self._unit(path, record)

    def _unit(self, path: str, record: AnnotatedImage) -> Unit:
        boxes = [[label, *(float(f"{number:.7g}") for number in numbers)] for label, numbers, _ in record.boxes]
        unread = {"unread": list(record.unread)} if record.unread else {}
        image = f"{record.name}#{record.id}" if record.id != "" else record.name
        ref = record.image or "/".join(record.name.split("/")[self.strip_folders :])
        failed, located = record.failed, Located((), {})
        if not failed:
            try:
                located = self.locate(path, [ref])
            except WrongFormat as error:
                failed = Failed(reason="wrong_form", detail=str(error))
        identity = image_key(record.image or image)
        return Unit(
            id=image if path == self.annotations else f"{self.document(path)}#{image}",  # several files may list it
            document=document_of(record.image or record.name),
            content=f"{identity}#{digest(record.size, boxes, *unread.values())[:24]}",
            files=located.files,
            payload={
                "image_id": record.id,
                "size": record.size,
                "boxes": boxes,
                "left_out": dict(record.notes),
                "licence": record.licence,
                **unread,
                **located.payload,
            },
            verdict=failed,
            block=block_of(self.document(path), [ref]),
        )

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Check the image and ask for its objects in one or several samples."""
        about = unit.payload
        picture = self.read(unit, files)
        if not isinstance(picture, Picture):
            return picture
        drawn_on = self.drawn_on(picture, about["size"])
        if isinstance(drawn_on, Failed):
            return drawn_on
        size, orientation = drawn_on
        boxes, notes = to_boxes(
            [RawBox(label, (a, b, c, d)) for label, a, b, c, d in about["boxes"]],
            self.reader.convention,
            size,
            orientation=orientation,
            classes=self.map_classes,
        )
        notes.update(picture.changes)
        notes.update(about["left_out"])
        questions = self._questions(unit, boxes, notes)
        if isinstance(questions, Rejected):
            detail = ", ".join(f"{count} {note}" for note, count in sorted(notes.items()) if count)
            return replace(questions, detail=detail) if questions.gate != "boxes_per_class" else questions
        measures = {"objects": float(len(boxes))}
        if refused := self.judge(measures, self.language):
            return replace(refused, measures=measures)
        samples = tuple(
            self._sample(unit, number, picture.image, group, task) for number, (task, group) in enumerate(questions)
        )
        return Written(samples=samples, notes=+notes, language=self.language, measures=measures)

    def _questions(
        self, unit: Unit, boxes: list[LabelledBox], notes: Counter[str]
    ) -> list[tuple[Task, list[LabelledBox]]] | Rejected:
        """Return task and boxes of each question about an image: one for all objects, or several for some classes.

        Objects that were not read keep an image from the first kind, and their classes from the second.
        """
        unread: list[str | None] = unit.payload.get("unread", [])
        if not boxes:
            return Rejected(gate="boxes", value=0, threshold=1)
        if not unread and not notes["boxes_of_unknown_classes"] and len(boxes) <= self.max_boxes:
            return [("detection", boxes)]
        whole = [] if "" in unread else self._of_read_classes(boxes, unread)
        notes["boxes_of_unread_classes"] = len(boxes) - len(whole)
        if not whole:
            return Rejected(gate="unread_objects", value=len(unread), threshold=0)
        groups, left = _class_groups(whole, self.max_boxes, seed=f"{self.seed}#{unit.content}")
        notes["boxes_of_large_classes"] += left
        if not groups:
            return Rejected(gate="boxes_per_class", value=len(boxes), threshold=self.max_boxes)
        return [("referring", group) for group in groups]

    def _of_read_classes(self, boxes: Sequence[LabelledBox], unread: Sequence[str | None]) -> list[LabelledBox]:
        """Return the boxes of the classes of which every object was read."""
        names = [clean_label(label) for label in unread if label]
        incomplete = {self.map_classes.get(name, name) for name in names}
        return [item for item in boxes if item.label not in incomplete]

    def _sample(self, unit: Unit, number: int, image: Image, boxes: list[LabelledBox], task: Task) -> Sample:
        key = make_key(self.name, unit.content, number)
        classes = join_names(list(dict.fromkeys(item.label for item in boxes)), self.language)
        prompt = choose(task, self.language, key, **({} if task == "detection" else {"classes": classes}))
        licence = {"licence": unit.payload["licence"]} if unit.payload["licence"] else {}
        return exchange(
            key=key,
            task=task,
            question=prompt.text,
            answer=format_boxes(boxes),
            image=image,
            source=self.name,
            origin={
                "document": unit.document,
                "image_id": unit.payload["image_id"],
                "language": self.language,
                "prompt": prompt.name,
                "boxes": len(boxes),
                **licence,
            },
        )


def _class_groups(boxes: Sequence[LabelledBox], most: int, seed: str) -> tuple[list[list[LabelledBox]], int]:
    """Return groups of random classes, at most `most` boxes each, and the number of boxes of classes with more."""
    counts = Counter(item.label for item in boxes)
    classes = sorted(counts)
    random.Random(seed).shuffle(classes)
    questions: list[list[str]] = []
    room = 0
    for label in classes:
        if counts[label] > most:
            continue
        if counts[label] > room:
            questions.append([])
            room = most
        questions[-1].append(label)
        room -= counts[label]
    groups = [[item for label in group for item in boxes if item.label == label] for group in questions]
    return groups, len(boxes) - sum(map(len, groups))
