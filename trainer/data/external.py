"""Shard sets that others wrote: a folder or URL of *.tar without our index. It is made on first use, from headers.

Of a tar on this machine only headers are read. Behind a URL a window is fetched at each header: where members are
smaller than it, that is most of the tar, but in few requests. The index of each tar is kept in the cache folder, under
a name that changes with the tar.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.cache import one_at_a_time
from trainer.data.external_sample import (
    Parts,
    is_asked,
    key_of,
    name_and_ending,
    record_of,
    says_something,
    sort_out,
    what_is_missing,
)
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.files import atomic_file, write_text
from varyforge.sample import TASKS
from varyforge.storage import Folder, LocalFolder, folder_at, signature
from varyforge.tables import columns_of
from varyforge.tar import Member, TarError, members

VERSION = 2  # of what is read out of a tar, and how

_BELOW = "foreign"  # in the cache folder
_WINDOW = 256 << 10  # bytes fetched at a header
_READERS = 8  # threads
_BLOCK = 512

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("task", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("images", pa.int64()),
        ("answer_chars", pa.int64()),
        ("tokens", pa.int64()),
    ]
)
COLUMNS = ("task", "split", "images", "answer_chars", "tokens")
"""Of `varyforge.shards.IndexRow`, what is known and may be filtered by."""

_SAME: dict[str, str | int] = {
    "split": "train",
    **dict.fromkeys(("prompt", "language", "licence", "document"), ""),
    **dict.fromkeys(("width", "height", "boxes"), 0),
}  # in all rows; all but the split is not known

# Texts are not read: a token is about 4 bytes of UTF-8 in English and Chinese, half of a JSON is answers, and a prompt
# that comes with a text has 12 tokens.
_BYTES_PER_TOKEN, _ANSWERS_IN_JSON, _PROMPT_TOKENS = 4, 0.5, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Tar:
    """What was found in a tar."""

    name: str
    size: int  # bytes
    samples: int
    headers_sha256: str  # of all headers, which state names, sizes, times and their own sums
    left_out: dict[str, int] = field(default_factory=dict)  # samples by reason
    cut: str = ""  # where and why it breaks off; "" for a whole one


class ForeignSet:
    """A shard set that others wrote, as if it had an index.

    Args:
        place: folder or URL.
        task: what its samples are taken for; None: what the JSON of each says, which is read for that.
        cache: folder for the indexes.

    Raises:
        UserError: there are no tars, or none holds a sample of the task.
    """

    def __init__(self, place: str, task: str | None, cache: Path) -> None:
        self.folder = folder_at(place)
        self._task = task
        self._states = _states(self.folder)
        self._files = [(cache / _BELOW) / f"{_digest(str(self.folder), task, state)}.parquet" for state in self._states]
        summary = (cache / _BELOW) / f"{_digest(str(self.folder), task, self._states)}.json"
        with one_at_a_time(summary):
            self.tars, self.repeated = _read_summary(summary) or self._index_all(summary)
        if not any(tar.samples for tar in self.tars):
            raise UserError(self._nothing())

    @property
    def versions(self) -> list[str]:
        """Of each tar, what changes when it is replaced, as the file system tells."""
        return [_digest(signed)[:16] for _, _, signed in self._states]

    @property
    def left_out(self) -> dict[str, int]:
        """Samples that cannot be used, by reason; and under their own headings, what else is not as it should be."""
        found: Counter[str] = Counter()
        for tar in self.tars:
            found.update(tar.left_out)
        found["tars that are cut"] = sum(bool(tar.cut) for tar in self.tars)
        found["tars without a sample"] = sum(not tar.samples for tar in self.tars)
        found["names that stand in several tars (the key has the tar's name)"] = self.repeated
        return dict(+found)

    @property
    def cuts(self) -> list[str]:
        """A line for each tar that breaks off."""
        return [
            f"{self.folder}/{tar.name}: {tar.cut}; {tar.samples} samples before it are used, the rest is lost"
            for tar in self.tars
            if tar.cut
        ]

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Columns of the index of `tars[number]`: those of `varyforge.shards.IndexRow` that are known."""
        if not self._files[number].exists():  # somebody tidied up
            self._index(self._states[number], self._files[number])
        table = _read(self._files[number])
        made = {name: pa.repeat(pa.scalar(value), len(table)) for name, value in _SAME.items()}
        if "key" in columns:
            tar = self.tars[number].name
            made["key"] = pa.array([key_of(tar, name) for name in table.column("name").to_pylist()], pa.string())
        return pa.table({name: made[name] if name in made else table.column(name) for name in columns})

    @property
    def identity(self) -> str:
        """Changes with the tars' names, sizes and headers, and with what is made of them; not with where they lie.

        Contents are not read for it: one that was replaced by another of the same size and time is not noticed.
        """
        return _digest(self._task, [[tar.name, tar.size, tar.headers_sha256] for tar in self.tars])

    def _index_all(self, summary: Path) -> tuple[list[Tar], int]:
        tars: list[Tar] = []
        names: list[np.ndarray] = []
        with (
            Progress(f"headers of {self.folder}", total=len(self._states), unit="tar") as progress,
            ThreadPoolExecutor(_READERS) as pool,
        ):
            for tar, hashes in pool.map(self._index, self._states, self._files):
                tars.append(tar)
                names.append(hashes)
                progress.advance(1)
        repeated = sum(map(len, names)) - len(np.unique(np.concatenate(names)))
        write_text(summary, json.dumps({"tars": [asdict(tar) for tar in tars], "repeated": repeated}))
        return tars, repeated

    def _index(self, state: tuple[str, int, str], path: Path) -> tuple[Tar, np.ndarray]:
        """Makes the index of a tar, where it is not there. Returns what was found, and a hash of each sample's name."""
        try:
            table = _read(path)
            tar = Tar(**json.loads(table.schema.metadata[b"tar"]))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            tar, table = index_tar(self.folder, state[0], state[1], self._task)
            with atomic_file(path) as file:
                about = {b"tar": json.dumps(asdict(tar)).encode()}
                pq.write_table(table.replace_schema_metadata(about), file, compression="zstd")
        hashes = [hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8] for name in _names(table)]
        return tar, np.frombuffer(b"".join(hashes), np.uint64)

    def _nothing(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        reasons += next((f"; {tar.name}: {tar.cut}" for tar in self.tars if tar.cut), "")
        kind = "of any task" if self._task is None else f"of the task {self._task}"
        remedy = "name the task" if self._task is None else "name another task or folder"
        return (
            f"{self.folder}: {len(self.tars)} tars without our job.json, no sample {kind} in them ({reasons}); {remedy}"
        )


def index_tar(folder: Folder, name: str, size: int, task: str | None) -> tuple[Tar, pa.Table]:
    """What lies where in a tar, from its headers.

    Raises:
        OSError: it cannot be read.
    """
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    opened = folder.open(name) if isinstance(folder, LocalFolder) else cast(BinaryIO, _Window(folder, name, size))
    with opened as file:
        walk = _Walk(file)
        for sample, group in groupby(walk, key=lambda found: found[0]):
            found = list(group)
            reason = "members that do not stand together" if sample in seen else ""
            reason = "cut" if walk.cut_name == sample else reason
            seen.add(sample)
            row = reason or _row(sample, found, task, file)
            if isinstance(row, str):
                left_out["cut" if walk.cut else row] += 1  # the walk ends with the last sample
            else:
                rows.append(row)
    if walk.cut_name and walk.cut_name not in seen:
        left_out["cut"] += 1
    about = {"samples": len(rows), "left_out": dict(left_out), "cut": walk.cut}
    made = Tar(name=name, size=size, headers_sha256=walk.headers.digest.hexdigest(), **about)  # type: ignore[arg-type]
    return made, pa.Table.from_pylist(rows, schema=_SCHEMA)


def _row(
    name: str, found: Sequence[tuple[str, str, int, Member]], task: str | None, file: BinaryIO
) -> dict[str, Any] | str:
    """Index row of a sample, or why there is none."""
    parts = sort_out((ending, member) for _, ending, _, member in found)
    if isinstance(parts, str):
        return parts
    if task is None:
        task = _task_in(_record(parts, file))
        if task is None:
            return "no task in its JSON"
    emptied = any(ending == "txt" and not member.size for _, ending, _, member in found)
    if emptied and not says_something(_record(parts, file)):  # many a sample of a web crawl is like that
        return "no text"
    if reason := what_is_missing(parts, task):
        return reason
    if parts.text is not None and is_asked(task):
        said, tokens = parts.text.size, parts.text.size // _BYTES_PER_TOKEN + _PROMPT_TOKENS
    else:
        json_bytes = parts.record.size if parts.record else 0
        said, tokens = int(json_bytes * _ANSWERS_IN_JSON), json_bytes // _BYTES_PER_TOKEN
    start, last = found[0][2], found[-1][3]
    size = last.offset + last.size - start  # without what fills up the last block: a cut tar may lack it
    row = {"name": name, "task": task, "offset": start, "size": size, "images": len(parts.images)}
    return row | {"answer_chars": said, "tokens": max(tokens, 1)}


def _record(parts: Parts, file: BinaryIO) -> dict[str, Any]:
    """The JSON of a sample; empty where there is none, or none that can be read."""
    if parts.record is None:
        return {}
    file.seek(parts.record.offset)
    try:
        return record_of(file.read(parts.record.size))
    except ValueError:
        return {}


def _task_in(record: Mapping[str, Any]) -> str | None:
    task = record.get("task")
    return task if isinstance(task, str) and task in TASKS else None


class _Walk:
    """The members of a tar that belong to samples: name, ending, where its headers begin, member. Up to a cut."""

    def __init__(self, file: BinaryIO) -> None:
        self.headers = _Headers(file)
        self.cut = ""
        self.cut_name = ""  # of the sample that a cut member belongs to

    def __iter__(self) -> Iterator[tuple[str, str, int, Member]]:
        start = 0
        try:
            for member in members(self.headers):  # type: ignore[arg-type]  # reads and seeks
                if named := name_and_ending(member):
                    yield *named, start, member
                start = member.offset + -(-member.size // _BLOCK) * _BLOCK
        except TarError as error:
            self.cut = str(error)
            self.cut_name = (name_and_ending(Member(error.name, "a file", 0, 0)) or ("", ""))[0]


class _Headers:
    """A file of which everything that is read is hashed."""

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
    """A file behind a URL, fetched a window at a time."""

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
            wanted = min(max(size, _WINDOW), self._size - self._at)
            self._data = self._folder.read(self._name, self._at, wanted)
            self._start, begin = self._at, 0
        self._at += size
        return self._data[begin : begin + size]


def _states(folder: Folder) -> list[tuple[str, int, str]]:
    """Name, size and signature of each tar; the last changes when the tar does."""
    found = folder.sizes(".tar")
    if not found:
        what = "holds neither job.json nor *.tar" if folder.exists() else "no such folder"
        compressed = next((name for name in folder.names() if ".tar." in name or name.endswith(".tgz")), "")
        raise UserError(
            f"{folder}: {what}" + (f"; {compressed} is compressed: unpack it to .tar" if compressed else "")
        )
    with ThreadPoolExecutor(_READERS) as pool:  # a web server is asked about each
        signatures = list(pool.map(lambda name: signature(f"{folder}/{name}"), found))
    return [(name, size, signed) for (name, size), signed in zip(found.items(), signatures, strict=True)]


def _read(path: Path) -> pa.Table:
    with open(path, "rb") as file:
        return columns_of(file)


def _names(table: pa.Table) -> list[str]:
    names: list[str] = table.column("name").to_pylist()
    return names


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()[:40]


def _read_summary(path: Path) -> tuple[list[Tar], int] | None:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
        return [Tar(**tar) for tar in found["tars"]], int(found["repeated"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
