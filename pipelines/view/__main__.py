"""Browse shard sets: pictures, conversations, boxes, and the reason of every refusal.

    python -m pipelines.view shards/pdf

serves a page to this machine until Ctrl-C. With --out the command writes one self-contained page instead.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from urllib.parse import parse_qsl

from datagen.card.spread import spread
from datagen.registry import picture_of
from pipelines.view.data import Library, RowId
from pipelines.view.filters import Filters
from pipelines.view.page import Preview, start_of, static_page
from pipelines.view.search import find
from pipelines.view.server import LOOPBACK, Server, Viewer
from varyforge.commands import program
from varyforge.console import say
from varyforge.errors import UserError, command
from varyforge.files import write_text

_EXAMPLES = """examples:
  python -m pipelines.view shards/pdf
  python -m pipelines.view shards/pdf shards/detection s3://bucket/shards/chat --port 0
  python -m pipelines.view shards/pdf --query "outcome=rejected&language=zh"
  python -m pipelines.view shards/pdf --out page.html --limit 200

to browse a set on another machine, start the command there and, on your own machine:
  ssh -L 8000:127.0.0.1:8000 MACHINE     then open http://127.0.0.1:8000/"""


def serve(library: Library, preview: Preview, *, host: str, port: int, query: str = "") -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: the server cannot listen at `host` and `port`.
    """
    with Server(host, port, Viewer(library, preview)) as server:
        say(f"{server.url}{'?' if query else ''}{query}  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")


def write_page(out: Path, library: Library, preview: Preview, *, limit: int, query: str = "") -> int:
    """Write a self-contained page of up to `limit` rows: the matches of a query, or rows spread over all sets.

    Returns:
        The number of rows on the page.

    Raises:
        UserError: the query is wrong, or a file of a set cannot be read.
    """
    if query:
        parameters = dict(parse_qsl(query))
        filters = Filters.of(parameters)
        start, forward = start_of(library, filters, parameters)
        rows = find(library, filters, start, limit=limit, forward=forward, budget_s=float("inf")).rows
    else:
        rows = sample_rows(library, limit)
    write_text(out, static_page(library, rows, preview))
    return len(rows)


def sample_rows(library: Library, limit: int) -> list[RowId]:
    """Return up to `limit` rows spread evenly over the sets; up to a third of them are units without samples."""
    samples = [shard.record.samples for shard in library.shards]
    others = [shard.rows - shard.record.samples for shard in library.shards]
    units = min(sum(others), max(limit // 3, limit - sum(samples)))
    chosen = [*_spread(samples, limit - units)]
    chosen += [RowId(shard, row + samples[shard]) for shard, row in _spread(others, units)]
    return sorted(chosen)


def _spread(counts: list[int], most: int) -> Iterator[RowId]:
    """Yield at most `most` evenly spread rows, where shard n has `counts[n]` rows."""
    ends = list(accumulate(counts))
    for pick in spread(sum(counts), most):
        number = bisect_right(ends, pick)
        yield RowId(number, pick - (ends[number] - counts[number]))


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command_line = argparse.ArgumentParser(
        prog=program("pipelines.view"),
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("shards", nargs="+", help="shard sets: folders or URLs")
    command_line.add_argument("--host", default=LOOPBACK, help="address to listen at (%(default)s: this machine only)")
    command_line.add_argument("--port", type=int, default=8000, help="port to listen at; 0: a free one (%(default)s)")
    command_line.add_argument("--query", default="", help="first page: an address's part after the question mark")
    command_line.add_argument("--out", type=Path, help="write one self-contained page instead of serving")
    command_line.add_argument("--limit", type=int, default=100, help="rows on the page that --out writes (%(default)s)")
    return command_line


@command
def main() -> int:
    """Parse the command line; serve the page or write it."""
    arguments = parser().parse_args()
    if arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: expected at least 1")
    library, query = Library(arguments.shards), arguments.query.removeprefix("?")
    if arguments.out is None:
        serve(library, picture_of, host=arguments.host, port=arguments.port, query=query)
        return 0
    rows = write_page(arguments.out, library, picture_of, limit=arguments.limit, query=query)
    say(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; {rows} of {library.span('')[1]:,} rows")
    return 0


if __name__ == "__main__":
    main()
