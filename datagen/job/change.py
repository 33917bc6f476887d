"""What a job was made with, how that differs from what is asked for now, and which shards the difference concerns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from datagen.source import Source
from varyforge.config import to_dict
from varyforge.prompts import digests
from varyforge.shards import ShardRecord
from varyforge.storage import Folder
from varyforge.tables import read_table

_BYTES_DEPEND_ON = ("varyforge", "pillow", "pyarrow", "numpy")
_LATER_GATES = ("benchmark", "licences")  # of units that a source's own gates let pass
_SHORT = 60

Config = dict[str, Any]


def config_of(source: Source) -> Config:
    """All that a shard's bytes depend on besides its units; where the inputs lie is no part of it."""
    settings = {name: value for name, value in to_dict(source).items() if name not in source.places}
    config = {
        "source": source.name,
        "settings": settings,
        "prompts": digests(source.prompt_lists),
        "versions": {package: version(package) for package in _BYTES_DEPEND_ON} | dict(source.versions),
    }
    return dict(json.loads(json.dumps(config)))  # as it will be read again: JSON knows no tuples and no numbers as keys


def digest_of(config: Config) -> str:
    """SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(key, "old → new") of everything that differs, in order of key."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield where, f"{_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


@dataclass(frozen=True)
class Change:
    """From one configuration to another.

    A gate that changed concerns the shards in which a unit's verdict changes, told from the measures in the ledger; a
    prompt list, those with samples that draw from it; anything else, all.
    """

    source: Source  # with the new settings
    old: Config
    new: Config

    @cached_property  # asked for every shard
    def _keys(self) -> list[str]:
        return [key for key, _ in differences(self.old, self.new)]

    def concerns(self, folder: Folder, record: ShardRecord) -> bool:
        """Whether a shard made with the old configuration would come out otherwise with the new one."""
        gates = [key for key in self._keys if key.startswith("settings.gates.")]
        prompts = [key.removeprefix("prompts.") for key in self._keys if key.startswith("prompts.")]
        if len(gates) + len(prompts) < len(self._keys):
            return True
        return bool((gates and self._judged_otherwise(folder, record)) or _draws_from(folder, record, prompts))

    def _judged_otherwise(self, folder: Folder, record: ShardRecord) -> bool:
        for row in read_table(folder, f"ledger/{record.name}.parquet").to_pylist():
            measures = {name: row[name] for name in self.source.measures if row[name] is not None}
            if row["outcome"] == "failed" or row["gate"] == "duplicate" or not measures:
                continue
            verdict = self.source.judge(measures, row["language"])
            if verdict is None and row["gate"] in _LATER_GATES:
                continue
            now = (verdict.gate, verdict.value, verdict.threshold, verdict.detail) if verdict else ("", 0.0, 0.0, "")
            if now != (row["gate"], row["value"], row["threshold"], row["detail"]):
                return True
        return False


def _draws_from(folder: Folder, record: ShardRecord, prompts: Sequence[str]) -> bool:
    if not prompts:
        return False
    asked = read_table(folder, f"index/{record.name}.parquet", ["prompt"]).column("prompt").unique().to_pylist()
    return any(name.rpartition(".")[0] in prompts for name in asked)  # "ocr.en.3" is of "ocr.en"
