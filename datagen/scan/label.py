"""The label of a scanned page: what an engine reads, or the page's hidden text layer where the engine confirms it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import PIL.Image

from datagen.pdf.audit import gates as pdf
from datagen.pdf.page import Page
from datagen.pdf.text.reading_order import TextPolicy, read_text
from datagen.pdf.upright import upright
from datagen.scan.engine import Engine
from datagen.scan.gates import MEASURES, agreement, confidences
from datagen.scan.layout import TURNS, is_drawing, page_of, read_upright
from varyforge.language import read

_AUDIT_PX = 1024  # short side of the picture that is measured: a model sees 1024 x 1024
_MOST_ENLARGED = 2.0  # larger letters do not read better


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLabel:
    """The text of a page, and how sure it is."""

    text: str
    language: str
    measures: dict[str, float]  # by the names in `MEASURES`
    notes: Mapping[str, int]
    quarters: int = 0  # turns to the left after which the picture is upright


def layer_label(page: Page, policy: TextPolicy) -> PageLabel | None:
    """Return the text of a PDF's text layer, hidden or not; None where it does not pass the audit of PDF pages."""
    text = read_text(page, policy)
    reading = read(text.text)
    measures = pdf.measure(page, text.text, reading)
    if pdf.judge(measures, reading.language, pdf.PageGates()):
        return None
    return PageLabel(text=text.text, language=reading.language, measures=measures, notes=text.notes)


def shown(page: Page) -> Page:
    """Return a page with its hidden text made visible, and upright."""
    lines = (line._replace(spans=tuple(span._replace(visible=True) for span in line.spans)) for line in page.lines)
    return upright(replace(page, lines=tuple(lines)))


def ocr_label(engine: Engine, picture: PIL.Image.Image, read_px: int, policy: TextPolicy) -> PageLabel:
    """Return the text that the engine reads in a picture whose short side is made `read_px` long, where it can be.

    The long side gets four times as much at most, and small pictures are not enlarged much.

    Raises:
        OcrError: the engine failed.
    """
    large = _resized(picture, min(read_px / min(picture.size), 4 * read_px / max(picture.size), _MOST_ENLARGED))
    lines, quarters = read_upright(engine, large)
    turn = TURNS[quarters]
    small = _resized(picture if turn is None else picture.transpose(turn), min(_AUDIT_PX / min(picture.size), 1.0))
    text_lines = [line for line in lines if not is_drawing(line)]
    page = page_of(text_lines, small, small.width / (large.height if quarters % 2 else large.width))
    text = read_text(page, policy)
    reading = read(text.text)
    measures = dict.fromkeys(MEASURES, 0.0) | pdf.measure(page, text.text, reading) | confidences(text_lines)
    notes = {"drawings_read_as_text": len(lines) - len(text_lines)} if len(lines) > len(text_lines) else {}
    return PageLabel(
        text=text.text, language=reading.language, measures=measures, notes={**text.notes, **notes}, quarters=quarters
    )


def confirmed(label: PageLabel, page: Page, policy: TextPolicy, least: float) -> PageLabel:
    """Return the label, or that of the page's text layer if it passes the audit and shares `least` of the words."""
    layer = shown(page)
    if not layer.lines:
        return label
    share = agreement(read_text(layer, policy).text, label.text)
    own = label.measures | {"agreement": share}
    audited = layer_label(layer, policy) if share >= least else None
    if audited is None:
        return replace(label, measures=own)
    return replace(audited, measures=own | audited.measures | {"confirmed": 1.0}, quarters=label.quarters)


def _resized(picture: PIL.Image.Image, factor: float) -> PIL.Image.Image:
    if factor == 1:
        return picture
    size = (max(round(picture.width * factor), 1), max(round(picture.height * factor), 1))
    return picture.resize(size, PIL.Image.Resampling.LANCZOS)
