"""Pages from files of several kinds: PDFs, TIFF files of one or more pictures, other images."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import PIL.Image
from typing_extensions import override

from datagen.guard.guard import guarded
from datagen.image_source import ImageSource
from datagen.inputs.listing import name_of
from datagen.pdf.page import Page, PdfError
from datagen.pdf.source import PdfSource
from datagen.source import Unit
from varyforge.files import sha256_file
from varyforge.images import MAX_PIXELS, ImageError, Picture, encode_jpeg
from varyforge.outcome import Failed, Rejected

PDF = ".pdf"
ENDINGS = (PDF, ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""File name endings of the files that are read."""

_SEVERAL = (".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSource(ImageSource):
    """A source of pages from PDFs and image files, one unit per page."""

    paths: list[str]  # files, or folders or URLs searched for them
    backend: Literal["pymupdf", "pdfium"] = "pymupdf"
    short_side_px: int = 1024  # of pages of PDFs
    long_side_px: int = 4096

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        self.pdf  # checks its settings  # noqa: B018

    @property
    def pdf(self) -> PdfSource:
        """The source of PDF pages with these settings."""
        return PdfSource(
            paths=self.paths,
            backend=self.backend,
            short_side_px=self.short_side_px,
            long_side_px=self.long_side_px,
            jpeg_quality=self.image.jpeg_quality,
        )

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    def pages(self, path: str, file: str) -> Sequence[Unit] | Failed:
        """Return one unit per page of a file."""
        if is_pdf(path):
            units = self.pdf.units(path, file)
            return units if isinstance(units, Failed) else list(units)
        name, content = self.document(path), sha256_file(Path(file))
        try:
            count = _pictures_in(file) if path.lower().endswith(_SEVERAL) else 1
        except ImageError as error:
            return Failed(reason=error.reason, detail=str(error))
        return [
            Unit(
                id=f"{name}#{number:04d}" if count > 1 else name,
                document=name,
                content=f"{content}#{number}",
                files=(path,),
                payload={"page": number, "pages": count},
            )
            for number in range(count)
        ]

    def page(self, unit: Unit, files: Sequence[str]) -> tuple[Picture, Page | None] | Rejected | Failed:
        """Return the picture of a page and, of a PDF, the page with its text layer; or why it cannot be used."""
        if not is_pdf(unit.files[0]):
            picture = self.read(unit, files)
            return (picture, None) if isinstance(picture, Picture) else picture
        try:
            page = self.pdf.page(unit, files)
        except PdfError as error:
            return Failed(reason=error.reason, detail=str(error))
        return guarded(self.guard, (), page.picture) or (self._drawn(page.picture), page)

    @override
    def encoded(self, unit: Unit, file: str) -> bytes:
        data = ImageSource.encoded(self, unit, file)
        return data if unit.payload.get("pages", 1) == 1 else _picture_of(data, unit.payload["page"])

    def _drawn(self, pixels: PIL.Image.Image) -> Picture:
        image = encode_jpeg(pixels, self.image.jpeg_quality)
        size = pixels.size
        return Picture(image=image, seen=size, stored=size, orientation=1, changes=Counter(), whole=pixels)


def is_pdf(path: str) -> bool:
    """Whether a file is a PDF, by its name."""
    return path.lower().endswith(PDF)


def _pictures_in(file: str) -> int:
    """Return the number of pictures in a TIFF file."""
    try:
        with PIL.Image.open(file, formats=("TIFF",)) as picture:
            return int(getattr(picture, "n_frames", 1))
    except PIL.UnidentifiedImageError as error:
        raise ImageError("broken_image", "image cannot be decoded: no TIFF") from error


def _picture_of(data: bytes, number: int) -> bytes:
    """Return one picture of a TIFF file as a file of its own."""
    out = io.BytesIO()
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            picture.seek(number)
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError("large_image", f"image larger than {MAX_PIXELS} pixels")
            picture.convert(picture.mode).save(out, "PNG")
    except (OSError, EOFError, SyntaxError) as error:
        raise ImageError("broken_image", f"image cannot be decoded: {error}") from error
    return out.getvalue()
