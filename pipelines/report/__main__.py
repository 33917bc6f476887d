"""Write one HTML page about data, training and scores, without links to other files.

    python -m pipelines.report --out report.html --shards shards/pdf --runs runs/tiny_plus

The page is made from the files of the other commands. Equal inputs give an equal page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.report.page import TITLE, write_report
from varyforge.commands import program
from varyforge.console import say
from varyforge.errors import command


@command
def main() -> int:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(
        prog=program("pipelines.report"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path, help="HTML file to write")
    parser.add_argument("--shards", nargs="+", default=[], type=Path, help="shard sets, from which images are taken")
    parser.add_argument("--runs", nargs="+", default=[], type=Path, help="output folders of training (a recipe's out)")
    parser.add_argument("--scores", nargs="+", default=[], type=Path, help="output folders of trainer.evaluate")
    parser.add_argument("--title", default=TITLE, help="title of the page (default: %(default)s)")
    options = parser.parse_args()
    folders = {"shards": options.shards, "runs": options.runs, "scores": options.scores}
    path = write_report(options.out, **folders, title=options.title)
    say(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; {len(options.shards)} shard sets, {len(options.runs)} runs, "
        f"{len(options.scores)} folders of scores"
    )
    return 0


if __name__ == "__main__":
    main()
