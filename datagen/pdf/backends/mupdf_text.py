"""The text layer and the shapes of a page, read with PyMuPDF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, islice, pairwise
from typing import Any

import pymupdf
from pymupdf import mupdf

from datagen.pdf.backends.covered import Cover, covers_of
from datagen.pdf.page import Line, Rect, Span
from datagen.pdf.text.bidi import Glyph, reordered
from datagen.pdf.text.glyphs import RTL

# Ligatures, spaces and hyphens stay as they are on the page; `TextPolicy` decides about them. A glyph without a
# Unicode value becomes U+FFFD, which the audit counts, and never its number in the font.
_TEXT_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_PRESERVE_LIGATURES | pymupdf.TEXT_MEDIABOX_CLIP
_SHAPE_FLAGS = pymupdf.TEXT_PRESERVE_IMAGES | pymupdf.TEXT_COLLECT_VECTORS | pymupdf.TEXT_MEDIABOX_CLIP
_MOST_SHAPES = 3000  # the first shapes of a map or plot with thousands of points are enough
_MOST_TRACED = 50_000  # characters; a page with more is refused, and its trace would take 10 MB
_LEVEL = 0.97  # cosine; text at a steeper angle is turned
_BOLD, _SUPERSCRIPT = int(pymupdf.TEXT_FONT_BOLD), int(pymupdf.TEXT_FONT_SUPERSCRIPT)
_PAINTED = 16 | 32  # `char_flags` of MuPDF's structured text: filled, stroked


def shapes_of(content: pymupdf.DisplayList, zoom: float) -> tuple[tuple[Rect, ...], tuple[Rect, ...]]:
    """Return the boxes of pictures and of drawings, in pixels.

    `extractBLOCKS` gives boxes only. `extractDICT` would decode every picture, which takes longer than the whole text.
    """
    rasters: list[Rect] = []
    drawings: list[Rect] = []
    boxes = {mupdf.FZ_STEXT_BLOCK_IMAGE: rasters, mupdf.FZ_STEXT_BLOCK_VECTOR: drawings}
    blocks = pymupdf.TextPage(content.get_textpage(_SHAPE_FLAGS)).extractBLOCKS()
    for x0, y0, x1, y1, _, _, kind in islice((block for block in blocks if block[-1] in boxes), _MOST_SHAPES):
        boxes[kind].append((x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom))
    return tuple(rasters), tuple(drawings)


def _covered(content: pymupdf.DisplayList) -> dict[Rect, list[Cover]]:
    """Return, in points, each text block's box under later opaque pictures, with those pictures."""
    page = pymupdf.TextPage(content.get_textpage(_TEXT_FLAGS | pymupdf.TEXT_PRESERVE_IMAGES))
    opaque = [image for image in page.extractIMGINFO() if image["colorspace"] and not image["has-mask"]]  # no stencils
    blocks = page.extractBLOCKS() if opaque else []
    if sum(len(block[4]) for block in blocks) > _MOST_TRACED:
        return {}
    later: dict[Rect, list[dict[str, Any]]] = {}
    for *box, _, number, kind in blocks:
        over = [image for image in opaque if image["number"] > number and _meet(box, image["bbox"])]
        if kind == 0 and over:
            later[_rounded(box)] = over
    covers = covers_of(_trace(content)) if later else []
    return {
        box: [cover for cover in covers if any(cover.is_of(image["transform"]) for image in over)]
        for box, over in later.items()
    }


def _meet(box: Sequence[float], other: Sequence[float]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _trace(content: pymupdf.DisplayList) -> str:
    """Return the page's drawing operations as MuPDF writes them, about 200 bytes a glyph."""
    buffer = mupdf.fz_new_buffer(1 << 16)
    output = mupdf.FzOutput(buffer)
    device = mupdf.fz_new_trace_device(output)
    whole = mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE)
    mupdf.fz_run_display_list(content.this, device, mupdf.FzMatrix(), whole, mupdf.FzCookie())
    mupdf.fz_close_device(device)
    output.fz_close_output()
    return str(mupdf.fz_buffer_extract(buffer).decode("utf-8", "replace"))


def _rounded(box: Sequence[float]) -> Rect:
    """Return a box as a key of a dictionary."""
    x0, y0, x1, y1 = (round(number, 1) for number in box)
    return (x0, y0, x1, y1)


def lines_of(content: pymupdf.DisplayList, zoom: float, *, pictures: bool) -> tuple[Line, ...]:
    """Return the lines of the text layer in the document's order. `pictures` says whether the page has any."""
    text = pymupdf.TextPage(content.get_textpage(_TEXT_FLAGS)).extractDICT()
    covered = _covered(content) if pictures else {}
    texts = [span["text"] for block in text["blocks"] for line in block.get("lines", ()) for span in line["spans"]]
    if RTL.search("".join(texts)):
        return _leftward_lines(content, zoom, covered)
    lines = []
    for block in text["blocks"]:
        over = covered.get(_rounded(block["bbox"]), []) if covered else []
        for line in block.get("lines", ()):
            spans = tuple([_span(span, zoom, over) for span in line["spans"]])
            lines.append(Line(spans, _scaled(line["bbox"], zoom), line["dir"]))
    return tuple(lines)


def _leftward_lines(content: pymupdf.DisplayList, zoom: float, covered: dict[Rect, list[Cover]]) -> tuple[Line, ...]:
    """Return the lines of a page with right-to-left letters, in the order of reading."""
    blocks = pymupdf.TextPage(content.get_textpage(_TEXT_FLAGS)).extractRAWDICT()["blocks"]
    glyphs: list[Glyph] = []
    sources: list[tuple[Span, tuple[float, float], Rect]] = []  # of each glyph: its span, direction and box
    lines = [(block, line) for block in blocks for line in block.get("lines", ())]
    for number, (block, line) in enumerate(lines):
        for span in line["spans"]:
            source = _span(span | {"text": ""}, zoom, covered.get(_rounded(block["bbox"]), []))
            for char in span["chars"]:
                x0, _, x1, _ = char["bbox"]
                glyphs.append(Glyph(char["c"], x0 * zoom, x1 * zoom, char["origin"][1] * zoom, source.size, number))
                sources.append((source, line["dir"], _scaled(char["bbox"], zoom)))
    reading = reordered(glyphs, [span.visible and direction[0] > _LEVEL for span, direction, _ in sources])
    if reading is None:
        return ()
    cuts = [place for place, number in enumerate(reading.order) if number in reading.starts]
    result = []
    for start, stop in pairwise([*cuts, len(reading.order)]):
        numbers = reading.order[start:stop]
        parts: list[Span] = []
        for _, run in groupby(numbers, lambda number: id(sources[number][0])):
            same = list(run)
            text = "".join(reading.texts.get(number, glyphs[number].text) for number in same)
            parts.append(sources[same[0]][0]._replace(text=text, box=_around(sources[number][2] for number in same)))
        result.append(Line(tuple(parts), _around(span.box for span in parts), sources[numbers[0]][1]))
    return tuple(result)


def _around(boxes: Iterable[Rect]) -> Rect:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _span(span: dict[str, Any], zoom: float, over: list[Cover]) -> Span:
    x0, y0, x1, y1 = span["bbox"]
    covered = any(cover.hides((x0 + x1) / 2, (y0 + y1) / 2) for cover in over)
    visible = bool(span["char_flags"] & _PAINTED) and span["alpha"] > 0 and not covered
    return Span(
        span["text"],
        _scaled(span["bbox"], zoom),
        span["size"] * zoom,
        span["font"],
        span["color"],
        visible,
        bool(span["flags"] & _BOLD),
        bool(span["flags"] & _SUPERSCRIPT),
    )


def _scaled(box: Rect, zoom: float) -> Rect:
    x0, y0, x1, y1 = box
    return (x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom)
