"""Sample PDFs: nine layouts in English and Chinese, with real text in the fonts of the PDF library."""

from __future__ import annotations

import html
import io
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pymupdf

from datagen.examples.texts import LANGUAGES, page_css, text_bank
from varyforge.files import atomic_file

Rect = tuple[float, float, float, float]  # x1, y1, x2, y2 in points, origin top left

_RUN_ON_PT = 80  # a heading and three lines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """A document before typesetting: text that flows through frames, and pieces at fixed positions."""

    css: str
    size: tuple[float, float] = (420, 595)  # points; A5
    body: Sequence[str] = ()  # HTML of each section
    frames: Callable[[int], list[Rect]] = lambda number: []  # page number from 0 → frames that the body fills, in order
    pieces: Callable[[int], list[tuple[str, Rect]]] = lambda number: []  # page number → HTML and its frame
    picture: Callable[[pymupdf.Page], None] | None = None  # drawn on the first page
    least_room_pt: float = math.inf  # a section begins only with this much room, or where all of it fits
    most_pages: int = 4  # text beyond is cut off, as in an excerpt


@dataclass(frozen=True, slots=True)
class _Author:
    """A random choice of text in one language."""

    language: str
    rng: random.Random

    @property
    def texts(self) -> Mapping[str, Any]:
        """The language's part of the text bank."""
        return cast(Mapping[str, Any], text_bank()[self.language])

    def pick(self, name: str) -> Any:
        """Return a random entry of the list `name`."""
        return self.rng.choice(self.texts[name])

    def fill(self, name: str, **fields: object) -> str:
        """Return the pattern `name` with its fields filled in."""
        return str(self.texts[name]).format(**fields)

    def signature(self, *parts: str) -> str:
        """Join parts on one line."""
        return str(self.texts["comma"]).join(parts)

    def some(self, items: Sequence[str], count: int) -> list[str]:
        """Return `count` random items, in their order."""
        return [items[i] for i in sorted(self.rng.sample(range(len(items)), count))]

    def date(self) -> str:
        """Return a random date from 2012 to 2024."""
        rng = self.rng
        return self.fill("date", day=rng.randint(1, 28), month=self.pick("months"), year=rng.randint(2012, 2024))

    def topics(self, count: int) -> list[tuple[str, str]]:
        """Return title and paragraph of `count` different topics, or of all topics if there are fewer."""
        topics = self.texts["topics"]
        return [(t["title"], self._prose(t["sentences"])) for t in self.rng.sample(topics, min(count, len(topics)))]

    def _prose(self, sentences: Sequence[str]) -> str:
        first, *others = sentences  # the first introduces the topic
        chosen = [first, *self.some(others, self.rng.randint(2, len(others)))]
        return str(self.texts["prose_join"]).join(chosen)

    def css(self, size_pt: float) -> str:
        """Return a style sheet with random font and alignment, and paragraphs as the language prints them."""
        family, chinese = self.rng.choice(("serif", "sans-serif")), self.language == "zh"
        align = "left" if chinese else self.rng.choice(("left", "justify"))
        return (
            f"* {{font-family: {family};}} body {{font-size: {size_pt}px; line-height: {1.45 if chinese else 1.35};}}"
            f"p {{text-align: {align}; text-indent: {2 if chinese else 0}em;}}"
        ) + page_css()


def _tag(name: str, text: str, style: str = "") -> str:
    return f"<{name} class='{style}'>{html.escape(text, quote=False)}</{name}>"


def _margin(size: tuple[float, float], margin_pt: float) -> Callable[[int], list[Rect]]:
    """Return a function that gives each page one frame with equal margins."""
    return lambda number: [(margin_pt, margin_pt, size[0] - margin_pt, size[1] - margin_pt)]


def _section(title: str, prose: str) -> str:
    return _tag("h2", title) + _tag("p", prose)


def _sections(author: _Author, count: int) -> list[str]:
    """Return headings, numbered or not, each with a paragraph."""
    numbered = author.rng.random() < 0.5
    return [
        _section(author.fill("section", number=number, title=title) if numbered else title, prose)
        for number, (title, prose) in enumerate(author.topics(count), start=1)
    ]


def _article(author: _Author) -> _Design:
    byline = author.signature(author.pick("authors"), author.date())
    head = _tag("h1", author.pick("journals")) + _tag("p", byline, "small")
    return _Design(
        css=author.css(author.rng.choice((12, 13, 14))),
        body=[head, *_sections(author, author.rng.randint(2, 6))],
        frames=_margin((420, 595), 44),
    )


def _columns(author: _Author) -> _Design:
    width, height, edge, gap = 500, 640, 40, 22
    middle = (width - gap) / 2
    title = _tag("h1", author.pick("journals"), "centre") + _tag("p", author.pick("authors"), "centre")

    def frames(number: int) -> list[Rect]:
        top = edge + 84 if number == 0 else edge
        return [(edge, top, middle, height - edge), (middle + gap, top, width - edge, height - edge)]

    return _Design(
        css=author.css(12),
        size=(width, height),
        body=_sections(author, 9),
        frames=frames,
        pieces=lambda number: [(title, (edge, edge, width - edge, edge + 80))] if number == 0 else [],
        least_room_pt=_RUN_ON_PT,
        most_pages=author.rng.randint(1, 2),
    )


def _report(author: _Author) -> _Design:
    width, height = 420, 595
    cover = (
        _tag("h1", author.pick("journals"), "centre")
        + _tag("p", author.fill("by", author=author.pick("authors")), "centre")
        + _tag("p", author.signature(author.pick("places"), author.date()), "centre")
    )
    body = _margin((width, height), 46)
    return _Design(
        css=author.css(author.rng.choice((13, 14))),
        body=_sections(author, author.rng.randint(2, 5)),
        frames=lambda number: body(number) if number else [],
        pieces=lambda number: [] if number else [(cover, (50, 200, width - 50, height - 50))],
    )


def _table(author: _Author) -> _Design:
    about = author.pick("tables")
    names = author.rng.sample(about["rows"], author.rng.randint(4, len(about["rows"])))
    heads = "".join(_tag("th", text, "" if column else "name") for column, text in enumerate(about["head"]))
    rows = "".join(
        f"<tr>{_tag('td', name, 'name')}"
        + "".join(_tag("td", str(author.rng.randint(low, high))) for low, high in about["ranges"])
        + "</tr>"
        for name in names
    )
    grid = f"<table><tr>{heads}</tr>{rows}</table>"
    body = [_tag("h1", about["title"]) + _tag("p", about["lead"]), grid, _section(*author.topics(1)[0])]
    return _Design(css=author.css(13), body=body, frames=_margin((420, 595), 44))


def _bullets(author: _Author) -> _Design:
    about = author.pick("lists")
    kind = author.rng.choice(("ul", "ol"))
    items = author.some(about["items"], author.rng.randint(4, len(about["items"])))
    byline = author.signature(author.pick("authors"), author.pick("places"))
    body = [
        _tag("h1", about["title"]) + _tag("p", byline, "small") + _tag("p", about["lead"]),
        f"<{kind}>{''.join(_tag('li', item) for item in items)}</{kind}>",
        *_sections(author, author.rng.randint(0, 1)),
    ]
    return _Design(css=author.css(author.rng.choice((13, 15))), body=body, frames=_margin((420, 595), 48))


def _letter(author: _Author) -> _Design:
    words = {name: author.rng.choice(options) for name, options in author.texts["letter"].items()}
    sender, receiver = author.rng.sample(author.texts["authors"], 2)
    address = author.fill("address", number=author.rng.randint(1, 99), place=author.pick("places"))
    body = (
        _tag("p", sender, "plain")
        + _tag("p", address, "plain")
        + _tag("p", author.date(), "right")
        + _tag("p", words["greetings"].format(name=receiver, last=receiver.split()[-1]), "plain")
        + _tag("p", words["openings"])
        + "".join(_tag("p", prose) for _, prose in author.topics(author.rng.randint(1, 2)))
        + _tag("p", words["closings"])
        + _tag("p", words["farewells"], "plain")
        + _tag("p", sender, "plain")
    )
    return _Design(css=author.css(12), size=(460, 620), body=[body], frames=_margin((460, 620), 54))


def _slides(author: _Author) -> _Design:
    width, height = 640, 360
    lists = author.rng.sample(author.texts["lists"], author.rng.randint(1, 3))
    slides = [
        _tag("h1", about["title"]) + f"<ul>{''.join(_tag('li', item) for item in author.some(about['items'], 4))}</ul>"
        for about in lists
    ]
    speaker = author.pick("authors")

    def pieces(number: int) -> list[tuple[str, Rect]]:
        foot = f"{speaker} — {author.fill('page', number=number + 1)}"
        return [
            (slides[number], (48, 40, width - 48, height - 50)),
            (_tag("p", foot, "running plain"), (48, height - 48, width - 48, height - 6)),
        ]

    return _Design(css=author.css(20), size=(width, height), pieces=pieces, most_pages=len(slides))


def _book(author: _Author) -> _Design:
    width, height, edge = 400, 580, 46
    journal, writer = author.pick("journals"), author.pick("authors")
    first = author.rng.randint(3, 180)

    def pieces(number: int) -> list[tuple[str, Rect]]:
        running = writer if (first + number) % 2 == 0 else journal
        return [
            (_tag("p", running, "running plain") + "<hr/>", (edge, 24, width - edge, 62)),
            (
                _tag("p", author.fill("page", number=first + number), "running centre"),
                (edge, height - 44, width - edge, height),
            ),
        ]

    return _Design(
        css=author.css(author.rng.choice((12, 13))),
        size=(width, height),
        body=[_tag("p", prose) for _, prose in author.topics(10)],
        frames=lambda number: [(edge, 66, width - edge, height - 56)],
        pieces=pieces,
        least_room_pt=_RUN_ON_PT,
        most_pages=author.rng.randint(1, 3),
    )


def _figure(author: _Author) -> _Design:
    rng, numbers = author.rng, author.texts["numbers"]
    hills, trees, colour = rng.randint(2, 3), rng.randint(2, 6), rng.choice(text_bank()["colours"])
    caption = author.fill(
        "caption",
        number=rng.randint(1, 30),
        hills=numbers[hills - 1],
        trees=numbers[trees - 1].capitalize(),
        colour=colour[author.language],
    )
    credit = author.fill("credit", author=author.pick("authors"), place=author.pick("places"))
    text = _tag("p", caption, "centre") + _tag("p", credit, "running centre")
    return _Design(
        css=author.css(15),
        size=(420, 420),
        pieces=lambda number: [(text, (40, 312, 380, 412))],
        most_pages=1,
        picture=lambda page: _draw_landscape(page, hills, trees, colour["rgb"]),
    )


def _draw_landscape(page: pymupdf.Page, hills: int, trees: int, rgb: str) -> None:
    """Draw hills behind trees, on the upper part of the page."""
    colour = tuple(byte / 255 for byte in bytes.fromhex(rgb[1:]))
    page.wrap_contents()  # the text leaves the page's axes flipped
    page.draw_rect((40, 40, 380, 300), color=None, fill=(0.86, 0.93, 0.98))
    for hill in range(hills):
        left = 40 + hill * 340 / hills
        peak = (left + 170 / hills, 110 + 22 * (hill % 2))
        page.draw_polyline(
            [(left, 230), peak, (left + 340 / hills, 230)], color=None, fill=(0.62, 0.68, 0.74), closePath=True
        )
    page.draw_rect((40, 230, 380, 300), color=None, fill=(0.80, 0.86, 0.68))
    for tree in range(trees):
        x = 40 + (tree + 0.5) * 340 / trees
        page.draw_rect((x - 3, 262, x + 3, 282), color=None, fill=(0.35, 0.25, 0.18))
        page.draw_polyline([(x - 18, 264), (x, 200), (x + 18, 264)], color=None, fill=colour, closePath=True)


_LAYOUTS: Mapping[str, Callable[[_Author], _Design]] = {
    "article": _article,
    "columns": _columns,
    "report": _report,
    "table": _table,
    "bullets": _bullets,
    "letter": _letter,
    "slides": _slides,
    "book": _book,
    "figure": _figure,
}


def write_documents(folder: Path | str, *, documents: int = 40, seed: int = 0) -> list[Path]:
    """Write PDFs of 1 to 4 pages with real text, in nine layouts and two languages by turns.

    Ligatures are set as on any printed page: "fi" is one glyph. Returns the files, in order: `000-article-en.pdf`,
    `001-columns-zh.pdf` … Existing files of these names are replaced.
    """
    names = list(_LAYOUTS)
    paths = []
    for number in range(documents):
        layout, language = names[number % len(names)], LANGUAGES[number % len(LANGUAGES)]
        author = _Author(language, random.Random(f"document {seed} {number}"))
        path = Path(folder) / f"{number:03d}-{layout}-{language}.pdf"
        with atomic_file(path) as file:
            file.write(_typeset(_LAYOUTS[layout](author), title=path.stem))
        paths.append(path)
    return paths


class _Flow:
    """Sections that flow from frame to frame. No heading is left alone at the foot of a frame."""

    def __init__(self, design: _Design) -> None:
        self._stories = [pymupdf.Story(section, user_css=design.css) for section in design.body]
        self._least_room_pt = design.least_room_pt
        self._begun = False  # part of the first story is in an earlier frame

    def __bool__(self) -> bool:
        return bool(self._stories)

    def fill(self, frame: Rect, device: Any) -> None:
        """Draw as much text as fits into `frame`."""
        x1, top, x2, bottom = frame
        y = top
        while self._stories:
            story = self._stories[0]
            more, filled = story.place(pymupdf.Rect(x1, y, x2, bottom))
            if more and not self._begun and y > top and bottom - y < self._least_room_pt:
                story.reset()
                return
            story.draw(device)
            self._begun = bool(more)
            if more:
                return
            self._stories.pop(0)
            y = filled[3]


def _set_piece(text: str, rect: Rect, css: str, device: Any) -> None:
    story = pymupdf.Story(text, user_css=css)
    overflows, _ = story.place(pymupdf.Rect(rect))
    assert not overflows, f"{text!r} is too long for its frame"
    story.draw(device)


def _typeset(design: _Design, title: str) -> bytes:
    """Return the PDF's bytes, without dates, with fonts subset to the glyphs in use (all fonts: 3.6 MB)."""
    out = io.BytesIO()
    writer = pymupdf.DocumentWriter(out)
    body = _Flow(design)
    for number in range(design.most_pages):
        frames = design.frames(number)
        if number and frames and not body:
            break
        device = writer.begin_page(pymupdf.Rect(0, 0, *design.size))
        parts: list[tuple[str | None, Rect]] = [*design.pieces(number), *((None, frame) for frame in frames)]
        for text, rect in sorted(parts, key=lambda part: part[1][1]):  # the text layer runs from top to bottom
            if text is None:
                body.fill(rect, device)
            else:
                _set_piece(text, rect, design.css, device)
        writer.end_page()
    writer.close()
    with pymupdf.open("pdf", out.getvalue()) as document:
        if design.picture:
            design.picture(document[0])
        document.set_metadata({"title": title, "creationDate": "D:20240101000000Z", "modDate": "D:20240101000000Z"})
        document.subset_fonts()
        return bytes(document.tobytes(garbage=3, deflate=True, no_new_id=True))
