"""The report's HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.card.card import SHOWN_CHARS, DataCard, read_data_card
from datagen.card.html import render_page
from varyforge.errors import UserError
from varyforge.files import write_text

if TYPE_CHECKING:
    from pipelines.report.runs import RunCard
    from pipelines.report.scores import ScoreCard


TITLE = "varyforge report"
_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_SPLITS = {"validation": "held-out samples", "train": "training samples, no held-out set"}


def write_report(
    out: Path, *, shards: Sequence[Path], runs: Sequence[Path], scores: Sequence[Path], title: str = TITLE
) -> Path:
    """Write the page about shard sets, run folders and score folders to `out` and return `out`.

    Raises:
        UserError: no folder is given, or a folder is missing, unfinished or broken.
    """
    if not (shards or runs or scores):
        raise UserError("nothing to report on: give --shards, --runs or --scores")
    data_cards = [read_data_card(folder) for folder in shards]
    run_cards: list[RunCard] = []
    score_cards: list[ScoreCard] = []
    if runs:
        from pipelines.report.runs import read_run  # noqa: PLC0415  # imports torch: seconds

        run_cards = [read_run(folder) for folder in runs]
    if scores:
        from pipelines.report.scores import read_scores  # noqa: PLC0415  # imports torch: seconds

        score_cards = [read_scores(folder, shards) for folder in scores]
    write_text(out, render(title, data_cards, run_cards, score_cards))
    return out


def render(title: str, data: Sequence[DataCard], runs: Sequence[RunCard], scores: Sequence[ScoreCard]) -> str:
    """Return the page as HTML."""
    return render_page(_TEMPLATE, title=title, data=data, runs=runs, scores=scores, shown=SHOWN_CHARS, splits=_SPLITS)
