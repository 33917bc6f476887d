"""The command line of `datagen.chart`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from datagen.chart.source import ChartSource
from datagen.cli import job_parser, run_source
from varyforge.errors import command

if TYPE_CHECKING:
    pass


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.chart",
        "Draws charts and writes their data as Python dicts. Reads nothing.",
        ChartSource,
        examples="""
  python -m datagen.chart --charts 250000 --out shards/chart
  python -m datagen.chart --charts 500000 --out shards/chart --update      adds as many
  python -m datagen.chart --charts 1000 --out shards/zh languages=[zh] seed=7""",
    )
    made.add_argument("--charts", type=int, required=True, help="how many")
    made.add_argument("settings", nargs="*", help="key=value")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    return run_source(ChartSource, {"charts": arguments.charts}, arguments.settings, arguments)


if __name__ == "__main__":
    main()
