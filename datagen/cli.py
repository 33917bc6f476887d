"""The shared part of all sources' command lines: the job's options, `key=value` settings, the summary."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from datagen.card.card import CARD_HTML, write_card
from datagen.card.contents import Contents
from datagen.job.change import config_of
from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.ledger import LedgerSummary
from datagen.job.preview import JobPreview, preview_job
from datagen.job.runner import LARGE, LocalRunner, SizedRunner
from datagen.job.settings import JobSettings
from datagen.job.track import Tracker
from datagen.source import OCR_LABELS, Source
from varyforge.commands import program
from varyforge.config import load
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command
from varyforge.lengths import LIMIT
from varyforge.storage import is_url, on_disk

if TYPE_CHECKING:
    from datagen.job.ray_runner import RayRunner

_SETTING = re.compile(r"[A-Za-z_][\w.]*=.*", re.DOTALL)  # does not match s3://bucket/date=2024


def job_parser(module: str, description: str, source: type, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every data job. The caller adds the inputs of its source."""
    known = _settings_help(source)
    parser = argparse.ArgumentParser(
        prog=program(module),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(f"settings (key=value, with their defaults):\n{known}\n\n" if known else "") + f"examples:{examples}",
    )
    defaults, limits = JobSettings(), Limits()
    add = parser.add_argument
    add("--out", required=True, help="folder or URL of the shard set; an interrupted run goes on there")
    add("--workers", type=_positive, help="shards made at a time (default: one per CPU)")
    ray = f"ray: jobs of {LARGE} units and more run on Ray; local: threads of this process only (%(default)s)"
    add("--runner", choices=("ray", "local"), default="ray", help=ray)
    add("--address", help="of a running Ray cluster (default: RAY_ADDRESS, else start Ray here)")
    add("--update", action="store_true", help="make shards again that changed inputs or settings concern")
    add("--retry", metavar="failed[:REASON]", help="make failed units again, e.g. failed:timeout with more --deadline")
    add("--dry-run", action="store_true", help="show the plan, its reasons and its costs; make nothing")
    add("--limit", type=_positive, help="make only the first N units (pages, images, conversations)", metavar="N")
    add("--units-per-shard", type=_positive, default=defaults.units_per_shard, help="at most (%(default)s)")
    share = "share of the documents held out from training (%(default)s)"
    number = "number of samples held out from training, in whole documents, in place of the share"
    held_out = parser.add_mutually_exclusive_group().add_argument
    held_out("--validation", type=_positive, default=defaults.validation, metavar="N", help=number)
    held_out("--validation-share", type=float, default=defaults.validation_share, help=share)
    add("--deadline", type=float, default=limits.deadline_s, metavar="S", help="seconds per unit (%(default)s)")
    add("--memory", type=_positive, default=limits.memory_mb, metavar="MB", help="MiB per unit (%(default)s)")
    stall = "report the stacks of all threads after so long without progress (%(default)s)"
    add("--stall-minutes", type=float, default=defaults.stall_minutes, metavar="MIN", help=stall)
    add("--wandb", metavar="PROJECT", help="log throughput and outcomes to this Weights & Biases project")
    return parser


def paths_and_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split positional arguments into paths and `key=value` settings. An existing file is a path even with a "="."""
    settings = [word for word in words if _SETTING.fullmatch(word) and not Path(word).exists()]
    return [word for word in words if word not in settings], settings


def job_command(
    parser: argparse.ArgumentParser,
    source: type[Source],
    more_inputs: Callable[[argparse.Namespace], Mapping[str, Any]] = lambda arguments: {},
) -> Callable[[], None]:
    """Return the `main` of a source's command line.

    The parser has the positional arguments `settings`, or `paths`, from which the settings are split off. An option
    with the name of one of the source's `locations` is its value. `more_inputs` adds inputs or replaces some of these.
    """

    @command
    def main() -> int:
        arguments = parser.parse_intermixed_args()
        if "paths" in arguments:
            arguments.paths, arguments.settings = paths_and_settings(arguments.paths)
        inputs = {name: getattr(arguments, name) for name in source.locations if name in arguments}
        return run_source(source, inputs | dict(more_inputs(arguments)), arguments.settings, arguments)

    return main


def run_source(
    source_type: type, inputs: Mapping[str, Any], overrides: Sequence[str], arguments: argparse.Namespace
) -> int:
    """Build the source from inputs and settings, run the job, and show the summary.

    Returns:
        Exit status: 0, or 1 where no sample was written.
    """
    limits = Limits(deadline_s=arguments.deadline, memory_mb=arguments.memory)
    names = ("units_per_shard", "validation_share", "validation", "limit", "update", "retry", "stall_minutes")
    settings = JobSettings(limits=limits, **{name: getattr(arguments, name) for name in names})
    source = cast(Source, load(source_type, None, overrides, inputs=inputs))
    _check_out(arguments.out, source)
    workers = arguments.workers or (None if arguments.address else len(os.sched_getaffinity(0)))
    if arguments.address and arguments.runner == "local":
        raise UserError("--address is for Ray; leave out --runner local")
    with ExitStack() as stack:
        runner = stack.enter_context(_runner(arguments, workers))
        if arguments.dry_run:
            show_preview(preview_job(source, arguments.out, settings, runner, workers or 1))
            return 0
        tracker = None
        if arguments.wandb:
            tracker = stack.enter_context(Tracker(arguments.wandb, arguments.out, config_of(source)))
        summary = run_job(source, arguments.out, settings, runner, tracker)
    contents = write_card(arguments.out).contents
    show_summary(arguments.out, summary, contents)
    if engine := source.versions.get(OCR_LABELS):
        warn(f"labels by OCR ({engine}): no person has checked them; look at some before you train on them")
    if not summary.samples:
        warn(f"no sample was written; see why: {program('pipelines.view')} {arguments.out} --query outcome=rejected")
    return 0 if summary.samples else 1


def _check_out(out: str, source: Source) -> None:
    """Raise UserError where the shard set would lie among the files of its inputs."""
    values = [getattr(source, name) for name in source.locations]
    paths = [path for value in values for path in (value if isinstance(value, list) else [value])]
    for path in (path for path in paths if isinstance(path, str) and path):
        if not is_url(path) and not is_url(out) and Path(on_disk(path)).resolve() == Path(out).resolve():
            raise UserError(f"--out {out}: the inputs lie there; name a folder of its own, such as {out}-shards")


def _runner(arguments: argparse.Namespace, workers: int | None) -> LocalRunner | SizedRunner | RayRunner:
    """Return the runner that the options ask for; a cluster that runs already is used for any work."""
    small = LocalRunner(workers or len(os.sched_getaffinity(0)))
    if arguments.runner == "local" or arguments.dry_run:
        return small

    def ray_runner() -> RayRunner:
        from datagen.job.ray_runner import RayRunner  # noqa: PLC0415  # seconds to import

        return RayRunner(workers=workers, address=arguments.address, stall_minutes=arguments.stall_minutes)

    return ray_runner() if arguments.address or os.environ.get("RAY_ADDRESS") else SizedRunner(small, ray_runner)


def show_preview(preview: JobPreview) -> None:
    """Print the work of a job and its costs."""
    plan, seconds = preview.plan, preview.seconds
    rows: list[tuple[str, object]] = [
        ("units", plan.units),
        ("  inputs that cannot be read", preview.failed_inputs),
        ("  duplicates", preview.duplicates),
        ("shards", len(plan.shards)),
        ("  finished", len(plan.finished)),
        ("  to make", len(plan.todo)),
        ("units of the shards to make", plan.units_todo),
    ]
    if preview.tried:
        rows += [
            (f"seconds per unit ({preview.tried} tried)", f"{preview.unit_seconds:.3f}"),
            (f"time with {preview.workers} workers", f"{seconds / 60:.1f} min"),
            ("bytes on disk", f"{preview.bytes / 1e6:.1f} MB"),
        ]
    show_table(f"{preview.out} (dry run: nothing is made)", ("", ""), rows)
    for change in plan.changes:
        say(f"changed: {change}")
    if plan.changes:
        say(f"{len(plan.todo)} of {len(plan.shards)} shards would be made again with --update")


def show_summary(out: str, summary: LedgerSummary, contents: Contents) -> None:
    """Print the result of a job: units by outcome and cause, counts of the samples, and where to read more."""
    rows: list[tuple[str, object]] = [("units", summary.units)]
    for outcome, count in summary.by_outcome.items():
        rows.append((outcome, count))
        rows += [(f"    {cause}", n) for (kind, cause), n in summary.by_cause.items() if kind == outcome]
    rows += [(f"  inside written units: {note}", n) for note, n in summary.notes.items()]
    rows.append(("samples", summary.samples))
    rows += [(f"    {language or 'language unknown'}", n) for language, n in contents.languages.items()]
    rows += [(f"    {split}", n) for split, n in contents.splits.items()]
    rows.append(("    near duplicates of another", contents.twins))
    show_table(out, ("", "count"), rows)
    if summary.samples:
        lengths = contents.lengths
        title = f"tokens of the text (estimated); with images, {lengths.beyond:.1%} of the samples exceed {LIMIT}"
        shares = [
            (f"{row.low} – {row.high - 1}" if row.high else f"{row.low} and more", row.texts, f"{row.share:.1%}")
            for row in lengths.rows
            if row.texts
        ]
        show_table(title, ("tokens", "samples", "share"), shares)
    for failure in summary.failures:
        say(f"failed: {failure}")
    say(f"every unit's outcome: {out}/ledger (parquet); samples: {out}/*.tar and {out}/index")
    say(f"data card: {out}/{CARD_HTML}; look at all of them: python -m pipelines.view {out}")


def _settings_help(schema: type, prefix: str = "") -> str:
    lines = []
    for item in fields(schema):
        if item.name in getattr(schema, "locations", ()) and item.name != "guard":  # has an option of its own
            continue
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if is_dataclass(default):
            lines.append(_settings_help(type(default), f"{prefix}{item.name}."))
        elif default is not MISSING:
            lines.append(f"  {prefix}{item.name}={default}")
    return "\n".join(lines)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
