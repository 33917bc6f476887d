"""Samples ↔ shards: WebDataset tars with an index that says where each sample lies.

A sample is `{key}.json` followed by its images (`{key}.jpg`, or `{key}.0.jpg`, `{key}.1.jpg` … for several), adjacent
in the tar. Plain `webdataset`, `tar` and Hugging Face `datasets` read it. Equal samples give equal bytes: members carry
no time, owner or other trace of the machine.

A shard set is a folder:

    job.json            what it was made from and how (see datagen.job)
    manifest.jsonl      a line per finished shard: counts and SHA-256 sums; written last
    NAME-000000.tar     samples
    index/*.parquet     a row per sample (IndexRow); read the folder as one table
    ledger/*.parquet    a row per input unit (see datagen.ledger)
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import UserError
from datagen.files import atomic_file
from datagen.sample import Sample, from_json, to_json

MANIFEST = "manifest.jsonl"
JOB = "job.json"
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """Where a sample lies, and what a mixture may filter by."""

    key: str
    task: str
    shard: str  # file name of the tar
    offset: int  # bytes from the start of the tar to the first header of the sample
    size: int  # bytes from there to the end of the sample's last member
    unit: str  # input unit it came from; joins the ledger
    group: str  # what must stay on one side of a split: the document, the image
    split: str  # "train" or "validation"
    language: str  # "en", "zh", … or "" where unknown
    images: int
    answer_chars: int  # characters of all assistant turns


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """A line of the manifest: a finished shard."""

    name: str  # without ".tar"
    units: int
    samples: int
    written: int
    rejected: int
    failed: int
    tar_bytes: int
    tar_sha256: str
    index_sha256: str
    ledger_sha256: str


def write_table(path: Path, rows: Sequence[object], row_type: type) -> None:
    """Writes dataclass rows as parquet, atomically; equal rows give equal bytes."""
    kinds: dict[str, pa.DataType] = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([(f.name, kinds[str(f.type)]) for f in fields(row_type)])
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)  # type: ignore[call-overload]  # rows are dataclasses
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


class ShardWriter:
    """Writes one tar. Use through `open_shard`."""

    def __init__(self, file: BinaryIO, shard: str) -> None:
        self._file = file
        self._shard = shard
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self.rows: list[IndexRow] = []

    def add(self, sample: Sample, *, unit: str, group: str, split: str) -> None:
        """Appends a sample and its index row."""
        offset = self._tar.offset
        text = json.dumps(to_json(sample), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        self._member(f"{sample.key}.json", text.encode())
        for number, image in enumerate(sample.images):
            middle = "" if len(sample.images) == 1 else f".{number}"
            self._member(f"{sample.key}{middle}.{image.format}", image.data)
        row = IndexRow(
            key=sample.key,
            task=sample.task,
            shard=self._shard,
            offset=offset,
            size=self._tar.offset - offset,
            unit=unit,
            group=group,
            split=split,
            language=str(sample.origin.get("language", "")),
            images=len(sample.images),
            answer_chars=sum(len(turn.text) for turn in sample.turns if turn.role == "assistant"),
        )
        self.rows.append(row)

    def close(self) -> None:
        """Writes the tar's end marker."""
        self._tar.close()

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)  # mtime, uid, gid 0 and no names: nothing of this machine
        info.size = len(data)
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(data))


@contextmanager
def open_shard(path: Path) -> Iterator[ShardWriter]:
    """A tar that appears at `path`, synced and whole, when the block ends without an exception."""
    with atomic_file(path) as file:
        writer = ShardWriter(file, path.name)
        yield writer
        writer.close()


def decode_sample(data: bytes, where: str) -> Sample:
    """The sample in the bytes that an index row points to.

    Args:
        data: `size` bytes of a tar from `offset`.
        where: names the place in an error message.

    Raises:
        ValueError: the bytes are not one whole sample.
    """
    members = _members(data, where)
    if not members or not members[0][0].endswith(".json"):
        raise ValueError(f"{where}: no sample here: the first member is {members[0][0] if members else 'missing'}")
    (name, text), *images = members
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: {name}: not JSON: {error}") from error
    return from_json(record, [image for _, image in images])


def _members(data: bytes, where: str) -> list[tuple[str, bytes]]:
    """Name and content of consecutive members. By hand, because tarfile hides a cut at a member's border."""
    found: list[tuple[str, bytes]] = []
    position = 0
    while position < len(data):
        try:
            info = tarfile.TarInfo.frombuf(data[position : position + _BLOCK], "utf-8", "strict")
        except tarfile.HeaderError as error:
            raise ValueError(f"{where}: broken tar header at byte {position}: {error}") from error
        start = position + _BLOCK
        position = start + -(-info.size // _BLOCK) * _BLOCK  # content is filled up to whole blocks
        if position > len(data):
            raise ValueError(f"{where}: {info.name} is cut: {len(data) - start} of {info.size} bytes")
        found.append((info.name, data[start : start + info.size]))
    return found


class ShardSet:
    """A finished shard set, opened for random access.

    Raises:
        UserError: the folder is missing, is no shard set, or its job has not finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = read_job(folder)
        self.records = read_manifest(folder)
        whole = {record.name for record in self.records if is_whole(folder, record)}
        planned = {shard_name(str(self.job["source"]), number) for number in range(int(self.job["shards"]))}
        if whole != planned:
            raise UserError(
                f"{folder}: unfinished: {len(whole & planned)} of {len(planned)} shards are there and whole; "
                "run the datagen command that makes it once more"
            )

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The index: one row per sample in order of shard and offset, columns as in `IndexRow`."""
        return read_tables(self.folder / "index", [record.name for record in self.records], columns)

    def ledger(self) -> pa.Table:
        """The ledger: one row per input unit, columns as in `datagen.ledger.LedgerRow`."""
        return read_tables(self.folder / "ledger", [record.name for record in self.records])

    def read(self, shard: str, offset: int, size: int) -> Sample:
        """Reads one sample by its index row; touches no other byte.

        Raises:
            ValueError: the bytes there are not one whole sample.
        """
        where = f"{self.folder / shard} at byte {offset}"
        with open(
            self.folder / shard, "rb", buffering=0
        ) as file:  # microseconds; kept open, shards exhaust descriptors
            data = os.pread(file.fileno(), size, offset)
        if len(data) < size:
            raise ValueError(f"{where}: the file ends after {len(data)} of {size} bytes")
        return decode_sample(data, where)


def shard_name(source: str, number: int) -> str:
    """Name of the `number`-th shard (from 0) of a source, without ".tar"."""
    return f"{source}-{number:06d}"


def is_whole(folder: Path, record: ShardRecord) -> bool:
    """Whether a shard's three files are there, the tar in its full size. Reads no content."""
    tar = folder / f"{record.name}.tar"
    tables = (folder / kind / f"{record.name}.parquet" for kind in ("index", "ledger"))
    return tar.is_file() and tar.stat().st_size == record.tar_bytes and all(table.is_file() for table in tables)


def read_tables(folder: Path, names: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """The parquet files `names` of `folder` as one table, in that order."""
    parts = [pq.read_table(folder / f"{name}.parquet", columns=columns) for name in names]
    return pa.concat_tables(parts)


def read_job(folder: Path) -> dict[str, Any]:
    """The job description of a shard set.

    Raises:
        UserError: `folder` is missing or is not a shard set.
    """
    path = folder / JOB
    if not folder.is_dir():
        raise UserError(f"{folder}: no such shard set; a datagen command with --out {folder} makes one")
    if not path.is_file():
        raise UserError(f"{folder}: not a shard set: it has no {JOB}")
    try:
        job = json.loads(path.read_bytes())
        int(job["shards"]), job["source"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); delete the folder and make the shard set again") from error
    return dict(job)


def read_manifest(folder: Path) -> list[ShardRecord]:
    """Finished shards in order of name. A torn last line (a kill while it was written) counts as not there."""
    path = folder / MANIFEST
    records: dict[str, ShardRecord] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = ShardRecord(**json.loads(line))
        except (ValueError, TypeError):
            continue
        records[record.name] = record
    return [records[name] for name in sorted(records)]
