"""The source of drawn charts, each with its data as a Python dict."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from typing_extensions import override

from datagen.chart.data import Chart, as_literal
from datagen.chart.legibility import layout_faults
from datagen.chart.style import TRIES, choose_style
from datagen.chart.topics import LANGUAGES, make_chart
from datagen.image_source import exchange
from datagen.source import Source, Unit, UnitView
from varyforge.images import check_jpeg_quality, encode_jpeg
from varyforge.outcome import Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import make_key

if TYPE_CHECKING:
    from datagen.chart.draw import ChartDrawing

RULES = "2"  # version of the rules, raised when the same settings give other charts
_BLOCK = 1000  # charts per input; an input is a range of chart numbers instead of a file
_FINEST_PX = 3.5  # least length on an axis of the smallest value difference, for a picture 1024 px long


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSource(Source):
    """Charts that the project draws. A chart depends on seed and number alone, not on how many charts there are."""

    charts: int
    seed: int = 0
    languages: list[str] = field(default_factory=lambda: list(LANGUAGES))  # drawn at random per chart
    long_side_px: int = 1024  # longest side of a picture; at least three quarters of this
    jpeg_quality: int = 90

    name = "chart"
    locations = ("charts",)  # a larger number leaves existing charts unchanged
    prompt_lists = ("chart",)

    def __post_init__(self) -> None:
        check_jpeg_quality(self.jpeg_quality)
        if self.charts < 1 or not 512 <= self.long_side_px <= 4096:
            raise ValueError("needs charts of 1 or more and long_side_px from 512 to 4096")
        if not self.languages or len(set(self.languages)) < len(self.languages) or set(self.languages) - set(LANGUAGES):
            raise ValueError(f"languages {self.languages}: expected one or more of {', '.join(LANGUAGES)}, each once")

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        from datagen.chart.draw import FREETYPE_VERSION  # noqa: PLC0415  # matplotlib takes half a second

        packages = {name: version(name) for name in ("matplotlib", "pymupdf")}  # PyMuPDF has the Chinese font
        return {"chart rules": RULES, "freetype": FREETYPE_VERSION, **packages}

    @override
    def inputs(self) -> Iterator[str]:
        """Yield ranges of chart numbers, such as "3000-3999"."""
        for first in range(0, self.charts, _BLOCK):
            yield f"{first}-{min(first + _BLOCK, self.charts) - 1}"

    @override
    def document(self, path: str) -> str:
        """Name a range of chart numbers. An incomplete range has the name of the complete one."""
        return f"charts-{int(path.partition('-')[0]) // _BLOCK:06d}"

    @override
    def units(self, path: str, file: str) -> Iterator[Unit]:
        """Yield one unit per chart. Each chart is a document of its own."""
        first, last = map(int, path.split("-"))
        for number in range(first, last + 1):
            name = f"chart-{self.seed}-{number:08d}"
            language = random.Random(name).choice(self.languages)
            payload = {"number": number, "language": language}
            yield Unit(id=name, document=name, content=f"{name}#{language}#{self.long_side_px}", payload=payload)

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Draw the chart, with a tighter style each time while text is clipped or overlaps."""
        chart, drawing, faults, attempt = self._draw(unit)
        language = unit.payload["language"]
        if faults:
            detail = ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items()))
            return Rejected(gate="layout", value=faults.total(), threshold=0, detail=detail, language=language)
        key = make_key(self.name, unit.content)
        prompt = choose("chart", language, key)
        sample = exchange(
            key=key,
            task="chart",
            question=prompt.text,
            answer=as_literal(chart.truth()),
            image=encode_jpeg(drawing.picture, self.jpeg_quality),
            source=self.name,
            origin={
                "document": unit.document,
                "number": unit.payload["number"],
                "seed": self.seed,
                "language": language,
                "prompt": prompt.name,
                "chart": chart.kind,
            },
        )
        return Written(samples=(sample,), language=language, notes={"drawn_again": attempt} if attempt else {})

    @override
    def view(self, unit: Unit, files: Sequence[str]) -> UnitView:
        return UnitView(encode_jpeg(self._draw(unit)[1].picture, self.jpeg_quality))

    def _draw(self, unit: Unit) -> tuple[Chart, ChartDrawing, Counter[str], int]:
        """Return a unit's chart, the last drawing of it, that drawing's faults, and the number of earlier drawings."""
        from datagen.chart.draw import draw  # noqa: PLC0415  # `--help` needs no matplotlib

        language, rng = unit.payload["language"], random.Random(unit.content)
        chart = make_chart(rng, language)
        style = choose_style(rng, chart, self.long_side_px)
        for attempt in range(TRIES):
            drawing = draw(chart, style.tighter(attempt), language)
            faults = layout_faults(drawing.layout, _FINEST_PX * max(drawing.layout.size) / 1024)
            if not faults:
                break
        return chart, drawing, faults, attempt
