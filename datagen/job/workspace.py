"""The records of finished shards, so kept that a kill at any moment loses none and fakes none.

A finished set has `manifest.jsonl`. While a job runs there is none: what was known at its start is in
`unfinished.jsonl`, and every shard finished since then has its own file in `done/`, written by the task that made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict

from datagen.job.change import Config
from varyforge.errors import UserError
from varyforge.files import locked
from varyforge.shards import JOB, MANIFEST, ShardRecord, read_job, read_manifest
from varyforge.storage import Folder, LocalFolder, write

_UNFINISHED = "unfinished.jsonl"
_DONE = "done"


def read_records(folder: Folder) -> list[ShardRecord]:
    """Records of all shards that were ever finished there, the newest of each name, in order of name.

    Raises:
        UserError: a file of them is broken.
    """
    if folder.size(MANIFEST) is not None:
        return read_manifest(folder)
    found = {record.name: record for record in read_manifest(folder, _UNFINISHED)}
    for name in folder.names(".json", _DONE):
        with suppress(ValueError, TypeError):  # a broken one counts as none: its shard is made again
            record = ShardRecord(**json.loads(folder.read(name)))
            found[record.name] = record
    return [found[name] for name in sorted(found)]


def put_record(folder: Folder, record: ShardRecord) -> None:
    """Says that a shard is finished."""
    write(folder, f"{_DONE}/{record.name}.json", json.dumps(asdict(record)).encode())


def reopen(folder: Folder, records: Iterable[ShardRecord]) -> None:
    """From here on the set is unfinished; `records` are what is known of its shards."""
    write(folder, _UNFINISHED, _lines(records))
    folder.remove(MANIFEST)
    for name in folder.names(".json", _DONE):  # they are in the file now
        folder.remove(name)


def close(folder: Folder, records: Iterable[ShardRecord]) -> None:
    """From here on the set is finished and holds just these shards."""
    write(folder, MANIFEST, _lines(records))
    tidy(folder)


def tidy(folder: Folder) -> None:
    """Removes what the manifest has made superfluous."""
    folder.remove(_UNFINISHED)
    for name in folder.names(".json", _DONE):
        folder.remove(name)


def is_closed(folder: Folder) -> bool:
    """Whether the set is finished."""
    return folder.size(MANIFEST) is not None


def _lines(records: Iterable[ShardRecord]) -> bytes:
    return "".join(json.dumps(asdict(record)) + "\n" for record in records).encode()


def _job_text(job: Config) -> bytes:
    return (json.dumps(job, indent=2, ensure_ascii=False) + "\n").encode()


def read_there(folder: Folder) -> Config | None:
    """The job.json that is there.

    Raises:
        UserError: the folder holds something else.
    """
    if folder.size(JOB) is not None:
        return read_job(folder)
    if folder.names(".tar") or folder.names(below="index") or folder.names(below="ledger"):
        raise UserError(f"{folder}: holds files that no job of ours wrote; choose an empty folder for --out")
    return None


def alone(folder: Folder) -> AbstractContextManager[object]:
    """One writer at a time, where the folder is on this machine; object stores know no locks."""
    return locked(folder.path) if isinstance(folder, LocalFolder) else nullcontext()
