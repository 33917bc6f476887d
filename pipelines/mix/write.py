"""Writing of a mixture as a shard set with the mixture's samples in its order.

Position p of the mixture is in shard p // n. A program that reads the shards one after the other, e.g. with plain
`webdataset`, gets the exact ratios in every prefix. The set is built in a `Workspace` like a data job's, so it can be
resumed after a kill, and its bytes do not depend on workers, kills or retries. `run_job` cannot build it, because that
function plans shards by a hash of documents, assigns splits and groups, and runs each unit in a child process. Here the
order is fixed, documents and groups come from the sources, and a unit is a copy of a sample.

Keys are unique in a set, so a repeated sample gets the keys KEY, KEY-r2, KEY-r3 …, and its first key in `origin`. All
other samples have the bytes of their source.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datagen.job.change import Config, differences, digest_of, plan_digest
from datagen.job.index import Row, index_row
from datagen.job.ledger import LedgerRow, LedgerSummary, cause_of, ledger_row, summarise
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner, Tick
from datagen.job.workspace import Workspace, open_workspace
from datagen.source import Unit
from pipelines.mix.plan import SOURCE, OrderedShard, ordered_shards, unit_id
from pipelines.mix.rows import RowFile, key_again, occurrences
from trainer.data.catalog import Item, read_item
from trainer.data.corpus import Corpus
from trainer.settings import MixtureSettings
from varyforge.config import to_dict
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.outcome import Failed, Outcome, Written
from varyforge.processes import one_line
from varyforge.sample import Sample
from varyforge.shards import IndexRow, ShardRecord, ShardSet, is_whole, open_shard
from varyforge.tables import schema_of

MIXTURE_SOURCE = "mixture_source"
"""The column of the index with the name of a sample's source in the mixture."""

_CARRIED = schema_of(IndexRow)
_KEYS = pa.schema([("key", pa.string())])  # all that is read of external tars' indexes; the sample has the rest
_SCHEMAS = _CARRIED.append(pa.field(MIXTURE_SOURCE, pa.string())), schema_of(LedgerRow)
_BYTES_DEPEND_ON = ("varyforge", "pyarrow")
_CHANGES_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSettings:
    """The settings of writing a mixture."""

    epochs: int = 1
    samples_per_shard: int = 1000
    retry: bool = False  # write again the shards with unreadable samples

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.samples_per_shard < 1:
            raise UserError("epochs and samples per shard must be 1 or more")


def write_mixture(
    corpus: Corpus, mixture: MixtureSettings, out: str | Path, settings: WriteSettings, *, workers: int = 1
) -> LedgerSummary:
    """Write the shard set `out` (path or URL), or finish one that an earlier run began.

    `mixture` is stored in job.json. Each of `workers` threads writes one shard at a time.

    Raises:
        UserError: `out` has another mixture or other files, or another process is writing there.
    """
    with open_workspace(out) as workspace, LocalRunner(workers) as runner, Monitor(runner) as monitor:
        planned = ordered_shards(corpus.mixture.per_epoch * settings.epochs, settings.samples_per_shard)
        job = _job(corpus, mixture, settings, planned)
        _refuse_another(workspace, job)
        finished = _finished(workspace, planned, digest_of(job["config"]), settings.retry)
        todo = [shard for shard in planned if shard.name not in finished]
        if finished:
            say(f"{out}: {len(finished)} of {len(planned)} shards are finished; {len(todo)} to do")
        if todo or not workspace.is_closed:
            workspace.begin(job, finished.values())
            with monitor.watch(Path(str(workspace.folder)).name, sum(shard.units for shard in todo), "sample"):
                task = _shard_task(corpus, workspace, job) if todo else None
                for record in runner.run(task, todo, monitor.tick) if task else ():
                    finished[record.name] = record
                    monitor.shard_done(record)
            workspace.close([finished[name] for name in sorted(finished)])
    return summarise(ShardSet(out).ledgers())


def _job(corpus: Corpus, mixture: MixtureSettings, settings: WriteSettings, planned: Sequence[OrderedShard]) -> Config:
    """Return the contents of job.json."""
    mixture_settings = to_dict(mixture)
    config = {
        "source": SOURCE,
        "settings": {"mixture": mixture_settings, "epochs": settings.epochs},
        "sources": {catalog.name: catalog.identity for catalog in corpus.catalogs},
        "versions": {package: version(package) for package in _BYTES_DEPEND_ON},
    }
    inputs = {"shards": _without_locations(mixture_settings)}
    units = sum(shard.units for shard in planned)
    sha256 = plan_digest((shard.name, shard.units_sha256) for shard in planned)
    job = {
        "source": SOURCE,
        "config": config,
        "job": {"samples_per_shard": settings.samples_per_shard},
        "plan": {"units": units, "shards": len(planned), "sha256": sha256, "files": {}},
        "inputs": inputs,
    }
    return dict(json.loads(json.dumps(job)))  # the types that JSON gives back


def _without_locations(mixture: dict[str, Any]) -> dict[str, Any]:
    """Remove the locations of shards from a mixture's settings and return them, because moved shards stay the same."""
    locations: dict[str, Any] = {}
    for name, source in mixture["sources"].items():
        location = source.pop("shards")
        locations[name] = _without_locations(source["mixture"]) if source["mixture"] else location
    return locations


def _refuse_another(workspace: Workspace, job: Config) -> None:
    """Raise UserError where the folder holds another set than the one that `job` describes."""
    earlier = workspace.job(SOURCE)
    if earlier is None:
        return
    parts = ("config", "job")
    changes = list(differences({part: earlier.get(part) for part in parts}, {part: job[part] for part in parts}))
    if changes:
        lines = [f"{key.removeprefix('config.').removeprefix('settings.')} {change}" for key, change in changes]
        more = f"; … and {len(lines) - _CHANGES_NAMED} more" if len(lines) > _CHANGES_NAMED else ""
        raise UserError(
            f"{workspace.folder} holds another mixture: {'; '.join(lines[:_CHANGES_NAMED])}{more}; "
            "choose another --out, or delete it"
        )


def _finished(
    workspace: Workspace, planned: Sequence[OrderedShard], config: str, retry: bool
) -> dict[str, ShardRecord]:
    """Return the records of the shards that need not be made, by name."""
    units = {shard.name: shard.units_sha256 for shard in planned}
    return {
        record.name: record
        for record in workspace.finished()
        if record.units_sha256 == units.get(record.name)
        and record.config_sha256 == config
        and is_whole(workspace.folder, record)
        and not (retry and record.failed)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShardTask:
    """The state that all shards share. Called with a planned shard, it writes that shard."""

    corpus: Corpus
    index: Sequence[RowFile]  # one per source
    number: NDArray[np.int32]  # per position: 1 for the first occurrence of its sample, 2 for the second …
    workspace: Workspace
    config_sha256: str
    lock: Lock  # the order caches what it works out and is not safe for several threads

    def __call__(self, plan: OrderedShard, tick: Tick) -> ShardRecord:
        """Write the shard's three files, then its record, with which the shard is finished."""
        tar = f"{plan.name}.tar"
        index: list[Row] = []
        ledger: list[Row] = []
        positions = np.arange(plan.first, plan.first + plan.units)
        with self.lock:
            sources, rows = self.corpus.mixture.at(positions)
            items = self.corpus.items(positions)
        known = self._known(sources, rows)
        with open_shard(self.workspace.folder, tar) as shard:
            for position, item, about in zip(positions.tolist(), items, known, strict=True):
                content = f"{item.source}/{about['key']}"
                unit = Unit(id=unit_id(position), document=str(about.get("document") or about["key"]), content=content)
                outcome = self._copy_of(item, position, about.get("language", ""))
                ledger.append(ledger_row(unit, outcome, tar))
                if isinstance(outcome, Written):
                    (sample,) = outcome.samples
                    offset, size = shard.add(sample)
                    location = {"key": sample.key, "shard": tar, "offset": offset, "size": size, "unit": unit.id}
                    if item.external:
                        about = index_row(sample) | dict.fromkeys(("document", "group"), unit.document)  # noqa: PLW2901
                    index.append({**about, **location, "split": "train", MIXTURE_SOURCE: item.source})
                tick({cause_of(ledger[-1]): 1})
            written = shard.close()
        made_of = self.config_sha256, plan.units_sha256
        record = self.workspace.write_tables(plan.name, (index, ledger), _SCHEMAS, tar=written, made_of=made_of)
        tick({})  # raises where the run has ended: another run may be making the same shard by now
        self.workspace.put(record)
        return record

    def _known(self, sources: NDArray[np.int16], rows: NDArray[np.int64]) -> list[Row]:
        """Return the index row of each sample in its source, of an external sample only the key."""
        index_rows: list[Row] = [{}] * len(rows)
        for number in np.unique(sources):
            at = np.flatnonzero(sources == number)
            for position, row in zip(at.tolist(), self.index[number].rows(rows[at]), strict=True):
                index_rows[position] = row
        return index_rows

    def _copy_of(self, item: Item, position: int, language: str) -> Outcome:
        try:
            sample = read_item(item)
        except (OSError, ValueError) as error:
            return Failed(reason="unreadable", detail=one_line(error))
        return Written(samples=(_renamed(sample, int(self.number[position])),), language=language)


def _shard_task(corpus: Corpus, workspace: Workspace, job: Config) -> _ShardTask:
    index = []
    for catalog in corpus.catalogs:
        schema = _KEYS if catalog.shards.external else _CARRIED
        index.append(RowFile(catalog.tables(schema.names), schema))
    return _ShardTask(
        corpus=corpus,
        index=index,
        number=occurrences(corpus.mixture, job["plan"]["units"], [one.bases for one in index]),
        workspace=workspace,
        config_sha256=digest_of(job["config"]),
        lock=Lock(),
    )


def _renamed(sample: Sample, number: int) -> Sample:
    """Return the sample with the key of its `number`-th occurrence."""
    key = key_again(sample.key, number)
    return sample if key == sample.key else replace(sample, key=key, origin={**sample.origin, "key": sample.key})
