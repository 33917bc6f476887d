"""Run the command line of a source in this process, and read what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from varyforge.shards import ShardSet


def run_command(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *words: str) -> int:
    """Return the exit status of a data command with one local worker."""
    monkeypatch.setattr("sys.argv", ["command", *words, "--runner", "local", "--workers", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def answers(out: Path) -> set[str]:
    """Return the answers of all samples of a shard set."""
    return {sample.answer for sample in ShardSet(str(out)).samples()}
