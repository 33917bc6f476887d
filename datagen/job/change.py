"""The configuration of a job, its difference to an earlier one, and the shards that this difference concerns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_BYTES_DEPEND_ON = ("varyforge", "pillow", "simplejpeg", "pyarrow", "numpy")
_LATER_GATES = ("benchmark", "licences")  # applied to units that pass the source's own gates
_SHORT = 60

Config = dict[str, Any]


def plan_digest(shards: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of a plan from (name, SHA-256 of the units) of each shard."""
    return digest_of(dict(shards))


def config_of(source: Source) -> Config:
    """Return all that a shard's bytes depend on besides its units. The locations of the inputs are not part of it."""
    settings = {name: value for name, value in to_dict(source).items() if name not in source.locations}
    config = {
        "source": source.name,
        "settings": settings,
        "prompts": digests(source.prompt_lists),
        "versions": {package: version(package) for package in _BYTES_DEPEND_ON} | dict(source.versions),
    }
    return dict(json.loads(json.dumps(config)))  # as read again: JSON has no tuples and no numbers as keys


def digest_of(config: Config) -> str:
    """Return the SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, "old → new") for every value that differs, in order of key."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif old != new:
        yield prefix, f"{_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


@dataclass(frozen=True)
class Change:
    """The change from one configuration to another.

    A changed gate concerns the shards in which a unit's verdict changes, judged from the measures in the ledger. A
    changed prompt list concerns the shards with samples that draw from it. Any other change concerns all shards.
    """

    source: Source  # with the new settings
    old: Config
    new: Config

    @cached_property  # used once per shard
    def _keys(self) -> list[str]:
        return [key for key, _ in differences(self.old, self.new)]

    def concerns(self, folder: Folder, record: ShardRecord) -> bool:
        """Whether the shard would have other bytes if it were made with the new configuration."""
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
    names = read_table(folder, f"index/{record.name}.parquet", ["prompt"]).column("prompt").unique().to_pylist()
    return any(name.rpartition(".")[0] in prompts for name in names)  # "ocr.en.3" is drawn from "ocr.en"
