"""The samples of one source that pass its filters, and reading one of them."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.cache import Cache, one_at_a_time
from trainer.data.external import ExternalSet
from trainer.data.external_sample import decode_external
from trainer.data.filters import COLUMNS, Condition, Kind, conditions_of
from trainer.data.mixture import recipe_key
from trainer.data.rows import FORMAT, INDEX_COLUMNS, Rows, open_rows, rows_of, write_rows
from trainer.settings import SourceSettings
from varyforge.console import Progress, say, warn
from varyforge.errors import UserError
from varyforge.sample import TASKS, Sample
from varyforge.shards import JOB, IndexRow, ShardSet, decode_sample, position_of, read_exactly
from varyforge.storage import LocalFolder, folder_at, is_url

_READERS = 8  # threads; they wait for the network or a disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The location and cost of a sample: the task of a loader worker. Small and picklable."""

    source: str  # name in the mixture
    place: str  # folder or URL of the shard set
    shard: str  # file name of the tar
    version: str  # of the tar; another tar under the same name has another version
    offset: int  # bytes from the start of the tar
    size: int  # bytes
    tokens: int  # of all turns, estimated; images not counted
    images: int
    task: str
    external: bool  # the tar was made by another tool


def read_item(item: Item, cache: Cache | None = None) -> Sample:
    """Read one sample and no other byte: from a local disk, or as one range of a URL, which `cache` stores.

    Raises:
        ValueError, OSError: the bytes cannot be read, or are not a sample; the message names tar, offset and rule.
    """
    folder = _folder_at(item.place)
    where = position_of(folder, item.shard, item.offset)
    pieces = cache if cache and cache.limit_bytes and not isinstance(folder, LocalFolder) else None
    piece = f"{item.place}/{item.shard} {item.version} {item.offset}+{item.size}"
    data = pieces.get(piece) if pieces else None
    if data is None:
        data = read_exactly(folder, item.shard, item.offset, item.size)
        if pieces:
            pieces.put(piece, data)
    return decode_external(data, where, item.shard, item.task) if item.external else decode_sample(data, where)


_folder_at = lru_cache(maxsize=256)(folder_at)
"""`folder_at`, called once per location and process."""


class Shards(Protocol):
    """The part of a shard set that a catalog uses: the index of each tar, as tables."""

    place: str  # folder or URL
    tars: list[str]  # file names
    versions: list[str]  # of each tar; changes when the file is replaced
    kinds: dict[str, Kind]  # columns to filter by
    external: bool
    identity: str  # a hash that changes with the set's bytes and is independent of its location

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the index of `tars[number]`."""


class OwnShards:
    """`Shards` that a data job wrote."""

    external = False

    def __init__(self, location: str) -> None:
        self._set = ShardSet(location)
        self.place = str(self._set.folder)
        self.tars = [f"{record.name}.tar" for record in self._set.records]
        self.versions = [record.tar_sha256[:16] for record in self._set.records]
        hashes = [[record.name, record.tar_sha256, record.index_sha256] for record in self._set.records]
        self.identity = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        fixed = {item.name for item in fields(IndexRow)}
        self.kinds: dict[str, Kind] = dict(COLUMNS)
        for column in self._set.index(0, None).schema:
            if column.name not in fixed:
                self.kinds[column.name] = "text" if pa.types.is_string(column.type) else "number"

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the index of `tars[number]`; texts may be dictionary-encoded."""
        texts = [name for name in columns if name != "key" and self.kinds.get(name) == "text"]
        return self._set.index(number, columns, coded=texts)


class Catalog:
    """The samples of one source that pass its filters.

    Their rows are computed from the index once and stored in a file in the cache folder, which later runs and the other
    ranks map. The file's name depends on the index and the filters. A torn file is made again.

    Raises:
        UserError: there is no such shard set, a filter does not fit it, or no sample passes the filters.
    """

    def __init__(self, name: str, source: SourceSettings, cache: Cache) -> None:
        at = recipe_key(name)
        self.name = name
        self.shards = _open(source, cache, at)
        self._conditions = conditions_of(source.where, self.shards.kinds, f"{at}.where")
        if source.task is not None:
            self._conditions.insert(0, Condition(column="task", kind="text", values=(source.task,)))
        about = [FORMAT, self.shards.place, self.shards.identity, [str(one) for one in self._conditions]]
        self.identity = hashlib.sha256(json.dumps(about[2:]).encode()).hexdigest()
        """A hash of the samples and their order, independent of their location."""
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        opened = self._open_rows(cache.folder / "catalogs" / f"{digest[:40]}.rows", digest)
        self._rows = opened.rows
        self.tokens: NDArray[Any] = opened.rows["tokens"]
        """(samples,) int32: tokens of all turns, estimated; images not counted."""
        self.answer_tokens: NDArray[Any] = opened.rows["answer_tokens"]
        """(samples,) int32: supervised tokens, estimated by `trainer.data.rows`."""
        self.images: NDArray[Any] = opened.rows["images"]  # (samples,) int16
        self.tasks = dict(opened.tasks)  # number of samples of each task
        self.sums = opened.tokens, opened.answer_tokens  # of all samples
        self.held = opened.passed[0]  # number of samples before the filters
        self._keys = lru_cache(maxsize=64)(self._keys_of)
        if not len(self):
            left = zip(opened.passed[1:], self._conditions, strict=True)
            steps = ", ".join(f"{samples:,} with {condition}" for samples, condition in left)
            where = f"none of the {self.held:,} samples in {self.shards.place} is left"
            raise UserError(f"{at}: {where}: {steps}; change task, where or shards")

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, row: int) -> Item:
        """Locate the sample of a row."""
        offset, size, shard, tokens, _, images, task = self._rows[row].item()
        return Item(
            source=self.name,
            place=self.shards.place,
            shard=self.shards.tars[shard],
            version=self.shards.versions[shard],
            offset=offset,
            size=size,
            tokens=tokens,
            images=images,
            task=TASKS[task],
            external=self.shards.external,
        )

    def key(self, row: int) -> str:
        """Return the key of the sample of a row. Reads the index of its shard."""
        about = self._rows[row]
        return self._keys(int(about["shard"]))[int(about["offset"])]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Return columns of the index for the catalog's samples, in order of their rows."""
        return pa.concat_tables(self.tables(columns))

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns of the index for the catalog's samples, tar by tar; texts may be dictionary-encoded."""
        needed = list(dict.fromkeys([*columns, *(one.column for one in self._conditions)]))
        for table in _each(self.shards, needed):
            for one in self._conditions:
                table = table.filter(pa.array(one.holds(table.column(one.column))))  # noqa: PLW2901  # one by one
            yield table.select(columns).unify_dictionaries()

    def _keys_of(self, shard: int) -> dict[int, str]:
        table = self.shards.index(shard, ["key", "offset"])
        return dict(zip(table.column("offset").to_pylist(), table.column("key").to_pylist(), strict=True))

    def _open_rows(self, path: Path, identity: str) -> Rows:
        rows = open_rows(path, identity)
        if rows is None:
            with one_at_a_time(path):
                rows = open_rows(path, identity)  # another rank may have written the file meanwhile
                if rows is None:
                    write_rows(path, identity, self._rows_of_shards())
                    rows = open_rows(path, identity)
        assert rows is not None, path
        return rows

    def _rows_of_shards(self) -> Iterator[tuple[NDArray[Any], list[int]]]:
        columns = list(dict.fromkeys([*INDEX_COLUMNS, *(one.column for one in self._conditions)]))
        with Progress(f"index of {self.name}", total=len(self.shards.tars), unit="shard") as progress:
            for number, table in enumerate(_each(self.shards, columns)):
                try:
                    yield rows_of(table, number, self._conditions)
                except ValueError as error:
                    raise UserError(f"{self.shards.place}/{self.shards.tars[number]}: {error}") from error
                progress.advance(1)


def _open(source: SourceSettings, cache: Cache, at: str) -> Shards:
    assert source.shards is not None, at
    if source.task is not None and source.task not in TASKS:
        near = difflib.get_close_matches(source.task, TASKS, n=1, cutoff=0.0)[0]
        raise UserError(f"{at}.task: no task {source.task!r}; did you mean {near}? There are {', '.join(TASKS)}")
    try:
        folder = folder_at(source.shards)
        if folder.size(JOB) is None:
            if folder.exists():
                return _open_external(source.shards, source.task, cache)
            if source.shards.endswith(".tar"):
                raise UserError(f"{source.shards}: name the folder of the tars, not a tar or a pattern")
        return OwnShards(source.shards)
    except UserError as error:
        raise UserError(f"{at}.shards: {error}") from error
    except Exception as error:
        if not is_url(source.shards):
            raise
        reason = " ".join(str(error).split())  # storage behind a URL raises types of its own: no credentials, no route
        raise UserError(f"{at}.shards: {source.shards}: {type(error).__name__}: {reason}") from error


def _open_external(location: str, task: str | None, cache: Cache) -> ExternalSet:
    """Open a set and report on the first rank what of it cannot be used."""
    shards = ExternalSet(location, task, cache)
    if os.environ.get("RANK", "0") == "0":
        for line in shards.cuts:
            warn(line)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in shards.left_out.items()) or "nothing"
        counts = f"{shards.samples:,} samples in {len(shards.tars):,} external tars"
        say(f"{shards.place}: {counts}; left out or odd: {reasons}")
    return shards


def _each(shards: Shards, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the index of each tar in order. Threads read some tars ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        numbers = iter(range(len(shards.tars)))
        ahead = deque(pool.submit(shards.index, number, columns) for number in islice(numbers, 4 * _READERS))
        while ahead:
            table = ahead.popleft().result()
            ahead.extend(pool.submit(shards.index, number, columns) for number in islice(numbers, 1))
            yield table
