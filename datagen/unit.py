"""What a source is, the units it is cut into, and the three ways a unit can end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from datagen.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The unit gave samples (one or more). `notes` counts what was left out inside it, by reason."""

    samples: tuple[Sample, ...]
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A gate refused the unit: `value` is on the wrong side of `threshold`."""

    gate: str
    value: float
    threshold: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The unit could not be read or processed. `reason` is one of few words, `detail` one line for a person."""

    reason: str
    detail: str = ""


Outcome = Written | Rejected | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of input that ends in exactly one ledger row: a page, an image with its boxes, a conversation."""

    id: str  # unique in the job, readable: "report.pdf#0003"
    group: str  # what a split must keep together: the document
    content: str  # identifies what is in it: equal content is a duplicate, and sample keys derive from it
    payload: Mapping[str, Any] = field(default_factory=dict)  # paths and numbers for `Source.make`; JSON types only
    verdict: Rejected | Failed | None = None  # already decided while planning (unreadable file, duplicate)

    def __post_init__(self) -> None:
        for name in ("id", "group", "content"):  # a file name may hold bytes that are no text; ledgers hold text
            text = getattr(self, name).encode(errors="backslashreplace").decode()
            object.__setattr__(self, name, text)


class Source(Protocol):
    """A kind of input. Implementations are frozen dataclasses of their settings, importable by name.

    `units` and `make` run in a child process with a deadline and a memory cap: they may hang, crash or raise, and
    that costs one ledger row. They must depend on their arguments and settings alone.
    """

    @property
    def name(self) -> str:
        """`[a-z0-9_-]`, prefix of shard names and sample keys."""
        ...

    @property
    def places(self) -> tuple[str, ...]:
        """Settings that say where the input lies. It may lie elsewhere when a job goes on."""
        ...

    def inputs(self) -> Iterator[str]:
        """Files to read, in a stable order. Runs in the driver: only lists, opens nothing.

        Raises:
            UserError: a path that the user named does not exist or holds nothing of this kind.
        """
        ...

    def document(self, path: str) -> str:
        """What ledger and samples call an input, wherever it lies."""
        ...

    def units(self, path: str) -> list[Unit] | Failed:
        """Cuts one input into units."""
        ...

    def make(self, unit: Unit) -> Outcome:
        """Turns a unit into samples or a reason."""
        ...


def split_of(group: str, validation_share: float) -> str:
    """The side of `group`: "validation" for about `validation_share` of all groups, else "train".

    A function of the group's name alone, so adding data moves nothing from one side to the other, and a document is
    never on both.
    """
    position = int.from_bytes(hashlib.sha256(f"split\x1f{group}".encode()).digest()[:8]) / 2**64
    return "validation" if position < validation_share else "train"
