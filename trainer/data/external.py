"""External shard sets: a folder or URL of *.tar without an index, made by other tools. The index is made on first use.

Of a local tar only headers are read. Behind a URL a window of bytes is fetched at each header. With members smaller
than the window that is most of the tar, but in few requests. Each tar's index is a file in the cache folder, under a
name that changes with the tar.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.cache import Cache, one_at_a_time
from trainer.data.external_sample import (
    Entry,
    SampleMembers,
    entry_of,
    external_key,
    has_question,
    may_have_text,
    missing_part,
    record_of,
    sort_members,
)
from trainer.data.filters import COLUMNS, Kind
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.files import atomic_file
from varyforge.sample import TASKS
from varyforge.storage import Folder, LocalFolder, folder_at, signature
from varyforge.tables import columns_of
from varyforge.tar import Member, TarError, members

VERSION = 3  # of the rules by which a tar is read

_BELOW = "foreign"  # folder in the cache
_WINDOW = 256 << 10  # bytes fetched at a header
_READERS = 8  # threads
_BLOCK = 512

_TEXTS, _NUMBERS = ("name", "task"), ("offset", "size", "images", "answer_chars", "tokens")
_SCHEMA = pa.schema([(name, pa.string()) for name in _TEXTS] + [(name, pa.int64()) for name in _NUMBERS])
_KINDS: dict[str, Kind] = {name: COLUMNS[name] for name in ("task", "split", "images", "answer_chars", "tokens")}

_CONSTANTS: dict[str, str | int] = {
    "split": "train",
    **dict.fromkeys(("prompt", "language", "licence", "document"), ""),
    **dict.fromkeys(("width", "height", "boxes"), 0),
}
"""Index columns with the same value in all rows. All but the split are unknown."""

# Texts are not read. A token is about 4 bytes of UTF-8 in English and Chinese, half of a JSON file is answers, and the
# prompt before a text has 12 tokens.
_BYTES_PER_TOKEN, _ANSWERS_IN_JSON, _PROMPT_TOKENS = 4, 0.5, 12


class _State(NamedTuple):
    name: str
    size: int  # bytes
    signature: str  # changes with the tar: size and time, or what the object store says


@dataclass(frozen=True, slots=True, kw_only=True)
class Tar:
    """The summary of a tar's index."""

    name: str
    size: int  # bytes
    samples: int
    headers_sha256: str  # of all headers, which state names, sizes, times and their own checksums
    left_out: dict[str, int] = field(default_factory=dict)  # samples by reason
    cut: str = ""  # byte and reason where the tar breaks off; "" for a whole tar


class ExternalSet:
    """A shard set made by other tools, with the interface of `trainer.data.catalog.Shards`.

    Without a `task` it is the one in the JSON of each sample, which has to be read for that.

    Raises:
        UserError: there are no tars, or none of them holds a sample of the task.
    """

    external = True
    kinds = _KINDS

    def __init__(self, location: str, task: str | None, cache: Cache) -> None:
        self._folder = folder_at(location)
        self.place = str(self._folder)
        self._task = task
        self._states = _states(self._folder)
        below = cache.folder / _BELOW
        self._files = [below / f"{_digest(self.place, task, state)}.parquet" for state in self._states]
        with one_at_a_time(below / _digest(self.place, task)):
            self._summaries = self._open_indexes()
        self.tars = [tar.name for tar in self._summaries]
        self.versions = [_digest(state.signature)[:16] for state in self._states]
        self.identity = _digest(task, [[tar.name, tar.size, tar.headers_sha256] for tar in self._summaries])
        """Contents are not read: the hash does not notice content replaced by content of the same size and time."""
        self.samples = sum(tar.samples for tar in self._summaries)
        if not self.samples:
            raise UserError(self._nothing())

    @property
    def left_out(self) -> dict[str, int]:
        """The number of unusable samples by reason, and of tars that are cut or empty."""
        counts: Counter[str] = Counter()
        for tar in self._summaries:
            counts.update(tar.left_out)
        counts["tars that are cut"] = sum(bool(tar.cut) for tar in self._summaries)
        counts["tars without a sample"] = sum(not tar.samples for tar in self._summaries)
        return dict(+counts)

    @property
    def cuts(self) -> list[str]:
        """One line per tar that breaks off."""
        return [
            f"{self.place}/{tar.name}: {tar.cut}; {tar.samples} samples before it are used, the rest is lost"
            for tar in self._summaries
            if tar.cut
        ]

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the index of `tars[number]`: the known columns of `varyforge.shards.IndexRow`."""
        if not self._files[number].exists():  # somebody emptied the cache
            self._open_index(number)
        with open(self._files[number], "rb") as file:
            table = columns_of(file)
        extra = {name: pa.repeat(pa.scalar(value), len(table)) for name, value in _CONSTANTS.items()}
        if "key" in columns:
            tar = self.tars[number]
            extra["key"] = pa.array([external_key(tar, name) for name in table.column("name").to_pylist()], pa.string())
        return pa.table({name: extra[name] if name in extra else table.column(name) for name in columns})

    def _open_indexes(self) -> list[Tar]:
        numbers = range(len(self._files))
        if missing := [number for number in numbers if not self._files[number].exists()]:
            progress = Progress(f"headers of {self.place}", total=len(missing), unit="tar")
            with progress, ThreadPoolExecutor(_READERS) as pool:
                for _ in pool.map(self._open_index, missing):
                    progress.advance(1)
        return list(map(self._open_index, numbers))

    def _open_index(self, number: int) -> Tar:
        """Return the summary of a tar's index. The index is made where its file is missing or damaged."""
        path, state = self._files[number], self._states[number]
        try:
            return Tar(**json.loads(pq.read_schema(path).metadata[b"tar"]))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            tar, table = index_tar(self._folder, state.name, state.size, self._task)
            with atomic_file(path) as file:
                summary = {b"tar": json.dumps(asdict(tar)).encode()}
                pq.write_table(table.replace_schema_metadata(summary), file, compression="zstd")
            return tar

    def _nothing(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        reasons += next((f"; {tar.name}: {tar.cut}" for tar in self._summaries if tar.cut), "")
        kind = "of any task" if self._task is None else f"of the task {self._task}"
        remedy = "name the task" if self._task is None else "name another task or folder"
        return (
            f"{self.place}: {len(self.tars)} tars without our job.json, no sample {kind} in them ({reasons}); {remedy}"
        )


def index_tar(folder: Folder, name: str, size: int, task: str | None) -> tuple[Tar, pa.Table]:
    """Locate the samples in a tar by its headers.

    Raises:
        OSError: the tar cannot be read.
    """
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    opened = folder.open(name) if isinstance(folder, LocalFolder) else cast(BinaryIO, _Window(folder, name, size))
    with opened as file:
        walk = _Walk(file)
        for sample, group in groupby(walk, key=lambda step: step[1].name):
            steps = list(group)
            reason = "members that do not stand together" if sample in seen else ""
            reason = "cut" if walk.cut_name == sample else reason
            seen.add(sample)
            row = reason or _row([entry for _, entry in steps], steps[0][0], task, file)
            if isinstance(row, str):
                left_out["cut" if walk.cut else row] += 1  # the walk ends with the last sample
            else:
                rows.append(row)
    if walk.cut_name and walk.cut_name not in seen:
        left_out["cut"] += 1
    tar = Tar(
        name=name,
        size=size,
        samples=len(rows),
        headers_sha256=walk.headers.digest.hexdigest(),
        left_out=dict(left_out),
        cut=walk.cut,
    )
    return tar, pa.Table.from_pylist(rows, schema=_SCHEMA)


def _row(entries: Sequence[Entry], start: int, task: str | None, file: BinaryIO) -> dict[str, Any] | str:
    """Return the index row of the sample whose headers begin at `start`, or the reason why there is none."""
    parts = sort_members(entries)
    if isinstance(parts, str):
        return parts
    if task is None:
        task = _record(parts, file).get("task")
        if task not in TASKS:
            return "no task in its JSON"
    emptied = any(ending == "txt" and not member.size for _, ending, member in entries)
    if emptied and not may_have_text(_record(parts, file)):  # frequent in web crawls
        return "no text"
    if reason := missing_part(parts, task):
        return reason
    if parts.text is not None and has_question(task):
        answer_chars, tokens = parts.text.size, parts.text.size // _BYTES_PER_TOKEN + _PROMPT_TOKENS
    else:
        json_bytes = parts.record.size if parts.record else 0
        answer_chars, tokens = int(json_bytes * _ANSWERS_IN_JSON), json_bytes // _BYTES_PER_TOKEN
    last = entries[-1].member
    size = last.offset + last.size - start  # without the padding of the last block, which a cut tar may lack
    row = {"name": entries[0].name, "task": task, "offset": start, "size": size, "images": len(parts.images)}
    return row | {"answer_chars": answer_chars, "tokens": max(tokens, 1)}


def _record(parts: SampleMembers, file: BinaryIO) -> dict[str, Any]:
    """Return the JSON of a sample; empty where there is none or it is broken."""
    if parts.record is None:
        return {}
    file.seek(parts.record.offset)
    try:
        return record_of(file.read(parts.record.size))
    except ValueError:
        return {}


class _Walk:
    """An iterator over a tar's entries, each with the byte where its headers begin, up to a cut."""

    def __init__(self, file: BinaryIO) -> None:
        self.headers = _Headers(file)
        self.cut = ""
        self.cut_name = ""  # of the sample that the cut member belongs to

    def __iter__(self) -> Iterator[tuple[int, Entry]]:
        start = 0
        try:
            for member in members(self.headers):  # type: ignore[arg-type]  # has the methods it needs: read and seek
                if entry := entry_of(member):
                    yield start, entry
                start = member.offset + -(-member.size // _BLOCK) * _BLOCK
        except TarError as error:
            self.cut = str(error)
            entry = entry_of(Member(error.name, "a file", 0, 0))
            self.cut_name = entry.name if entry else ""


class _Headers:
    """A file that hashes everything that is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _Window(io.RawIOBase):
    """A file behind a URL, of which `_WINDOW` bytes or more are fetched at a time."""

    def __init__(self, folder: Folder, name: str, size: int) -> None:
        super().__init__()
        self._folder, self._name, self._size = folder, name, size
        self._at = self._start = 0
        self._data = b""

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = max(min(size if size >= 0 else self._size, self._size - self._at), 0)
        begin = self._at - self._start
        if size and not 0 <= begin <= begin + size <= len(self._data):
            window = min(max(size, _WINDOW), self._size - self._at)
            self._data = self._folder.read(self._name, self._at, window)
            self._start, begin = self._at, 0
        self._at += size
        return self._data[begin : begin + size]


def _states(folder: Folder) -> list[_State]:
    sizes = folder.sizes(".tar")
    if not sizes:
        what = "holds neither job.json nor *.tar" if folder.exists() else "no such folder"
        compressed = next((name for name in folder.names() if ".tar." in name or name.endswith(".tgz")), "")
        raise UserError(
            f"{folder}: {what}" + (f"; {compressed} is compressed: unpack it to .tar" if compressed else "")
        )
    with ThreadPoolExecutor(_READERS) as pool:  # one request per tar on a web server
        signatures = list(pool.map(lambda name: signature(f"{folder}/{name}"), sizes))
    return [_State(name, size, signed) for (name, size), signed in zip(sizes.items(), signatures, strict=True)]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()[:40]
