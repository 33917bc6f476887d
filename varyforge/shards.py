"""Shard sets: WebDataset tars with an index of the samples' positions.

A sample is `{key}.json` followed by its images (`{key}.jpg`, or `{key}.0.jpg`, `{key}.1.jpg` … for several), adjacent
in the tar. Plain `webdataset`, `tar` and Hugging Face `datasets` read it. Equal samples give equal bytes: members carry
no time, owner or other trace of the machine.

A shard set is a folder, on this machine or behind a URL:

    job.json            source, settings and versions (datagen.job.job)
    manifest.jsonl      a line per shard: counts and SHA-256 sums; written last, when the job is finished
    NAME-0110.tar       samples; the bits are the shard's position in the plan (datagen.job.plan)
    index/*.parquet     a row per sample (IndexRow, then the source's measures); the folder reads as one table
    ledger/*.parquet    a row per input unit (datagen.job.ledger)
    plan/*.parquet      the units of the inputs, so that an unchanged input is not read again

A running job has no manifest; `unfinished.jsonl` and `done/*.json` hold the records of its finished shards.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from varyforge.errors import UserError
from varyforge.sample import Sample, from_json, to_json
from varyforge.storage import Folder, folder_at
from varyforge.tables import parse_table, read_table
from varyforge.tar import TarError, members

if TYPE_CHECKING:
    import webdataset
    from pyarrow.compute import Expression

MANIFEST = "manifest.jsonl"
JOB = "job.json"
SPLITS = ("train", "validation", "excluded")
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """An index row: the position of a sample, and columns to filter by. The source's measures follow as columns."""

    key: str
    task: str
    shard: str  # file name of the tar
    offset: int  # bytes from the start of the tar to the first header of the sample
    size: int  # bytes from there to the end of the sample's last member
    unit: str  # its input unit; joins the ledger
    document: str  # the input that has it: the PDF, the image
    group: str  # one for documents that share near-duplicate pages: the first of their names; never split
    twins: str  # key of the first of its near duplicates; "" without any
    split: str  # "train", "validation", or "excluded": of a held-out document, with a near duplicate in training
    language: str  # "en", "zh", … or "" where unknown
    licence: str  # as the data set or its user states it; "" where unknown
    prompt: str  # wording of the prompt (varyforge.prompts); "" if the words are its own
    images: int
    width: int  # pixels of the first image; 0 where there is none
    height: int  # pixels
    boxes: int  # in question and answer
    answer_chars: int  # characters of all supervised turns
    tokens: int  # of all turns, estimated without a tokenizer (varyforge.lengths); images not counted
    fingerprint: bytes  # datagen.job.duplicates.fingerprint of the answer; empty where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """A line of the manifest, for a finished shard."""

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
    config_sha256: str  # of source, settings, versions and prompts
    units_sha256: str  # of the units that the shard contains


class ShardWriter:
    """A writer of one tar, opened by `open_shard`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashing(file)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[call-overload]  # only writes

    def add(self, sample: Sample) -> tuple[int, int]:
        """Append a sample. Returns its offset and size in bytes."""
        offset = self._tar.offset
        text = json.dumps(to_json(sample), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        self._member(f"{sample.key}.json", text.encode())
        for number, image in enumerate(sample.images):
            middle = "" if len(sample.images) == 1 else f".{number}"
            self._member(f"{sample.key}{middle}.{image.format}", image.data)
        return offset, self._tar.offset - offset

    def copy(self, sample: bytes) -> tuple[int, int]:
        """Append a sample's bytes from another shard. Returns its offset and size in bytes."""
        offset = self._tar.offset
        self._file.write(sample)
        self._tar.offset += len(sample)
        return offset, len(sample)

    def close(self) -> tuple[int, str]:
        """Write the tar's end marker. Returns the file's size in bytes and its SHA-256."""
        self._tar.close()
        return self._file.size, self._file.digest.hexdigest()

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)  # mtime, uid, gid 0 and no names: nothing of this machine
        info.size = len(data)
        info.mode = 0o644
        header = info.tobuf(tarfile.USTAR_FORMAT)
        self.copy(header + data + bytes(-len(data) % _BLOCK))  # at once: tarfile would write it in small pieces


class _Hashing:
    """A file, written from front to back, that hashes its bytes, so that a shard is not read again for its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


@contextmanager
def open_shard(folder: Folder, name: str) -> Iterator[ShardWriter]:
    """Open a tar that appears in `folder` as `name`, whole, when the block ends well. The block closes the tar."""
    with folder.writer(name) as file:
        yield ShardWriter(file)


def decode_sample(data: bytes, where: str) -> Sample:
    """Decode the sample in the bytes that an index row points to.

    Args:
        data: `size` bytes of a tar from `offset`.
        where: file and position for an error message.

    Raises:
        ValueError: the bytes are not one whole sample.
    """
    try:
        contents = [
            (name, data[start : start + size]) for name, _, start, size in members(io.BytesIO(data), whole=False)
        ]
    except TarError as error:
        raise ValueError(f"{where}: {error}") from error
    if not contents or not contents[0][0].endswith(".json"):
        raise ValueError(f"{where}: no sample here: the first member is {contents[0][0] if contents else 'missing'}")
    (name, text), *images = contents
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {name}: not JSON: {error}") from error
    return from_json(record, [image for _, image in images])


class ShardSet:
    """A finished shard set, opened for random access.

    Args:
        location: path or URL of its folder.

    Raises:
        UserError: the folder is missing, is no shard set, or its job has not finished.
    """

    def __init__(self, location: str | Path) -> None:
        self.folder = folder_at(location)
        self.job = read_job(self.folder)
        self.records = read_manifest(self.folder)
        missing = _not_whole(self.folder, self.records)
        if missing or not self.records:
            what = f"shard {missing[0]} is missing or cut" if missing else "its job has not finished"
            raise UserError(f"{location}: unfinished: {what}; run the datagen command that makes it once more")

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the index: a row per sample by shard and offset, columns as in `IndexRow`, then the measures."""
        return pa.concat_tables(self.tables(columns))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the index shard by shard."""
        return (self.index(number, columns) for number in range(len(self.records)))

    def ledger(self) -> pa.Table:
        """Read the ledger: a row per input unit, columns as in `datagen.job.ledger.LedgerRow`."""
        return pa.concat_tables(self.ledgers())

    def ledgers(self) -> Iterator[pa.Table]:
        """Read the ledger shard by shard."""
        return (read_table(self.folder, f"ledger/{record.name}.parquet") for record in self.records)

    def read(self, shard: str, offset: int, size: int) -> Sample:
        """Read one sample by its index row, and no other byte.

        Raises:
            ValueError: the bytes there are not one whole sample.
        """
        return decode_sample(read_exactly(self.folder, shard, offset, size), position_of(self.folder, shard, offset))

    def samples(self, split: str | None = None, filters: Expression | None = None) -> Iterator[Sample]:
        """Yield the samples in order of shard and offset.

        Args:
            split: "train", "validation" or "excluded"; None: all.
            filters: a condition on index columns, such as `pyarrow.compute.field("language") == "en"`.

        Raises:
            ValueError: no such split or column, or a sample is damaged.
        """
        for number in range(len(self.records)):
            for row in self.rows(number, split, filters).select(["shard", "offset", "size"]).to_pylist():
                yield self.read(**row)

    def webdataset(
        self, split: str | None = None, filters: Expression | None = None, **options: Any
    ) -> webdataset.WebDataset:
        """Build a plain `webdataset` pipeline of raw samples: a dict of `__key__`, `json`, and `jpg`, `png`, `0.jpg` ….

        Nodes, and the workers of a DataLoader, share out the shards, so each sample comes once per epoch. A rank with
        fewer samples than another ends earlier; `.with_epoch(n)` makes epochs equal. `webdataset` opens the tars: paths
        and http(s), gs and hf URLs, others as far as it knows them. The index is read through fsspec.

        Args:
            split: as in `samples`.
            filters: as in `samples`.
            options: for `webdataset.WebDataset`, such as `shardshuffle=100` and `seed=0`.
        """
        from varyforge.streaming import pipeline  # noqa: PLC0415  # webdataset comes with the extra `train`

        return pipeline(self, split, filters, options)

    def rows(self, number: int, split: str | None = None, filters: Expression | None = None) -> pa.Table:
        """Read the index rows of shard `records[number]` that a split and a condition on columns leave."""
        if split not in (None, *SPLITS):
            raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")
        rows = self.index(number, None)
        rows = rows if split is None else rows.filter(pc.field("split") == split)
        return rows if filters is None else rows.filter(filters)

    def index(self, number: int, columns: Sequence[str] | None, *, coded: Sequence[str] = ()) -> pa.Table:
        """Read index columns of shard `records[number]`, those in `coded` as values and codes (pa.dictionary)."""
        name = f"index/{self.records[number].name}.parquet"
        return parse_table(self.folder.read(name), f"{self.folder}/{name}", columns, coded=coded)


def open_set(location: str | Path) -> ShardSet:
    """Open the finished shard set at a path or URL.

    Raises:
        UserError: the folder is missing, is no shard set, or its job has not finished.
    """
    return ShardSet(location)


def read_exactly(folder: Folder, name: str, offset: int, size: int) -> bytes:
    """Read `size` bytes of a file from `offset`, and no other.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file ends before.
    """
    data = folder.read(name, offset, size)
    if len(data) < size:
        raise ValueError(f"{position_of(folder, name, offset)}: the file ends after {len(data)} of {size} bytes")
    return data


def position_of(folder: Folder | str, shard: str, offset: int) -> str:
    """Name the position of a sample for a message."""
    return f"{folder}/{shard} at byte {offset}"


def _not_whole(folder: Folder, records: Sequence[ShardRecord]) -> list[str]:
    """Return the names of the shards that `is_whole` would deny, by one listing of the folder for all."""
    tars = folder.sizes(".tar")
    tables = folder.sizes(".parquet", "index") | folder.sizes(".parquet", "ledger")
    return [
        record.name
        for record in records
        if tars.get(f"{record.name}.tar") != record.tar_bytes
        or not all(tables.get(f"{kind}/{record.name}.parquet") for kind in ("index", "ledger"))
    ]


def is_whole(folder: Folder, record: ShardRecord) -> bool:
    """Return whether a shard's three files exist, the tar in its full size. Reads no content."""
    tables = (f"{kind}/{record.name}.parquet" for kind in ("index", "ledger"))
    return folder.size(f"{record.name}.tar") == record.tar_bytes and all(folder.size(table) for table in tables)


def read_job(folder: Folder) -> dict[str, Any]:
    """Read the job description of a shard set.

    Raises:
        UserError: `folder` is missing or is not a shard set.
    """
    if folder.size(JOB) is None:
        if not folder.exists():
            raise UserError(f"{folder}: no such shard set; a datagen command with --out {folder} makes one")
        raise UserError(f"{folder}: not a shard set: it has no {JOB}")
    try:
        job = json.loads(folder.read(JOB))
        job["source"], job["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}/{JOB}: broken ({error}); delete the folder and make the shard set again") from error
    return dict(job)


def read_manifest(folder: Folder, name: str = MANIFEST) -> list[ShardRecord]:
    """Read the records of shards in order of name; none if the file is missing.

    Raises:
        UserError: the file is broken.
    """
    if folder.size(name) is None:
        return []
    try:
        records = [ShardRecord(**json.loads(line)) for line in folder.read(name).splitlines()]
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder}/{name}: broken ({error}); delete it and run the datagen command again") from error
    return sorted(records, key=lambda record: record.name)
