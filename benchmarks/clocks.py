"""Clocks and memory gauges that several benchmarks read."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Spent(NamedTuple):
    """Seconds of a call. `children` is known only of a call that waits until its child processes have ended."""

    wall: float
    own: float  # CPU of this process
    children: float  # CPU of child processes, from start to end

    @property
    def cpu(self) -> float:
        """CPU seconds of this process and its children."""
        return self.own + self.children


def spent(call: Callable[[], object]) -> Spent:
    """Time a call."""
    wall, own, before = time.monotonic(), time.process_time(), os.times()
    call()
    after = os.times()
    return Spent(
        time.monotonic() - wall,
        time.process_time() - own,
        after.children_user + after.children_system - before.children_user - before.children_system,
    )


@dataclass
class PartTimes:
    """Seconds by the name of a part; CPU seconds of this process unless another clock is set."""

    clock: Callable[[], float] = time.process_time
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, part: str, call: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Return what the call returns, and add its seconds to the part."""
        before = self.clock()
        try:
            return call(*arguments, **keywords)
        finally:
            self.seconds[part] += self.clock() - before


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    """Return the highest resident memory so far, in MiB: of this process, or of one of its children that ended."""
    return resource.getrusage(who).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
