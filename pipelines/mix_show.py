"""What a mixture is, as tables: asked and got, repeats, languages, lengths, what is cut, steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from datagen.console import say, show_table
from datagen.tokens import EDGES
from pipelines.mix_count import Counts

_BAR = 8  # characters of a bar that stands for all samples
_EIGHTHS = "▏▎▍▌▋▊▉█"
_NAMED = 4  # languages or licences of a source


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One source in an epoch."""

    name: str
    asked: str  # as the mixture says it: "weight 0.5", "250,000 samples"
    asked_samples: int
    asked_supervised: int  # tokens: as asked for, or of so many samples in the mean
    asked_tokens: int  # of all kinds, of so many samples in the mean
    asked_share: float | None  # of the mixture, in its unit; None where no weights say it
    available: int  # samples after filters
    held: int  # samples before
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Samples of a source that were read and tokenised, against what the index says of them."""

    name: str
    samples: int
    unusable: int  # of them
    estimated: int  # tokens, images' among them
    real: int
    estimated_supervised: int
    real_supervised: int
    cut: int  # samples of more than `max_length` tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A mixture in numbers, for one epoch."""

    file: str
    unit: str  # of the weights
    image_tokens: int
    max_length: int
    epochs: int
    global_batch: int | None
    sources: tuple[SourceReport, ...]
    all: Counts
    deviation: float  # see `mix_count.Walk`
    deviation_at: tuple[int, str]  # prefix, source
    deviation_positions: int
    utilisation: float | None  # tokens in packed rows of max_length, as a share of their room
    measured: tuple[Measured, ...] = ()

    @property
    def steps(self) -> float | None:
        """Optimiser steps per epoch; steps go on across the epochs' border, so a part of one counts too."""
        return self.all.samples / self.global_batch if self.global_batch else None


def show(report: Report) -> None:
    """Shows all of it."""
    _show_samples(report)
    _show_tokens(report)
    _show_lengths(report)
    _show_cut(report)
    rows = [
        (name, *(_shares(of, counts.samples) for of in (counts.languages, counts.licences)))
        for name, counts in _each(report)
    ]
    show_table("what they are", ("source", "languages", "licences"), rows)
    if report.measured:
        _show_measured(report)
    _show_epoch(report)


def _show_samples(report: Report) -> None:
    rows = [
        (
            one.name,
            one.asked,
            f"{one.asked_samples:,}",
            f"{one.counts.samples:,}",
            _share(one.asked_share),
            _share(_got_share(one.counts, report)),
            _of(one.available, one.held),
            _repeats(one.counts),
        )
        for one in report.sources
    ]
    rows.append(_sum_row(report))
    columns = ("source", "the file asks", "samples asked", "got", "share asked", "got", "available", "repeats")
    show_table(f"{report.file}: samples of one epoch, shares in {_unit(report)}", columns, rows)
    say("repeats: how often a sample of the source occurs in an epoch: least / mean / most")


def _sum_row(report: Report) -> tuple[str, ...]:
    asked, available = (sum(getattr(one, name) for one in report.sources) for name in ("asked_samples", "available"))
    held = sum(one.held for one in report.sources)
    return "all", "", f"{asked:,}", f"{report.all.samples:,}", "", "", _of(available, held), _repeats(report.all)


def _show_tokens(report: Report) -> None:
    rows = []
    for one in report.sources:
        got = one.counts
        rows.append(
            (
                one.name,
                f"{one.asked_supervised:,}",
                f"{got.supervised:,}",
                _share(got.supervised / max(report.all.supervised, 1)),
                f"{one.asked_tokens:,}",
                f"{got.tokens:,}",
                _share(got.tokens / max(report.all.tokens, 1)),
                f"{got.tokens / max(got.samples, 1):,.0f}",
            )
        )
    asked = (sum(getattr(one, name) for one in report.sources) for name in ("asked_supervised", "asked_tokens"))
    supervised, tokens = asked
    mean = report.all.tokens / max(report.all.samples, 1)
    total = f"{report.all.supervised:,}", "", f"{tokens:,}", f"{report.all.tokens:,}", "", f"{mean:,.0f}"
    rows.append(("all", f"{supervised:,}", *total))
    columns = ("source", "supervised asked", "got", "share", "all tokens asked", "got", "share", "per sample")
    show_table(
        f"tokens of one epoch, as the index estimates them; an image is {report.image_tokens} of them", columns, rows
    )


def _show_lengths(report: Report) -> None:
    bounds = [f"{low}–{high - 1}" for low, high in pairwise(EDGES)] + [f"{EDGES[-1]}–"]
    rows = [(name, *(_bar(n, counts.samples) for n in counts.lengths)) for name, counts in _each(report)]
    show_table("length of samples in tokens, with images", ("source", *bounds), rows)


def _show_cut(report: Report) -> None:
    rows = [
        (
            name,
            f"{counts.cut:,}",
            _share(counts.cut / max(counts.samples, 1)),
            f"{counts.cut_tokens:,}",
            _share(counts.cut_tokens / max(counts.tokens, 1)),
            f"{counts.longest:,}",
        )
        for name, counts in _each(report)
    ]
    columns = ("source", "samples", "share", "tokens", "share", "longest")
    show_table(f"beyond max_length {report.max_length}", columns, rows)


def _show_measured(report: Report) -> None:
    rows = [
        (
            one.name,
            one.samples,
            one.unusable,
            f"{one.estimated:,}",
            f"{one.real:,}",
            _error(one.estimated, one.real),
            f"{one.estimated_supervised:,}",
            f"{one.real_supervised:,}",
            _error(one.estimated_supervised, one.real_supervised),
            one.cut,
        )
        for one in report.measured
    ]
    columns = ("source", "samples", "unusable", "tokens estimated", "real", "error", "supervised estimated")
    show_table(
        f"read and tokenised; beyond max_length {report.max_length} by real tokens",
        (*columns, "real", "error", "beyond"),
        rows,
    )


def _show_epoch(report: Report) -> None:
    rows: list[tuple[str, str]] = [("samples per epoch", f"{report.all.samples:,}"), ("epochs", str(report.epochs))]
    if report.global_batch and report.steps is not None:
        total, left = divmod(report.all.samples * report.epochs, report.global_batch)
        rows += [
            ("samples per step (global batch)", f"{report.global_batch:,}"),
            ("steps per epoch", f"{report.steps:,.2f}"),
            ("steps in all", f"{total:,}"),
            ("samples at the end that fill no step", f"{left:,}"),
        ]
    if report.utilisation is not None:
        rows.append((f"packed rows of {report.max_length} tokens are filled", _share(report.utilisation)))
    prefix, source = report.deviation_at
    rows.append(
        (
            f"worst |count − ratio · N| over the first {report.deviation_positions:,} prefixes",
            f"{report.deviation:.3f} ({source}, N = {prefix:,})" if prefix else "0",
        )
    )
    show_table("the epoch", ("", ""), rows)


def _each(report: Report) -> list[tuple[str, Counts]]:
    return [*((one.name, one.counts) for one in report.sources), ("all", report.all)]


def _got_share(counts: Counts, report: Report) -> float:
    if report.unit == "tokens":
        return counts.supervised / max(report.all.supervised, 1)
    return counts.samples / max(report.all.samples, 1)


def _unit(report: Report) -> str:
    return "supervised tokens" if report.unit == "tokens" else "samples"


def _of(available: int, held: int) -> str:
    return f"{available:,}" if available == held else f"{available:,} of {held:,}"


def _repeats(counts: Counts) -> str:
    least, mean, most = counts.repeats
    return f"{least} / {mean:.2f} / {most}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _shares(counts: Mapping[str, int], of: int) -> str:
    found = [f"{name or 'unknown'} {number / max(of, 1):.0%}" for name, number in counts.items()]
    return ", ".join(found[:_NAMED]) + (f", {len(found) - _NAMED} more" if len(found) > _NAMED else "")


def _error(estimated: int, real: int) -> str:
    return f"{estimated / real - 1:+.1%}" if real else ""


def _bar(number: int, of: int) -> str:
    """A bar of blocks and the share in words; nothing where there is nothing."""
    if not number:
        return ""
    whole, rest = divmod(round(8 * _BAR * number / of), 8)
    return f"{'█' * whole}{_EIGHTHS[rest - 1] if rest else ''} {number / of:.0%}".lstrip()
