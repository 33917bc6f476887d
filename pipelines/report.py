"""One page about data, training and scores, readable without anything else.

    python -m pipelines.report --out report.html --shards shards/pdf --runs runs/tiny_plus

Everything on it is read from what the other commands wrote; equal inputs give an equal page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.card import SHOWN_CHARS, DataCard, read_data_card
from datagen.console import say
from datagen.errors import UserError, command
from datagen.files import write_text
from datagen.html import render_page

if TYPE_CHECKING:
    from pipelines.report_runs import RunCard
    from pipelines.report_scores import ScoreCard

TITLE = "varyforge report"
_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_SPLITS = {"validation": "held-out samples", "train": "training samples: nothing is held out here"}


def write_report(
    out: Path, *, shards: Sequence[Path], runs: Sequence[Path], scores: Sequence[Path], title: str = TITLE
) -> Path:
    """Writes the page about shard sets, run folders and folders of scores.

    Raises:
        UserError: nothing to report on, or a folder is missing, unfinished or broken.
    """
    if not (shards or runs or scores):
        raise UserError("nothing to report on: give --shards, --runs or --scores")
    data_cards = [read_data_card(folder) for folder in shards]
    run_cards: list[RunCard] = []
    score_cards: list[ScoreCard] = []
    if runs:
        from pipelines.report_runs import read_run  # noqa: PLC0415  # torch: seconds to import

        run_cards = [read_run(folder) for folder in runs]
    if scores:
        from pipelines.report_scores import read_scores  # noqa: PLC0415  # the same

        score_cards = [read_scores(folder, shards) for folder in scores]
    write_text(out, render(title, data_cards, run_cards, score_cards))
    return out


def render(title: str, data: Sequence[DataCard], runs: Sequence[RunCard], scores: Sequence[ScoreCard]) -> str:
    """The page as HTML."""
    return render_page(_TEMPLATE, title=title, data=data, runs=runs, scores=scores, shown=SHOWN_CHARS, splits=_SPLITS)


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
