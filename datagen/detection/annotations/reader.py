"""What the readers of annotation forms have in common: what they are told, and the record that each gives per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

from datagen.detection.annotations.raw_boxes import RawBox
from varyforge.boxes import Convention
from varyforge.outcome import Failed
from varyforge.storage import folder_at, is_url

FLAGS = ("crowd", "group", "difficult", "depiction", "reflection", "occluded", "truncated", "inside")
"""What data sets say about single boxes.

crowd: one box around many objects (COCO, Objects365). group: one around more than five (OpenImages). difficult: hard to
tell without the scene (VOC). depiction: a drawing or figure of the object (OpenImages; isfake of Objects365).
reflection: in a mirror (Objects365). occluded, truncated: hidden in part, cut by the image's edge (VOC, OpenImages).
inside: the image was taken inside the object (OpenImages).
"""

SIGN_OF_LIFE = 50_000
"""So many annotations are read between two signs of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """What a data set says about one image."""

    name: str  # the image's file, relative to the folder of the images
    id: str | int = ""  # what the data set calls it besides
    size: tuple[int, int] | None = None  # width and height as declared, pixels
    boxes: Sequence[RawBox] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # boxes that are not among them, by the note's name
    licence: str = ""
    failed: Failed | None = None  # what is wrong with the record as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads one form of annotations. Settings are those of `DetectionSource` by the same names."""

    annotations: str
    images: str
    class_names: str = ""
    image_ids: str = ""
    image_set: str = ""
    leave_out: frozenset[str] = frozenset()

    convention: ClassVar[Convention]
    """What the numbers of this form's boxes mean."""

    @property
    def in_one_folder(self) -> bool:
        """Whether images and annotations were given as one folder: where an image is, the form then says."""
        return self.images.rstrip("/") == self.annotations.rstrip("/")

    def leaving_out(self, flags: Mapping[str, str]) -> dict[str, str]:
        """Of a form's own marks ("iscrowd"), given with our flags, those that leave a box out, each with its note."""
        return {mark: f"{flag}_boxes" for mark, flag in flags.items() if flag in self.leave_out}

    def inputs(self) -> Iterator[str]:
        """Paths or URLs of the annotation files, in a stable order.

        Raises:
            UserError: a path does not exist, or one that this form needs was not given.
        """
        raise NotImplementedError

    def companion_files(self, path: str) -> Sequence[str]:
        """Other files that reading `path` needs."""
        return ()

    def records(self, path: str, file: str) -> Iterator[Annotated | None]:
        """What an annotation file says, image by image. None is a sign of life.

        Args:
            path: the file, as `inputs` gave it.
            file: a local copy of it (the same, where `path` is local).

        Raises:
            WrongFormat: the file as a whole cannot be used; what came before counts for nothing.
        """
        raise NotImplementedError


def opened(path: str) -> BinaryIO:
    """A file beside the annotations, wherever it lies.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    folder, _, name = (path if is_url(path) else str(Path(path).absolute())).rpartition("/")
    return folder_at(folder or "/").open(name)


def counterpart(path: str, old: str, new: str) -> str:
    """A path with its last folder called `old` called `new`; the same path, where there is none."""
    folders = path.split("/")
    for place in range(len(folders) - 2, -1, -1):
        if folders[place] == old:
            return "/".join([*folders[:place], new, *folders[place + 1 :]])
    return path
