"""Rendered charts → Python dicts: `python -m datagen.chart --charts 250000 --out shards/chart`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from datagen.chart.data import Chart, as_literal
from datagen.chart.legibility import faults
from datagen.chart.style import TRIES, choose_look
from datagen.chart.topics import LANGUAGES, make_chart
from datagen.image_source import exchange
from datagen.source import Source, Unit
from varyforge.images import check_jpeg_quality, encode_jpeg
from varyforge.outcome import Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Image, make_key

if TYPE_CHECKING:
    from datagen.chart.draw import Drawing

RULES = "2"
"""Changes when the same settings give other charts."""

_BLOCK = 1000  # charts of an input: there are no files, an input is the range of their numbers
_FINEST_PX = 3.5  # the smallest difference that has to be read from an axis, where 1024 px are the long side


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSource(Source):
    """Charts that are drawn here: a chart is a function of seed and number, whatever the number of charts."""

    charts: int
    seed: int = 0
    languages: list[str] = field(default_factory=lambda: list(LANGUAGES))  # each chart is in one, by chance
    long_side_px: int = 1024  # at most; at least three quarters of it
    jpeg_quality: int = 90

    name = "chart"
    locations = ("charts",)  # more of them leave those there are as they are
    prompt_lists = ("chart",)

    def __post_init__(self) -> None:
        check_jpeg_quality(self.jpeg_quality)
        if self.charts < 1 or not 512 <= self.long_side_px <= 4096:
            raise ValueError("needs charts of 1 or more and long_side_px from 512 to 4096")
        if not self.languages or len(set(self.languages)) < len(self.languages) or set(self.languages) - set(LANGUAGES):
            raise ValueError(f"languages {self.languages}: expected one or more of {', '.join(LANGUAGES)}, each once")

    @property
    def versions(self) -> Mapping[str, str]:
        """See `Source`."""
        from datagen.chart.draw import FREETYPE_VERSION  # noqa: PLC0415  # half a second for matplotlib

        packages = {name: version(name) for name in ("matplotlib", "pymupdf")}  # the latter for its Chinese font
        return {"chart rules": RULES, "freetype": FREETYPE_VERSION, **packages}

    def inputs(self) -> Iterator[str]:
        """Ranges of numbers, "3000-3999"."""
        for first in range(0, self.charts, _BLOCK):
            yield f"{first}-{min(first + _BLOCK, self.charts) - 1}"

    def document(self, path: str) -> str:
        """See `Source`. The same for a range that is not full yet."""
        return f"charts-{int(path.partition('-')[0]) // _BLOCK:06d}"

    def units(self, path: str, file: str) -> Iterable[Unit]:
        """One unit per chart, each a document of its own."""
        first, last = map(int, path.split("-"))
        return [self._unit(number) for number in range(first, last + 1)]

    def _unit(self, number: int) -> Unit:
        name = f"chart-{self.seed}-{number:08d}"
        language = random.Random(name).choice(self.languages)
        payload = {"number": number, "language": language}
        return Unit(id=name, document=name, content=f"{name}#{language}#{self.long_side_px}", payload=payload)

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Draws the chart, again and tighter while text is cut off or overlaps."""
        chart, drawing, found, attempt = self._drawn(unit)
        language = unit.payload["language"]
        if found:
            detail = ", ".join(f"{fault} {count}" for fault, count in sorted(found.items()))
            return Rejected(gate="layout", value=found.total(), threshold=0, detail=detail, language=language)
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

    def picture(self, unit: Unit, files: Sequence[str]) -> Image | None:
        """See `Source`."""
        return encode_jpeg(self._drawn(unit)[1].picture, self.jpeg_quality)

    def _drawn(self, unit: Unit) -> tuple[Chart, Drawing, Counter[str], int]:
        """A unit's chart, its last drawing, what is wrong with that, and how many came before it."""
        from datagen.chart.draw import draw  # noqa: PLC0415  # not for `--help`

        language, rng = unit.payload["language"], random.Random(unit.content)
        chart = make_chart(rng, language)
        look = choose_look(rng, chart, self.long_side_px)
        for attempt in range(TRIES):
            drawing = draw(chart, look.tighter(attempt), language)
            found = faults(drawing.layout, _FINEST_PX * max(drawing.layout.size) / 1024)
            if not found:
                break
        return chart, drawing, found, attempt
