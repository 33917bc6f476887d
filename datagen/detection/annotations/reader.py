"""The interface of annotation readers, and the record that a reader yields per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from datagen.detection.annotations.raw_boxes import RawBox
from datagen.inputs.record import EmbeddedImage
from varyforge.boxes import Convention
from varyforge.outcome import Failed
from varyforge.storage import folder_at, is_url

# Properties of single boxes in data sets. docs/sources/detection.md names the data sets that have them.
FLAGS = ("crowd", "group", "difficult", "depiction", "reflection", "occluded", "truncated", "inside")
SIGN_OF_LIFE = 50_000  # annotations that are read between two signs of life


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedImage:
    """The annotations of one image."""

    name: str  # file of the image, relative to the folder of the images; else of the record
    image: EmbeddedImage | None = None  # the image itself, if it is in the record
    id: str | int = ""  # the data set's id of the image
    size: tuple[int, int] | None = None  # declared width and height, pixels
    boxes: Sequence[RawBox] = ()
    notes: Mapping[str, int] = field(default_factory=dict)  # number of dropped and changed boxes by reason
    unread: Sequence[str | None] = ()  # labels of objects without a usable box, see `Unread`
    licence: str = ""
    failed: Failed | None = None  # the record cannot be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader of one annotation format. Its settings are those of `DetectionSource` with the same names."""

    annotations: str
    images: str
    class_names: str = ""
    image_ids: str = ""
    image_set: str = ""
    splits: Sequence[str] = ("train",)
    leave_out: frozenset[str] = frozenset()
    stated: Literal[Convention, ""] = ""  # the setting `convention`

    format_convention: ClassVar[Convention]  # meaning of a box's four numbers in this format

    @property
    def convention(self) -> Convention:
        """The meaning of a box's four numbers."""
        return self.stated or self.format_convention

    @property
    def in_one_folder(self) -> bool:
        """Whether images and annotations share one folder. Then the format defines where an image lies."""
        return self.images.rstrip("/") == self.annotations.rstrip("/")

    def dropping_marks(self, flags: Mapping[str, str]) -> dict[str, str]:
        """Return the marks among `flags` (marks of a format, "iscrowd" → `FLAGS`) that drop a box, and their notes."""
        return {mark: f"{flag}_boxes" for mark, flag in flags.items() if flag in self.leave_out}

    def inputs(self) -> Iterator[str]:
        """Yield paths or URLs of the annotation files, in a stable order.

        Raises:
            UserError: a path does not exist, or a file that the format needs is not set.
        """
        raise NotImplementedError

    def known_classes(self) -> set[str]:
        """Return the names of all classes (`clean_label`); empty where they are not known before reading."""
        return set()

    def companion_files(self, path: str) -> Sequence[str]:
        """Return other files that reading `path` needs."""
        return ()

    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        """Yield the images of an annotation file (`path`, with the local copy `file`). None is a sign of life.

        Raises:
            WrongFormat: the file as a whole cannot be used. Records before the error are to be discarded.
        """
        raise NotImplementedError


def open_binary(path: str) -> BinaryIO:
    """Open a local file or URL.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    folder, _, name = (path if is_url(path) else str(Path(path).absolute())).rpartition("/")
    return folder_at(folder or "/").open(name)


def counterpart(path: str, old: str, new: str) -> str:
    """Return a path with its last folder named `old` renamed to `new`, if there is one."""
    before, folder, after = f"/{path}".rpartition(f"/{old}/")
    return f"{before}/{new}/{after}"[1:] if folder else path
