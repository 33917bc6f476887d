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
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.cache import Cache, one_at_a_time
from trainer.data.external import ExternalSet
from trainer.data.external_sample import decode_external
from trainer.data.filters import COLUMNS, Condition, Kind, conditions_of
from trainer.data.rows import FORMAT, NUMBERS, TEXTS, Rows, open_rows, rows_of, write_rows
from trainer.settings import SourceSettings
from varyforge.console import Progress, say, warn
from varyforge.errors import UserError
from varyforge.sample import TASKS, Sample
from varyforge.shards import JOB, IndexRow, ShardSet, decode_sample, position_of, read_exactly
from varyforge.storage import Folder, LocalFolder, folder_at, is_url

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


class TokenSums(NamedTuple):
    """Estimated tokens of all samples of a catalog; images not counted."""

    tokens: int
    answer_tokens: int  # the supervised ones among them


def read_item(item: Item, cache: Cache | None = None) -> Sample:
    """Read one sample and no other byte: from a local disk, or as one range of a URL, which `cache` stores.

    Raises:
        ValueError, OSError: the bytes cannot be read, or are not a sample; the message names tar, offset and rule.
    """
    folder = _folder_at(item.place)
    where = position_of(folder, item.shard, item.offset)
    data = _bytes_of(item, folder, cache)
    return decode_external(data, where, item.shard, item.task) if item.external else decode_sample(data, where)


_folder_at = lru_cache(maxsize=256)(folder_at)
"""`folder_at`, called once per location and process."""


def _bytes_of(item: Item, folder: Folder, cache: Cache | None) -> bytes:
    if cache is None or not cache.limit_bytes or isinstance(folder, LocalFolder):
        return read_exactly(folder, item.shard, item.offset, item.size)
    name = f"{item.place}/{item.shard} {item.version} {item.offset}+{item.size}"
    data = cache.get(name)
    if data is None:
        data = read_exactly(folder, item.shard, item.offset, item.size)
        cache.put(name, data)
    return data


class Shards(Protocol):
    """The part of a shard set that a catalog uses: the index of each tar, as tables."""

    place: str  # folder or URL
    tars: list[str]  # file names
    versions: list[str]  # of each tar; changes when the file is replaced
    kinds: dict[str, Kind]  # columns to filter by
    external: bool

    @property
    def identity(self) -> str:
        """A hash that changes with the set's bytes and is independent of its location."""

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

    Args:
        name: of the source in its mixture.
        source: with `shards`.
        cache: holds the file.
        at: the source's key in the recipe, for messages.

    Raises:
        UserError: there is no such shard set, a filter does not fit it, or no sample passes the filters.
    """

    def __init__(self, name: str, source: SourceSettings, cache: Cache, *, at: str = "") -> None:
        at = at or f"data.mixture.sources.{name}"
        self.name = name
        self.shards = _open(source, cache, at)
        self._conditions = _conditions(source, self.shards, at)
        about = [FORMAT, self.shards.place, self.shards.identity, [str(one) for one in self._conditions]]
        self.identity = hashlib.sha256(json.dumps(about[2:]).encode()).hexdigest()
        """A hash of the samples and their order, independent of their location."""
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        self._rows = self._open_rows(cache.folder / "catalogs" / f"{digest[:40]}.rows", digest)
        self._keys = lru_cache(maxsize=64)(self._keys_of)
        if not len(self):
            raise UserError(f"{at}: {self._losses()}")

    def __len__(self) -> int:
        return len(self._rows.rows)

    @property
    def tokens(self) -> NDArray[Any]:
        """(samples,) int32: tokens of all turns, estimated; images not counted."""
        return self._field("tokens")

    @property
    def answer_tokens(self) -> NDArray[Any]:
        """(samples,) int32: supervised tokens, estimated by `trainer.data.rows`."""
        return self._field("answer_tokens")

    @property
    def images(self) -> NDArray[Any]:
        """(samples,) int16: number of images."""
        return self._field("images")

    @property
    def task(self) -> NDArray[Any]:
        """(samples,) int8: position in TASKS."""
        return self._field("task")

    @property
    def tasks(self) -> dict[str, int]:
        """The number of samples of each task."""
        return dict(self._rows.tasks)

    @property
    def sums(self) -> TokenSums:
        """The tokens of all samples."""
        return TokenSums(self._rows.tokens, self._rows.answer_tokens)

    @property
    def passed(self) -> list[tuple[str, int]]:
        """The number of samples that are left: ("", all samples), then (filter, samples) in the filters' order."""
        return list(zip(["", *map(str, self._conditions)], self._rows.passed, strict=True))

    def item(self, row: int) -> Item:
        """Locate the sample of a row."""
        offset, size, shard, tokens, _, images, task = self._rows.rows[row].item()
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
        about = self._rows.rows[row]
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

    def _field(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._rows.rows[name]
        return column

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
        columns = list(dict.fromkeys([*TEXTS, *NUMBERS, *(one.column for one in self._conditions)]))
        with Progress(f"index of {self.name}", total=len(self.shards.tars), unit="shard") as progress:
            for number, table in enumerate(_each(self.shards, columns)):
                try:
                    yield rows_of(table, number, self._conditions)
                except ValueError as error:
                    raise UserError(f"{self.shards.place}/{self.shards.tars[number]}: {error}") from error
                progress.advance(1)

    def _losses(self) -> str:
        (_, total), *rest = self.passed
        steps = ", ".join(f"{left:,} with {what}" for what, left in rest)
        return f"none of the {total:,} samples in {self.shards.place} is left: {steps}; change task, where or shards"


def _open(source: SourceSettings, cache: Cache, at: str) -> Shards:
    assert source.shards is not None, at
    if source.task is not None and source.task not in TASKS:
        near = difflib.get_close_matches(source.task, TASKS, n=1, cutoff=0.0)[0]
        raise UserError(f"{at}.task: no task {source.task!r}; did you mean {near}? There are {', '.join(TASKS)}")
    try:
        folder = folder_at(source.shards)
        if folder.size(JOB) is not None:
            return OwnShards(source.shards)
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


def _conditions(source: SourceSettings, shards: Shards, at: str) -> list[Condition]:
    conditions = conditions_of(source.where, shards.kinds, f"{at}.where")
    if source.task is None:
        return conditions
    return [Condition(column="task", kind="text", values=(source.task,)), *conditions]


def _each(shards: Shards, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the index of each tar in order. Threads read some tars ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        numbers = iter(range(len(shards.tars)))
        ahead = deque(pool.submit(shards.index, number, columns) for number in islice(numbers, 4 * _READERS))
        while ahead:
            table = ahead.popleft().result()
            ahead.extend(pool.submit(shards.index, number, columns) for number in islice(numbers, 1))
            yield table
