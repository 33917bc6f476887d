"""OpenImages V4 to V7: a CSV of boxes, one of class names, and optionally the one of image ids for the licences.

Format: https://storage.googleapis.com/openimages/web/download_v7.html (Bounding boxes, class names, image ids).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from datagen.annotations.buckets import Buckets
from datagen.annotations.conventions import RawBox, numbers_of
from datagen.annotations.reader import SIGN_OF_LIFE, Annotated, Reader, WrongForm, opened
from datagen.errors import UserError
from datagen.listing import list_files
from datagen.unit import Failed

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

    convention: ClassVar[str] = "xyxy"

    def inputs(self) -> Iterator[str]:
        """See `Reader`."""
        if not self.class_names:
            raise UserError("OpenImages needs --classes class-descriptions-boxable.csv for the names of its classes")
        return list_files([self.annotations], ".csv")

    def beside(self, path: str) -> Sequence[str]:
        """See `Reader`."""
        return [place for place in (self.class_names, self.image_ids) if place]

    def records(self, path: str, file: str) -> Iterator[Annotated | None]:
        """See `Reader`."""
        with Buckets[tuple[RawBox | None, str]]() as boxes, Buckets[str]() as licences:
            try:
                yield from self._spool(Path(file), boxes, licences)
            except (ValueError, csv.Error) as error:
                raise WrongForm(str(error)) from error
            parts = {
                number: part for number in "0123456789abcdef" if Path(self.images, part := f"train_{number}").is_dir()
            }
            for drawn, licence_of in zip(boxes, licences, strict=True):
                for image, rows in drawn.items():
                    yield _record(str(image), rows, licence_of.get(image, [""])[0], parts)

    def _spool(self, file: Path, boxes: Buckets[tuple[RawBox | None, str]], licences: Buckets[str]) -> Iterator[None]:
        """Fills the buckets: a row's box, or None and the note of what leaves it out; licences."""
        names = _class_names(self.class_names)
        notes = self.leaving_out(_FLAGS)
        with file.open("rb") as binary:
            for number, row in enumerate(_rows(binary, ("ImageID", "LabelName", *_CORNERS), file.name)):
                if number % SIGN_OF_LIFE == 0:
                    yield None
                numbers, name = numbers_of([row[corner] for corner in _CORNERS]), names.get(row["LabelName"], "")
                note = next((note for column, note in notes.items() if row.get(column) == "1"), "")
                if note or numbers is None:
                    boxes.add(row["ImageID"], (None, note or "malformed_annotations"))
                elif not name:
                    boxes.add(row["ImageID"], (None, "boxes_of_unknown_classes"))
                else:
                    boxes.add(row["ImageID"], (RawBox(name, numbers), ""))
        if self.image_ids:
            with opened(self.image_ids) as binary:
                for number, row in enumerate(_rows(binary, ("ImageID", "License"), self.image_ids)):
                    if number % SIGN_OF_LIFE == 0:
                        yield None
                    licences.add(row["ImageID"], row["License"])


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


def _rows(binary: BinaryIO, needed: Sequence[str], name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column; a cell that a row lacks is "".

    Raises:
        ValueError: a column that is needed is not there.
    """
    reader = csv.reader(_lines(binary))
    header = next(reader, [])
    if absent := [column for column in needed if column not in header]:
        raise ValueError(f"{Path(name).name}: no column {absent[0]!r}; found {','.join(header)[:100]!r}")
    for cells in reader:
        if cells:
            yield dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))


def _class_names(place: str) -> dict[str, str]:
    """Class names by the ids that stand in the boxes. Files before V7 have no header."""
    with opened(place) as binary:
        return {cells[0]: cells[1] for cells in csv.reader(_lines(binary)) if len(cells) >= 2}


def _lines(binary: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(binary):
        text = line.decode("utf-8", errors="replace")
        yield text.removeprefix("\ufeff") if number == 0 else text
