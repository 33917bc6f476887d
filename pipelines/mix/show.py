"""Tables of a mixture: requested and actual samples, repeats, languages, lengths, truncation and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.mix.count import Counts
from varyforge.console import show_table
from varyforge.lengths import EDGES

_EIGHTHS = "▁▂▃▄▅▆▇█"
_NAMED = 4  # languages or licences named per source
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """The numbers of one source in an epoch."""

    name: str
    asked: str  # the request of the mixture: "weight 0.5", "250,000 samples"
    asked_samples: int
    asked_supervised: int  # tokens that are requested, or expected for the requested samples
    asked_tokens: int  # expected for the requested samples, images included
    asked_share: float | None  # in the mixture's unit; None if weights of different units determine it
    available: int  # samples after filters
    held: int  # samples before filters
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Tokens of samples that were read and tokenised, beside the estimates of the index."""

    name: str
    samples: int
    unusable: int  # samples
    estimated: int  # tokens, images included
    real: int
    estimated_supervised: int
    real_supervised: int
    cut: int  # samples with more than `max_length` tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The numbers of a mixture for one epoch."""

    file: str
    unit: str  # of the weights
    image_tokens: int
    max_length: int
    epochs: int
    global_batch: int | None
    sources: tuple[SourceReport, ...]
    all: Counts
    deviation: float  # as in `pipelines.mix.count.Walk`
    deviation_at: tuple[int, str]  # prefix, source
    deviation_positions: int
    utilisation: float | None  # filled share of packed rows of max_length tokens
    measured: tuple[Measured, ...] = ()

    @property
    def steps(self) -> float | None:
        """The number of optimiser steps per epoch. It is no whole number if a step continues into the next epoch."""
        return self.all.samples / self.global_batch if self.global_batch else None


def show(report: Report) -> None:
    """Print all tables, in 80 columns."""
    _show_samples(report)
    _show_repeats(report)
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
        )
        for one in report.sources
    ]
    rows.append(("all", "", f"{_sum(report, 'asked_samples'):,}", f"{report.all.samples:,}", "", ""))
    unit = "supervised tokens" if report.unit == "tokens" else "samples"
    columns = ("source", "the file says", "asked", "got", "share asked", "got")
    show_table(f"{report.file}: samples of one epoch; shares are of {unit}", columns, rows)


def _show_repeats(report: Report) -> None:
    rows = [(one.name, f"{one.held:,}", f"{one.available:,}", *_repeats(one.counts)) for one in report.sources]
    rows.append(("all", f"{_sum(report, 'held'):,}", f"{_sum(report, 'available'):,}", *_repeats(report.all)))
    columns = ("source", "there", "after filters", "at least", "mean", "at most")
    show_table("samples that there are, and how often one occurs in an epoch", columns, rows)


def _show_tokens(report: Report) -> None:
    for title, what in (("supervised tokens", "supervised"), (f"all tokens, {report.image_tokens} an image", "tokens")):
        total, samples = getattr(report.all, what), report.all.samples
        rows = []
        for one in report.sources:
            got = getattr(one.counts, what)
            request = getattr(one, f"asked_{what}")
            each = got / max(one.counts.samples, 1)
            rows.append((one.name, f"{request:,}", f"{got:,}", _share(got / max(total, 1)), f"{each:,.0f}"))
        each = total / max(samples, 1)
        rows.append(("all", f"{_sum(report, f'asked_{what}'):,}", f"{total:,}", "", f"{each:,.0f}"))
        columns = ("source", "asked", "got", "share got", "per sample")
        show_table(f"{title} (of one epoch, as the index estimates them)", columns, rows)


def _show_lengths(report: Report) -> None:
    bounds = [*(f"<{edge}" for edge in EDGES[1:]), f"≥{EDGES[-1]}"]
    rows = [
        (name, _bars(counts.lengths), *(_percent(n, counts.samples) for n in counts.lengths))
        for name, counts in _each(report)
    ]
    show_table("length of samples in tokens, with images", ("source", "", *bounds), rows)


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
    for title, what in (("supervised tokens", "_supervised"), ("all tokens", "")):
        rows = []
        for one in report.measured:
            estimated, real = getattr(one, f"estimated{what}"), getattr(one, f"real{what}")
            error = f"{estimated / real - 1:+.1%}" if real else ""
            rows.append((one.name, one.samples, one.unusable, f"{estimated:,}", f"{real:,}", error, one.cut))
        columns = ("source", "samples", "unusable", "estimated", "real", "error", "beyond")
        show_table(f"{title} of samples that were read; beyond max_length {report.max_length}", columns, rows)


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
        rows.append((f"rows of {report.max_length} tokens packed by one rank are filled", _share(report.utilisation)))
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


def _sum(report: Report, what: str) -> int:
    return sum(getattr(one, what) for one in report.sources)


def _repeats(counts: Counts) -> tuple[str, str, str]:
    least, mean, most = counts.repeats
    return f"{least}", f"{mean:.2f}", f"{most}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _shares(counts: Mapping[str, int], of: int) -> str:
    shares = [f"{name or 'unknown'} {_percent(number, of)}" for name, number in counts.items()]
    return ", ".join(shares[:_NAMED]) + (f", {len(shares) - _NAMED} more" if len(shares) > _NAMED else "")


def _percent(number: int, of: int) -> str:
    """Return whole percents, "<1%" for a smaller share and "" for 0."""
    if not number:
        return ""
    return f"{number / of:.0%}" if number / of >= _SMALLEST_SHARE else "<1%"


def _bars(counts: Sequence[int]) -> str:
    """Return a bar for each number relative to the largest, and a blank for 0."""
    most = max(*counts, 1)
    return "".join(_EIGHTHS[max(0, round(8 * number / most) - 1)] if number else " " for number in counts)
