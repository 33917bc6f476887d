"""COCO annotations → detection and REC samples.

python -m datagen.detection --coco instances.json --images images/ --out shards/det
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.boxes import BINS, Box, LabelledBox, clean_label, format_boxes
from datagen.errors import command
from datagen.image_source import ImageSource, exchange
from datagen.images import Picture
from datagen.listing import list_files
from datagen.prompts import choose, join_names
from datagen.sample import Image, Sample, Task, make_key
from datagen.unit import Failed, Outcome, Rejected, Unit, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSource(ImageSource):
    """Images with boxes.

    Up to `max_boxes` boxes: all objects are asked for. More: random classes (REC), in several samples of at most
    `max_boxes` boxes each (Vary-toy, arXiv 2401.12503, section 3.2).

    In an answer, classes stand in alphabetical order and a class's boxes from top to bottom, then left to right.
    Boxes are clipped to the image; crowd boxes and boxes thinner than 1/1000 of the image are left out and counted.
    """

    coco: str  # annotations in COCO form: images, annotations (bbox = x, y, width, height in pixels), categories
    max_boxes: int = 30

    name = "detection"
    places = ("coco", "images", "guard")
    prompt_lists = ("detection", "referring")

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        if self.max_boxes < 1:
            raise ValueError("needs max_boxes of 1 or more")

    def inputs(self) -> Iterator[str]:
        """See `Source`."""
        self.check_folder()
        return list_files([self.coco], ".json")

    def document(self, path: str) -> str:
        """See `Source`."""
        return Path(path).name

    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        """One unit per image that is listed; boxes go along as [label, x, y, width, height]."""
        try:
            form = _read_coco(Path(file))
        except ValueError as error:
            return Failed(reason="wrong_form", detail=str(error))
        unlisted = [
            Unit(
                id=f"annotations of image {image_id}",
                document=f"annotations of image {image_id}",
                content=f"annotations of image {image_id}",
                verdict=Failed(reason="unlisted_image", detail=f"{count} annotations, no entry in images"),
            )
            for image_id, count in form.unlisted.items()
        ]
        return unlisted + [self._unit(image, form) for image in form.images]

    def _unit(self, image: dict[str, Any], form: _Coco) -> Unit:
        name, number = image["file_name"], image["id"]
        boxes = form.boxes.get(number, [])
        counts = {"crowd": form.crowd[number], "malformed": form.malformed[number]}
        return Unit(
            id=f"{name}#{number}",
            document=name,
            content=f"{name}#{number}#{_digest(image, boxes)}",
            files=(self.place_of(name),),
            payload={"image_id": number, "width": image["width"], "height": image["height"], "boxes": boxes, **counts},
        )

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Checks the image and asks for its objects, in one sample or several."""
        about = unit.payload
        picture = self.read(unit, files)
        if not isinstance(picture, Picture):
            return picture
        image = picture.image
        if picture.seen != (about["width"], about["height"]):
            found, said = "x".join(map(str, picture.seen)), f"{about['width']}x{about['height']}"
            return Failed(reason="image_size", detail=f"the image is {found} px, the annotations say {said}")
        boxes, notes = _usable(about["boxes"], *picture.seen)
        notes.update(picture.changes)
        notes["crowd_boxes"], notes["malformed_annotations"] = about["crowd"], about["malformed"]
        if not boxes:
            return Rejected(gate="boxes", value=0, threshold=1)
        if len(boxes) <= self.max_boxes:
            groups = [boxes]
        else:
            groups, notes["boxes_of_large_classes"] = _class_groups(boxes, self.max_boxes, seed=unit.content)
            if not groups:
                return Rejected(gate="boxes_per_class", value=len(boxes), threshold=self.max_boxes)
        everything = len(boxes) <= self.max_boxes
        samples = tuple(self._sample(unit, number, image, group, everything) for number, group in enumerate(groups))
        notes = Counter({reason: count for reason, count in notes.items() if count})
        return Written(samples=samples, notes=notes, language=self.language)

    def _sample(self, unit: Unit, number: int, image: Image, boxes: list[LabelledBox], everything: bool) -> Sample:
        key = make_key(self.name, unit.content, number)
        task: Task = "detection" if everything else "referring"
        fields = (
            {}
            if everything
            else {"classes": join_names(list(dict.fromkeys(item.label for item in boxes)), self.language)}
        )
        prompt = choose(task, self.language, key, **fields)
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
            },
        )


def _usable(raw: Sequence[Sequence[Any]], width: int, height: int) -> tuple[list[LabelledBox], Counter[str]]:
    """Typed boxes in the order of an answer, and counts of what was clipped or left out."""
    boxes: list[LabelledBox] = []
    notes: Counter[str] = Counter()
    for label, x, y, w, h in raw:
        x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if round(x1 / width * BINS) >= round(x2 / width * BINS) or round(y1 / height * BINS) >= round(
            y2 / height * BINS
        ):
            notes["degenerate_boxes"] += 1
            continue
        notes["clipped_boxes"] += (x1, y1, x2, y2) != (x, y, x + w, y + h)
        boxes.append(LabelledBox(label=label, box=Box.from_xyxy_px(x1, y1, x2, y2, width=width, height=height)))
    boxes.sort(key=lambda item: (item.label, item.box.y1, item.box.x1, item.box.y2, item.box.x2))
    return boxes, notes


def _class_groups(boxes: Sequence[LabelledBox], most: int, seed: str) -> tuple[list[list[LabelledBox]], int]:
    """Random classes with all their boxes, in groups of at most `most`; and the boxes of classes too large for any."""
    counts = Counter(item.label for item in boxes)
    classes = sorted(counts)
    random.Random(seed).shuffle(classes)
    asked: list[list[str]] = []
    room = 0
    for label in classes:
        if counts[label] > most:
            continue
        if counts[label] > room:
            asked.append([])
            room = most
        asked[-1].append(label)
        room -= counts[label]
    groups = [[item for label in group for item in boxes if item.label == label] for group in asked]
    return groups, len(boxes) - sum(map(len, groups))


@dataclass(frozen=True, slots=True)
class _Coco:
    images: list[dict[str, Any]]
    boxes: dict[Any, list[list[Any]]]  # by image id: [label, x, y, w, h]
    crowd: Counter[Any]  # by image id: crowd annotations
    malformed: Counter[Any]  # by image id: annotations without a usable box and class
    unlisted: Counter[str]  # by image id that `images` does not have: annotations


def _read_coco(path: Path) -> _Coco:
    """Raises ValueError with the key that is wrong. A wrong annotation costs itself, not the file."""
    try:
        root = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(root, dict) or not isinstance(root.get(key), list):
            raise ValueError(f"key {key!r} is not there or not a list; COCO form has images, annotations, categories")
    place = "images"
    try:
        images = []
        for number, image in enumerate(root["images"]):
            place = f"images[{number}]"
            size = {"width": int(image["width"]), "height": int(image["height"])}
            images.append({"id": image["id"], "file_name": str(image["file_name"]), **size})
        listed = {image["id"] for image in images}
        place = "categories"
        labels = {category["id"]: clean_label(category["name"]) for category in root["categories"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{place}: {type(error).__name__}: {error}") from error
    form = _Coco(images=images, boxes={}, crowd=Counter(), malformed=Counter(), unlisted=Counter())
    for one in root["annotations"]:
        image_id = one.get("image_id") if isinstance(one, dict) else None
        box = _box(one, labels)
        if not isinstance(image_id, int | str) or image_id not in listed:
            form.unlisted[repr(image_id)] += 1
        elif one.get("iscrowd"):
            form.crowd[image_id] += 1
        elif box is None:
            form.malformed[image_id] += 1
        else:
            form.boxes.setdefault(image_id, []).append(box)
    return form


def _box(annotation: Any, labels: Mapping[Any, str]) -> list[Any] | None:
    """[label, x, y, w, h] of an annotation, or None where it has no such."""
    try:
        x, y, w, h = map(float, annotation["bbox"])
        label = labels[annotation["category_id"]]
    except (KeyError, TypeError, ValueError):
        return None
    return [label, x, y, w, h] if label and all(math.isfinite(side) for side in (x, y, w, h)) else None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from datagen.cli import job_parser  # noqa: PLC0415  # not for the children that import this module

    made = job_parser(
        "datagen.detection",
        "Turns boxes in COCO form into detection and REC conversations.",
        DetectionSource,
        examples="""
  python -m datagen.detection --coco instances.json --images images/ --out shards/det
  python -m datagen.detection --coco val.json --images val2017/ --out shards/coco max_boxes=20""",
    )
    made.add_argument("--coco", required=True, help="annotations in COCO form")
    made.add_argument("--images", required=True, help="folder of the images")
    made.add_argument("settings", nargs="*", help="key=value")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    from datagen.cli import run_source  # noqa: PLC0415  # not for the children that import this module

    arguments = parser().parse_intermixed_args()
    inputs = {"coco": arguments.coco, "images": arguments.images}
    return run_source(DetectionSource, inputs, arguments.settings, arguments)


if __name__ == "__main__":  # by its real name, so that what travels to workers is datagen.detection.DetectionSource
    from datagen.detection import main as _main

    _main()
