"""The interface of a source, and the units that its inputs are cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.sample import Image
from varyforge.storage import absolute

OCR_LABELS = "labels by OCR"
"""The entry of `Source.versions` that names the engine where labels are by OCR. Summary and data card state it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A piece of input with exactly one ledger row: a page, an image with its boxes, a conversation."""

    id: str  # unique in the job and readable: "report.pdf#0003"
    document: str  # name of the input that a split must not divide
    content: str  # identifies the content: units with equal content are duplicates; sample keys derive from it
    files: tuple[str, ...] = ()  # paths or URLs that `Source.make` reads
    payload: Mapping[str, Any] = field(default_factory=dict)  # for `Source.make`; JSON types only
    verdict: Rejected | Failed | None = None  # an outcome known before `make` (unreadable file, duplicate)
    block: str = ""  # units of a block are made one after the other, as those of a document; "": the document's

    def __post_init__(self) -> None:
        for name in ("id", "document", "content", "block"):  # a file name may be invalid Unicode, a ledger not
            text = getattr(self, name).encode(errors="backslashreplace").decode()
            object.__setattr__(self, name, text)


class UnitView(NamedTuple):
    """A unit that gave no sample, as the viewer shows it."""

    picture: Image | None = None
    text: str = ""  # the answer, where a gate refuses answers


class Source(Protocol):
    """A kind of input. Implementations inherit from this class and are frozen dataclasses, importable by name.

    `units` and `make` run in a child process with a deadline and a memory cap. A hang, crash or exception there costs
    one ledger row. Their results must depend on their arguments and settings alone.
    """

    name: ClassVar[str]
    """Prefix of shard names and sample keys; characters `[a-z0-9_-]`."""
    locations: ClassVar[tuple[str, ...]] = ("paths",)
    """Names of the settings that locate the inputs and may change between the runs of a job."""
    prompt_lists: ClassVar[tuple[str, ...]] = ()
    """Names of the prompt lists (`varyforge.prompts`) that the samples draw from."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of the measures of every unit; columns of ledger and index."""
    licence: str = ""
    """Licence of samples whose data set states none."""
    licences: Sequence[str] = ()
    """Keep only samples under these licences; empty: keep all."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of libraries and rules that the bytes of samples depend on, besides those of all sources."""
        return {}

    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        """Apply the gates to recorded measures, so that a changed gate can be judged without making units again.

        `make` must reject exactly the units that `judge` rejects. Of the settings, only `gates` may affect the result.
        """
        return None

    def inputs(self) -> Iterator[str]:
        """Yield paths or URLs of the files to read, in a stable order. Runs in the driver and opens no file.

        Raises:
            UserError: a path of the settings does not exist or holds no input of this kind.
        """
        ...

    def document(self, path: str) -> str:
        """Return the name of an input in ledger and samples, independent of its location."""
        ...

    def companion_files(self, path: str) -> Sequence[str]:
        """Return other files that `units(path, …)` reads, e.g. class names. A change in them changes the input."""
        return ()

    def units(self, path: str, file: str) -> Iterable[Unit | None] | Failed:
        """Cut one input into units. Yield None now and then where reading takes long before the first unit.

        `file` is a local copy of the input `path`, or `path` itself where that is local.
        """
        ...

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Turn a unit into samples, or a reason for none. `files` are local copies of `unit.files`."""
        ...

    def view(self, unit: Unit, files: Sequence[str]) -> UnitView:
        """Return what there is to see of a unit that gave no sample, for the viewer."""
        return UnitView()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings(Source):
    """The settings that every source of external data has."""

    licence: str = ""  # of samples whose data set states none
    licences: list[str] = field(default_factory=list)  # keep only samples under these; empty: all

    def __post_init__(self) -> None:
        for name in self.locations:  # Ray's workers have a working folder of their own
            location = getattr(self, name)
            if isinstance(location, str):
                object.__setattr__(self, name, absolute(location))
            elif isinstance(location, list):
                object.__setattr__(self, name, [absolute(each) for each in location])


def under_licence(source: Source, outcome: Outcome) -> Outcome:
    """Return the outcome with a licence on each sample, or a rejection where a licence is not one to keep."""
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
    """Return "validation" for about `validation_share` of all documents, else "train".

    The split is a function of the document's name alone. `datagen.job.split` then brings near duplicates together.
    """
    return "validation" if split_position(document) < validation_share * 2**64 else "train"


def split_position(document: str) -> int:
    """Return a document's hash, from 0 to below 2⁶⁴. Validation takes the documents with the lowest."""
    return int.from_bytes(hashlib.sha256(f"split\x1f{document}".encode()).digest()[:8])
