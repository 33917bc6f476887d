"""A shard set under construction: one writer, the records of its finished shards, and the files that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from datagen.job.plan import PLAN
from varyforge.errors import UserError
from varyforge.files import locked
from varyforge.shards import JOB, MANIFEST, ShardRecord, read_job, read_manifest
from varyforge.storage import Folder, LocalFolder, folder_at, write
from varyforge.tables import write_table

_UNFINISHED = "unfinished.jsonl"
_DONE = "done"
_TABLES = (("", ".tar"), ("index", ".parquet"), ("ledger", ".parquet"), (PLAN, ".parquet"))


@dataclass(frozen=True, slots=True)
class Workspace:
    """A shard set under construction; an object that travels to the tasks that make the shards.

    A kill at any moment loses no finished shard and fakes none. A finished set has `manifest.jsonl`. `begin` replaces
    that file by `unfinished.jsonl` with the records known by then. `put` gives each shard finished afterwards a file
    of its own in `done/`, as the last step of its task. `close` writes the manifest and removes the other records.
    """

    folder: Folder

    def job(self, source: str) -> dict[str, Any] | None:
        """Return the job.json of the folder, or None where there is none yet.

        Raises:
            UserError: the folder holds something else, other shard sets, or a set of another source than `source`.
        """
        if self.folder.size(JOB) is not None:
            job = read_job(self.folder)
            if job["source"] != source:
                raise UserError(f"{self.folder}: holds a set made by {job['source']!r}; choose another --out")
            return job
        if sets := _sets_below(self.folder):
            raise UserError(f"{self.folder}: holds shard sets ({', '.join(sets)}); name a folder of its own for --out")
        if self.folder.names(".tar") or self.folder.names(below="index") or self.folder.names(below="ledger"):
            raise UserError(f"{self.folder}: holds files that no job of ours wrote; choose an empty folder for --out")
        return None

    def finished(self) -> list[ShardRecord]:
        """Return the newest record of each shard that was ever finished, in order of name.

        Raises:
            UserError: the manifest or `unfinished.jsonl` is broken.
        """
        if self.is_closed:
            return read_manifest(self.folder)
        records = {record.name: record for record in read_manifest(self.folder, _UNFINISHED)}
        for name in self.folder.names(".json", _DONE):
            with suppress(ValueError, TypeError):  # a broken record counts as none: its shard is made again
                record = ShardRecord(**json.loads(self.folder.read(name)))
                records[record.name] = record
        return [records[name] for name in sorted(records)]

    @property
    def is_closed(self) -> bool:
        """Whether the set is finished."""
        return self.folder.size(MANIFEST) is not None

    def begin(self, job: dict[str, Any], records: Iterable[ShardRecord]) -> None:
        """Mark the set as unfinished. `records` are those of its finished shards, `job` becomes its job.json."""
        write(self.folder, _UNFINISHED, _lines(records))
        self.folder.remove(MANIFEST)
        self._remove_done()
        self.write_job(job)

    def write_job(self, job: dict[str, Any]) -> None:
        """Write job.json."""
        write(self.folder, JOB, (json.dumps(job, indent=2, ensure_ascii=False) + "\n").encode())

    def write_tables(
        self,
        name: str,
        rows: tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]],
        schemas: tuple[pa.Schema, pa.Schema],
        *,
        tar: tuple[int, str],
        made_of: tuple[str, str],
    ) -> ShardRecord:
        """Write index and ledger of a shard whose tar is complete. Return the shard's record, for `put`.

        `tar` is from `ShardWriter.close`. `made_of` are the SHA-256 of the settings and of the units.
        """
        index, ledger = rows
        return ShardRecord(
            name=name,
            units=len(ledger),
            samples=len(index),
            **{kind: sum(row["outcome"] == kind for row in ledger) for kind in ("written", "rejected", "failed")},
            tar_bytes=tar[0],
            tar_sha256=tar[1],
            index_sha256=write_table(self.folder, f"index/{name}.parquet", index, schemas[0]),
            ledger_sha256=write_table(self.folder, f"ledger/{name}.parquet", ledger, schemas[1]),
            config_sha256=made_of[0],
            units_sha256=made_of[1],
        )

    def put(self, record: ShardRecord) -> None:
        """Record that a shard is finished."""
        write(self.folder, f"{_DONE}/{record.name}.json", json.dumps(asdict(record)).encode())

    def close(self, records: Iterable[ShardRecord]) -> None:
        """Mark the set as finished. `records` are those of all its shards, in order of name."""
        write(self.folder, MANIFEST, _lines(records))
        self.tidy()

    def tidy(self) -> None:
        """Remove temporary files of dead writers, and the records of a finished set that its manifest repeats."""
        self.folder.tidy()
        if self.is_closed:
            self.folder.remove(_UNFINISHED)
            self._remove_done()

    def remove(self, is_stray: Callable[[str], bool]) -> None:
        """Remove the tars, tables and plan files for whose name (e.g. "index/pdf-01.parquet") `is_stray` is true."""
        for below, ending in _TABLES:
            for name in filter(is_stray, self.folder.names(ending, below)):
                self.folder.remove(name)

    def _remove_done(self) -> None:
        for name in self.folder.names(".json", _DONE):
            self.folder.remove(name)


@contextmanager
def open_workspace(out: str | Path) -> Iterator[Workspace]:
    """Open the shard set at `out` (path or URL) for one writer. Object stores know no locks: there, nothing is locked.

    Raises:
        UserError: another process is writing there, or the folder cannot be written to.
    """
    folder = folder_at(out)
    with locked(folder.path) if isinstance(folder, LocalFolder) else nullcontext():
        workspace = Workspace(folder)
        folder.tidy()
        try:
            yield workspace
        except UserError:
            if folder.size(JOB) is None:  # nothing was begun
                workspace.remove(lambda name: name.startswith(f"{PLAN}/"))
            raise
        workspace.tidy()


def _sets_below(folder: Folder) -> list[str]:
    """Return the names of subfolders that are shard sets. Behind a URL they are not looked for."""
    if not isinstance(folder, LocalFolder):
        return []
    return sorted(path.parent.name for path in folder.path.glob(f"*/{JOB}"))


def _lines(records: Iterable[ShardRecord]) -> bytes:
    return "".join(json.dumps(asdict(record)) + "\n" for record in records).encode()
