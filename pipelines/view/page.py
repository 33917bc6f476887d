"""The viewer's page: a card per row, the form with the filters, and the links from page to page."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup, escape

from datagen.card.html import render_page
from datagen.card.pictures import AnswerDrawing, data_url, draw_answer, shrunk
from datagen.job.ledger import LedgerRow
from datagen.source import UnitView
from pipelines.view.data import NUMBERS, Item, Library, RowId
from pipelines.view.filters import OUTCOMES, UNKNOWN, Filters, number_in
from pipelines.view.search import Matches, find
from varyforge.errors import UserError
from varyforge.sample import TASKS
from varyforge.shards import SPLITS, IndexRow

Preview = Callable[[str, str], UnitView | str]
"""(shard set, unit id) → the unit's picture and text, or one line with the reason why there is no picture."""

_LAYOUTS = {"cards": 24, "beside": 6}  # rows on a page
_CARD_PX = 640  # longer side of a picture on a card
_EMBEDDED_PX = 1000  # the same inside a self-contained page: text stays legible
_KNOWN = {item.name for row_type in (IndexRow, LedgerRow) for item in fields(row_type)}
_NOTICE_CHARS = 46  # in a line of a notice; half as many where the text may be Chinese
NOTICE = "image/svg+xml"
"""Media type of `notice`."""
NO_TEXT = "(no text)"
_TEXT_PAGE = """<!DOCTYPE html><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
pre {{ margin: 0; white-space: pre-wrap; }}
pre {{ font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Droid Sans Fallback", sans-serif; }}
</style>
<pre dir="auto">{text}</pre>"""


class Served:
    """Pictures that the server sends on request, by URL. The browser caches them for a while."""

    def __init__(self, library: Library) -> None:
        self._shards = library.shards

    def of_sample(self, row_id: RowId, number: int, longest_px: int | None) -> str:
        """Return image `number` of a sample, as stored where `longest_px` is None."""
        size = {} if longest_px is None else {"px": longest_px}
        content = self._shards[row_id.shard].record.tar_sha256[:8]  # a set that was made again has other addresses
        return "image?" + urlencode({"at": row_id, "number": number, **size, "of": content})

    def of_unit(self, row_id: RowId) -> UnitOnPage:
        """Return the addresses of picture and text of a unit without samples."""
        query = urlencode({"at": row_id, "of": self._shards[row_id.shard].record.ledger_sha256[:8]})
        return UnitOnPage("preview?" + query, frame="refused?" + query)


class Embedded:
    """Pictures inside the page, as URLs that hold them, small enough for a page with many."""

    def __init__(self, library: Library, preview: Preview) -> None:
        self._library, self._preview = library, preview

    def of_sample(self, row_id: RowId, number: int, longest_px: int | None) -> str:
        """Return one size for all uses, so that the page holds each picture once."""
        try:
            data = shrunk(self._library.sample(row_id).images[number].data, _EMBEDDED_PX)
        except (OSError, ValueError) as error:  # one damaged sample must not cost the page
            return data_url(NOTICE, notice(f"picture not available: {error}"))
        return data_url("image/jpeg", data)

    def of_unit(self, row_id: RowId) -> UnitOnPage:
        """Return picture and text of a unit without samples."""
        view = unit_view(self._library, row_id, self._preview)
        picture = data_url(*unit_picture(view, _EMBEDDED_PX))
        return UnitOnPage(picture, text="" if isinstance(view, str) else view.text)


class UnitOnPage(NamedTuple):
    """A unit without samples on the page."""

    picture: str  # URL
    frame: str = ""  # URL of a page with its text; "" where `text` is it
    text: str = ""


def unit_view(library: Library, row_id: RowId, preview: Preview) -> UnitView | str:
    """Return picture and text of a unit without samples, or one line that says why there is no picture.

    Raises:
        UserError: there is no such unit.
    """
    shard_set, unit = library.unit(row_id)
    try:
        return preview(shard_set, unit)
    except (OSError, ValueError) as error:  # inputs move, and these units are the broken ones
        return f"picture not available: {error}"


def unit_picture(view: UnitView | str, longest_px: int) -> tuple[str, bytes]:
    """Return media type and bytes of a unit's picture, or of a notice where there is none."""
    try:
        if not isinstance(view, str) and view.picture:
            return "image/jpeg", shrunk(view.picture.data, longest_px)
    except (OSError, ValueError) as error:
        view = f"picture not available: {error}"
    return NOTICE, notice(view if isinstance(view, str) else "no picture")


def text_page(view: UnitView | str) -> str:
    """Return a page with the text of a rejected unit alone, for a frame."""
    text = view if isinstance(view, str) else view.text or NO_TEXT
    return _TEXT_PAGE.format(text=escape(text))


def notice(text: str) -> bytes:
    """Return an SVG picture of a line of text, to stand where a picture is missing."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)  # XML has no control characters
    pieces = wrap(text, _NOTICE_CHARS if text.isascii() else _NOTICE_CHARS // 2, max_lines=6)
    lines = "".join(
        f'<text x="20" y="{34 + 22 * number}">{escape(piece)}</text>' for number, piece in enumerate(pieces)
    )
    style = 'font-family="sans-serif" font-size="15" fill="#5b6675"'
    size = f'width="420" height="{44 + 22 * len(pieces)}"'
    back = '<rect width="100%" height="100%" fill="#f6f7f9"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{back}{lines}</svg>'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture on the page."""

    url: str
    full: str  # URL of the picture as stored; "" where `url` is all there is
    width: int  # pixels, as stored; 0 where unknown
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A row, prepared for the page."""

    item: Item
    id: str  # key of the sample or id of the unit
    outcome: str
    cause: str  # gate or reason of a unit without samples
    pictures: list[Picture]
    refused: UnitOnPage | None  # of a rejected unit
    drawing: AnswerDrawing
    measures: dict[str, float]
    numbers: dict[str, float]  # measures and the other numbers that the page filters by a range
    links: dict[str, str]  # name on the card → address; "" where there is none

    @property
    def row(self) -> dict[str, Any]:
        """Index row of a sample, or ledger row of a unit without samples."""
        return self.item.index or self.item.ledger


def make_card(item: Item, pictures: Served | Embedded, layout: str) -> Card:
    """Prepare a row for the page. `layout` decides the size of its pictures."""
    longest = None if layout == "beside" else _CARD_PX
    images = [
        Picture(
            url=pictures.of_sample(item.id, number, longest),
            full=pictures.of_sample(item.id, number, None) if isinstance(pictures, Served) else "",
            width=about["width"],
            height=about["height"],
        )
        for number, about in enumerate(item.sample.get("images", ()))
    ]
    unit = None if item.index else pictures.of_unit(item.id)
    if unit:
        images = [Picture(url=unit.picture, full="", width=0, height=0)]
    row = item.index or item.ledger
    others = {name: value for name, value in row.items() if name not in _KNOWN}
    measures = {name: value for name, value in others.items() if isinstance(value, float) and math.isfinite(value)}
    extra = {name: row[name] for name in NUMBERS if name in row}
    question, answer = [turn["text"] for turn in item.sample.get("turns", ())[-2:]] or ["", ""]
    return Card(
        item=item,
        id=row["key"] if item.index else row["unit"],
        outcome="written" if item.index else row["outcome"],
        cause="" if item.index else row["gate"] or row["reason"],
        pictures=images,
        refused=unit if measures and not item.index and row["outcome"] == "rejected" else None,
        drawing=draw_answer(item.sample.get("task", ""), answer, question),
        measures=measures,
        numbers=measures | extra,
        links=_links(item, row),
    )


def _links(item: Item, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the addresses of the things that a card names."""
    here = {"set": item.set, "at": str(item.id), "view": "beside"}
    unit = _address(here | {"id": row["unit"]})
    twins, group = row.get("twins", ""), row.get("group", "")
    return {
        "self": _address(here | {"id": row["key"]}) if item.index else unit,
        "unit": unit,
        "document": _address({"document": row["document"]}),
        "twins": _address({"twins": twins}) if twins else "",
        "group": _address({"group": group}) if group not in ("", row["document"]) else "",
    }


def _address(query: Mapping[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in query.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """The reader's position and the links to other pages."""

    first: int  # number of the first row on the page, from 1; 0 for none
    last: int
    reached: int  # the row at which the time budget ended the search; 0 where the search was complete
    backward: bool  # the search ran towards the start
    total: int  # rows in the sets searched
    previous: str  # address; "" for none
    next: str  # address; "" for none
    start: str  # address; "" where this page is the start


def browse(library: Library, query: Mapping[str, str]) -> str:
    """Render the page for an address's query.

    Raises:
        UserError: the query is wrong, or a file of a set cannot be read.
    """
    filters = Filters.of(query)
    layout = query.get("view") or "cards"
    if layout not in _LAYOUTS:
        raise UserError(f"view={layout}: expected one of {', '.join(_LAYOUTS)}")
    start, forward = start_of(library, filters, query)
    matches = find(library, filters, start, limit=_LAYOUTS[layout], forward=forward)
    parameters = filters.query() | ({"view": layout} if layout != "cards" else {})
    paging = _paging(library, filters, matches, parameters, forward)
    cards = [make_card(item, Served(library), layout) for item in library.items(matches.rows)]
    return _render(library, cards, filters, layout, library.values, paging, parameters)


def start_of(library: Library, filters: Filters, query: Mapping[str, str]) -> tuple[RowId, bool]:
    """Return the row at which a query starts and True, or the row before which its page ends and False.

    The query names the row (`at`, `before`) or a percentage of the way (`go`); without these the page starts at the
    first row.

    Raises:
        UserError: there is no such row or set, or the percentage is no number.
    """
    low, high = library.span(filters.set)
    for name in ("before", "at"):
        if query.get(name):
            return library.row_id(query[name]), name == "at"
    share = min(max((number_in("go", query) or 0.0) / 100, 0.0), 1.0)
    return library.row_at(min(low + int((high - low) * share), max(low, high - 1))), True


def _paging(library: Library, filters: Filters, matches: Matches, parameters: dict[str, str], forward: bool) -> Paging:
    low, high = library.span(filters.set)
    ahead = matches.next if forward else matches.previous
    return Paging(
        first=library.offset(matches.rows[0]) - low + 1 if matches.rows else 0,
        last=library.offset(matches.rows[-1]) - low + 1 if matches.rows else 0,
        reached=library.offset(ahead) - low if ahead and not matches.in_time else 0,
        backward=not forward,
        total=high - low,
        previous=_address(parameters | {"before": str(matches.previous)}) if matches.previous else "",
        next=_address(parameters | {"at": str(matches.next)}) if matches.next else "",
        start=_address(parameters) if matches.previous else "",
    )


def static_page(library: Library, row_ids: Sequence[RowId], preview: Preview) -> str:
    """Render a self-contained page of rows, with the pictures inside and filters by script."""
    cards = [make_card(item, Embedded(library, preview), "cards") for item in library.items(row_ids)]
    menus = {
        "language": sorted({str(card.row["language"]) for card in cards if card.row["language"]}),
        "licence": sorted({str(card.row["licence"]) for card in cards if card.row.get("licence")}),
        "cause": sorted({card.cause for card in cards if card.cause}),
    }
    return _render(library, cards, Filters(), "cards", menus, None, {})


def _render(
    library: Library,
    cards: list[Card],
    filters: Filters,
    layout: str,
    menus: dict[str, list[str]],
    paging: Paging | None,
    parameters: Mapping[str, str],
) -> str:
    script = Path(__file__).with_name("view.js").read_text(encoding="utf-8")
    return render_page(
        Path(__file__).with_name("view.html.jinja"),
        no_text=NO_TEXT,
        cards=cards,
        filters=filters,
        layout=layout,
        paging=paging,
        parameters=parameters,
        sets=library.counts(),
        rows=library.span("")[1],
        menus={
            "set": list(library.sets) if len(library.sets) > 1 else [],
            "outcome": OUTCOMES,
            "task": TASKS,
            "split": SPLITS,
            "language": [*menus["language"], UNKNOWN],
            "licence": [*menus["licence"], UNKNOWN],
            "cause": menus["cause"],
            "measure": library.measures(),
        },
        script=Markup(script),  # ours
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
