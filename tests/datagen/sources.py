"""Sources that misbehave on purpose. A module of its own: the child process imports it by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from datagen.sample import Sample, Turn, make_key
from datagen.unit import Failed, Outcome, Rejected, Unit, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySource:
    """Numbered units; those named in `faults` do what they are told."""

    units_per_input: int = 6
    faults: dict[int, str] = field(default_factory=dict)
    nap_s: float = 0.0  # a good unit takes so long

    name = "faulty"
    places = ()

    def document(self, path: str) -> str:
        return path

    def inputs(self) -> Iterator[str]:
        yield from ("one", "two")

    def units(self, path: str) -> list[Unit] | Failed:
        start = {"one": 0, "two": self.units_per_input}[path]
        numbers = range(start, start + self.units_per_input)
        return [Unit(id=f"u{n:03d}", group=f"u{n:03d}", content=str(n), payload={"n": n}) for n in numbers]

    def make(self, unit: Unit) -> Outcome:
        number = unit.payload["n"]
        match self.faults.get(number):
            case "sleep":
                time.sleep(3600)
            case "abort":
                os.abort()
            case "exit":
                os._exit(3)
            case "eat":
                eaten = []
                while True:
                    eaten.append(bytearray(64 << 20))
            case "raise":
                raise KeyError("a defect")
            case "reject":
                return Rejected(gate="taste", value=number, threshold=0.5)
        time.sleep(self.nap_s)
        turns = (Turn(role="user", text=f"{number}?"), Turn(role="assistant", text=f"{number}! " * 50))
        return Written(samples=(Sample(key=make_key("faulty", number), task="text", turns=turns, source="faulty"),))
