"""What a source is, the units it is cut into, and the three ways a unit can end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.sample import Image
from varyforge.storage import absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of input that ends in exactly one ledger row: a page, an image with its boxes, a conversation."""

    id: str  # unique in the job, readable: "report.pdf#0003"
    document: str  # what a split must keep together at the least
    content: str  # identifies what is in it: equal content is a duplicate, and sample keys derive from it
    files: tuple[str, ...] = ()  # paths or URLs that `Source.make` reads
    payload: Mapping[str, Any] = field(default_factory=dict)  # numbers and text for `Source.make`; JSON types only
    verdict: Rejected | Failed | None = None  # already decided while planning (unreadable file, duplicate)

    def __post_init__(self) -> None:
        for name in ("id", "document", "content"):  # a file name may hold bytes that are no text; ledgers hold text
            text = getattr(self, name).encode(errors="backslashreplace").decode()
            object.__setattr__(self, name, text)


class Source(Protocol):
    """A kind of input. Implementations inherit from this; they are frozen dataclasses of settings, importable by name.

    `units` and `make` run in a child process with a deadline and a memory cap: they may hang, crash or raise, and
    that costs one ledger row. They must depend on their arguments and settings alone.
    """

    name: ClassVar[str]
    """`[a-z0-9_-]`, prefix of shard names and sample keys."""
    locations: ClassVar[tuple[str, ...]] = ("paths",)
    """Settings that say where the input lies. It may lie elsewhere when a job goes on."""
    prompt_lists: ClassVar[tuple[str, ...]] = ()
    """Prompt lists (see `varyforge.prompts`) that the samples draw from."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of what is measured of every unit; columns of ledger and index."""
    licence: str = ""
    """Of samples that say none of their own."""
    licences: Sequence[str] = ()
    """Keep samples under these alone; none: all."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of libraries and rules that the bytes of samples depend on, besides those of every source."""
        return {}

    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        """The gates' verdict on recorded measures, so that a changed gate needs no unit to be made again.

        `make` must reject exactly what this rejects. Only the settings below `gates` may change it.
        """
        return None

    def inputs(self) -> Iterator[str]:
        """Paths or URLs of the files to read, in a stable order. Runs in the driver: only lists, opens nothing.

        Raises:
            UserError: a path that the user named does not exist or holds nothing of this kind.
        """
        ...

    def document(self, path: str) -> str:
        """What ledger and samples call an input, wherever it lies."""
        ...

    def companion_files(self, path: str) -> Sequence[str]:
        """Other files that `units(path, …)` reads, such as a list of class names: if one changes, the input has."""
        return ()

    def units(self, path: str, file: str) -> Iterable[Unit | None] | Failed:
        """Cuts one input into units. None among them is a sign of life, where reading takes long before the first.

        Args:
            path: the input, as `inputs` gave it.
            file: a local copy of it (the same, where `path` is local).
        """
        ...

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Turns a unit into samples or a reason.

        Args:
            unit: what to make.
            files: local copies of `unit.files`.
        """
        ...

    def picture(self, unit: Unit, files: Sequence[str]) -> Image | None:
        """What a person sees of a unit from which nothing was written; None where there is nothing to see."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings(Source):
    """Settings that every source of foreign data has."""

    licence: str = ""  # of samples whose data set does not say one for each
    licences: list[str] = field(default_factory=list)  # keep samples under these alone; none: all

    def __post_init__(self) -> None:
        for name in self.locations:  # Ray's workers have their own working folder
            place = getattr(self, name)
            if isinstance(place, str):
                object.__setattr__(self, name, absolute(place))
            elif isinstance(place, list):
                object.__setattr__(self, name, [absolute(one) for one in place])


def under_licence(source: Source, outcome: Outcome) -> Outcome:
    """The outcome with a licence on each sample, or rejected where one is not among those to keep."""
    if not isinstance(outcome, Written) or not (source.licence or source.licences):
        return outcome
    samples = []
    for sample in outcome.samples:
        licence = str(sample.origin.get("licence") or source.licence)
        if source.licences and licence not in source.licences:
            detail = f"licence {licence!r}" if licence else "no licence is stated"
            refused = Rejected(gate="licences", value=0, threshold=1, detail=detail, language=outcome.language)
            return replace(refused, measures=outcome.measures)
        samples.append(replace(sample, origin={**sample.origin, "licence": licence}))
    return replace(outcome, samples=tuple(samples))


def split_of(document: str, validation_share: float) -> str:
    """The side of a document: "validation" for about `validation_share` of all, else "train".

    A function of its name alone. Documents that are near duplicates of each other are brought together in
    `datagen.job.split`.
    """
    return "validation" if split_position(document) < validation_share * 2**64 else "train"


def split_position(document: str) -> int:
    """Where a document stands between validation (0) and training (2⁶⁴), whatever the share of the one may be."""
    return int.from_bytes(hashlib.sha256(f"split\x1f{document}".encode()).digest()[:8])
