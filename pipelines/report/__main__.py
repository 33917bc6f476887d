"""One page about data, training and scores, readable without anything else.

    python -m pipelines.report --out report.html --shards shards/pdf --runs runs/tiny_plus

Everything on it is read from what the other commands wrote; equal inputs give an equal page.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.report.page import TITLE, write_report
from varyforge.console import say
from varyforge.errors import command

if TYPE_CHECKING:
    pass


@command
def main() -> int:
    """Parses the command line and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path, help="HTML file to write")
    parser.add_argument("--shards", nargs="+", default=[], type=Path, help="shard sets; pictures come from them")
    parser.add_argument("--runs", nargs="+", default=[], type=Path, help="folders that training wrote (a recipe's out)")
    parser.add_argument("--scores", nargs="+", default=[], type=Path, help="folders that trainer.evaluate wrote")
    parser.add_argument("--title", default=TITLE, help="(%(default)s)")
    given = parser.parse_args()
    path = write_report(given.out, shards=given.shards, runs=given.runs, scores=given.scores, title=given.title)
    say(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; {len(given.shards)} shard sets, {len(given.runs)} runs, "
        f"{len(given.scores)} folders of scores"
    )
    return 0


if __name__ == "__main__":
    main()
