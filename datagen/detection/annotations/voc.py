"""The reader of Pascal VOC: an XML file per image, in `Annotations` beside `JPEGImages` or in any other folder.

Format: the development kit of VOC2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/). A box holds its first and last
pixel, counted from 1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from typing_extensions import override

from datagen.detection.annotations.raw_boxes import (
    RawBox,
    Unread,
    is_marked,
    numbers_of,
    sort_annotations,
)
from datagen.detection.annotations.reader import AnnotatedImage, Reader, counterpart, open_binary
from datagen.inputs.listing import list_files, name_of, within
from varyforge.boxes import around_turned, numbers_around
from varyforge.errors import UserError, WrongFormat

_FLAGS = {flag: flag for flag in ("difficult", "truncated", "occluded")} | {"ignore": "crowd"}


class VocReader(Reader):
    """A reader for which the image is the file in `<filename>` or, without that, the XML file's name with .jpg."""

    format_convention = "xyxy_voc"

    @override
    def inputs(self) -> Iterator[str]:
        """Yield the XML files. With `image_set`, only those listed in ImageSets/Main/NAME.txt."""
        listed = self._image_set()
        for path in list_files([self.annotations], ".xml"):
            if listed is None or Path(path).stem in listed:
                yield path

    @override
    def records(self, path: str, file: str) -> Iterator[AnnotatedImage | None]:
        root = _parse(Path(file).read_bytes())
        if root.tag != "annotation":
            raise WrongFormat(f"expected <annotation>, found <{root.tag[:40]}>")
        drawn = sort_annotations(map(self._box, root.findall("object")))  # the parts of an object are below it
        size = numbers_of([_text(root, f"size/{side}") or "0" for side in ("width", "height")] + [0, 0])
        declared = (round(size[0]), round(size[1])) if size and size[0] >= 1 and size[1] >= 1 else None
        yield AnnotatedImage(
            name=self._image_of(path, _text(root, "filename")),
            size=declared,
            boxes=drawn.boxes,
            notes=drawn.notes,
            unread=drawn.unread,
        )

    def _box(self, drawn: Element) -> RawBox | Unread | str:
        """Return an object's box (of a polygon alone the box around it), or the reason why it has none."""
        for mark, note in self.dropping_marks(_FLAGS).items():
            if is_marked(_text(drawn, mark)):
                return note
        name, note = _text(drawn, "name"), ""
        numbers = numbers_of([_text(drawn, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")])
        if numbers is None and (points := _polygon(drawn)):
            numbers, note = numbers_around(points, self.convention), "boxes_around_polygons"
        degrees = numbers_of([_rotation(drawn), 0, 0, 0])
        if numbers is None or degrees is None or not name:
            return Unread("malformed_annotations", name)
        if degrees[0] % 360:
            numbers, note = around_turned(numbers, self.convention, degrees[0]), "turned_boxes"
        return RawBox(name, numbers, note)

    def _image_of(self, path: str, filename: str) -> str:
        """Return the image's path in the folder of the images (by default the folder of the annotations)."""
        name = filename or f"{Path(path).stem}.jpg"
        if not self.in_one_folder:
            return name
        folder = posixpath.dirname(counterpart(name_of(path, [self.annotations]), "Annotations", "JPEGImages"))
        return f"{folder}/{name}" if folder else name

    def _image_set(self) -> frozenset[str] | None:
        if not self.image_set:
            return None
        location = within(self.annotations, f"ImageSets/Main/{self.image_set}.txt")
        try:
            with open_binary(location) as file:
                lines = file.read().decode("utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"{location}: no such file (image_set={self.image_set})") from error
        return frozenset(line.split()[0] for line in lines if line.strip())


def _rotation(drawn: Element) -> str:
    """Return the degrees by which a box is turned, as CVAT writes them: an attribute called rotation."""
    values = [_text(one, "value") for one in drawn.iterfind("attributes/attribute") if _text(one, "name") == "rotation"]
    return (values or [_text(drawn, "rotation")])[0] or "0"


def _polygon(drawn: Element) -> list[tuple[float, float]]:
    """Return the points of an object's polygon: <pt><x/><y/></pt> as LabelMe has them, or <x1/><y1/><x2/> …."""
    values = [(leaf.tag, leaf.text) for leaf in drawn.iterfind("polygon//*") if not len(leaf)]
    xs, ys = ([numbers_of([text, 0, 0, 0]) for tag, text in values if tag[:1] == axis] for axis in "xy")
    points = [(x[0], y[0]) for x, y in zip(xs, ys, strict=False) if x and y]
    return points if len(xs) == len(ys) == len(points) >= 3 else []


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _parse(data: bytes) -> Element:
    """Parse XML without a document type, because a document type could declare endlessly growing entities.

    Raises:
        WrongFormat: the data are not XML, or declare a document type.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise WrongFormat("XML with a document type declaration, which annotations have no use for")

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError) as error:
        raise WrongFormat(f"not XML: {error}" if isinstance(error, expat.ExpatError) else str(error)) from error
    root: Element = builder.close()
    return root
