"""The command line `python -m datagen.chart`."""

from __future__ import annotations

from datagen.chart.source import ChartSource
from datagen.cli import job_command, job_parser

parser = job_parser(
    "datagen.chart",
    "Draws charts and writes the data of each as a Python dict. Reads no input files.",
    ChartSource,
    examples="""
  python -m datagen.chart --charts 250000 --out shards/chart
  python -m datagen.chart --charts 500000 --out shards/chart --update      adds another 250000
  python -m datagen.chart --charts 1000 --out shards/zh languages=[zh] seed=7""",
)
parser.add_argument("--charts", type=int, required=True, help="number of charts in the set")
parser.add_argument("settings", nargs="*", help="key=value")
main = job_command(parser, ChartSource)

if __name__ == "__main__":
    main()
