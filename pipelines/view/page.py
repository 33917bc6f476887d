"""The viewer's page: cards of rows, the form of filters, and the links from page to page."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, Protocol
from urllib.parse import urlencode

from markupsafe import Markup, escape

from datagen.card.html import render_page
from datagen.card.pictures import AnswerDrawing, data_url, draw_answer, shrunk
from datagen.job.ledger import LedgerRow
from pipelines.view.data import Item, Library, Place
from pipelines.view.filters import OUTCOMES, SPLITS, UNKNOWN, Filters, number_in
from pipelines.view.search import Found, find
from varyforge.errors import UserError
from varyforge.sample import TASKS
from varyforge.shards import IndexRow

Preview = Callable[[str, str], bytes | str]
"""(shard set, unit id) → the unit's picture as JPEG, or one line that says why there is none."""

LAYOUTS = {"cards": 24, "beside": 6}
"""Name → rows on a page."""

_CARD_PX = 640  # longer side of a picture on a card
_EMBEDDED_PX = 1000  # the same inside a page that is written: a page of text can be read
_KNOWN = {item.name for row_type in (IndexRow, LedgerRow) for item in fields(row_type)}
_NOTICE_CHARS = 46  # of a line in a picture that stands for one; half as many where they may be Chinese
NOTICE = "image/svg+xml"
"""Media type of `notice`."""


class Pictures(Protocol):
    """Where the page's pictures come from. Both return a URL."""

    def of_sample(self, place: Place, number: int, longest_px: int | None) -> str:
        """Image `number` of a sample; as stored where `longest_px` is None."""
        ...

    def of_unit(self, place: Place) -> str:
        """What a unit without samples looks like."""
        ...


class Served:
    """Pictures that the server sends when the browser asks for them, and that the browser keeps for a while."""

    def __init__(self, library: Library) -> None:
        self._shards = library.shards

    def of_sample(self, place: Place, number: int, longest_px: int | None) -> str:
        """See `Pictures`."""
        size = {} if longest_px is None else {"px": longest_px}
        content = self._shards[place.shard].record.tar_sha256[:8]  # another address when the set was made again
        return "image?" + urlencode({"at": place, "number": number, **size, "of": content})

    def of_unit(self, place: Place) -> str:
        """See `Pictures`."""
        return "preview?" + urlencode({"at": place, "of": self._shards[place.shard].record.ledger_sha256[:8]})


class Embedded:
    """Pictures inside the page, small enough for many of them."""

    def __init__(self, library: Library, preview: Preview) -> None:
        self._library, self._preview = library, preview

    def of_sample(self, place: Place, number: int, longest_px: int | None) -> str:
        """See `Pictures`; one size for all, so that each picture stands in the page once."""
        try:
            data = shrunk(self._library.sample(place).images[number].data, _EMBEDDED_PX)
        except (OSError, ValueError) as error:  # one damaged sample among those that can be read
            return data_url(NOTICE, notice(f"picture not available: {error}"))
        return data_url("image/jpeg", data)

    def of_unit(self, place: Place) -> str:
        """See `Pictures`."""
        return data_url(*unit_picture(self._library, place, self._preview, _EMBEDDED_PX))


def unit_picture(library: Library, place: Place, preview: Preview, longest_px: int | None) -> tuple[str, bytes]:
    """Media type and bytes of what a unit without samples looks like, or of the reason why that cannot be shown.

    Raises:
        UserError: there is no such unit.
    """
    shard_set, unit = library.unit(place)
    try:
        shown = preview(shard_set, unit)
        if isinstance(shown, bytes):
            return "image/jpeg", shrunk(shown, longest_px) if longest_px else shown
    except (OSError, ValueError) as error:  # inputs move, and these are the broken ones
        shown = f"picture not available: {error}"
    return NOTICE, notice(shown)


def notice(text: str) -> bytes:
    """A picture of a line of text: the place of a picture stays one, whatever comes to stand there."""
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

    shown: str  # URL
    full: str  # URL of the picture as stored; "" where `shown` is all there is
    width: int  # pixels, as stored; 0 where unknown
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A row as the page shows it."""

    item: Item
    id: str  # key of the sample or id of the unit
    outcome: str
    cause: str  # gate or reason of a unit without samples
    pictures: list[Picture]
    drawing: AnswerDrawing
    measures: dict[str, float]
    numbers: dict[str, float]  # measures, and what else a range can be asked of
    links: dict[str, str]  # what a name on the card leads to; "" where there is nothing

    @property
    def row(self) -> dict[str, Any]:
        """Index row of a sample, ledger row of a unit without."""
        return self.item.index or self.item.ledger


def make_card(item: Item, pictures: Pictures, layout: str) -> Card:
    """Prepares a row for the page. `layout` decides how large its pictures are."""
    longest = None if layout == "beside" else _CARD_PX
    shown = [
        Picture(
            shown=pictures.of_sample(item.place, number, longest),
            full=pictures.of_sample(item.place, number, None) if isinstance(pictures, Served) else "",
            width=about["width"],
            height=about["height"],
        )
        for number, about in enumerate(item.sample.get("images", ()))
    ]
    if not item.index:
        shown = [Picture(shown=pictures.of_unit(item.place), full="", width=0, height=0)]
    row = item.index or item.ledger
    measures = {name: value for name, value in row.items() if name not in _KNOWN and _is_finite(value)}
    extra = {name: row[name] for name in ("tokens", "answer_chars", "images") if name in row}
    question, answer = [turn["text"] for turn in item.sample.get("turns", ())[-2:]] or ["", ""]
    return Card(
        item=item,
        id=row["key"] if item.index else row["unit"],
        outcome="written" if item.index else row["outcome"],
        cause="" if item.index else row["gate"] or row["reason"],
        pictures=shown,
        drawing=draw_answer(item.sample.get("task", ""), answer, question),
        measures=measures,
        numbers=measures | extra,
        links=_links(item, row),
    )


def _links(item: Item, row: Mapping[str, Any]) -> dict[str, str]:
    """Addresses of what a card names."""
    here = {"set": item.set, "at": str(item.place), "view": "beside"}
    unit = _address(here | {"id": row["unit"]})
    twins, group = row.get("twins", ""), row.get("group", "")
    return {
        "self": _address(here | {"id": row["key"]}) if item.index else unit,
        "unit": unit,
        "document": _address({"document": row["document"]}),
        "twins": _address({"twins": twins}) if twins else "",
        "group": _address({"group": group}) if group not in ("", row["document"]) else "",
    }


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)  # JSON, which the page's script reads, has no other numbers


def _address(query: Mapping[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in query.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """Where the reader is, and the links to go on."""

    first: int  # number of the first row shown, from 1; 0 for none
    last: int
    reached: int  # the row that a search came to when its time was over; 0 where it was not
    backward: bool  # it was on its way to the start
    total: int  # samples, and units that gave none, in the sets looked at
    previous: str  # addresses; "" for none
    next: str
    start: str  # "" where this is the start


def browse(library: Library, query: Mapping[str, str]) -> str:
    """The page for an address's query.

    Raises:
        UserError: the query makes no sense, or a file of a set cannot be read.
    """
    filters = Filters.of(query)
    layout = query.get("view") or "cards"
    if layout not in LAYOUTS:
        raise UserError(f"view={layout}: expected one of {', '.join(LAYOUTS)}")
    start, forward = start_of(library, filters, query)
    found = find(library, filters, start, limit=LAYOUTS[layout], forward=forward)
    kept = filters.query() | ({"view": layout} if layout != "cards" else {})
    turning = _turning(library, filters, found, kept, forward)
    cards = [make_card(item, Served(library), layout) for item in library.items(found.places)]
    return _render(library, cards, filters, layout, library.values, turning, kept)


def start_of(library: Library, filters: Filters, query: Mapping[str, str]) -> tuple[Place, bool]:
    """The row that a query starts at, and True; or the one that it ends before, and False.

    It names the row, or gives a share of the way; otherwise it is the first.

    Raises:
        UserError: there is no such row or set, or the share is no number.
    """
    low, high = library.span(filters.set)
    for name in ("before", "at"):
        if query.get(name):
            return library.place(query[name]), name == "at"
    share = min(max((number_in("go", query) or 0.0) / 100, 0.0), 1.0)
    return library.place_at(min(low + int((high - low) * share), max(low, high - 1))), True


def _turning(library: Library, filters: Filters, found: Found, kept: dict[str, str], forward: bool) -> Turning:
    low, high = library.span(filters.set)
    ahead = found.next if forward else found.previous
    return Turning(
        first=library.offset(found.places[0]) - low + 1 if found.places else 0,
        last=library.offset(found.places[-1]) - low + 1 if found.places else 0,
        reached=library.offset(ahead) - low if ahead and not found.in_time else 0,
        backward=not forward,
        total=high - low,
        previous=_address(kept | {"before": str(found.previous)}) if found.previous else "",
        next=_address(kept | {"at": str(found.next)}) if found.next else "",
        start=_address(kept) if found.previous else "",
    )


def static_page(library: Library, places: Sequence[Place], preview: Preview) -> str:
    """A page of the rows at `places` that needs nothing else: pictures inside, filters by script."""
    cards = [make_card(item, Embedded(library, preview), "cards") for item in library.items(places)]
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
    turning: Turning | None,
    kept: Mapping[str, str],
) -> str:
    script = _script()
    return render_page(
        Path(__file__).with_name("view.html.jinja"),
        cards=cards,
        filters=filters,
        layout=layout,
        turning=turning,
        kept=kept,
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


@cache
def _script() -> str:
    return Path(__file__).with_name("view.js").read_text(encoding="utf-8")
