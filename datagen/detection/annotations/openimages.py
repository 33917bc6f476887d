"""OpenImages V4 to V7: a CSV of boxes, one of class names, and optionally the one of image ids for the licences.

Format: https://storage.googleapis.com/openimages/web/download_v7.html (Bounding boxes, class names, image ids).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from datagen.detection.annotations.buckets import Buckets
from datagen.detection.annotations.raw_boxes import RawBox, numbers_of
from datagen.detection.annotations.reader import SIGN_OF_LIFE, Annotated, Reader, opened
from datagen.inputs.listing import list_files
from varyforge.boxes import Convention
from varyforge.errors import UserError, WrongFormat
from varyforge.outcome import Failed

_CORNERS = ("XMin", "YMin", "XMax", "YMax")  # the file has them in another order
_FLAGS = {
    "IsGroupOf": "group",
    "IsDepiction": "depiction",
    "IsOccluded": "occluded",
    "IsTruncated": "truncated",
    "IsInside": "inside",
}


class OpenImagesReader(Reader):
    """Images are those that the boxes name, and lie in ID.jpg, or train_I/ID.jpg as the tars unpack."""

    convention: ClassVar[Convention] = "xyxy"

    def inputs(self) -> Iterator[str]:
        """See `Reader`."""
        if not self.class_names:
            raise UserError("OpenImages needs --classes class-descriptions-boxable.csv for the names of its classes")
        return list_files([self.annotations], ".csv")

    def companion_files(self, path: str) -> Sequence[str]:
        """See `Reader`."""
        return [place for place in (self.class_names, self.image_ids) if place]

    def records(self, path: str, file: str) -> Iterator[Annotated | None]:
        """See `Reader`."""
        with Buckets[tuple[RawBox | None, str]]() as boxes, Buckets[str]() as licences:
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

    def _spool(self, file: Path, boxes: Buckets[tuple[RawBox | None, str]], licences: Buckets[str]) -> Iterator[None]:
        """Fills the buckets: a row's box, or None and the note of what leaves it out; licences."""
        names, marks = _class_names(self.class_names), self.leaving_out(_FLAGS)
        notes = list(marks.values())
        with file.open("rb") as binary:
            columns = _columns(binary, file.name, ("ImageID", "LabelName", *_CORNERS), list(marks))
            for number, (image, label, x1, y1, x2, y2, *marked) in enumerate(columns):
                if number % SIGN_OF_LIFE == 0:
                    yield None
                numbers, name = numbers_of((x1, y1, x2, y2)), names.get(label)
                if "1" in marked:
                    boxes.add(image, (None, notes[marked.index("1")]))
                elif numbers is None or not name:
                    boxes.add(image, (None, "boxes_of_unknown_classes" if numbers else "malformed_annotations"))
                else:
                    boxes.add(image, (RawBox(name, numbers), ""))
        if self.image_ids:
            with opened(self.image_ids) as binary:
                for number, (image, licence) in enumerate(_columns(binary, self.image_ids, ("ImageID", "License"))):
                    if number % SIGN_OF_LIFE == 0:
                        yield None
                    licences.add(image, licence)


def _record(image: str, rows: Sequence[tuple[RawBox | None, str]], licence: str, parts: Mapping[str, str]) -> Annotated:
    if not image:
        failed = Failed(reason="wrong_form", detail=f"{len(rows)} rows without an ImageID")
        return Annotated(name="rows without an ImageID", failed=failed)
    part = parts.get(image[0])
    return Annotated(
        name=f"{part}/{image}.jpg" if part else f"{image}.jpg",
        boxes=[box for box, _ in rows if box is not None],
        left_out=Counter(note for _, note in rows if note),
        licence=licence,
    )


def _columns(binary: BinaryIO, name: str, needed: Sequence[str], wanted: Sequence[str] = ()) -> Iterator[list[str]]:
    """The cells of a CSV file's rows in the columns `needed` and `wanted`; "" where there is no such cell.

    Raises:
        ValueError: a column that is needed is not there.
    """
    reader = csv.reader(_lines(binary))
    header = next(reader, [])
    if absent := [column for column in needed if column not in header]:
        raise ValueError(f"{Path(name).name}: no column {absent[0]!r}; found {','.join(header)[:100]!r}")
    places = [header.index(column) if column in header else len(header) for column in (*needed, *wanted)]
    for cells in reader:
        if cells:
            row = cells + [""] * (len(header) + 1 - len(cells))
            yield [row[place] for place in places]


def _class_names(place: str) -> dict[str, str]:
    """Class names by the ids that stand in the boxes. Files before V7 have no header."""
    with opened(place) as binary:
        return {cells[0]: cells[1] for cells in csv.reader(_lines(binary)) if len(cells) >= 2}


def _lines(binary: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(binary):
        text = line.decode("utf-8", errors="replace")
        yield text.removeprefix("\ufeff") if number == 0 else text
