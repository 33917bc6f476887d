"""What the command lines of all sources share: the job's options, `key=value` settings, the summary."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from datagen.config import load
from datagen.console import say, show_table
from datagen.isolate import Limits
from datagen.job import JobSettings, LocalRunner, run_job
from datagen.ledger import LedgerSummary
from datagen.unit import Source


def job_parser(program: str, description: str, source: type, examples: str) -> argparse.ArgumentParser:
    """A parser with the options that every data job has; the source adds its inputs."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"settings (key=value, with their defaults):\n{_settings_help(source)}\n\nexamples:{examples}",
    )
    defaults, limits = JobSettings(), Limits()
    parser.add_argument("--out", required=True, help="folder of the shard set; a run that was stopped goes on there")
    parser.add_argument("--workers", type=_positive, help="shards made at a time (default: one per CPU)")
    parser.add_argument("--runner", choices=("ray", "local"), default="ray", help="local: in this process, one by one")
    parser.add_argument("--address", help="of a running Ray cluster (default: RAY_ADDRESS, else start Ray here)")
    parser.add_argument("--limit", type=_positive, help="only the first so many units (pages, images, conversations)")
    parser.add_argument("--units-per-shard", type=_positive, default=defaults.units_per_shard, help="(%(default)s)")
    parser.add_argument(
        "--validation-share",
        type=float,
        default=defaults.validation_share,
        help="share of the documents kept out of training (%(default)s)",
    )
    parser.add_argument(
        "--deadline", type=float, default=limits.deadline_s, metavar="S", help="seconds per unit (%(default)s)"
    )
    parser.add_argument(
        "--memory", type=_positive, default=limits.memory_mb, metavar="MB", help="MiB per unit (%(default)s)"
    )
    return parser


def run_source(
    source_type: type, inputs: Mapping[str, Any], overrides: Sequence[str], arguments: argparse.Namespace
) -> int:
    """Builds the source from inputs and settings, runs the job, shows the summary.

    Returns:
        Exit status: 0, or 1 where not one sample was written.
    """
    settings = JobSettings(
        units_per_shard=arguments.units_per_shard,
        validation_share=arguments.validation_share,
        limit=arguments.limit,
        limits=Limits(deadline_s=arguments.deadline, memory_mb=arguments.memory),
    )
    source = cast(Source, load(source_type, None, overrides, given=inputs))
    out = Path(arguments.out)
    if arguments.runner == "local":
        summary = run_job(source, out, settings, LocalRunner())
    else:
        from datagen.ray_runner import RayRunner  # noqa: PLC0415  # seconds to import, and not needed above

        with RayRunner(workers=arguments.workers, address=arguments.address) as runner:
            summary = run_job(source, out, settings, runner)
    show_summary(out, summary)
    return 0 if summary.samples else 1


def show_summary(out: Path, summary: LedgerSummary) -> None:
    """The job's end: units by outcome and cause, and where to read more."""
    rows: list[tuple[str, object]] = [("units", summary.units)]
    for outcome, count in summary.by_outcome.items():
        rows.append((outcome, count))
        rows += [(f"    {cause}", n) for (kind, cause), n in summary.by_cause.items() if kind == outcome]
    rows += [(f"  inside written units: {note}", n) for note, n in summary.notes.items()]
    rows.append(("samples", summary.samples))
    show_table(str(out), ("", "count"), rows)
    for failure in summary.failures:
        say(f"failed: {failure}")
    say(f"every unit's outcome: {out}/ledger (parquet); samples: {out}/*.tar and {out}/index")


def _settings_help(schema: type, prefix: str = "") -> str:
    lines = []
    for item in fields(schema):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if is_dataclass(default):
            lines.append(_settings_help(type(default), f"{prefix}{item.name}."))
        elif default is not MISSING:
            lines.append(f"  {prefix}{item.name}={default}")
    return "\n".join(lines)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value
