"""The reader of OpenImages V4 to V7: CSV files of boxes, of class names and, for the licences, of image ids.

Format: https://storage.googleapis.com/openimages/web/download_v7.html (Bounding boxes, class names, image ids).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from typing_extensions import override

from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, Unread, numbers_of, sort_annotations
from datagen.detection.annotations.reader import SIGN_OF_LIFE, AnnotatedImage, Reader, open_binary
from datagen.inputs.listing import list_files
from varyforge.boxes import clean_label
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed

_CORNERS = ("XMin", "YMin", "XMax", "YMax")  # in the file they have another order
_FLAGS = {
    "IsGroupOf": "group",
    "IsDepiction": "depiction",
    "IsOccluded": "occluded",
    "IsTruncated": "truncated",
    "IsInside": "inside",
}


class OpenImagesReader(Reader):
    """A reader for which an image is ID.jpg, or train_I/ID.jpg as the published tars unpack."""

    format_convention = "xyxy"

    @override
    def inputs(self) -> Iterator[str]:
        if not self.class_names:
            raise UserError("OpenImages needs the names of its classes; give --classes class-descriptions-boxable.csv")
        return list_files([self.annotations], ".csv")

    @override
    def known_classes(self) -> set[str]:
        return set(map(clean_label, _class_names(self.class_names).values())) if self.class_names else set()

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        return [file for file in (self.class_names, self.image_ids) if file]

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        with Buckets[RawBox | Unread | str]() as boxes, Buckets[str]() as licences:
            try:
                yield from self._spool(Path(file), boxes, licences)
            except (ValueError, csv.Error) as error:
                raise WrongFormat(str(error)) from error
            parts = {
                number: part for number in "0123456789abcdef" if Path(self.images, part := f"train_{number}").is_dir()
            }
            for drawn, licence_of in zip(boxes, licences, strict=True):
                for image, rows in drawn.items():
                    yield _record(str(image), rows, licence_of.get(image, [""])[0], parts)

    def _spool(self, file: Path, boxes: Buckets[RawBox | Unread | str], licences: Buckets[str]) -> Iterator[None]:
        """Fill the buckets with each image's licence and boxes (a note for a dropped box)."""
        names, marks = _class_names(self.class_names), self.dropping_marks(_FLAGS)
        notes = list(marks.values())
        with file.open("rb") as binary:
            columns = _columns(binary, file.name, ("ImageID", "LabelName", *_CORNERS), list(marks))
            for number, (image, label, x1, y1, x2, y2, *marked) in enumerate(columns):
                if number % SIGN_OF_LIFE == 0:
                    yield None
                numbers, name = numbers_of((x1, y1, x2, y2)), names.get(label)
                if "1" in marked:
                    boxes.add(image, notes[marked.index("1")])
                elif numbers is None:
                    boxes.add(image, Unread("malformed_annotations", name or ""))
                else:
                    boxes.add(image, RawBox(name, numbers) if name else Unread("boxes_of_unknown_classes", None))
        if self.image_ids:
            with open_binary(self.image_ids) as binary:
                for number, (image, licence) in enumerate(_columns(binary, self.image_ids, ("ImageID", "License"))):
                    if number % SIGN_OF_LIFE == 0:
                        yield None
                    licences.add(image, licence)


def _record(
    image: str, rows: Sequence[RawBox | Unread | str], licence: str, parts: Mapping[str, str]
) -> AnnotatedImage:
    if not image:
        failed = Failed(reason="wrong_form", detail=f"{len(rows)} rows without an ImageID")
        return AnnotatedImage(name="rows without an ImageID", failed=failed)
    name = f"{parts[image[0]]}/{image}.jpg" if image[0] in parts else f"{image}.jpg"
    drawn = sort_annotations(rows)
    return AnnotatedImage(name=name, boxes=drawn.boxes, notes=drawn.notes, unread=drawn.unread, licence=licence)


def _columns(binary: BinaryIO, name: str, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[list[str]]:
    """Yield the cells of a CSV file's rows in the columns `needed` and `optional`. A missing cell is "".

    Raises:
        ValueError: a needed column is missing.
    """
    reader = _rows(binary)
    header = next(reader, [])
    if absent := [column for column in needed if column not in header]:
        raise ValueError(f"{Path(name).name}: no column {absent[0]!r}; found {','.join(header)[:100]!r}")
    positions = [header.index(column) if column in header else len(header) for column in (*needed, *optional)]
    for cells in reader:
        if cells:
            row = cells + [""] * (len(header) + 1 - len(cells))
            yield [row[position] for position in positions]


def _class_names(location: str) -> dict[str, str]:
    """Return class names by label id. Files before V7 have no header."""
    with open_binary(location) as binary:
        return {cells[0]: cells[1] for cells in _rows(binary) if len(cells) >= 2}


def _rows(binary: BinaryIO) -> Iterator[list[str]]:
    return csv.reader(io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="\n"))
