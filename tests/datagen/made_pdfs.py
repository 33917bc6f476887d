"""PDFs of one page for the audit, which `made_good` and `made_bad` draw."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pymupdf

from tests.datagen.made_texts import ENGLISH

A4 = (595, 842)
BODY = pymupdf.Rect(60, 60, 535, 780)


@dataclass(frozen=True)
class Made:
    """A way to draw a page, the gate that has to refuse it (none: it stays), and settings of the gates."""

    draw: Callable[[pymupdf.Document], object]
    gate: str = ""
    gates: Mapping[str, object] = field(default_factory=dict)


MADE: dict[str, Made] = {}


def good(**gates: object) -> Callable[[Callable[[pymupdf.Document], object]], Callable[[pymupdf.Document], object]]:
    """Registers a page that has to stay."""
    return bad("", **gates)


def bad(gate: str, **gates: object) -> Callable[..., Callable[[pymupdf.Document], object]]:
    """Registers a page that `gate` has to refuse."""

    def register(draw: Callable[[pymupdf.Document], object]) -> Callable[[pymupdf.Document], object]:
        MADE[draw.__name__] = Made(draw, gate, gates)
        return draw

    return register


def paragraphs(texts: tuple[str, ...], times: int = 1) -> str:
    return "".join(f"<p>{text}</p>" for text in texts * times)


def story(document: pymupdf.Document, html: str, css: str = "", **where: object) -> pymupdf.Page:
    """A page with HTML set in 11 point."""
    page = document[-1] if where.pop("same_page", False) else document.new_page(width=A4[0], height=A4[1])
    rect = where.pop("rect", BODY)
    page.insert_htmlbox(rect, html, css=f"* {{font-size: 11px; {css}}}", **where)
    return page


def lines(
    document: pymupdf.Document, texts: list[str], *, top: float = 80, step: float = 16, **how: object
) -> pymupdf.Page:
    """A page with plain lines."""
    page = document.new_page(width=A4[0], height=A4[1])
    for number, text in enumerate(texts):
        page.insert_text((60, top + step * number), text, **{"fontsize": 11, **how})
    return page


def short_lines(texts: tuple[str, ...] = ENGLISH, width: int = 80) -> list[str]:
    return re.findall(rf".{{1,{width}}}(?:\s|$)", " ".join(texts))


def picture_of(texts: tuple[str, ...] = ENGLISH, dpi: int = 150) -> pymupdf.Pixmap:
    """A scan: text as pixels."""
    with pymupdf.open() as other:
        return lines(other, short_lines(texts)).get_pixmap(dpi=dpi)


def photograph(width: int = 300, height: int = 200) -> pymupdf.Pixmap:
    """Soft noise in colour."""
    rng = random.Random(3)
    small = pymupdf.Pixmap(pymupdf.csRGB, 24, 16, bytes(rng.randrange(256) for _ in range(24 * 16 * 3)), False)
    return pymupdf.Pixmap(small, width, height, None)


def scan(document: pymupdf.Document, layer: list[str], **how: object) -> pymupdf.Page:
    """A scanned page of English under an OCR layer."""
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(page.rect, pixmap=picture_of())
    top, step = how.pop("top", 80), how.pop("step", 16)
    for number, text in enumerate(layer):
        page.insert_text((60, top + step * number), text, fontsize=11, render_mode=3, **how)
    return page


def respell(document: pymupdf.Document, change: Callable[[str], str]) -> None:
    """Changes what the fonts' glyphs claim to mean."""
    document.subset_fonts()
    for xref in range(1, document.xref_length()):
        kind, value = document.xref_get_key(xref, "ToUnicode")
        if kind != "xref":
            continue
        number = int(value.split()[0])
        cmap = document.xref_stream(number).decode("latin-1")
        found: dict[int, str] = {}
        for block in re.findall(r"beginbfchar(.*?)endbfchar", cmap, re.S):
            for glyph, text in re.findall(r"<(\w+)>\s*<(\w+)>", block):
                found[int(glyph, 16)] = bytes.fromhex(text).decode("utf-16-be")
        for block in re.findall(r"beginbfrange(.*?)endbfrange", cmap, re.S):
            for first, last, text in re.findall(r"<(\w+)>\s*<(\w+)>\s*<(\w+)>", block):
                for step in range(int(last, 16) - int(first, 16) + 1):
                    found[int(first, 16) + step] = chr(ord(bytes.fromhex(text).decode("utf-16-be")) + step)
        rows = "\n".join(f"<{g:04x}> <{change(t).encode('utf-16-be').hex()}>" for g, t in sorted(found.items()))
        head, tail = re.split(r"\d+ beginbf(?:char|range).*endbf(?:char|range)", cmap, maxsplit=1, flags=re.S)
        document.update_stream(number, f"{head}{len(found)} beginbfchar\n{rows}\nendbfchar{tail}".encode("latin-1"))
