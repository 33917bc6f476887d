"""The base of all sources of external images: it locates, reads and checks an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from typing_extensions import override

from datagen.guard.guard import guard_version, guarded
from datagen.inputs.embedded import Located, locate, read_embedded
from datagen.inputs.image_ids import image_id_of
from datagen.inputs.listing import is_outside, within
from datagen.inputs.record import ImageRef, place
from datagen.source import SourceSettings, Unit, UnitView
from varyforge.errors import UserError, WrongFormat
from varyforge.escape import escape
from varyforge.images import ImageError, ImagePolicy, Picture, read_picture
from varyforge.outcome import Failed, Rejected
from varyforge.prompts import wordings
from varyforge.sample import IMAGE_MARKER, Image, Sample, Scalar, Task, Turn
from varyforge.storage import is_url, on_disk, read_piece


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource(SourceSettings):
    """A source of external images. Each image is decoded to its end and checked before it goes into a shard."""

    images: str = ""  # folder of the file names in annotations
    language: str = "en"  # of the prompts; class names and captions keep the data set's
    image: ImagePolicy = field(default_factory=ImagePolicy)
    guard: str = ""  # file of datagen.guard, by which images of benchmarks are refused

    def __post_init__(self) -> None:
        SourceSettings.__post_init__(self)
        wordings("caption", self.language)  # ValueError for an unknown language tag

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return guard_version(self.guard)

    @property
    def collection(self) -> str:
        """The `collection` of `datagen.inputs.image_ids.image_id_of`: the data set whose file names are ids."""
        return ""

    def check_folder(self) -> None:
        """Raise UserError where the folder of the images does not exist."""
        if not is_url(self.images) and not Path(on_disk(self.images)).is_dir():
            raise UserError(f"{self.images}: no such folder (--images)")

    def location_of(self, name: str) -> str:
        """Return the path or URL of an image from its file name in the annotations."""
        return within(self.images, name)

    def locate(self, path: str, images: Sequence[ImageRef]) -> Located:
        """Return the files of a record's images, which are files below `images` or inside the record of `path`.

        Raises:
            WrongFormat: an image is a file, and the folder of the images is not set.
        """
        files = [image for image in images if isinstance(image, str)]
        if files and not self.images:
            raise WrongFormat(f"the image is the file {files[0]!r:.80}; give its folder with --images")
        return locate(path, images, {name: self.location_of(name) for name in files})

    def read(self, unit: Unit, files: Sequence[str], number: int = 0) -> Picture | Rejected | Failed:
        """Return the image in `files[number]`, or why it cannot be used."""
        address = unit.payload.get("embedded", {number: None})[number]
        if address is None and self.images and is_outside(unit.files[number], self.images):
            return Failed(reason="outside", detail="the file name leads out of the folder of the images")
        where = f"{place(tuple(address['path']))}: " if address else ""
        try:
            data = read_embedded(address, files[number], files[-1]) if address else self.encoded(unit, files[number])
            picture = read_picture(data, self.image, whole=bool(self.guard))
        except (FileNotFoundError, NotADirectoryError):
            return Failed(reason="missing_image", detail="no such file")
        except ImageError as error:
            return Failed(reason=error.reason, detail=f"{where}{error}")
        except OSError as error:
            return Failed(reason="broken_image", detail=where + (error.strerror or str(error)))  # without the path
        except WrongFormat as error:
            return Failed(reason="wrong_form", detail=str(error))
        ids = [unit.document, "" if address else image_id_of(unit.files[number], self.collection) or ""]
        return (guarded(self.guard, ids, picture.pixels) if self.guard else None) or picture

    def encoded(self, unit: Unit, file: str) -> bytes:
        """Return the encoded image of a unit."""
        return read_piece(file)

    @override
    def view(self, unit: Unit, files: Sequence[str]) -> UnitView:
        picture = replace(self, guard="").read(unit, files)
        return UnitView(picture.image if isinstance(picture, Picture) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedImageSource(ImageSource):
    """A source of external images with boxes."""

    boxes_of: Literal["seen", "stored"] = "seen"  # the image that boxes refer to: turned by EXIF, or as stored

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        if self.boxes_of not in ("seen", "stored"):
            raise ValueError(f"boxes_of is {self.boxes_of!r}, expected one of 'seen', 'stored'")

    def drawn_on(self, picture: Picture, declared: Sequence[int] | None) -> tuple[tuple[int, int], int] | Failed:
        """Return the image size in pixels that boxes refer to, and the EXIF orientation to turn the boxes by.

        `declared` is width and height from the annotations, if they have any. A failure where the image has others.
        """
        stored = self.boxes_of == "stored"
        size = picture.stored if stored else picture.seen
        if declared is None or tuple(declared) == size:
            return size, picture.orientation if stored else 1
        detail = f"the image is {_by(size)} px, the annotations say {_by(declared)}"
        if tuple(declared) in (picture.stored, picture.seen):
            other = "seen" if stored else "stored"
            detail += f", which it is as {other}: boxes_of={other}"
        return Failed(reason="image_size", detail=detail)


def exchange(
    *,
    key: str,
    task: Task,
    question: str,
    answer: str,
    image: Image,
    source: str,
    origin: Mapping[str, Scalar],
) -> Sample:
    """Make a sample of an image, a question from `varyforge.prompts.choose`, and an answer, which is escaped here."""
    return Sample(
        key=key,
        task=task,
        turns=(Turn(role="user", text=IMAGE_MARKER + question), Turn(role="assistant", text=escape(answer))),
        images=(image,),
        source=source,
        origin=origin,
    )


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
