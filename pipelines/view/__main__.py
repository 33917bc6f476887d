"""Browse shard sets: pictures, conversations, boxes, and what was rejected and why.

    python -m pipelines.view shards/pdf

serves a page to this machine until Ctrl-C; with --out it writes one that needs nothing else.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from urllib.parse import parse_qsl

from datagen.card.card import spread
from datagen.registry import picture_of
from pipelines.view.data import Library, Place
from pipelines.view.filters import Filters
from pipelines.view.page import Preview, start_of, static_page
from pipelines.view.search import find
from pipelines.view.server import LOOPBACK, Server, Viewer
from varyforge.console import say
from varyforge.errors import UserError, command
from varyforge.files import write_text

_EXAMPLES = """examples:
  python -m pipelines.view shards/pdf
  python -m pipelines.view shards/pdf shards/detection s3://bucket/shards/chat --port 0
  python -m pipelines.view shards/pdf --query "outcome=rejected&language=zh"
  python -m pipelines.view shards/pdf --out page.html --limit 200

to look at what lies on another machine, start it there and, on yours:
  ssh -L 8000:127.0.0.1:8000 MACHINE     then open http://127.0.0.1:8000/"""


def serve(library: Library, preview: Preview, *, host: str, port: int, query: str = "") -> None:
    """Serves the page until Ctrl-C.

    Raises:
        UserError: nothing can listen at `host` and `port`.
    """
    with Server(host, port, Viewer(library, preview)) as server:
        say(f"{server.url}{'?' if query else ''}{query}  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")


def write_page(out: Path, library: Library, preview: Preview, *, limit: int, query: str = "") -> int:
    """Writes a page of up to `limit` rows: those that a query finds, or rows from all over the sets.

    Returns:
        How many rows it holds.

    Raises:
        UserError: the query makes no sense, or a file of a set cannot be read.
    """
    if query:
        asked = dict(parse_qsl(query))
        filters = Filters.of(asked)
        start, forward = start_of(library, filters, asked)
        places = find(library, filters, start, limit=limit, forward=forward, budget_s=float("inf")).places
    else:
        places = from_all_over(library, limit)
    write_text(out, static_page(library, places, preview))
    return len(places)


def from_all_over(library: Library, limit: int) -> list[Place]:
    """Up to `limit` rows evenly spread over the sets; a third are units without samples, if there are so many."""
    samples = [shard.record.samples for shard in library.shards]
    others = [shard.rows - shard.record.samples for shard in library.shards]
    units = min(sum(others), max(limit // 3, limit - sum(samples)))
    chosen = [*_spread(samples, limit - units)]
    chosen += [Place(place.shard, place.row + samples[place.shard]) for place in _spread(others, units)]
    return sorted(chosen)


def _spread(counts: list[int], most: int) -> Iterator[Place]:
    """At most `most` evenly spread places among `counts[n]` rows of each shard n."""
    ends = list(accumulate(counts))
    for pick in spread(sum(counts), most):
        number = bisect_right(ends, pick)
        yield Place(number, pick - (ends[number] - counts[number]))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines.view",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("shards", nargs="+", help="shard sets: folders or URLs")
    made.add_argument("--host", default=LOOPBACK, help="address to listen at (%(default)s: this machine only)")
    made.add_argument("--port", type=int, default=8000, help="port to listen at; 0: a free one (%(default)s)")
    made.add_argument("--query", default="", help="what to show first: a page's address after its question mark")
    made.add_argument("--out", type=Path, help="write one page with everything in it, instead of serving")
    made.add_argument("--limit", type=int, default=100, help="rows on the page that --out writes (%(default)s)")
    return made


@command
def main() -> int:
    """Parses the command line; serves the page or writes it."""
    given = parser().parse_args()
    if given.limit < 1:
        raise UserError(f"--limit {given.limit}: expected at least 1")
    library, preview = Library(given.shards), picture_of
    query = given.query.removeprefix("?")
    if given.out is None:
        serve(library, preview, host=given.host, port=given.port, query=query)
        return 0
    rows = write_page(given.out, library, preview, limit=given.limit, query=query)
    say(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB; {rows} of {library.span('')[1]:,} rows")
    return 0


if __name__ == "__main__":
    main()
