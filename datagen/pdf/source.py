"""The source of PDF pages: each page becomes an OCR sample, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Literal

from typing_extensions import override

from datagen.inputs.listing import list_files, name_of
from datagen.pdf.audit.gates import MEASURES, PageGates, judge, measure
from datagen.pdf.page import Document, Page, PdfError
from datagen.pdf.text.reading_order import POLICY_VERSION, TextPolicy, read_text
from datagen.pdf.upright import upright, widened
from datagen.source import SourceSettings, Unit, UnitView
from varyforge.escape import escape
from varyforge.files import sha256_file
from varyforge.images import check_jpeg_quality, encode_jpeg
from varyforge.language import read
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import IMAGE_MARKER, Sample, Turn, make_key
from varyforge.storage import signature

PICTURE_VERSION = 2
"""Raised when a page's picture has other pixels. Since 2, a page without colours is drawn in grey."""

BACKENDS = {"pymupdf": ("mupdf", "pymupdf"), "pdfium": ("pdfium", "pypdfium2")}
"""Setting → module in `backends` with an `open_document`, and its package. docs/sources/pdf.md compares the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfSource(SourceSettings):
    """A source of PDF pages: the picture and, as the answer, the text layer (Vary-toy, arXiv 2401.12503, 3.2)."""

    paths: list[str]  # PDF files, or folders or URLs searched for *.pdf at any depth
    backend: Literal["pymupdf", "pdfium"] = "pymupdf"
    short_side_px: int = 1024  # the model sees 1024 x 1024
    long_side_px: int = 4096  # thin pages are drawn smaller, and widened with paper to `short_side_px`
    upright: bool = True  # turn pages whose text stands sideways
    jpeg_quality: int = 90
    text: TextPolicy = field(default_factory=TextPolicy)
    gates: PageGates = field(default_factory=PageGates)
    guard: str = ""  # file of datagen.guard: pages of benchmarks are rejected

    name = "pdf"
    locations = ("paths", "guard")
    prompt_lists = ("ocr",)
    measures = MEASURES

    def __post_init__(self) -> None:
        SourceSettings.__post_init__(self)
        check_jpeg_quality(self.jpeg_quality)
        if not 1 <= self.short_side_px <= self.long_side_px:
            raise ValueError("needs 1 <= short_side_px <= long_side_px")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is {self.backend!r}, expected one of {', '.join(BACKENDS)}")

    @property
    @override
    def versions(self) -> dict[str, str]:
        from importlib.metadata import version  # noqa: PLC0415  # children import this module and need no versions

        from datagen.guard.guard import guard_version  # noqa: PLC0415  # as in `_guarded`

        _, package = BACKENDS[self.backend]
        policies = {"text policy": str(POLICY_VERSION), "pictures": str(PICTURE_VERSION)}
        return {**policies, package: version(package), **guard_version(self.guard)}

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        return judge(measures, language, self.gates)

    @override
    def inputs(self) -> Iterator[str]:
        return list_files(self.paths, ".pdf")

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    @override
    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        """Return one unit per page."""
        try:
            with _open(self.backend, file) as opened:
                pages = len(opened)
        except PdfError as error:
            return Failed(reason=error.reason, detail=str(error))
        document, content = self.document(path), sha256_file(Path(file))
        return (
            Unit(
                id=f"{document}#{number:04d}",
                document=document,
                content=f"{content}#{number}",
                files=(path,),
                payload={"page": number},
            )
            for number in range(pages)
        )

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Render one page, read its text, and write both if the audit finds that they agree."""
        try:
            page = self.page(unit, files)
        except PdfError as error:
            return Failed(reason=error.reason, detail=str(error))
        label = read_text(page, self.text)
        reading = read(label.text)
        language, measures = reading.language, measure(page, label.text, reading)
        rejected = self.judge(measures, language)
        if rejected:
            return replace(rejected, language=language, measures=measures)
        benchmark = self._guarded(page)
        if benchmark:
            return replace(benchmark, language=language, measures=measures)
        key = make_key(self.name, unit.content)
        prompt = choose("ocr", language, key)
        origin = {"document": unit.document, "page": unit.payload["page"], "language": language, "prompt": prompt.name}
        sample = Sample(
            key=key,
            task="ocr",
            turns=(Turn(role="user", text=IMAGE_MARKER + prompt.text), Turn(role="assistant", text=escape(label.text))),
            images=(encode_jpeg(page.picture, self.jpeg_quality),),
            source=self.name,
            origin=origin,
        )
        return Written(samples=(sample,), notes=label.notes, language=language, measures=measures)

    @override
    def view(self, unit: Unit, files: Sequence[str]) -> UnitView:
        page = self.page(unit, files)
        return UnitView(encode_jpeg(page.picture, self.jpeg_quality), read_text(page, self.text).text)

    def _guarded(self, page: Page) -> Rejected | None:
        if not self.guard:
            return None
        from datagen.guard.guard import guarded  # noqa: PLC0415  # pyarrow with it takes a third of a child's start

        return guarded(self.guard, (), page.picture)

    def page(self, unit: Unit, files: Sequence[str]) -> Page:
        """Return a rendered page with its text layer, upright and as wide as the settings ask for.

        Raises:
            PdfError: it cannot be read or rendered.
        """
        document = _open_once(self.backend, files[0], signature(files[0]))
        page = document.page(unit.payload["page"], short_side_px=self.short_side_px, long_side_px=self.long_side_px)
        return widened(upright(page) if self.upright else page, self.short_side_px)


def _open(backend: str, path: str) -> Document:
    module, _ = BACKENDS[backend]
    opened: Document = import_module(f"datagen.pdf.backends.{module}").open_document(path)
    return opened


@lru_cache(maxsize=1)  # a document's pages come one after the other; opening takes as long as reading one page
def _open_once(backend: str, path: str, _state: str) -> Document:
    return _open(backend, path)
