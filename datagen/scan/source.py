"""The source of scanned pages: each becomes an OCR sample whose label an engine read, or a reason why not."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import PIL.Image
from typing_extensions import override

from datagen.guard.guard import guard_version
from datagen.image_source import exchange
from datagen.inputs.listing import list_files
from datagen.pdf.page import Page
from datagen.pdf.text.reading_order import TextPolicy
from datagen.scan.engine import Engine, OcrError
from datagen.scan.gates import MEASURES, ScanGates, judge_scan
from datagen.scan.label import PageLabel, confirmed, layer_label, ocr_label
from datagen.scan.layout import TURNS
from datagen.scan.pages import ENDINGS, PageSource
from datagen.scan.rapid import RapidOcr
from datagen.scan.tesseract import Tesseract
from datagen.source import OCR_LABELS, Unit, UnitView
from varyforge.images import Picture, encode_jpeg
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Image, make_key

_RULES_VERSION = 1  # raised when the rules of this folder change a label


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSource(PageSource):
    """Scanned pages. An OCR engine on this machine reads the labels, and no person has checked them."""

    engine: Literal["tesseract", "rapidocr"] = "tesseract"
    languages: list[str] = field(default_factory=list)  # tesseract's language data; none: [eng]
    read_px: int = 2048  # short side of the picture that the engine reads
    confirmed: float = 0.95  # share of words in common by which OCR confirms a hidden layer, which then is the label
    text: TextPolicy = field(default_factory=TextPolicy)
    gates: ScanGates = field(default_factory=ScanGates)

    name = "scan"
    locations = ("paths", "images", "guard")
    prompt_lists = ("ocr",)
    measures = MEASURES

    def __post_init__(self) -> None:
        PageSource.__post_init__(self)
        if not 0 < self.confirmed <= 1:
            raise ValueError(f"confirmed is a share above 0, not {self.confirmed}")
        if self.engine not in ("tesseract", "rapidocr"):
            raise ValueError(f"engine is {self.engine!r}, expected one of 'tesseract', 'rapidocr'")
        if self.engine == "rapidocr" and self.languages:
            raise ValueError("languages are tesseract's; rapidocr reads all of its languages at once")
        if not 256 <= self.read_px <= 8192:
            raise ValueError(f"read_px is from 256 to 8192, not {self.read_px}")

    @property
    def reader(self) -> Engine:
        """The OCR engine."""
        if self.engine == "rapidocr":
            return RapidOcr(side_px=4 * self.read_px)
        return Tesseract(languages=tuple(self.languages or ["eng"]))

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        engine = self.reader
        rules = {OCR_LABELS: engine.name, "rules of scans": str(_RULES_VERSION)}
        return {**rules, **self.pdf.versions, **engine.versions, **guard_version(self.guard)}

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        return judge_scan(measures, language, self.gates)

    @override
    def inputs(self) -> Iterator[str]:
        return list_files(self.paths, *ENDINGS)

    @override
    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        return self.pages(path, file)

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Read one page, and write it if the engine is sure of it and the audit finds nothing wrong."""
        page = self.page(unit, files)
        if not isinstance(page, tuple):
            return page
        picture, layer = page
        passing = layer and layer_label(layer, self.text)
        if passing:
            measures = dict.fromkeys(MEASURES, 0.0) | {"layer": 1.0}
            refused = self.judge(measures, passing.language)
            if refused and refused.gate == "max_layer":
                return replace(refused, language=passing.language, measures=measures)
        try:
            label = self._label(unit, files, picture, layer)
        except OcrError as error:
            return Failed(reason="ocr", detail=str(error))
        measures = {**label.measures, "layer": float(passing is not None)}
        if refused := self.judge(measures, label.language):
            return replace(refused, language=label.language, measures=measures)
        key = make_key(self.name, unit.content)
        prompt = choose("ocr", label.language or self.language, key)
        sample = exchange(
            key=key,
            task="ocr",
            question=prompt.text,
            answer=label.text,
            image=self._image(picture, label),
            source=self.name,
            origin={
                "document": unit.document,
                "page": unit.payload["page"],
                "language": label.language,
                "prompt": prompt.name,
                "label": "confirmed text layer" if measures["confirmed"] else "ocr",
            },
        )
        notes = picture.changes + Counter(label.notes) + Counter(turned_pages=int(label.quarters > 0))
        return Written(samples=(sample,), notes=+notes, language=label.language, measures=measures)

    @override
    def view(self, unit: Unit, files: Sequence[str]) -> UnitView:
        page = replace(self, guard="").page(unit, files)
        if not isinstance(page, tuple):
            return UnitView()
        label = self._label(unit, files, *page)
        return UnitView(self._image(page[0], label), label.text)

    def _label(self, unit: Unit, files: Sequence[str], picture: Picture, layer: Page | None) -> PageLabel:
        if layer is None:
            return ocr_label(self.reader, picture.pixels, self.read_px, self.text)
        large = replace(self.pdf, short_side_px=self.read_px, long_side_px=4 * self.read_px).page(unit, files)
        label = ocr_label(self.reader, large.picture, self.read_px, self.text)
        return confirmed(label, layer, self.text, self.confirmed)

    def _image(self, picture: Picture, label: PageLabel) -> Image:
        """Return the picture for the shard, upright."""
        turn = TURNS[label.quarters]
        if turn is None:
            return picture.image
        pixels = PIL.Image.open(io.BytesIO(picture.image.data)).convert("RGB").transpose(turn)
        return encode_jpeg(pixels, self.image.jpeg_quality)
