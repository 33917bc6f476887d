"""The command line `python -m datagen.chart`."""

from __future__ import annotations

import argparse

from datagen.chart.source import ChartSource
from datagen.cli import job_parser, run_source
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = job_parser(
        "datagen.chart",
        "Draws charts and writes the data of each as a Python dict. Reads no input files.",
        ChartSource,
        examples="""
  python -m datagen.chart --charts 250000 --out shards/chart
  python -m datagen.chart --charts 500000 --out shards/chart --update      adds another 250000
  python -m datagen.chart --charts 1000 --out shards/zh languages=[zh] seed=7""",
    )
    arguments.add_argument("--charts", type=int, required=True, help="number of charts in the set")
    arguments.add_argument("settings", nargs="*", help="key=value")
    return arguments


@command
def main() -> int:
    """Parse the command line and run the data job."""
    arguments = parser().parse_intermixed_args()
    return run_source(ChartSource, {"charts": arguments.charts}, arguments.settings, arguments)


if __name__ == "__main__":
    main()
